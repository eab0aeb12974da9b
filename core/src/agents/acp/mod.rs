//! Agents that speak the Agent Client Protocol (ACP, version 1) over standard input and output: the person's own coding
//! agent as the model.
//!
//! An [`Agent`] stands between a [`Link`](crate::link::Link) and one process. From the link it gets [`ToAgent`] messages, from the
//! process the lines that it writes. It gives the link [`FromAgent`] messages, the
//! process lines, and whoever supervises the process [`Order`]s. Models, routing, admission, deadlines and audit are the
//! ones that exist for every agent.
//!
//! ```
//! use mcp_local_provider_core::agents::acp::{Agent, Config, Order, Out, Profile};
//! use mcp_local_provider_core::rpc::{Line, Lines};
//! use mcp_local_provider_core::invocation::Delivery;
//! use mcp_local_provider_core::link::{Deliver, Link, LinkConfig, LinkOut, Notice};
//! use mcp_local_provider_core::mailbox::{Mailbox, Push};
//! use mcp_local_provider_core::time::Instant;
//! # use mcp_local_provider_core::id::LinkId;
//!
//! struct One(Mailbox);
//! impl Deliver<()> for One {
//!     fn deliver(&mut self, _to: &(), delivery: &Delivery<'_>) -> Push {
//!         self.0.push(delivery)
//!     }
//! }
//!
//! /// One lock guards all of this.
//! struct Connection { link: Link<()>, link_out: LinkOut, agent: Agent, out: Out }
//!
//! impl Connection {
//!     /// Calls the agent; what it tells the link can make the link send messages, which go to the agent at once.
//!     fn call(
//!         &mut self, now: Instant, deliver: &mut One,
//!         call: impl FnOnce(&mut Agent, &mut Out, &mut dyn FnMut(mcp_local_provider_core::link::FromAgent<'_>)),
//!     ) {
//!         let Self { link, link_out, agent, out } = self;
//!         call(agent, out, &mut |message| link.handle_message(now, message, link_out, deliver));
//!         self.messages(now, deliver);
//!     }
//!     /// To be called after every call of the link, too.
//!     fn messages(&mut self, now: Instant, deliver: &mut One) {
//!         let Self { link, link_out, agent, out } = self;
//!         while let Some(message) = link_out.pop_message() {
//!             agent.handle_message(now, message, out, &mut |message| {
//!                 link.handle_message(now, message, link_out, deliver);
//!             });
//!         }
//!     }
//! }
//!
//! let now = Instant::from_micros(1);
//! # let id = LinkId(1); // from `Hub::connect`
//! let link = Link::new(id, &LinkConfig::default(), now);
//! let agent = Agent::new(Profile::new("echo"), Config::new("/tmp/empty"), [7; 32]);
//! let mut it = Connection { link, link_out: LinkOut::new(), agent, out: Out::new() };
//! let mut mailbox = One(Mailbox::new(256 << 10));
//!
//! it.call(now, &mut mailbox, |agent, out, _| agent.start(now, out));
//! assert_eq!(it.out.orders.pop(), Some(Order::Start)); // the supervisor spawns the process, then:
//! it.call(now, &mut mailbox, |agent, out, link| agent.handle_started(now, out, link));
//! assert!(it.out.lines.pop().is_some_and(|line| line.contains("initialize") && line.ends_with('\n')));
//!
//! // The reader of the process's standard output cuts it into lines.
//! let mut lines = Lines::new(4 << 20);
//! for bytes in [
//!     &b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"protocolVersion\":1}}\n{\"jsonrpc\":\"2.0\",\"id\":2,"[..],
//!     &b"\"result\":{\"sessionId\":\"s1\"}}\n"[..],
//! ] {
//!     lines.push(bytes, |line: Line<'_>| {
//!         it.call(now, &mut mailbox, |agent, out, link| agent.handle_line(now, line, out, link));
//!     });
//! }
//! // It has a session, so it registers like any other agent.
//! assert!(matches!(&it.link_out.notices[..], [Notice::Register(it)] if it.models == ["echo"]));
//! ```

mod agent;
mod blocks;
mod content;
mod conversation;
mod deadlines;
mod digest;
mod failure;
mod ports;
mod profile;
mod scan;
pub mod tools;
mod update;

#[cfg(doc)]
use crate::link::{FromAgent, ToAgent};
pub use agent::{Agent, OPENING, SESSION};
pub use deadlines::{SessionKey, Timer};
pub use ports::{
    AgentCounters, Config, Event, Load, Order, Out, SessionFigures, SessionLimits, ToLink,
};
pub use profile::{HiddenError, Profile, SystemPrompt, UsageRule};
