//! Agents that this program starts itself: programs of the person, which speak the Agent Client Protocol over their
//! standard input and output.

mod directory;
mod environment;
mod lines;
mod plan;
pub mod presets;
mod process;
pub mod supervisor;

pub use directory::PrivateDirectory;
pub use environment::{AGENT_VARIABLE, clean_environment};
pub use lines::{Line, LineBuffer};
pub use plan::{NotInstalled, Plan};
pub use process::{Bell, Ending, Event, Launch, Process, waker};
