#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod faults;
mod life;
mod messages;
mod order;

use super::*;
use crate::agents::websocket;
use crate::id::{Authority, Ids};
use crate::invocation::{Delta, Invocation, InvokeForm, Parameters, Task};
use crate::mailbox::{Batch, Mailbox, Push};
use crate::request::{PromptIndex, Request};
use crate::text::JsonStr;
use crate::time::WallClock;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde_json::Value;

/// Mailboxes with what came out of them, one for each exchange.
#[derive(Default)]
struct Clients {
    mailboxes: Vec<Mailbox>,
}

impl Deliver<usize> for Clients {
    fn deliver(&mut self, to: &usize, delivery: &Delivery<'_>) -> Push {
        self.mailboxes[*to].push(delivery)
    }
}

/// A link with its driver: an agent on one side, clients on the other.
struct Rig {
    link: Link<usize>,
    out: LinkOut,
    clients: Clients,
    ids: Ids,
    now: Instant,
}

/// A permit that nobody withdraws.
fn permit(session: &str) -> Permit {
    Permits::default().issue(SessionId::new(session).unwrap(), Authority::Anyone)
}

/// An invocation that asks little.
fn invoke(id: ExchangeId, permit: &Permit) -> Invoke {
    invoke_with(id, permit, JsonStr::EMPTY)
}

/// An invocation with that prompt.
fn invoke_with(id: ExchangeId, permit: &Permit, prompt: JsonStr<'_>) -> Invoke {
    let invocation = Invocation {
        model: "m".into(),
        task: Task::Completion {
            prompt,
            suffix: None,
        },
        stream: true,
        parameters: Parameters::default(),
    };
    Invoke {
        id,
        permit: permit.clone(),
        label: "label".into(),
        model: "m".into(),
        form: InvokeForm::Nested,
        request: Request::of(&invocation).into(),
        prompt: PromptIndex::default(),
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(&LinkConfig::default())
    }

    fn with(config: &LinkConfig) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self {
            link: Link::new(LinkId(1), config, now),
            out: LinkOut::new(),
            clients: Clients::default(),
            ids: Ids::new(0x6f1a_2b3c),
            now,
        }
    }

    /// Opens an exchange of the session `session`.
    fn open_for(&mut self, session: &str, budget: usize) -> (usize, ExchangeId) {
        self.open_with(session, budget, JsonStr::EMPTY)
    }

    /// The same with that prompt.
    fn open_with(
        &mut self,
        session: &str,
        budget: usize,
        prompt: JsonStr<'_>,
    ) -> (usize, ExchangeId) {
        let id = self.ids.next();
        let to = self.clients.mailboxes.len();
        self.clients.mailboxes.push(Mailbox::new(budget));
        let invoke = invoke_with(id, &permit(session), prompt);
        self.link.open(self.now, invoke, to, &mut self.out).unwrap();
        (to, id)
    }

    fn open(&mut self) -> (usize, ExchangeId) {
        self.open_for("s-1", 1 << 20)
    }

    /// The agent sends a frame.
    fn agent(&mut self, frame: &str) {
        match websocket::decode(frame, self.link.config().frame_bytes) {
            Ok(message) => {
                self.link
                    .handle_message(self.now, message, &mut self.out, &mut self.clients);
            }
            Err(fault) => self.fault(fault),
        }
    }

    fn fault(&mut self, fault: AgentFault) {
        self.link
            .handle_fault(self.now, fault, &mut self.out, &mut self.clients);
    }

    /// The agent sends a chunk with the rest of its members.
    fn chunk(&mut self, id: ExchangeId, members: &str) {
        self.agent(&format!(
            "{{\"type\":\"model_stream_chunk\",\"id\":\"{id}\",{members}}}"
        ));
    }

    fn text(&mut self, id: ExchangeId, index: u64, text: &str) {
        self.chunk(
            id,
            &format!("\"chunk_index\":{index},\"delta\":{{\"content\":\"{text}\"}}"),
        );
    }

    fn last(&mut self, id: ExchangeId, index: u64) {
        self.chunk(
            id,
            &format!("\"chunk_index\":{index},\"delta\":{{}},\"finish_reason\":\"stop\""),
        );
    }

    fn cancel(&mut self, id: ExchangeId, why: CancelReason) {
        self.link.cancel(self.now, id, why, &mut self.out);
    }

    fn command(&mut self, command: Command) {
        self.link
            .handle_command(self.now, command, &mut self.out, &mut self.clients);
    }

    fn disconnect(&mut self) {
        self.link
            .handle_disconnect(self.now, &mut self.out, &mut self.clients);
    }

    fn end_session(&mut self, session: &str) {
        self.command(Command::EndSession {
            session: SessionId::new(session).unwrap(),
            reason: CancelReason::SessionEnded,
        });
    }

    /// Advances the clock from timeout to timeout, as the laziest driver does.
    fn wait(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(next) = self.link.poll_timeout().filter(|next| next.at <= until) {
            self.now = self.now.max(next.at);
            self.link
                .handle_timeout(self.now, &mut self.out, &mut self.clients);
            assert!(
                self.link
                    .poll_timeout()
                    .is_none_or(|next| next.at > self.now)
            );
        }
        self.now = until;
    }

    /// The same with an agent that shows signs of life.
    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.wait(1);
            self.link.handle_alive(self.now);
        }
    }

    /// Drains a client's mailbox and describes the deliveries.
    fn client(&mut self, client: usize) -> String {
        let mut batch = Batch::new();
        let mut told = Vec::new();
        while self.clients.mailboxes[client].drain(&mut batch) {
            told.extend(batch.iter().map(|delivery| tell(&delivery)));
        }
        told.join(" ")
    }

    /// Takes the frames that the agent has got since the last call, and describes each by its type and one detail.
    fn sent(&mut self) -> String {
        let frames = self.frames();
        let told: Vec<_> = frames
            .iter()
            .map(|frame| match frame {
                None => "PING".to_string(),
                Some(text) => {
                    let json: Value = serde_json::from_str(text).expect("the agent gets JSON");
                    let detail = json["reason"]
                        .as_str()
                        .or(json["error"]["code"].as_str())
                        .or(json["status"].as_str());
                    match detail {
                        Some(detail) => format!("{}({detail})", json["type"].as_str().unwrap()),
                        None => json["type"].as_str().unwrap().to_string(),
                    }
                }
            })
            .collect();
        told.join(" ")
    }

    /// The text of each; `None` for a ping.
    fn frames(&mut self) -> Vec<Option<String>> {
        let wall = WallClock::new(
            Instant::from_micros(1_000_000),
            Duration::from_secs(1_767_225_600),
        );
        let mut messages = VecDeque::new();
        self.out.take_messages(&mut messages);
        let encode = |message| websocket::encode(message, &wall);
        messages.iter().map(encode).collect()
    }

    /// The one text frame that the agent has got since the last call.
    fn frame(&mut self) -> String {
        let frames = self.frames();
        match &frames[..] {
            [Some(text)] => text.clone(),
            other => panic!("one text frame expected, got {other:?}"),
        }
    }
}

fn tell(delivery: &Delivery<'_>) -> String {
    match delivery {
        Delivery::Delta(delta) => tell_delta(delta),
        Delivery::Embedding(vector) => format!("vector{vector}"),
        Delivery::End(end) => match end.usage {
            Some(usage) => format!(
                "end({},{}+{})",
                end.finish.as_str(),
                usage.prompt_tokens,
                usage.completion_tokens
            ),
            None => format!("end({})", end.finish.as_str()),
        },
        Delivery::Failed(failure) => format!("failed({:?})", failure.code),
    }
}

fn tell_delta(delta: &Delta<'_>) -> String {
    let mut told = Vec::new();
    for (name, text) in [
        ("", delta.content),
        ("reasoning:", delta.reasoning),
        ("refusal:", delta.refusal),
    ] {
        if !text.is_empty() {
            told.push(format!("{name}{}", text.as_escaped()));
        }
    }
    for call in &delta.tool_calls {
        told.push(format!(
            "call:{}:{}:{}:{}",
            call.index,
            call.id.as_escaped(),
            call.name.as_escaped(),
            call.arguments.as_escaped()
        ));
    }
    if told.is_empty() {
        "empty".to_string()
    } else {
        told.join("+")
    }
}

/// Every event in every state of an exchange: what the client gets, what the agent gets, and what is left open.
#[test]
fn every_event_in_every_state_of_an_exchange() {
    type Step = fn(&mut Rig, ExchangeId);
    let states: [(&str, Step); 4] = [
        ("fresh", |_, _| {}),
        ("streaming", |rig, id| rig.text(id, 0, "a")),
        ("gap", |rig, id| {
            rig.text(id, 0, "a");
            rig.text(id, 2, "c");
        }),
        ("done", |rig, id| {
            rig.text(id, 0, "a");
            rig.last(id, 1);
        }),
    ];
    let events: [(&str, Step); 12] = [
        ("chunk 0", |rig, id| rig.text(id, 0, "A")),
        ("chunk 1", |rig, id| rig.text(id, 1, "b")),
        ("chunk 3", |rig, id| rig.text(id, 3, "d")),
        ("last 1", |rig, id| rig.last(id, 1)),
        ("result", |rig, id| {
            rig.agent(&format!(
                "{{\"type\":\"model_result\",\"id\":\"{id}\",\"choices\":[{{\"message\":{{\"content\":\"all\"}}}}]}}"
            ));
        }),
        ("error", |rig, id| {
            rig.agent(&format!(
                "{{\"type\":\"error\",\"id\":\"{id}\",\"error\":\"no\"}}"
            ));
        }),
        ("wrong field", |rig, id| rig.chunk(id, "\"delta\":5")),
        ("cancel", |rig, id| {
            rig.cancel(id, CancelReason::ClientDisconnected);
            rig.cancel(id, CancelReason::Timeout);
        }),
        ("session ends", |rig, _| rig.end_session("s-1")),
        ("other session ends", |rig, _| rig.end_session("s-2")),
        ("5 s pass", |rig, _| rig.wait(5)),
        ("disconnect", |rig, _| {
            rig.disconnect();
            rig.disconnect();
        }),
    ];
    let mut table = String::new();
    for (state, prepare) in states {
        for (event, act) in events {
            let mut rig = Rig::new();
            let (client, id) = rig.open();
            prepare(&mut rig, id);
            rig.client(client);
            rig.sent();
            act(&mut rig, id);
            let got = rig.client(client);
            let sent = rig.sent();
            let left = if rig.link.open_exchanges() == 1 {
                "open"
            } else {
                "done"
            };
            table.push_str(&format!("{state} | {event} | {got} | {sent} | {left}\n"));
        }
    }
    assert_eq!(table, include_str!("transitions.txt"));
}
