//! Refusals by limits of the program: their texts, for every driver.

use crate::config::{Limits, Timeouts};
use crate::error::{Code, Refusal};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

/// 413: a body over `limits.body_bytes`.
#[must_use]
pub fn body_too_large(limits: &Limits) -> Refusal {
    let limit = limits.body_bytes;
    Refusal::new(
        Code::TooLarge,
        format!(
            "the request body is over limits.body_bytes ({limit} bytes); send less or raise it"
        ),
    )
}

/// 408: a body that was not there within `timeouts.body`.
#[must_use]
pub fn body_too_slow(timeouts: &Timeouts) -> Refusal {
    let limit = timeouts.body.as_millis();
    Refusal::new(
        Code::RequestTimeout,
        format!("the request body took longer than timeouts.body ({limit} ms); send it faster"),
    )
}

/// 400: a body that broke off.
#[must_use]
pub fn body_broken() -> Refusal {
    Refusal::invalid("the request body could not be read to its end: it broke off")
}

/// 503: nothing more can be buffered.
#[must_use]
pub fn out_of_memory(limits: &Limits) -> Refusal {
    Refusal::new(
        Code::Overloaded,
        format!(
            "what is buffered for requests and answers takes all of limits.memory ({} bytes); try again in a moment",
            limits.memory
        ),
    )
    .retry_after(Duration::from_secs(1))
}

/// 503: one agent more than `limits.connections`.
#[must_use]
pub fn too_many_agents() -> Refusal {
    Refusal::new(
        Code::Overloaded,
        "there are as many agents as limits.connections allows",
    )
}

/// 404: a route that is not served on the address of `listen.metrics`.
pub(super) fn reports_alone() -> Refusal {
    Refusal::new(
        Code::NotFound,
        "this address answers with /health and /metrics alone (listen.metrics)",
    )
}

/// The whole answer to a connection beyond `limits.connections`, which comes before its request is read: 503.
#[must_use]
pub fn over_connection_limit() -> Vec<u8> {
    const FULL: &str = r#"{"error":{"message":"all connections are in use (limits.connections); try again in a moment","type":"server_error","param":null,"code":"overloaded"}}"#;
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{FULL}",
        FULL.len()
    )
    .into_bytes()
}
