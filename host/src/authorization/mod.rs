//! Logins at MCP servers: where they are kept, the requests that they make, and their tokens while a program serves.

mod callback;
mod kept;
mod renewal;
mod sent;
#[cfg(test)]
mod tests;

pub(crate) use callback::Callback;
pub(crate) use kept::KeptLogin;
pub(crate) use renewal::{Authorization, Renewal, Used};
pub(crate) use sent::Asking;
