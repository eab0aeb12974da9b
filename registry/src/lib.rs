//! The registry: tools, resources, prompts and integrations that people register, and what becomes of their runs.
//!
//! Like `core` and `mcp` it does no input and output, and knows no clock. It needs the standard library for templates and schemas,
//! whose libraries have no other form. Data is in memory; every change is one [`Record`] or several for a [`Store`].

#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

#![allow(dead_code)] // WIP
mod definition;
mod failure;
mod json;
mod name;
mod need;
mod permits;
mod run;
mod schema;
mod store;
mod template;
mod uri;

pub use need::{ANSWER_BYTES, AskNeed, Body, CallNeed, CommandNeed, Contents, Exit, HttpAnswer, HttpNeed, Need, NeedId, Outcome};

pub use failure::{Failure, Mismatch};
pub use run::{Out, StepReport, StepStatus, ToolResult, ToolRun, ToolSet};
pub use permits::{Anything, Permits};
pub use store::{Done, Key, Kind, Record, Secret, Store, StoreError, Value};
