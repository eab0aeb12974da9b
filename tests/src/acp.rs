//! The machine of an ACP agent, with a link, clients and a simulated process.

pub mod script;
pub mod transcript;
pub mod turmoil;

use mcp_local_provider_core::agents::acp::tools::{CallId, ToolAnswer, ToolRequest};
use mcp_local_provider_core::agents::acp::{Agent, Config, Event, Order, Out, Profile};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::id::{Authority, ExchangeId, Ids, LinkId, SessionId};
use mcp_local_provider_core::invocation::{CancelReason, Delivery, End, Failure, InvokeForm};
use mcp_local_provider_core::link::{
    Command, Deliver, FromAgent, Invoke, Link, LinkConfig, LinkOut, Notice, Permits, Registered,
    Registration, SessionStatus,
};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::rpc::{Line, Lines};
use mcp_local_provider_core::time::{Instant, WallClock};
use std::collections::BTreeMap;
use std::time::Duration;

/// The answer that one client has received.
#[derive(Debug)]
pub struct Client {
    /// Its exchange.
    pub id: ExchangeId,
    mailbox: Mailbox,
    /// Text of the answer.
    pub text: String,
    /// Text that was thought aloud.
    pub reasoning: String,
    /// Tool calls: id, name, arguments.
    pub calls: Vec<(String, String, String)>,
    /// Its end, once it came.
    pub end: Option<Result<End, Failure<'static>>>,
    /// It has gone.
    pub gone: bool,
}

struct Mailboxes<'c>(&'c mut Vec<Client>);

impl Deliver<usize> for Mailboxes<'_> {
    fn deliver(&mut self, to: &usize, delivery: &Delivery<'_>) -> Push {
        self.0[*to].mailbox.push(delivery)
    }
}

/// See the module's documentation.
pub struct Bench {
    /// The machine.
    pub agent: Agent,
    link: Link<usize>,
    link_out: LinkOut,
    out: Out,
    lines: Lines,
    ids: Ids,
    wall: WallClock,
    /// The time.
    pub now: Instant,
    /// Everybody who asked.
    pub clients: Vec<Client>,
    /// Lines for the process that it has not read.
    pub written: Vec<String>,
    /// Orders for the supervisor that it has not carried out.
    pub orders: Vec<Order>,
    /// Events for the log.
    pub events: Vec<Event>,
    /// Bytes for HTTP requests of the agent that wait.
    pub replies: BTreeMap<u64, (Vec<u8>, bool)>,
    /// Registrations of the agent.
    pub registrations: Vec<Registration>,
    /// The key of whoever asks next.
    pub caller: Authority,
    /// Registrations that the hub refuses from now on.
    pub refusals: usize,
    /// The session that the hub made of the last registration.
    pub session: Option<SessionId>,
    /// State of that session at the hub; `None` once it has ended or was given back.
    pub held: Option<&'static str>,
}

/// The name of every agent here.
pub const NAME: &str = "echo";

impl Bench {
    /// An agent that was told to start, and has not.
    #[must_use]
    pub fn new(profile: Profile, config: Config) -> Self {
        let now = Instant::from_micros(1_000_000);
        let wall = WallClock::new(now, Duration::from_secs(1_767_225_600));
        let mut bench = Self {
            agent: Agent::new(profile, config, [7; 32]),
            link: Link::new(LinkId(1), &LinkConfig::default(), now),
            link_out: LinkOut::new(),
            out: Out::new(),
            lines: Lines::new(1 << 20),
            ids: Ids::new(0x00c0_ffee),
            wall,
            now,
            clients: Vec::new(),
            written: Vec::new(),
            orders: Vec::new(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            registrations: Vec::new(),
            caller: Authority::Anyone,
            refusals: 0,
            session: None,
            held: None,
        };
        let Self { agent, out, .. } = &mut bench;
        agent.start(now, out);
        bench.collect();
        bench
    }

    /// Calls the agent, and the link with what the agent said.
    pub fn call(
        &mut self,
        call: impl FnOnce(&mut Agent, Instant, &mut Out, &mut dyn FnMut(FromAgent<'_>)),
    ) {
        let Self {
            agent,
            link,
            link_out,
            out,
            clients,
            now,
            ..
        } = self;
        let mut deliver = Mailboxes(clients);
        call(agent, *now, out, &mut |message| {
            link.handle_message(*now, message, link_out, &mut deliver);
        });
        self.settle();
    }

    /// Carries everything to where it belongs until nothing moves.
    fn settle(&mut self) {
        loop {
            let Self {
                agent,
                link,
                link_out,
                out,
                clients,
                now,
                ..
            } = self;
            let mut deliver = Mailboxes(clients);
            while let Some(message) = link_out.pop_message() {
                agent.handle_message(*now, message, out, &mut |message| {
                    link.handle_message(*now, message, link_out, &mut deliver);
                });
            }
            let notices = std::mem::take(&mut link_out.notices);
            if notices.is_empty() {
                break;
            }
            for notice in notices {
                self.hub(notice);
            }
        }
        self.collect();
    }

    /// The hub's part: every registration becomes a session at once.
    fn hub(&mut self, notice: Notice) {
        let Self {
            link,
            link_out,
            clients,
            now,
            ..
        } = self;
        let command = match notice {
            Notice::Register(_) if self.held.is_some() => {
                panic!("it registers and has a session")
            }
            Notice::Register(_) if self.refusals > 0 => {
                self.refusals -= 1;
                Command::Error {
                    code: "overloaded",
                    message: "sessions.max allows no more".into(),
                }
            }
            Notice::Register(registration) => {
                self.registrations.push(registration);
                let session = SessionId::new(&format!("s-{}", self.registrations.len())).unwrap();
                self.session = Some(session.clone());
                self.held = Some("active");
                Command::Registered(Registered {
                    session,
                    token: None,
                    status: "active",
                    expires_at: "2026-01-01T00:05:00Z".into(),
                })
            }
            Notice::Unregister(session) => {
                assert_eq!(self.session.as_ref(), Some(&session), "not its session");
                self.held = None;
                Command::EndSession {
                    session,
                    reason: CancelReason::SessionEnded,
                }
            }
            _ => return,
        };
        link.handle_command(*now, command, link_out, &mut Mailboxes(clients));
    }

    /// The hub tells the agent that its session has another state.
    pub fn session_is(&mut self, status: &str, reason: &str) {
        let known = |text: &str| {
            let all = [
                "active",
                "pending",
                "suspended",
                "revoked",
                "expired",
                "approved",
                "resumed",
                "requests_used_up",
            ];
            all.into_iter().find(|known| *known == text)
        };
        let (status, reason) = (
            known(status).expect("a state"),
            known(reason).expect("a reason"),
        );
        self.held = match (status, reason) {
            ("revoked" | "expired", _) => None,
            (_, "requests_used_up") => Some(reason),
            _ => Some(status),
        };
        let command = Command::SessionStatus(SessionStatus {
            session: self.session.clone().expect("it has registered"),
            status,
            reason,
        });
        let (now, out) = (self.now, &mut self.link_out);
        let mut deliver = Mailboxes(&mut self.clients);
        self.link.handle_command(now, command, out, &mut deliver);
        self.settle();
    }

    fn collect(&mut self) {
        while let Some(line) = self.out.lines.pop() {
            self.written.push(line);
        }
        self.orders.append(&mut self.out.orders);
        self.events.append(&mut self.out.events);
        for (call, reply) in self.out.tool_replies.drain(..) {
            let got = self.replies.entry(call.0).or_default();
            assert!(!got.1, "bytes after the end of an HTTP answer");
            got.0.extend(reply.body);
            got.1 = reply.last;
        }
        for line in &self.written {
            assert!(
                line.ends_with('\n') && line.matches('\n').count() == 1,
                "{line:?}"
            );
        }
        for client in &mut self.clients {
            client.read();
        }
    }

    /// The process has started.
    pub fn started(&mut self) {
        self.lines.clear();
        self.call(|agent, now, out, link| agent.handle_started(now, out, link));
    }

    /// The process has ended.
    pub fn exited(&mut self, status: &str) {
        self.written.clear();
        self.call(|agent, now, out, link| agent.handle_exited(now, status, out, link));
    }

    /// The process writes.
    pub fn writes(&mut self, bytes: &[u8]) {
        let mut lines = Vec::new();
        self.lines.push(bytes, |line| {
            lines.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        });
        for line in lines {
            let line = line.as_deref().map_or(Line::TooLong, Line::Whole);
            self.call(|agent, now, out, link| agent.handle_line(now, line, out, link));
        }
    }

    /// The process writes a line.
    pub fn writes_line(&mut self, line: &str) {
        self.writes(format!("{line}\n").as_bytes());
    }

    /// The agent sends an HTTP request to an MCP server of ours.
    pub fn http(&mut self, server: &str, bearer: &str, method: &str, body: &str) -> ToolAnswer {
        let authorization = format!("Bearer {bearer}");
        let request = ToolRequest {
            server,
            method,
            authorization: Some(&authorization),
            body: body.as_bytes(),
        };
        let mut answer = None;
        self.call(|agent, now, out, link| {
            answer = Some(agent.handle_tool_request(now, &request, out, link));
        });
        answer.unwrap()
    }

    /// Name and bearer token of the MCP server that the agent was told of last.
    #[must_use]
    pub fn last_server(&self) -> Option<(String, String)> {
        self.written.iter().rev().find_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let server = message["params"]["mcpServers"].get(0)?;
            let name = server["url"].as_str()?.rsplit('/').next()?;
            let bearer = server["headers"][0]["value"].as_str()?;
            Some((name.into(), bearer.trim_start_matches("Bearer ").into()))
        })
    }

    /// The connection of a call is lost.
    pub fn http_gone(&mut self, call: u64) {
        self.call(|agent, now, out, link| agent.handle_tool_gone(now, CallId(call), out, link));
    }

    /// A client asks with an OpenAI chat request; its place among the clients.
    ///
    /// # Errors
    /// Fails when the request itself is refused.
    pub fn ask(&mut self, body: &str) -> Result<usize, String> {
        let id = self.ids.next();
        let config = HubConfig::default();
        let asked = Exchange::parse(
            &config,
            self.wall.clone(),
            id,
            crate::form("POST /v1/chat/completions"),
            self.now,
            body.as_bytes().to_vec(),
        );
        let (_, intent) = asked.map_err(|refusal| refusal.to_string())?;
        let session = self
            .session
            .clone()
            .unwrap_or_else(|| SessionId::new("s-0").unwrap());
        let place = self.clients.len();
        self.clients.push(Client {
            id,
            mailbox: Mailbox::new(256 << 10),
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            end: None,
            gone: false,
        });
        let invoke = Invoke {
            id,
            permit: Permits::default().issue(session, self.caller),
            label: NAME.into(),
            model: intent.request.model().into(),
            form: InvokeForm::Nested,
            request: intent.request.into(),
            prompt: PromptIndex::default(),
        };
        let opened = self.link.open(self.now, invoke, place, &mut self.link_out);
        opened.map_err(|(unopened, _)| unopened.to_string())?;
        self.settle();
        Ok(place)
    }

    /// A client asks with one message.
    pub fn say(&mut self, text: &str) -> usize {
        let text = serde_json::Value::from(text);
        self.ask(&format!(
            r#"{{"model":"{NAME}","stream":true,"messages":[{{"role":"user","content":{text}}}]}}"#
        ))
        .unwrap()
    }

    /// A client goes away, or a deadline of its exchange passes.
    pub fn cancel(&mut self, client: usize) {
        self.clients[client].gone = true;
        let id = self.clients[client].id;
        self.link.cancel(
            self.now,
            id,
            CancelReason::ClientDisconnected,
            &mut self.link_out,
        );
        self.settle();
    }

    /// Time passes, and every timer is served when it is due.
    ///
    /// # Panics
    /// Panics when a timer does not move.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            let agent = self.agent.poll_timeout().map(|timeout| timeout.at);
            let link = self.link.poll_timeout().map(|timeout| timeout.at);
            let next = agent.into_iter().chain(link).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.call(|agent, now, out, link| agent.handle_timeout(now, out, link));
            let Self {
                link,
                link_out,
                clients,
                now,
                ..
            } = self;
            link.handle_timeout(*now, link_out, &mut Mailboxes(clients));
            self.settle();
            let later = self
                .agent
                .poll_timeout()
                .is_none_or(|timeout| timeout.at > self.now);
            assert!(later, "a timer that was served is due again");
        }
        panic!("timers never come to rest");
    }

    /// Discards frames that a link sends by itself.
    #[must_use]
    pub fn open_exchanges(&self) -> usize {
        self.link.open_exchanges()
    }
}

impl Client {
    fn read(&mut self) {
        let mut batch = Batch::new();
        self.mailbox.drain(&mut batch);
        for delivery in &batch {
            assert!(self.end.is_none(), "a delivery after the end");
            match delivery {
                Delivery::Delta(delta) => {
                    self.text.push_str(&delta.content.decode());
                    self.reasoning.push_str(&delta.reasoning.decode());
                    for call in &delta.tool_calls {
                        let at = usize::try_from(call.index).unwrap();
                        if self.calls.len() <= at {
                            self.calls.resize_with(at + 1, Default::default);
                        }
                        let known = &mut self.calls[at];
                        known.0.push_str(&call.id.decode());
                        known.1.push_str(&call.name.decode());
                        known.2.push_str(&call.arguments.decode());
                    }
                }
                Delivery::Embedding(_) => panic!("an agent gave a vector"),
                Delivery::End(end) => self.end = Some(Ok(end)),
                Delivery::Failed(failure) => {
                    self.end = Some(Err(Failure {
                        message: failure.message.into_owned().into(),
                        ..failure
                    }));
                }
            }
        }
    }

    /// True when it has its answer, or wants none.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.end.is_some() || self.gone
    }
}
