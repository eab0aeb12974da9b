#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Each end of a request is one record, whatever the step at which it ends.

use crate::Engine;
use crate::answer::Answer;
use crate::audit::Audit;
use crate::caller_tools::{ToolEvent, ToolQueue};
use crate::converse::Frame;
use crate::converse::{Converse, Turn};
use crate::feed::{Events, Reader};
use crate::link::Connected;
use crate::outside::{Outside, Usage};
use crate::request::{self, Begun, Expecting, Request, Step};
use crate::running::{Progress, Running};
use mcp_local_provider_core::agents::acp::tools::{CallId, ToolAnswer, ToolReply};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::config::{HubConfig, Key, Role};
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::hub::Hello;
use mcp_local_provider_core::hub::audit::{AuditEvent, RequestKind};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::hub::metrics::Metrics;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{HeadLimits, HeadReader};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;
use tungstenite::http;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "the key of an editor";
const BRIDGE: &str = "the key of a bridge";

/// A world in which no time passes.
struct Still;

impl Outside for Still {
    fn now(&self) -> Instant {
        Instant::from_micros(1)
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(1_767_225_600)
    }
}

/// A record of a request: event, endpoint, status, outcome and bytes of the answer.
type Record = (&'static str, &'static str, u16, &'static str, u64);

struct Bench {
    engine: Arc<Engine>,
    audit: Reader,
}

impl Bench {
    /// An engine that runs one exchange at a time.
    fn new() -> Self {
        let key = |name: &str, secret: &str, role| Key::new(name, digest(secret.as_bytes()), role);
        let mut config = HubConfig {
            auth_required: true,
            keys: vec![
                key("editor", KEY, Role::Client),
                key("bridge", BRIDGE, Role::Bridge),
            ],
            ..HubConfig::default()
        };
        config.limits.exchanges = 1;
        let audit = Audit::off();
        let requests =
            Events::ANSWERED | Events::STRANGERS | Events::RATE_LIMITED | Events::VIOLATIONS;
        let reader = audit.feed.reader(requests, 1 << 20, None);
        Self {
            engine: Engine::new(config, [7; 32], Arc::new(Still), audit),
            audit: reader,
        }
    }

    fn begin(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Begun {
        let authorization = format!("Bearer {KEY}");
        let mut fields = http::HeaderMap::new();
        let own = [("host", "localhost"), ("authorization", &*authorization)];
        for (name, value) in own.iter().chain(headers) {
            let name = http::HeaderName::try_from(*name).unwrap();
            fields.insert(name, value.parse().unwrap());
        }
        let request = Request::new(method, target, HOME, &fields);
        request::begin(&self.engine, Listener::All, &request)
    }

    fn step(&self, method: &str, target: &str) -> Step {
        match self.begin(method, target, &[]) {
            Begun::Step(step) => step,
            Begun::Upgrade(upgrade) => panic!("{upgrade:?}"),
        }
    }

    fn expecting(&self, target: &str) -> Box<Expecting> {
        match self.step("POST", target) {
            Step::Body(expecting) => expecting,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self) -> Step {
        let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        self.expecting(CHAT).complete(body.into())
    }

    fn running(&self) -> Box<Running> {
        running(self.ask())
    }

    fn queued(&self) -> Box<Running> {
        let queued = self.running();
        assert!(queued.ticket().is_none());
        queued
    }

    fn agent(&self) -> Agent {
        let hello = Hello {
            token: Some(BRIDGE),
            dialled: None,
        };
        let mut agent = Agent {
            link: Connected::new(&self.engine, hello).unwrap(),
            turn: Turn::default(),
        };
        agent.send(r#"{"type":"register","agent_id":"a","models":["m"]}"#);
        assert!(agent.frames().contains("registered"));
        agent
    }

    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        assert_eq!(self.audit.drain(Waker::noop(), &mut records), 0);
        let record = |event: &AuditEvent| match event {
            AuditEvent::Request {
                info,
                kind,
                status,
                outcome,
                bytes_out,
                ..
            } => (kind.as_str(), info.endpoint, *status, *outcome, *bytes_out),
            AuditEvent::Session { .. } | AuditEvent::Link { .. } => panic!("{event:?}"),
        };
        records
            .iter()
            .map(|one| record(&one.record.event))
            .collect()
    }

    fn metrics(&self) -> Metrics {
        self.engine.hub(|hub, _, _| hub.metrics())
    }

    /// Returns the one record of the answer; the hub has got back all that it gave.
    fn only_record(&mut self) -> Record {
        let records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        let metrics = self.metrics();
        assert_eq!((metrics.open, metrics.queued, metrics.unsettled), (0, 0, 0));
        records[0]
    }

    /// The request is written down once, as one whose client left before its answer.
    fn has_left(&mut self, endpoint: &str) {
        let event = RequestKind::Answered.as_str();
        let left = (event, endpoint, 499, "client_disconnected", 0);
        assert_eq!(self.only_record(), left);
    }
}

fn running(step: Step) -> Box<Running> {
    match step {
        Step::Running(running) => running,
        other => panic!("{other:?}"),
    }
}

fn answer(step: Step) -> Answer {
    match step {
        Step::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

struct Agent {
    link: Connected,
    turn: Turn,
}

impl Agent {
    fn send(&mut self, frame: &str) {
        self.link.begin(&mut self.turn);
        self.link.receive(&mut self.turn, frame);
        self.link.finish(&mut self.turn);
    }

    /// Takes the frames that it got and returns them, one a line.
    fn frames(&self) -> String {
        let mut frames = VecDeque::new();
        self.link.take_frames(&mut frames);
        let texts = frames.into_iter().map(|frame| match frame {
            Frame::Text(text) => text,
            Frame::Ping => "ping".to_owned(),
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The id of the invocation that it got.
    fn invoked(&self) -> String {
        let frames = self.frames();
        let (_, rest) = frames.split_once(r#""id":""#).unwrap();
        rest[..20].to_owned()
    }

    fn chunk(&mut self, id: &str, index: u32, delta: &str, finish: &str) {
        self.send(&format!(
            r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":{index},"delta":{delta},"finish_reason":{finish}}}"#
        ));
    }
}

#[test]
fn a_client_that_leaves_while_its_body_comes_is_written_down_once() {
    let mut bench = Bench::new();
    drop(bench.expecting(CHAT));
    bench.has_left("POST /v1/chat/completions");
    drop(bench.expecting("/api/show"));
    bench.has_left("POST /api/show");
}

#[test]
fn a_client_that_leaves_while_it_waits_is_written_down_once() {
    let mut bench = Bench::new();
    let agent = bench.agent();
    let first = bench.running();
    let mut queued = bench.queued();
    assert_ne!(queued.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    drop(queued);
    let records = bench.records();
    let left = (
        "request",
        "POST /v1/chat/completions",
        499,
        "client_disconnected",
        0,
    );
    assert_eq!(records, [left]);
    // One that was granted its ticket and has not taken it gives it back.
    let queued = bench.queued();
    drop(first);
    assert_eq!(bench.records(), [left]);
    assert_eq!(bench.metrics().open, 1);
    drop(queued);
    bench.has_left("POST /v1/chat/completions");
    assert_eq!(bench.metrics().cancelled, 2);
    drop(agent);
}

#[test]
fn a_client_that_leaves_before_its_answer_begins_is_written_down_once() {
    let mut bench = Bench::new();
    let agent = bench.agent();
    let mut running = bench.running();
    assert_ne!(running.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    agent.invoked();
    drop(running);
    assert!(agent.frames().contains("model_cancel"));
    bench.has_left("POST /v1/chat/completions");
    // It held the only place.
    drop(bench.running());
    bench.has_left("POST /v1/chat/completions");
}

#[test]
fn a_client_that_leaves_within_its_answer_has_seen_the_status_and_some_bytes() {
    let mut bench = Bench::new();
    let mut agent = bench.agent();
    let mut running = bench.running();
    let id = agent.invoked();
    agent.chunk(&id, 0, r#"{"content":"Hi"}"#, "null");
    assert_eq!(running.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    assert!(running.take_head().is_some());
    let bytes = running.body().len() as u64;
    drop(running);
    let (_, _, status, outcome, bytes_out) = bench.only_record();
    assert_eq!((status, outcome), (200, "client_disconnected"));
    assert!(bytes > 0 && bytes_out == bytes, "{bytes_out} of {bytes}");
}

#[test]
fn an_answer_that_ends_is_written_down_once_and_its_drop_adds_nothing() {
    let mut bench = Bench::new();
    let mut agent = bench.agent();
    let mut running = bench.running();
    let id = agent.invoked();
    agent.chunk(&id, 0, r#"{"content":"Hi"}"#, r#""stop""#);
    while !running.has_ended() {
        assert_eq!(running.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    }
    let bytes = running.body().len() as u64;
    let record = ("request", "POST /v1/chat/completions", 200, "ok", bytes);
    assert_eq!(bench.only_record(), record);
    drop(running);
    assert_eq!(bench.records(), []);
    assert!(!agent.frames().contains("model_cancel"));
}

#[test]
fn upgrades_and_reports_that_nobody_waits_for_are_written_down_once() {
    let mut bench = Bench::new();
    drop(bench.begin("GET", "/agent", &[]));
    bench.has_left("GET /agent");
    drop(bench.step("GET", "/metrics"));
    bench.has_left("GET /metrics");
}

#[test]
fn whole_answers_are_written_down_with_their_status_and_bytes() {
    let mut bench = Bench::new();
    let one = |bench: &mut Bench, answer: Answer, event, endpoint, outcome| {
        let bytes = answer.body.len() as u64;
        let record = (event, endpoint, answer.head.status(), outcome, bytes);
        assert_eq!(bench.only_record(), record);
    };
    let health = answer(bench.step("GET", "/health"));
    one(&mut bench, health, "request", "GET /health", "ok");
    let preflight = answer(bench.step("OPTIONS", CHAT));
    assert_eq!(preflight.head.status(), 204);
    one(&mut bench, preflight, "request", "OPTIONS", "ok");
    let lost = answer(bench.step("GET", "/nowhere"));
    assert!(!lost.body.is_empty());
    one(&mut bench, lost, "request", "unknown route", "not_found");
    let Begun::Step(unknown) = bench.begin("GET", "/v1/models", &[("authorization", "Bearer x")])
    else {
        panic!("it is no upgrade");
    };
    let (event, code) = ("authentication_failed", "invalid_api_key");
    one(&mut bench, answer(unknown), event, "GET /v1/models", code);
    let nobody = answer(bench.ask());
    assert_eq!(nobody.head.status(), 503);
    one(
        &mut bench,
        nobody,
        "request",
        "POST /v1/chat/completions",
        "no_agent",
    );
    let large = bench.expecting(CHAT).too_large();
    one(
        &mut bench,
        large,
        "request",
        "POST /v1/chat/completions",
        "request_too_large",
    );
    let Step::Report(report) = bench.step("GET", "/metrics") else {
        panic!("it is a report");
    };
    let report = report.answer(Usage::default());
    one(&mut bench, report, "request", "GET /metrics", "ok");
    let mut reader = HeadReader::new(HeadLimits::default());
    let error = reader
        .read(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
        .unwrap_err();
    let misframed = request::misframed(&bench.engine, HOME, error);
    let (event, code) = ("violation", "malformed_request");
    one(&mut bench, misframed, event, "malformed request", code);
    let misframed = bench.expecting(CHAT).misframed(error);
    one(
        &mut bench,
        misframed,
        event,
        "POST /v1/chat/completions",
        code,
    );
}

#[test]
fn an_answer_to_head_has_no_bytes() {
    let mut bench = Bench::new();
    let root = answer(bench.step("HEAD", "/"));
    assert!(!root.body.is_empty(), "its length is told");
    let (_, _, status, outcome, bytes) = bench.only_record();
    assert_eq!((status, outcome, bytes), (200, "ok", 0));
}

/// A client that asks again as soon as it is woken.
struct AsksAgain {
    bench: Bench,
    statuses: Mutex<Vec<Option<u16>>>,
}

impl Wake for AsksAgain {
    fn wake(self: Arc<Self>) {
        let status = match self.bench.ask() {
            Step::Answer(answer) => Some(answer.head.status()),
            Step::Body(_) | Step::Report(_) | Step::Running(_) => None,
        };
        self.statuses.lock().unwrap().push(status);
    }
}

#[test]
fn who_hears_that_an_agent_is_lost_is_not_sent_to_it_again() {
    let lost: [fn(&mut Agent); 2] = [
        |agent| agent.link.disconnect(),
        |agent| {
            agent.link.begin(&mut agent.turn);
            for _ in 0..1000 {
                agent.link.receive_binary(&mut agent.turn);
            }
            agent.link.finish(&mut agent.turn);
        },
    ];
    for lose in lost {
        let bench = Bench::new();
        let mut agent = bench.agent();
        let mut running = bench.running();
        let client = Arc::new(AsksAgain {
            bench,
            statuses: Mutex::default(),
        });
        let waker = Waker::from(client.clone());
        assert_ne!(running.poll(Instant::ZERO, &waker), Progress::Ready);
        lose(&mut agent);
        assert_eq!(running.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
        assert_eq!(running.take_head().unwrap().status(), 502);
        assert_eq!(*client.statuses.lock().unwrap(), [Some(503)]);
    }
}

/// A request of an agent named `a`, for the tools of a caller.
fn tool_request(bench: &Bench) -> Box<Running> {
    running(bench.expecting("/agents/a/mcp/s").complete(b"{}".to_vec()))
}

#[test]
fn requests_for_the_tools_of_a_caller_are_written_down_once() {
    let mut bench = Bench::new();
    let queue = ToolQueue::new(Waker::noop().clone());
    bench.engine.add_tool_queue("a", queue.clone());
    let take = || match queue.take().pop() {
        Some(ToolEvent::Request(transaction)) => transaction,
        other => panic!("{other:?}"),
    };
    let only = |bench: &mut Bench, running: Box<Running>| {
        drop(running);
        let (event, endpoint, status, outcome, bytes) = bench.only_record();
        assert_eq!(endpoint, "/agents/{agent}/mcp/{server}");
        (event, status, outcome, bytes)
    };
    let end = |running: &mut Running| {
        assert_eq!(running.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
        assert!(running.has_ended());
    };

    let mut whole = tool_request(&bench);
    take().respond(&ToolAnswer::Whole {
        status: 200,
        body: b"result".to_vec(),
    });
    end(&mut whole);
    assert_eq!(only(&mut bench, whole), ("request", 200, "ok", 6));

    let mut refused = tool_request(&bench);
    take().respond(&ToolAnswer::Refused(Code::InvalidKey));
    end(&mut refused);
    assert_eq!(
        only(&mut bench, refused),
        ("authentication_failed", 401, "invalid_api_key", 0)
    );

    let mut aborted = tool_request(&bench);
    take().abort();
    end(&mut aborted);
    assert_eq!(only(&mut bench, aborted), ("request", 503, "no_agent", 0));

    let waiting = tool_request(&bench);
    take();
    assert_eq!(
        only(&mut bench, waiting),
        ("request", 499, "client_disconnected", 0)
    );
    assert!(matches!(queue.take()[..], [ToolEvent::Disconnected(_)]));

    let mut parked = tool_request(&bench);
    let transaction = take();
    transaction.respond(&ToolAnswer::Stream(CallId(1)));
    transaction.push(&ToolReply {
        body: b": alive\n\n".to_vec(),
        last: false,
    });
    assert_eq!(parked.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    assert!(parked.take_head().unwrap().is_streamed() && !parked.has_ended());
    assert_eq!(
        only(&mut bench, parked),
        ("request", 200, "client_disconnected", 9)
    );
}

#[test]
fn a_body_for_an_agent_that_breaks_off_is_written_down_once() {
    let mut bench = Bench::new();
    let queue = ToolQueue::new(Waker::noop().clone());
    bench.engine.add_tool_queue("a", queue.clone());
    drop(bench.expecting("/agents/a/mcp/s"));
    let (_, _, status, outcome, _) = bench.only_record();
    assert_eq!((status, outcome), (499, "client_disconnected"));
    assert!(queue.take().is_empty());
}

#[test]
fn a_ticket_that_is_claimed_late_still_ends_once() {
    let mut bench = Bench::new();
    let mut agent = bench.agent();
    let first = bench.running();
    let mut queued = bench.queued();
    assert_ne!(queued.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    drop(first);
    agent.invoked();
    let mut second = queued;
    assert_ne!(second.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    let id = agent.invoked();
    agent.chunk(&id, 0, r#"{"content":"Hi"}"#, r#""stop""#);
    assert_eq!(second.poll(Instant::ZERO, Waker::noop()), Progress::Ready);
    drop(second);
    let outcomes: Vec<_> = bench.records().iter().map(|record| record.3).collect();
    assert_eq!(outcomes, ["client_disconnected", "ok"]);
    assert_eq!(bench.metrics().open, 0);
}
