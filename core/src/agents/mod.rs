//! Forms of agents: each stands between one kind of agent and its link.

pub mod acp;
mod answer_form;
pub mod sampling;
pub mod upstream;
mod vector;
pub mod websocket;
pub(crate) mod writer;
