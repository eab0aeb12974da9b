//! Wire forms of agent links.

pub mod websocket;
