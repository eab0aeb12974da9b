//! Agents that this program starts itself: programs of the person that speak the Agent Client Protocol over standard
//! input and output.
//!
//! [`Agents`] connects them to the provider as links. [`presets`] lists seven of them by name. [`supervisor`] is a
//! process between each agent and this program, which ends the agent when the program is gone.

mod directory;
mod environment;
mod last_words;
pub mod loops;
pub mod notices;
pub mod orphans;
mod plan;
pub mod presets;
mod process;
mod process_tree;
mod profile;
mod serve;
pub mod supervisor;

pub use directory::PrivateDirectory;
pub use environment::{AGENT_VARIABLE, clean_environment};
pub use last_words::LastWords;
pub use plan::{NotInstalled, Plan};
pub use process::{Ending, Event, Launch, Process, ProcessWaker};
pub use serve::{Agents, Local};
