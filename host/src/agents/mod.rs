//! Agents that this program starts itself: programs of the person, which speak the Agent Client Protocol over their
//! standard input and output.
//!
//! [`Agents`] makes links of them. [`presets`] knows seven of them by name; [`supervisor`] is what stands between each of
//! them and this program, so that none outlives it.

mod directory;
mod environment;
pub mod loops;
pub mod notices;
mod plan;
pub mod presets;
mod process;
mod profile;
mod serve;
pub mod supervisor;

pub use directory::PrivateDirectory;
pub use environment::{AGENT_VARIABLE, clean_environment};
pub use plan::{NotInstalled, Plan};
pub use process::{Bell, Ending, Event, Launch, Process};
pub use serve::{Agents, Local};
