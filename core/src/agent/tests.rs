//! An agent against the core's own link, and alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::*;
use crate::Code;
use crate::agents::websocket;
use crate::id::{Authority, Ids, LinkId, SessionId};
use crate::invocation::{
    Delivery, End, Failure, Finish, Invocation, InvokeForm, Parameters, Task, Usage,
};
use crate::link::{Deliver, Invoke, Link, LinkConfig, LinkOut, Permits, Registration};
use crate::mailbox::{Batch, Mailbox, Push};
use crate::request::PromptIndex;
use crate::text::JsonStr;
use crate::time::{Instant, WallClock};
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use proptest::prelude::*;

mod answers;
mod life;

/// An agent with its driver.
struct Rig {
    agent: Agent,
    out: VecDeque<Action>,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let registration = Registration {
            agent_id: "me".into(),
            label: Some("Me \"too\"".into()),
            models: alloc::vec!["my-model".into()],
            max_concurrency: Some(4),
            ..Registration::default()
        };
        let now = Instant::from_micros(5);
        Self {
            agent: Agent::new(registration, Times::default(), 7, now),
            out: VecDeque::new(),
            now,
        }
    }

    /// One with a session over an open connection.
    fn registered() -> Self {
        let mut rig = Self::new();
        rig.due();
        rig.agent.handle_connected(rig.now, &mut rig.out);
        rig.frame(
            r#"{"type":"registered","session_id":"s-1","session_token":"st-1","status":"active"}"#,
        );
        rig.out.clear();
        rig
    }

    /// Time passes until the next timer.
    fn due(&mut self) {
        self.now = self.agent.poll_timeout().unwrap().at;
        self.agent.handle_timeout(self.now, &mut self.out);
    }

    fn frame(&mut self, frame: &str) {
        self.agent.handle_frame(self.now, frame, &mut self.out);
    }

    fn lost(&mut self, lost: Lost) {
        self.agent.handle_lost(self.now, lost, &mut self.out);
    }

    /// The actions since the last call, as lines.
    fn take(&mut self) -> Vec<String> {
        let lines = self.out.drain(..).map(|action| match action {
            Action::Send(frame) => frame,
            Action::Tell(event) => event.to_string(),
            action => alloc::format!("{action:?}"),
        });
        lines.collect()
    }
}
