//! Definitions: what people register, read once and refused by name.

mod command;
mod http;
mod model_call;
mod server_call;
mod set;
mod tool;

pub(crate) use command::Command;
pub(crate) use http::{Http, Url, headers};
pub(crate) use model_call::ModelCall;
pub(crate) use server_call::ServerCall;
pub(crate) use set::{Chain, Parallel, Step};
pub(crate) use tool::{Action, Tool};
