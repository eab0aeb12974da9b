//! An agent in memory, which answers with what it was asked: all that a form of agent has to be.
//!
//! It is given [`ToAgent`] values and answers with [`FromAgent`] values; its registration declares what it supports. Ids, order,
//! cancels, limits, admission and what clients are told are the engine's.

use mcp_local_provider_core::hub::{Dialled, Hello};
use mcp_local_provider_core::invocation::{Content, Delta, End, Finish, Task};
use mcp_local_provider_core::link::{Chunk, Ending, FromAgent, Id, Registration, ToAgent};
use mcp_local_provider_core::supports::Supports;
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_engine::converse::{Converse, Turn};
use mcp_local_provider_engine::{Connected, Engine};
use std::collections::VecDeque;
use std::sync::Arc;

/// An agent that answers with the last message of the conversation.
#[derive(Debug)]
pub struct Echo {
    link: Connected,
    turn: Turn,
}

impl Echo {
    /// Connects and asks for a session, which answers for the model `echo`.
    #[must_use]
    pub fn register(engine: &Arc<Engine>, supports: Supports) -> Self {
        let name = "echo";
        let dialled = Some(Dialled {
            name,
            ..Dialled::default()
        });
        let link = Connected::new(
            engine,
            Hello {
                token: None,
                dialled,
            },
        )
        .unwrap();
        let mut echo = Self {
            link,
            turn: Turn::default(),
        };
        echo.say(FromAgent::Register(Registration {
            agent_id: name.into(),
            supports,
            ..Registration::default()
        }));
        echo
    }

    fn say(&mut self, message: FromAgent<'_>) {
        self.link.begin(&mut self.turn);
        self.link.receive_message(&mut self.turn, message);
        self.link.finish(&mut self.turn);
    }

    /// Answers all that it was asked.
    pub fn answer(&mut self) {
        let mut messages = VecDeque::new();
        self.link.take_messages(&mut messages);
        for message in messages {
            let ToAgent::Invoke { invoke, .. } = message else {
                continue;
            };
            let asked = invoke.request.invocation_of(invoke.prompt);
            let Task::Chat { messages } = asked.task else {
                panic!("no conversation")
            };
            let Content::Text(content) = messages.last().unwrap().content else {
                panic!("no text")
            };
            let end = Ending::End(End {
                finish: Finish::Stop,
                usage: None,
            });
            for (content, ending) in [(content, None), (JsonStr::EMPTY, Some(end))] {
                let delta = Delta {
                    content,
                    ..Delta::default()
                };
                self.say(FromAgent::Chunk(Chunk {
                    id: Id::Ours(invoke.id),
                    index: None,
                    delta,
                    ending,
                }));
            }
        }
    }
}
