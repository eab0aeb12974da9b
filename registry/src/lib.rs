//! The registry: tools, resources, prompts and integrations that people register, and what becomes of their runs.
//!
//! Like `core` and `mcp` it does no input and output, and knows no clock. It needs the standard library for templates and schemas,
//! whose libraries have no other form. Data is in memory; every change is one [`Record`] or several for a [`Store`].

#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod cache;
mod change;
mod definition;
mod entry;
mod failure;
mod figures;
mod graph;
mod integration;
mod json;
mod limits;
mod name;
mod need;
mod permits;
mod registry;
pub mod rest;
mod run;
mod schema;
pub mod server;
mod slots;
mod store;
mod subscriptions;
mod template;
mod uri;
mod uri_template;

pub use cache::{FetchId, Fetched, ReaderId, Reading};
pub use change::{ChangeId, Changed, Touched};
pub use definition::{Integration, Provider};
pub use failure::{Failure, Mismatch};
pub use figures::{Around, Figures};
pub use integration::{
    AskedWith, CompletionEvent, CompletionStatus, Completions, IntegrationSet, NewCompletion,
    OwnerId, Removed, Rounds, RoundsOut, Said, ToolCall, ToolEvent, ToolStatus, Turn,
};
pub use limits::Limits;
pub use need::{
    ANSWER_BYTES, AskNeed, Body, CallNeed, CommandNeed, Contents, Exit, HttpAnswer, HttpNeed, Need,
    NeedId, Outcome,
};
pub use permits::{Anything, Permits};
pub use registry::Registry;
pub use run::{
    Finished, Generated, Out, PromptRun, StepReport, StepStatus, ToolResult, ToolRun, ToolSet,
    Values, Work,
};
pub use slots::{Entered, Slots, Ticket};
pub use store::{Done, Key, Kind, Record, Secret, Store, StoreError, Value};
pub use subscriptions::{SubscriberId, Updated};
