//! The gateway in front of MCP servers: what a relayed message costs.
//!
//! | module | what it is |
//! |---|---|
//! | [`floor`], [`ideal`] | the yardstick: one HTTP parse, one id rewrite, one line out, one line in |
//! | [`echo`] | the server behind all of them |
//! | [`clients`] | sessions that call a tool again and again, over HTTP or WebSockets, on one thread |
//! | [`figures`] | what is measured, in rounds that take turns |

pub mod clients;
pub mod echo;
pub mod figures;
pub mod floor;
pub mod ideal;
