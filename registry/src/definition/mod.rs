//! Definitions: what people register, read once and refused by name.

mod command;
mod http;
mod integration;
mod model_call;
mod prompt;
mod resource;
mod server_call;
mod set;
mod tool;

pub(crate) use integration::SERVED;
pub use integration::{Integration, Provider};

pub(crate) use command::Command;
pub(crate) use http::{Http, render_headers};
pub(crate) use model_call::ModelCall;
pub(crate) use prompt::{Completing, Prompt, Type};
pub(crate) use resource::{Resource, Source};
pub(crate) use server_call::ServerCall;
pub(crate) use set::{Chain, Parallel, Step};
pub(crate) use tool::{Action, MOST, Tool};
