//! Agents that do not speak the agent protocol: each machine here stands between one of them and a link.

pub mod acp;
