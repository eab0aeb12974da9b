//! The protocol machines of MCP Local Provider: an AI agent on one side, clients of the OpenAI and Ollama APIs on the
//! other, and no I/O in between.
//!
//! Nothing here reads a clock, draws a random number or touches a socket. A driver does that: it hands in bytes and the
//! time, and carries away what the machines produced. Outputs are arguments, so what a call produced is in the caller's
//! hand; the only thing to poll is `poll_timeout`. Calls are legal in any order.
//!
//! Four machines share the work:
//!
//! * [`Hub`], one for the program: sessions, keys, limits, routing, metrics, audit. Touched twice for each exchange.
//! * [`Link`], one for each agent connection: correlates, reassembles, keeps alive.
//! * [`Mailbox`], one for each exchange: the bounded hand-over from a link.
//! * [`Exchange`], one for each request: reads it in its dialect, writes its answer.
//!
//! The root gathers the names that a driver needs, in groups:
//!
//! * From outside: [`Instant`], [`WallClock`], [`Timeout`], and [`Ids`] with the ids that it makes.
//! * A client's request: a [`Head`] goes to [`accept`], which finds the [`Route`]; an [`Exchange`] reads the body and writes the
//!   [`Reply`]; a [`Refusal`] becomes one.
//! * What all share: the [`Hub`] with its [`Ask`], [`Admission`], [`Ticket`] and [`Outcome`], [`Keys`], and [`AuditRecord`].
//! * An agent's connection: the [`Link`] with its [`ToAgent`] and [`FromAgent`] messages, [`Notice`] and [`Command`].
//! * Between the two: the [`Mailbox`] and each [`Delivery`], and the [`Budget`] of memory that all mailboxes share.
//!
//! The module [`agent`] is the other end of an agent's connection, for those who write agents.
//! The modules [`config`], [`agents`], [`process`] and [`wire`] hold the settings, agents with a protocol of their own, the lives of
//! child processes, and framing.
//!
//! This is the whole run loop, for one request and one agent:
//!
//! ```
//! use core::time::Duration;
//! use mcp_local_provider_core::config::HubConfig;
//! use mcp_local_provider_core::{Admission, Ask, Hello, Hub, HubOut, RequestInfo, Scope};
//! use mcp_local_provider_core::{Batch, Delivery, Mailbox, Push};
//! use mcp_local_provider_core::{Deliver, Link, LinkConfig, LinkOut, websocket};
//! use mcp_local_provider_core::{Exchange, Flow, Head, Listener, Reply, accept};
//! use mcp_local_provider_core::{Ids, Instant};
//!
//! /// A real driver locks the mailbox that `to` names, pushes, and wakes its exchange when `Push::wakes`.
//! struct One(Mailbox);
//! impl Deliver<()> for One {
//!     fn deliver(&mut self, _to: &(), delivery: &Delivery<'_>) -> Push {
//!         self.0.push(delivery)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::from_micros(1); // from a monotonic clock
//! let config = HubConfig::default(); // no keys: `auth_required` is false
//! let ids = Ids::new(7); // from the seed
//! let mut hub = Hub::new(config, [7; 32], now, Duration::from_secs(1_767_225_600));
//! let mut hub_out = HubOut::default();
//!
//! // An agent connects and registers.
//! let link_id = hub.connect(now, Hello { token: None, dialled: None }, &mut hub_out)?;
//! let link_config = LinkConfig::new(&hub.config().limits);
//! let mut link: Link<()> = Link::new(link_id, &link_config, now);
//! let (mut link_out, mut mailbox) = (LinkOut::new(), One(Mailbox::new(256 << 10)));
//! let frame = r#"{"type":"register","agent_id":"me","models":["my-model"]}"#;
//! let message = websocket::decode(frame, link_config.frame_bytes)?; // before any lock
//! link.handle_message(now, message, &mut link_out, &mut mailbox);
//! for notice in link_out.notices.drain(..) {
//!     hub.handle_notice(now, link_id, notice, &mut hub_out);
//! }
//! for (_link, command) in hub_out.commands.drain(..) {
//!     link.handle_command(now, command, &mut link_out, &mut mailbox); // writes `registered`
//! }
//!
//! // A client asks.
//! let head = Head {
//!     method: "POST", target: "/v1/chat/completions", host: Some("localhost"), origin: None,
//!     fetch_site: None, authorization: None, api_key: None, user_agent: None, accept: None, agent: None, address: [127, 0, 0, 1].into(),
//!     forwarding: Default::default(),
//! };
//! let accepted = accept(hub.config(), &hub.keys(), Listener::All, &head).map_err(|denied| denied.refusal)?;
//! let form = accepted.route.form().ok_or("an agent answers this route")?;
//! let caller = accepted.caller.ok_or("every inference route has a caller")?;
//! let body = br#"{"model":"my-model","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
//! let id = ids.next();
//! let (mut exchange, intent) = Exchange::parse(hub.config(), hub.wall(), id, form, now, body.to_vec())?;
//! let info = Box::new(RequestInfo {
//!     key: Some(caller.name.clone()),
//!     bytes_in: 81,
//!     ..RequestInfo::new(id, now, caller.address, accepted.route.name)
//! });
//! let ask = Ask { model: intent.request.model(), session: None, prompts: intent.prompts(), tokens: intent.tokens, scope: Scope::Inference, needs: intent.needs };
//! let Admission::Granted(ticket) = hub.admit(now, &caller, &ask)? else {
//!     return Err("a real driver waits for `HubOut::woken` and calls `Hub::claim`".into());
//! };
//! exchange.start(now, &ticket);
//! let invoke = ticket.invoke(id, intent.request.into(), Default::default());
//! link.open(now, invoke, (), &mut link_out).map_err(|(unopened, ())| unopened)?;
//! for message in link_out.messages.drain(..) {
//!     let _frame = websocket::encode(&message, &hub.wall()); // after any lock; `None` is a WebSocket ping
//! }
//!
//! // The agent answers.
//! for frame in [
//!     format!(r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":0,"delta":{{"content":"Hi"}},"finish_reason":null}}"#),
//!     format!(r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":1,"delta":{{}},"finish_reason":"stop"}}"#),
//! ] {
//!     let message = websocket::decode(&frame, link_config.frame_bytes)?;
//!     link.handle_message(now, message, &mut link_out, &mut mailbox);
//! }
//!
//! // The client's task was woken: everything that waits becomes one write.
//! let (mut batch, mut reply) = (Batch::new(), Reply::default());
//! mailbox.0.drain(&mut batch);
//! for delivery in &batch {
//!     match exchange.handle_delivery(now, &delivery, &mut reply) {
//!         Flow::Continue | Flow::Next(_) => {} // only a list of prompts has a next one
//!         Flow::Cancel(why, outcome) => {
//!             link.cancel(now, id, why, &mut link_out);
//!             hub.conclude(now, info, Some(ticket), &outcome, &mut hub_out);
//!             break;
//!         }
//!         Flow::Done(outcome) => {
//!             hub.conclude(now, info, Some(ticket), &outcome, &mut hub_out);
//!             break;
//!         }
//!     }
//! }
//! assert_eq!(reply.head.map(|head| head.status), Some(200));
//! assert!(String::from_utf8(reply.body)?.ends_with("data: [DONE]\n\n"));
//! assert_eq!(hub.metrics().completed, 1);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]
#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

pub mod agent;
pub mod agents;
#[doc(hidden)]
pub mod api;
#[doc(hidden)]
pub mod backoff;
#[doc(hidden)]
pub mod budget;
pub mod config;
#[doc(hidden)]
pub mod dialect;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod exchange;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod id;
#[doc(hidden)]
pub mod invocation;
#[doc(hidden)]
pub mod link;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod mailbox;
pub mod process;
pub mod request;
pub mod rpc;
#[doc(hidden)]
pub mod scope;
#[doc(hidden)]
#[doc(hidden)]
pub mod supports;
pub mod text;
#[doc(hidden)]
pub mod time;
pub mod wire;

// What comes from outside: time and ids.
pub use backoff::Backoff;
pub use id::{Authority, ExchangeId, Ids, KeyId, LinkId, SessionId, WaitId};
pub use time::{Instant, Timeout, WallClock};

// A client's request, from its head to the end of its answer.
pub use api::{
    Accepted, Access, Answered, Denied, Handler, Head, Input, Listener, ROUTES, Route, Routes,
    accept,
};
pub use dialect::{Dialect, Form, Opening};
pub use error::{Code, Refusal};
pub use exchange::{Exchange, Flow, Intent, Reply, ReplyHead};
pub use invocation::{CancelReason, Finish, Invocation, ParameterSet, Parameters, Usage};

// What all connections share.
pub use hub::audit::{AuditEvent, AuditRecord, RequestInfo};
pub use hub::keys::{Caller, Digest, Keys};
pub use hub::metrics::Snapshot;
pub use hub::{
    Admission, Ask, CLIENT_GONE, Claim, Dialled, Hello, Hub, HubOut, Outcome, Requester, Ticket,
    Verdict,
};
pub use scope::{Scope, Scopes};
pub use supports::{Capabilities, KindSet, Supports};

// An agent's connection.
pub use agents::websocket;
pub use error::AgentFault;
pub use link::{
    CloseCode, Command, Deliver, FromAgent, Invoke, Link, LinkConfig, LinkCounters, LinkOut,
    Notice, Permit, Permits, ToAgent, Unopened,
};
pub use request::{PromptIndex, Request};

// From an agent's connection to a client's exchange.
pub use budget::{Budget, Share};
pub use invocation::{Delivery, Delta, End, Failure};
pub use mailbox::{Batch, Mailbox, Push};
