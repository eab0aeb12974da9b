//! An engine under a simulated world, and what the tests, the benchmarks and the fuzzers share.
//!
//! [`driver::Driver`] is the simplest driver of an engine: one thread, virtual time, connections in memory, and nobody is
//! polled who was not woken. [`world::run`] puts it under seeded faults and checks every invariant after every step; its
//! input is a string of bytes, so that property tests, fuzzers and long soaks drive the same function.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a broken invariant is told by a panic

pub mod acp;
pub mod agent;
pub mod certificates;
pub mod client;
pub mod driver;
pub mod echo;
mod exchange;
pub mod fuzz_targets;
pub mod mcp_world;
pub mod memory_pipe;
pub mod registry_world;
pub mod response;
pub mod scripted_pipe;
mod surroundings;
pub mod transcript;
pub mod upstream_world;
pub mod world;

use mcp_local_provider_core::api::{ROUTES, Route};
use mcp_local_provider_core::dialect::Form;

/// The route of that name.
#[must_use]
pub fn route(name: &str) -> &'static Route {
    ROUTES.named(name).expect("a route of that name")
}

/// Returns the form of requests of the route with that name, which an agent answers.
#[must_use]
pub fn form(name: &str) -> &'static Form {
    route(name).form().expect("a route that an agent answers")
}
