//! An agent that speaks ACP: a prompt from the client's body to the line that its process reads, and what the process writes
//! to the client's inbox.

use std::hint::black_box;
use std::time::Duration;

use mcp_local_provider_core::agents::acp::tools::{ToolAnswer, ToolRequest};
use mcp_local_provider_core::agents::acp::{Agent, Config, Out, Profile};
use mcp_local_provider_core::api::ROUTES;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::dialect::Form;
use mcp_local_provider_core::exchange::Exchange;
use mcp_local_provider_core::id::{Authority, ExchangeId, Ids, LinkId, SessionId};
use mcp_local_provider_core::invocation::{CancelReason, InvokeForm};
use mcp_local_provider_core::link::{FromAgent, Invoke, Link, LinkConfig, LinkOut, Permits};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::rpc::Line;
use mcp_local_provider_core::time::{Instant, WallClock};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BUDGET, CHUNKS, One};
use crate::Error;
use crate::script::CONTENT;

const NOW: Instant = Instant::from_micros(1_000_000);

/// An agent that is ready, with its link.
#[derive(Debug)]
struct Rig {
    agent: Agent,
    out: Out,
    link: Link<()>,
    link_out: LinkOut,
    mailbox: One,
    batch: Batch,
    ids: Ids,
    wall: WallClock,
    config: HubConfig,
    form: &'static Form,
    session: SessionId,
    /// The id of the last prompt that the process was sent.
    prompt: u64,
}

impl Rig {
    fn new() -> Result<Self, Error> {
        let route = ROUTES.named("POST /v1/chat/completions");
        let wall = WallClock::new(NOW, Duration::from_secs(1_790_000_000));
        let mut config = Config::new("/tmp/empty");
        config.tools_url = Some("http://127.0.0.1:1/agents/mcp/".to_owned());
        let mut rig = Self {
            agent: Agent::new(Profile::new("echo"), config, [7; 32]),
            out: Out::new(),
            link: Link::new(LinkId(1), &LinkConfig::default(), NOW),
            link_out: LinkOut::new(),
            mailbox: One(Mailbox::new(BUDGET)),
            batch: Batch::new(),
            ids: Ids::new(7),
            wall,
            config: HubConfig::default(),
            form: route
                .and_then(|route| route.form())
                .ok_or("no such route")?,
            session: SessionId::new("s-1").ok_or("no session id")?,
            prompt: 0,
        };
        rig.agent.start(NOW, &mut rig.out);
        rig.call(|agent, out, link| agent.handle_started(NOW, out, link));
        rig.serve();
        Ok(rig)
    }

    /// Calls the agent, and carries what it and the link have for each other.
    fn call(&mut self, call: impl FnOnce(&mut Agent, &mut Out, &mut dyn FnMut(FromAgent<'_>))) {
        let Self {
            agent,
            out,
            link,
            link_out,
            mailbox,
            ..
        } = self;
        call(agent, out, &mut |message| {
            link.handle_message(NOW, message, link_out, mailbox);
        });
        while let Some(message) = link_out.pop_message() {
            agent.handle_message(NOW, message, out, &mut |message| {
                link.handle_message(NOW, message, link_out, mailbox);
            });
        }
    }

    fn line(&mut self, line: &str) {
        let line = Line::Whole(black_box(line.as_bytes()));
        self.call(|agent, out, link| agent.handle_line(NOW, line, out, link));
    }

    /// The process reads what it was sent and answers at once, but for prompts. The bytes that it read.
    fn serve(&mut self) -> usize {
        let mut read = 0;
        while let Some(line) = self.out.lines.pop() {
            read += black_box(&line).len();
            let Some((id, method)) = request(&line) else {
                continue;
            };
            let result = match method {
                "initialize" => ABLE.to_owned(),
                "session/new" => format!(r#""sessionId":"session-{id}""#),
                "session/prompt" => {
                    self.prompt = id;
                    continue;
                }
                _ => String::new(),
            };
            self.answer(id, &result);
        }
        self.out.orders.clear();
        self.out.events.clear();
        self.out.tool_replies.clear();
        read
    }

    /// The process answers a request with an object of these members.
    fn answer(&mut self, id: u64, members: &str) {
        self.line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{{members}}}}}"#
        ));
    }

    /// A client asks; the invocation reaches the agent.
    fn ask(&mut self, body: Vec<u8>) -> Result<ExchangeId, Error> {
        let id = self.ids.next();
        let (_, intent) = Exchange::parse(
            &self.config,
            self.wall.clone(),
            id,
            self.form,
            NOW,
            black_box(body),
        )?;
        let permits = Permits::default();
        let invoke = Invoke {
            id,
            permit: permits.issue(self.session.clone(), Authority::Anyone),
            label: "echo".into(),
            model: intent.request.model().into(),
            form: InvokeForm::Nested,
            request: intent.request.into(),
            prompt: PromptIndex::default(),
        };
        let opened = self.link.open(NOW, invoke, (), &mut self.link_out);
        opened.map_err(|(unopened, ())| unopened)?;
        self.call(|_, _, _| {});
        Ok(id)
    }

    /// The client goes, and the agent stops.
    fn forget(&mut self, id: ExchangeId) {
        let why = CancelReason::ClientDisconnected;
        self.link.cancel(NOW, id, why, &mut self.link_out);
        self.call(|_, _, _| {});
        self.answer(self.prompt, r#""stopReason":"cancelled""#);
        self.serve();
    }
}

/// Abilities of the process.
const ABLE: &str = r#""protocolVersion":1,"agentCapabilities":{"mcpCapabilities":{"http":true},"sessionCapabilities":{"close":{}}}"#;

/// Id and method of a request of ours.
fn request(line: &str) -> Option<(u64, &str)> {
    let rest = line.strip_prefix(r#"{"jsonrpc":"2.0","id":"#)?;
    let (id, rest) = rest.split_once(r#","method":""#)?;
    Some((id.parse().ok()?, rest.split_once('"')?.0))
}

/// One update of a session, as agents write it.
fn chunk_line(bytes: usize) -> String {
    let text = CONTENT.repeat(bytes.div_ceil(CONTENT.len()));
    format!(
        r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"session-2","update":{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}}}}}}}"#
    )
}

/// A request whose one message has `bytes` of text, with the line ends and quotes of a program's source.
fn prompt(bytes: usize) -> String {
    let line =
        r#"    let total = parts.iter().map(|part| part.len()).sum::<usize>(); // \"all\" of it\n"#;
    let text = line.repeat(bytes.div_ceil(line.len()));
    format!(
        r#"{{"model":"echo","stream":true,"messages":[{{"role":"user","content":"{text}"}}],"temperature":0.2}}"#
    )
}

/// Members of a JSON-RPC message, as one scan finds them.
#[derive(Deserialize)]
struct Members<'l> {
    #[serde(borrow)]
    id: Option<&'l RawValue>,
    #[serde(borrow)]
    method: Option<&'l RawValue>,
    #[serde(borrow)]
    params: Option<&'l RawValue>,
    #[serde(borrow)]
    messages: Option<&'l RawValue>,
}

/// One scan of what an agent or a client writes, to which the cases are held.
#[derive(Debug)]
pub struct Scan(String);

impl Scan {
    /// A chunk with `bytes` of text.
    #[must_use]
    pub fn chunk(bytes: usize) -> Self {
        Self(chunk_line(bytes))
    }

    /// The body of a request with a prompt of `bytes`.
    #[must_use]
    pub fn prompt(bytes: usize) -> Self {
        Self(prompt(bytes))
    }

    /// Scans it `times` times.
    ///
    /// # Errors
    /// Fails when it is no JSON.
    pub fn run(&self, times: usize) -> Result<(), Error> {
        for _ in 0..times {
            let members: Members<'_> = serde_json::from_str(black_box(&self.0))?;
            black_box((members.id, members.method, members.params, members.messages));
        }
        Ok(())
    }
}

/// Chunks of one answer.
#[derive(Debug)]
pub struct AcpChunks {
    rig: Rig,
    line: String,
}

impl AcpChunks {
    /// An answer has begun; its chunks have `bytes` of text.
    ///
    /// # Errors
    /// Fails when a machine refuses what it should take.
    pub fn new(bytes: usize) -> Result<Self, Error> {
        let mut rig = Rig::new()?;
        rig.ask(prompt(64).into())?;
        rig.serve();
        let line = chunk_line(bytes);
        let mut chunks = Self { rig, line };
        chunks.once()?;
        Ok(chunks)
    }

    /// Each from its line to what its exchange takes from its inbox, [`CHUNKS`] times.
    ///
    /// # Errors
    /// Fails when a chunk does not come.
    pub fn run(&mut self) -> Result<(), Error> {
        (0..CHUNKS).try_for_each(|_| self.once())
    }

    fn once(&mut self) -> Result<(), Error> {
        let Self { rig, line } = self;
        rig.line(line);
        if rig.mailbox.0.drain(&mut rig.batch) {
            black_box(&rig.batch);
            Ok(())
        } else {
            Err("a chunk was lost".into())
        }
    }
}

/// Prompts of 100 KB.
#[derive(Debug)]
pub struct AcpPrompts {
    rig: Rig,
    /// Bodies as drivers have received them, one for each repetition; whoever repeats it more often has them made on the way.
    bodies: Vec<Vec<u8>>,
}

/// Bytes of a large prompt.
pub const PROMPT: usize = 100_000;

/// Repetitions of a large prompt.
pub const PROMPTS: usize = 4;

impl AcpPrompts {
    /// An agent that waits for its first prompt.
    ///
    /// # Errors
    /// Fails when a machine refuses what it should take.
    pub fn new() -> Result<Self, Error> {
        let mut prompts = Self {
            rig: Rig::new()?,
            bodies: vec![prompt(PROMPT).into(); PROMPTS + 1],
        };
        prompts.once()?;
        Ok(prompts)
    }

    /// Each from the body of its request to the line of `session/prompt`, [`PROMPTS`] times.
    ///
    /// # Errors
    /// Fails when one does not reach the agent.
    pub fn run(&mut self) -> Result<(), Error> {
        (0..PROMPTS).try_for_each(|_| self.once())
    }

    fn once(&mut self) -> Result<(), Error> {
        let Self { rig, bodies } = self;
        let body = bodies.pop().unwrap_or_else(|| prompt(PROMPT).into());
        let id = rig.ask(body)?;
        if rig.serve() < PROMPT {
            return Err("the prompt did not reach the agent".into());
        }
        rig.forget(id);
        Ok(())
    }
}

/// Calls of a tool of the caller.
#[derive(Debug)]
pub struct AcpCalls {
    rig: Rig,
    server: String,
    bearer: String,
}

/// A request that brings a tool.
const WITH_TOOL: &str = r#"{"model":"echo","stream":true,"messages":[{"role":"user","content":"How is the weather?"}],"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]}"#;

/// The agent's request to the MCP server of the caller's tools.
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"weather","arguments":{"city":"Oslo"},"_meta":{"progressToken":1}}}"#;

impl AcpCalls {
    /// A turn that has the tool.
    ///
    /// # Errors
    /// Fails when a machine refuses what it should take.
    pub fn new() -> Result<Self, Error> {
        let mut rig = Rig::new()?;
        rig.ask(WITH_TOOL.into())?;
        let told = rig.out.lines.iter().rev().find_map(|line| {
            let (_, rest) = line.split_once("/agents/mcp/")?;
            let (server, rest) = rest.split_once('"')?;
            let (bearer, _) = rest.split_once("Bearer ")?.1.split_once('"')?;
            Some((server.to_owned(), bearer.to_owned()))
        });
        let (server, bearer) = told.ok_or("the agent was told of no tool")?;
        rig.serve();
        let mut calls = Self {
            rig,
            server,
            bearer,
        };
        calls.once()?;
        Ok(calls)
    }

    /// Each from the agent's request to what its exchange takes from its inbox, and the loss of the agent's connection,
    /// [`CHUNKS`] times.
    ///
    /// # Errors
    /// Fails when a call does not come.
    pub fn run(&mut self) -> Result<(), Error> {
        (0..CHUNKS).try_for_each(|_| self.once())
    }

    fn once(&mut self) -> Result<(), Error> {
        let Self {
            rig,
            server,
            bearer,
        } = self;
        let authorization = format!("Bearer {bearer}");
        let request = ToolRequest {
            server,
            method: "POST",
            authorization: Some(&authorization),
            body: black_box(CALL.as_bytes()),
        };
        let mut answer = None;
        rig.call(|agent, out, link| {
            answer = Some(agent.handle_tool_request(NOW, &request, out, link));
        });
        let Some(ToolAnswer::Stream(call)) = answer else {
            return Err("the call was refused".into());
        };
        if !rig.mailbox.0.drain(&mut rig.batch) {
            return Err("a call was lost".into());
        }
        black_box(&rig.batch);
        rig.call(|agent, out, link| agent.handle_tool_gone(NOW, call, out, link));
        Ok(())
    }
}
