//! Everything between the protocol machines of `mcp-local-provider-core` and a driver: the locks round the machines, the
//! life of a request, links, housekeeping, dialling. No runtime is in it: a task or thread that waits leaves a
//! [`std::task::Waker`].
//!
//! A driver moves bytes, holds timers and parks:
//!
//! 1. It makes an [`Engine`] with an [`Outside`] (clocks, dialling), binds the sockets of [`listen::bind_all`], and gives the
//!    [`Housekeeper`] a task or thread.
//! 2. For each client it asks [`Engine::connect`] and does what a [`client_connection::ClientConnection`] says is next:
//!    receive, write, wait. One that is dropped tells the agent that the client has left. A host with an HTTP server of its own
//!    calls [`request::begin`] with each head instead, and follows the [`request::Step`]s.
//! 3. An upgrade that is accepted gives a [`converse::Converse`]: frames go in, frames come out. A
//!    [`websocket::Conversation`] does that where one task reads and writes.
//! 4. For a server that the engine calls it opens a [`pipe::Pipe`].
//!
//! No lock is held across input, output or a wait; the order is hub, commands, link, inbox.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod account;
#[doc(hidden)]
pub mod answer;
mod answering;
mod ask;
mod asking;
#[doc(hidden)]
pub mod audit;
pub mod background;
mod bridge;
#[doc(hidden)]
pub mod caller_tools;
pub mod client_connection;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
mod connections;
pub mod converse;
mod counting;
pub mod dial;
mod engine;
#[doc(hidden)]
pub mod feed;
pub mod gateway;
mod hearing;
mod housekeeping;
pub mod http_client;
mod inbound;
mod inspect;
#[doc(hidden)]
pub mod link;
pub mod listen;
mod log_line;
mod log_lines;
mod log_request;
mod mcp_agent_request;
mod mcp_agents;
mod mcp_answering;
mod mcp_body;
mod mcp_events;
mod mcp_listening;
mod mcp_posted;
mod mcp_request;
mod mcp_rest;
mod mcp_rest_answering;
mod mcp_several;
mod mcp_socket;
mod mcp_sse;
mod mcp_stateless;
mod model_lists;
mod outside;
mod owner;
pub mod pipe;
pub mod pool;
mod port_holder;
mod promise;
pub mod proxy;
mod ranked;
pub mod registry;
mod registry_cell;
mod registry_completed;
mod registry_completions;
mod registry_executions;
mod registry_handle;
mod registry_hearing;
mod registry_model;
mod registry_needs;
pub mod registry_permits;
mod registry_question;
mod registry_request;
mod registry_rounds;
mod registry_server;
mod registry_socket;
mod registry_subscribing;
#[cfg(test)]
mod registry_tests;
mod registry_work;
pub mod request;
pub mod run_queue;
mod running;
mod signal;
mod socket_server;
#[doc(hidden)]
pub mod status;
mod test_page;
pub mod tls;
pub mod tunnel;
mod upgrade;
mod upstream_answer;
mod upstream_calls;
mod upstreams;
pub mod websocket;

// The provider, and what it needs from outside.
pub use audit::{Audit, AuditFile};
pub use background::Background;
pub use config::{Bridge, BridgeTimes, Config, ListenOllama, StartError, Upstream};
pub use connections::Client;
pub use engine::{Engine, Handle, OpenSocket, Policy};
pub use log_line::write_log_line;
pub use log_lines::LogLines;
pub use mcp_local_provider_heap::keep_for_next;
pub use outside::{Clock, Outside, Usage, later, random_seed};
pub use owner::Owner;
pub use port_holder::PortHolder;
pub use registry_cell::Setup as RegistrySetup;
pub use registry_handle::BuiltIn as RegistryBuiltIn;
pub use registry_server::RegistryServer;
pub use socket_server::SocketServer;

// A client's request, from its head to the end of its answer.
pub use answer::Answer;
pub use request::{Begun, Expecting, Report, Request, Step, Upgrade};
pub use running::{Progress, Running};

// Behind a WebSocket.
pub use converse::{Converse, ToWrite, Turn};

// What keeps house, and what is told of the parts.
pub use caller_tools::{ToolEvent, ToolQueue};
pub use feed::{Events, Feed, Reader};
pub use housekeeping::{Housekeeper, PHASES};
pub use link::Connected;
pub use status::{Part, PartStatus};

/// A running provider, as a program wants it of a driver.
pub trait Driver: Sized {
    /// Starts a provider; it listens when this returns.
    ///
    /// # Errors
    /// When an address cannot be listened on or the system gives no thread.
    fn start(config: Config) -> Result<Self, StartError>;

    /// Addresses that it listens on, in the order of the configuration; last the one that answers with metrics alone.
    fn addresses(&self) -> &[std::net::SocketAddr];

    /// Its engine, for agents that the program starts.
    fn engine(&self) -> &std::sync::Arc<Engine>;

    /// A way to stop it.
    fn handle(&self) -> Handle;

    /// Waits until it has stopped.
    fn join(self);
}
