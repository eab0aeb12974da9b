//! Wire forms of agent links.

pub mod acp;
pub mod websocket;
