//! The registry: tools, resources, prompts and integrations that people register, and what becomes of their runs.
//!
//! Like `core` and `mcp` it does no input and output, and knows no clock. It needs the standard library for templates and schemas,
//! whose libraries have no other form. Data is in memory; every change is one [`Record`] or several for a [`Store`].

#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod definition;
mod export;
mod failure;
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
mod template;
mod uri;
mod uri_template;

pub use definition::{Integration, Provider};
pub use export::{ExportError, Exported, LineError, name_of_kind, read_export, write_export};
pub use failure::{Failure, Mismatch};
pub use integration::{
    Answering, AskedWith, CompletionEvent, CompletionRequest, CompletionStatus, Completions, Heard,
    Hearing, IntegrationSet, NewCompletion, OwnerId, Removed, Rounds, RoundsOut, Said, ToolCall,
    ToolEvent, ToolStatus, Turn, is_registrys,
};
pub use limits::Limits;
pub use need::{
    ANSWER_BYTES, AskNeed, Body, CallNeed, CommandNeed, Contents, Exit, HttpAnswer, HttpNeed, Need,
    NeedId, Outcome,
};
pub use permits::{Anything, Permits};
pub use registry::{
    ChangeId, Changed, FetchId, Fetched, Imported, News, ReaderId, Reading, Registry, SubscriberId,
    Touched, Updated,
};
pub use run::{
    Finished, Generated, Out, PromptRun, StepReport, StepStatus, ToolResult, ToolRun, ToolSet,
    Values, Work,
};
pub use slots::{Entered, Slots, Ticket};
pub use store::{Done, Key, Kind, Record, Rekeyed, Secret, Store, StoreError, Value};
