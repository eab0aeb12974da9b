//! Agents that this program starts itself: programs of the person that speak the Agent Client Protocol over standard
//! input and output.
//!
//! [`Agents`] connects them to the provider as links. [`presets`] lists seven of them by name. Their processes are those of the
//! crate `process`.

mod directory;
mod environment;
pub mod loops;
pub mod notices;
mod plan;
pub mod presets;
mod profile;
mod serve;

pub(crate) use directory::AgentDirectory;
pub use environment::AGENT_VARIABLE;
pub use plan::Plan;
pub use serve::{Agents, Local};
