//! Times and sizes of a client's connection that no owner has to decide about, and the one answer that is given before
//! anything is read.

use std::time::Duration;

/// Longest head of a request, and most that is buffered for one client, in bytes.
pub const HEAD: usize = 64 << 10;

/// How long a connection may wait for its next request. Longer than clients keep theirs, so that a request seldom meets a
/// connection that is just being closed.
pub const IDLE: Duration = Duration::from_secs(75);

/// How long the rest of a refused body is read, because a client that is cut while it sends does not read why.
pub const DISCARD: Duration = Duration::from_secs(1);

/// How long a refused connection may take to read why.
pub const LINGER: Duration = Duration::from_secs(1);

/// Room that is made for a body before any of it came, whatever its announced length.
pub const FIRST_ROOM: usize = 16 << 10;

/// The whole answer to a connection beyond `limits.connections`.
#[must_use]
pub fn over_connection_limit() -> Vec<u8> {
    const FULL: &str = r#"{"error":{"message":"all connections are in use (limits.connections); try again in a moment","type":"server_error","param":null,"code":"overloaded"}}"#;
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\nconnection: close\r\n\r\n{FULL}",
        FULL.len()
    )
    .into_bytes()
}
