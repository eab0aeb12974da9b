//! Tests of a server's process: what it is sent, and what becomes of what it says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod eras;
mod health;
mod lists;
mod mirroring;

use super::*;
use alloc::vec;
use mcp_local_provider_core::rpc::{Line, Message};

/// A server, with what came out of it as text.
struct Bench {
    server: Server<&'static str>,
    out: Out,
    said: Vec<String>,
    now: u64,
}

impl Bench {
    fn new(config: &Gateway) -> Self {
        let hello = "{\"protocolVersion\":\"2025-11-25\",\n\"capabilities\":{}}";
        Self {
            server: Server::new("files".into(), hello, config),
            out: Out::default(),
            said: Vec::new(),
            now: 0,
        }
    }

    /// One whose process is ready.
    fn ready() -> Self {
        let mut bench = Self::new(&Gateway::default());
        bench.server.start(bench.at(), &mut bench.out);
        bench.begin();
        bench
    }

    const fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    fn wait(&mut self, time: Duration) {
        self.now += u64::try_from(time.as_micros()).unwrap();
        let now = self.at();
        let said = &mut self.said;
        self.server
            .handle_timeout(now, &mut self.out, &mut |delivery| {
                said.push(told(delivery))
            });
    }

    /// The process starts and greets.
    fn begin(&mut self) {
        assert_eq!(self.out.orders.split_off(0), [Order::Spawn]);
        self.server.handle_started(self.at(), &mut self.out);
        let hello = self.lines().remove(0);
        let id = id_of(&hello);
        self.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"capabilities\":{{}}}}}}"
        ));
    }

    fn ask(&mut self, text: &str, who: &'static str) -> Result<CallId, Refusal> {
        let Ok(Message::Request { id, call }) = Message::read(text) else {
            panic!("{text}")
        };
        self.server
            .request(self.at(), text, id, &call, who, &mut self.out)
            .map_err(|(refusal, _)| refusal)
    }

    fn line(&mut self, line: &str) {
        let said = &mut self.said;
        self.server.handle_line(
            Instant::from_micros(self.now),
            Line::Whole(line.as_bytes()),
            &mut self.out,
            &mut |delivery| said.push(told(delivery)),
        );
    }

    fn exit(&mut self, exit: Exit) {
        let said = &mut self.said;
        self.server.handle_exited(
            Instant::from_micros(self.now),
            exit,
            "it ended",
            &mut self.out,
            &mut |delivery| said.push(told(delivery)),
        );
    }

    fn lines(&mut self) -> Vec<String> {
        core::iter::from_fn(|| self.out.lines.pop()).collect()
    }

    fn said(&mut self) -> Vec<String> {
        let said = &mut self.said;
        self.server
            .settle(&mut |delivery| said.push(told(delivery)));
        self.said.split_off(0)
    }
}

fn id_of(line: &str) -> String {
    let Ok(Message::Request { id, .. }) = Message::read(line.trim_end()) else {
        panic!("{line}")
    };
    id.get().into()
}

fn told(delivery: Delivery<'_, &'static str>) -> String {
    match delivery {
        Delivery::Ready { again, .. } => format!("ready, again: {again}"),
        Delivery::NotReady(refusal) => format!("not ready: {}", refusal.message),
        Delivery::Answer { to, text, id, .. } => format!("{to}: {} {text}", id.get()),
        Delivery::Failed { to, refusal } => format!("{to}: {:?}", refusal.reason),
        Delivery::Progress { to, token, .. } => format!("{to}: progress {}", token.get()),
        Delivery::Asked {
            of: Some(of),
            text,
            id,
            ..
        } => format!("asked of {of} {} {text}", id.get()),
        Delivery::Asked { id, method, .. } => format!("asked {} {method}", id.get()),
        Delivery::Withdrawn { id, .. } => format!("withdrawn {}", id.get()),
        Delivery::Notified {
            text,
            method,
            callers,
        } => {
            let callers: String = callers.iter().map(|caller| format!(" {caller}")).collect();
            format!("notified {method} {text}{callers}")
        }
        Delivery::Gone { failure: None } => "gone".into(),
        Delivery::Gone { failure: Some(why) } => format!("gone: {why}"),
    }
}

#[test]
fn a_request_waits_for_the_handshake_and_goes_out_as_one_line_under_another_id() {
    let mut bench = Bench::new(&Gateway::default());
    let text = "{\"id\":\"a\",\n \"method\":\"tools/call\",\"params\":{\"_meta\":{\"progressToken\":\"a\"},\"x\":1.0e0},\"jsonrpc\":\"2.0\"}";
    bench.ask(text, "ann").unwrap();
    assert!(bench.lines().is_empty());
    bench.begin();
    assert_eq!(bench.said(), ["ready, again: false"]);
    assert_eq!(
        bench.lines(),
        [
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n",
            "{\"id\":1,  \"method\":\"tools/call\",\"params\":{\"_meta\":{\"progressToken\":1},\"x\":1.0e0},\"jsonrpc\":\"2.0\"}\n",
        ]
    );
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2}}"#);
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":2}}"#);
    bench.line(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    bench.line(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(
        bench.said(),
        [
            "ann: progress 1",
            r#"ann: 1 {"jsonrpc":"2.0","id":1,"result":{}}"#
        ]
    );
}

#[test]
fn what_the_process_says_of_itself_reaches_its_session_and_a_ping_is_answered() {
    let mut bench = Bench::ready();
    bench.lines();
    bench.said();
    bench.line(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#);
    bench.line("Listening on stdio");
    bench.line(r#"[{"jsonrpc":"2.0","id":5,"method":"roots/list"},{"jsonrpc":"2.0","method":"notifications/message","params":{}}]"#);
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#);
    assert_eq!(
        bench.lines(),
        ["{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}\n"]
    );
    assert_eq!(
        bench.said(),
        [
            "asked 5 roots/list",
            r#"notified notifications/message {"jsonrpc":"2.0","method":"notifications/message","params":{}}"#,
            "withdrawn 5"
        ]
    );
    assert_eq!(bench.server.garbage(), 1);
}

#[test]
fn a_request_that_is_taken_back_is_cancelled_at_the_process_and_its_answer_is_late() {
    let mut bench = Bench::ready();
    bench.lines();
    bench.said();
    let call = bench
        .ask(r#"{"id":1,"method":"tools/call"}"#, "ann")
        .unwrap();
    bench.lines();
    let reason = JsonValue::read("\"tired\"");
    let now = bench.at();
    assert_eq!(
        bench.server.cancel(now, call, reason, &mut bench.out),
        Some("ann")
    );
    assert_eq!(bench.server.cancel(now, call, reason, &mut bench.out), None);
    assert_eq!(
        bench.lines(),
        [
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":2,\"reason\":\"tired\"}}\n"
        ]
    );
    bench.line(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#);
    assert!(bench.said().is_empty());
}

#[test]
fn a_request_is_late_after_its_time_since_the_latest_progress_and_at_last_whatever_comes() {
    let mut config = Gateway::default();
    config.timeouts.request = Duration::from_secs(10);
    config.timeouts.request_max = Duration::from_secs(25);
    let mut bench = Bench::new(&config);
    bench.server.start(bench.at(), &mut bench.out);
    bench.begin();
    bench
        .ask(
            r#"{"id":1,"method":"x","params":{"_meta":{"progressToken":9}}}"#,
            "ann",
        )
        .unwrap();
    bench.ask(r#"{"id":2,"method":"y"}"#, "bob").unwrap();
    bench.said();
    for _ in 0..3 {
        bench.wait(Duration::from_secs(8));
        bench.line(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2}}"#,
        );
    }
    assert_eq!(
        bench.said(),
        [
            "ann: progress 2",
            "bob: Timeout",
            "ann: progress 2",
            "ann: progress 2"
        ]
    );
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.said(), ["ann: Timeout"]);
    assert_eq!(bench.server.open_calls(), 0);
}

#[test]
fn a_process_that_ends_fails_what_it_was_sent_and_the_next_one_learns_what_it_knew() {
    let mut bench = Bench::ready();
    let knows = [
        r#"{"id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#,
        r#"{"id":2,"method":"resources/subscribe","params":{"uri":"a"}}"#,
        r#"{"id":3,"method":"resources/subscribe","params":{"uri":"b"}}"#,
        r#"{"id":4,"method":"resources/unsubscribe","params":{"uri":"a"}}"#,
    ];
    for (text, id) in knows.into_iter().zip(2..) {
        bench.ask(text, "ann").unwrap();
        bench.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}"
        ));
    }
    bench.ask(r#"{"id":5,"method":"x"}"#, "bob").unwrap();
    bench.said();
    bench.exit(Exit::Signal(9));
    assert_eq!(bench.said(), ["gone: it ended", "bob: ServerExited"]);
    // Another one comes meanwhile, and waits for the next process.
    bench.ask(r#"{"id":6,"method":"y"}"#, "eve").unwrap();
    bench.wait(Duration::from_secs(1));
    bench.begin();
    assert_eq!(bench.said(), ["ready, again: true"]);
    let lines = bench.lines();
    assert!(
        lines[1].contains("\"logging/setLevel\",\"params\":{\"level\":\"debug\"}"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("\"resources/subscribe\",\"params\":{\"uri\":\"b\"}"),
        "{lines:?}"
    );
    assert!(lines[3].contains("\"method\":\"y\""), "{lines:?}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_server_that_cannot_be_started_says_so_to_everyone_who_waits() {
    let mut bench = Bench::new(&Gateway::default());
    bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
    for attempt in 1..=3 {
        bench.out.orders.clear();
        bench.exit(Exit::NotStarted);
        let said = bench.said();
        let why = "not ready: the MCP server `files` is not available: it ended";
        if attempt == 3 {
            assert_eq!(said, vec!["gone: it ended", why, "ann: ServerUnavailable"]);
        } else {
            assert_eq!(said, vec!["gone: it ended", why]);
            bench.wait(Duration::from_secs(60));
        }
    }
    let refusal = bench.ask(r#"{"id":2,"method":"x"}"#, "bob").unwrap_err();
    assert_eq!(refusal.retry_after, Some(RETRY));
    bench.wait(RETRY);
    bench.ask(r#"{"id":3,"method":"x"}"#, "bob").unwrap();
    assert_eq!(bench.out.orders, [Order::Spawn]);
}

#[test]
fn a_process_that_nobody_needs_is_stopped_and_the_next_request_starts_one() {
    let mut bench = Bench::ready();
    bench.wait(Duration::from_secs(3600));
    assert!(bench.out.orders.is_empty(), "somebody listens");
    let now = bench.at();
    bench.server.attend(now, false);
    // Behind a question for a sign of life.
    bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
    bench.wait(Duration::from_secs(299));
    assert!(bench.out.orders.is_empty(), "a request is open");
    bench.line(r#"{"jsonrpc":"2.0","id":3,"result":{}}"#);
    bench.wait(Duration::from_secs(601));
    assert_eq!(bench.out.orders.split_off(0), [Order::CloseInput]);
    bench.ask(r#"{"id":2,"method":"x"}"#, "bob").unwrap();
    bench.exit(Exit::Code(0));
    bench.lines();
    bench.begin();
    assert!(bench.lines()[1].contains("\"method\":\"x\""));
}

#[test]
fn a_process_that_is_ended_for_good_fails_what_waits_and_is_not_started_again() {
    let mut waiting = Bench::new(&Gateway::default());
    let mut working = Bench::ready();
    for bench in [&mut waiting, &mut working] {
        bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
        bench.said();
        bench.out.orders.clear();
        let now = bench.at();
        let said = &mut bench.said;
        bench.server.end(now, &mut bench.out, &mut |delivery| {
            said.push(told(delivery));
        });
        let why = "not ready: the MCP server `files` ended while it worked for this request: it was told to end";
        assert_eq!(bench.said(), ["ann: ServerExited", why]);
        // Nobody gets it back, by whatever way.
        let refusal = bench.ask(r#"{"id":2,"method":"x"}"#, "bob").unwrap_err();
        assert_eq!(refusal.reason, Reason::ServerUnavailable);
        bench.server.restart(now, &mut bench.out);
        bench.server.start(now, &mut bench.out);
        bench.exit(Exit::Code(0));
        bench.server.start(now, &mut bench.out);
        bench.wait(Duration::from_secs(3600));
        assert_eq!(bench.server.refusal(now), Some(refusal));
        assert!(!bench.out.orders.contains(&Order::Spawn));
        assert_eq!(bench.server.state(), State::Stopped);
    }
}

#[test]
fn a_line_that_is_too_long_fails_the_only_request_that_it_can_belong_to() {
    let mut bench = Bench::ready();
    bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
    bench.said();
    let said = &mut bench.said;
    bench.server.handle_line(
        Instant::ZERO,
        Line::TooLong,
        &mut bench.out,
        &mut |delivery| said.push(told(delivery)),
    );
    assert_eq!(bench.said(), ["ann: BadAnswer"]);
}

#[test]
fn a_process_may_be_at_work_for_a_request_that_was_taken_back() {
    let mut bench = Bench::ready();
    let (one, other) = (
        r#"{"id":1,"method":"tools/call"}"#,
        r#"{"id":2,"method":"tools/call"}"#,
    );
    let call = bench.ask(one, "ann").unwrap();
    bench.ask(other, "bob").unwrap();
    bench.lines();
    bench.said();
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    let heard = |whose| format!("notified notifications/message {log}{whose}");
    let now = bench.at();
    bench.server.cancel(now, call, None, &mut bench.out);
    bench.line(log);
    assert_eq!(bench.said(), [heard(" ann bob")]);
    assert_eq!(bench.server.open_calls(), 1);
    // Until it answers all the same, or has had its time.
    bench.line(&format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
        call.0
    ));
    bench.line(log);
    assert_eq!(bench.said(), [heard(" bob")]);
    bench.wait(Duration::from_secs(1000));
    bench.said();
    bench.line(log);
    assert_eq!(bench.said(), [heard(" bob")], "bob's is late");
    bench.wait(Duration::from_secs(1000));
    bench.line(log);
    assert_eq!(bench.said(), [heard("")]);
}

#[test]
fn what_a_remote_server_has_not_taken_waits_for_the_next_connection() {
    let mut bench = Bench::ready();
    let asking = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
    for who in ["ann", "bob", "cid"] {
        bench.ask(&asking(7), who).unwrap();
    }
    let sent = bench.lines().split_off(1);
    bench.said();
    // The second one is not answered, and the server has forgotten the session when the first one comes.
    let number = |line: &String| id_of(line).parse::<u64>().unwrap();
    let (now, said) = (bench.at(), &mut bench.said);
    bench.server.handle_unanswered(
        now,
        number(&sent[1]),
        Refusal::new(Reason::ServerUnavailable, "no"),
        &mut bench.out,
        &mut |delivery| said.push(told(delivery)),
    );
    bench
        .server
        .handle_not_taken(number(&sent[0]), sent[0].trim_end());
    bench.exit(Exit::Disconnected);
    assert_eq!(
        bench.said(),
        [
            "bob: ServerUnavailable",
            "gone: it ended",
            "cid: ServerExited"
        ]
    );
    bench.wait(Duration::from_secs(1));
    bench.begin();
    assert_eq!(bench.lines()[1..], sent[..1]);
}
