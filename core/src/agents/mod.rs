//! Forms of agents: each stands between one kind of agent and its link.

pub mod acp;
pub mod upstream;
mod vector;
pub mod websocket;
pub(crate) mod writer;
