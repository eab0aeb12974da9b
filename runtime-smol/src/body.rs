//! Request bodies, collected whole, and bytes of response bodies.

use crate::timer::Timers;
use futures_lite::future::or;
use hyper::body::{Body, Buf, Incoming};
use mcp_local_provider_core::config::{Limits, Timeouts};
use mcp_local_provider_core::error::{Code, Refusal};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

/// Room that is made for a body before any of it came, whatever its announced length.
const FIRST: usize = 16 << 10;

/// How long the rest of a refused body is read.
const DISCARD: Duration = Duration::from_secs(1);

/// Reads a request body into one buffer of its own.
///
/// hyper's `collect` keeps every received segment alive with the whole read buffer that it arrived in; here a body of
/// one-byte segments takes as many bytes as it has.
///
/// # Errors
///
/// 413 beyond `limits.body_bytes`, before anything is read where the length was announced; 408 after `timeouts.body` in
/// total; 400 when the connection or its framing broke.
pub async fn collect(
    body: &mut Incoming,
    limits: &Limits,
    timeouts: &Timeouts,
    timers: &Timers,
) -> Result<Vec<u8>, Refusal> {
    let limit = limits.body_bytes;
    let announced = body.size_hint().lower();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large(limit));
    }
    let read = async {
        let mut bytes = Vec::with_capacity(announced.min(FIRST));
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| {
                Refusal::invalid(format!("the request body could not be read: {error}"))
            })?;
            let Ok(mut data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.remaining() > limit {
                return Err(too_large(limit));
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                data.advance(chunk.len());
            }
        }
        Ok(bytes)
    };
    let deadline = async {
        timers.after(timeouts.body).await;
        Err(Refusal::new(
            Code::RequestTimeout,
            format!(
                "the request body took longer than timeouts.body ({} ms); send it faster",
                timeouts.body.as_millis()
            ),
        ))
    };
    or(read, deadline).await
}

/// Reads on for a second at most, and forgets it.
pub async fn discard(body: &mut Incoming, timers: &Timers) {
    let read = async {
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {}
    };
    or(read, timers.after(DISCARD)).await;
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        Code::TooLarge,
        format!(
            "the request body is over limits.body_bytes ({limit} bytes); send less or raise it"
        ),
    )
}

/// Bytes of a response body, written to the socket as they are.
#[derive(Debug, Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    written: usize,
}

impl Bytes {
    /// How many are left to write.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::try_from(self.remaining()).unwrap_or(u64::MAX)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }
}

impl Buf for Bytes {
    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.bytes.len());
    }
}
