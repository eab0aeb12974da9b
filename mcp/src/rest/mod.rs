//! REST for programs that speak no MCP: bodies of requests, what is asked of a server for them, and the answers that are made of its
//! results. Values of a server stay as it wrote them.

mod bare;
mod body;
mod description;
mod failure;
mod list;
mod named;
mod pages;
mod schema;
mod servers;
#[cfg(test)]
mod tests;
mod work;

pub use body::{Body, Opening, Target, own_hello};
pub use description::{Activity, Described, Process};
pub use failure::{Failure, opened};
pub use servers::{LastError, Listed, restarting, servers};
pub use work::{Done, Work};
