//! The other end of the agent protocol: an agent, over all its connections to one provider, as a machine without input or
//! output.
//!
//! An [`Agent`] decides when to dial, registers, keeps its session over lost connections, numbers the pieces of its answers,
//! gives up a connection that shows no sign of life, and pauses with full jitter before it dials again. Whoever drives it tells
//! it what happened, and carries out the [`Action`]s that it leaves in a queue, in their order:
//!
//! ```
//! use mcp_local_provider_core::agent::{Action, Agent, Piece, Times};
//! use mcp_local_provider_core::link::Registration;
//! use mcp_local_provider_core::{End, Finish, Instant};
//! use std::collections::VecDeque;
//!
//! let registration = Registration {
//!     agent_id: "me".into(),
//!     models: vec!["my-model".into()],
//!     ..Registration::default()
//! };
//! let (now, mut actions) = (Instant::ZERO, VecDeque::new());
//! let mut agent = Agent::new(registration, Times::default(), 7, now);
//! agent.handle_timeout(now, &mut actions);
//! assert!(matches!(actions.pop_front(), Some(Action::Dial)));
//! // The driver has opened a WebSocket, with `agent.session_token()` or its own token as the bearer token.
//! agent.handle_connected(now, &mut actions);
//! let Some(Action::Send(frame)) = actions.pop_front() else { panic!() };
//! assert!(frame.starts_with(r#"{"type":"register","agent_id":"me""#));
//!
//! let frame = r#"{"type":"model_invoke","id":"1","payload":{"kind":"chat","messages":[{"role":"user","content":"Hi"}]}}"#;
//! agent.handle_frame(now, frame, &mut actions);
//! let Some(Action::Invoke(request)) = actions.pop_front() else { panic!() };
//! assert_eq!(request.prompt(), "Hi");
//! agent.write(request.id(), &Piece::Text("Hello"), &mut actions)?;
//! agent.finish(request.id(), End { finish: Finish::Stop, usage: None }, &mut actions)?;
//! assert_eq!(actions.len(), 2); // two frames to send
//! # Ok::<(), mcp_local_provider_core::agent::Cancelled>(())
//! ```

mod action;
mod decode;
mod encode;
mod machine;
mod request;
mod states;

#[cfg(test)]
mod tests;

pub use action::{Action, Event, Lost, Stopped};
pub use encode::Piece;
pub use machine::{Agent, Cancelled};
pub use request::{InvocationId, Message, Request};
pub use states::{STATES, Timer, Times};
