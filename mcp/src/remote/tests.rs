//! A connection to a remote server, whose answers the tests give.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use alloc::string::ToString;
use alloc::vec;

const OPENING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
const GREETING: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";

/// A connection, what it has heard, and what it does.
struct Bench {
    remote: Remote,
    acts: Vec<Act>,
    heard: Vec<String>,
    now: Instant,
}

/// A line as a server says it.
fn told(heard: &Heard<'_>) -> String {
    match heard {
        Heard::Line(Line::Whole(line)) => String::from_utf8(line.to_vec()).unwrap(),
        Heard::Line(Line::TooLong) => "too long".into(),
        Heard::Unanswered(number, refusal) => {
            format!("{number} {}: {}", refusal.reason.as_str(), refusal.message)
        }
        Heard::NotTaken(number, line) => format!("{number} not taken: {line}"),
        Heard::LeftOut { tool, why } => format!("left out {tool}: {why}"),
        Heard::Ended(exit, why) => format!("{exit:?}: {why}"),
    }
}

impl Bench {
    fn new(form: Form) -> Self {
        Self::open(form, false)
    }

    fn open(form: Form, falls_back: bool) -> Self {
        let bounds = Bounds {
            message_bytes: 200,
            retry: Duration::from_secs(1),
            falls_back,
            takes_logins: true,
        };
        let mut remote = Remote::new("far".into(), form, bounds);
        let mut acts = Vec::new();
        remote.open(&mut acts);
        Self {
            remote,
            acts,
            heard: Vec::new(),
            now: Instant::ZERO,
        }
    }

    /// One with a session, whose stream of what belongs to no request is there. Returns the number of that too.
    fn greeted() -> (Self, ExchangeId) {
        let mut bench = Self::new(Form::Streamable);
        bench.line(OPENING);
        let (opening, _) = bench.sent();
        bench.head(opening, 200, Some(JSON), Some("s-1"));
        bench.body(opening, GREETING);
        bench.end(opening);
        assert_eq!(bench.heard(), [GREETING]);
        bench.line(INITIALIZED);
        let (initialized, _) = bench.sent();
        bench.head(initialized, 202, None, None);
        bench.end(initialized);
        let (listening, request) = bench.sent();
        assert_eq!(request.method, "GET");
        bench.head(listening, 200, Some(EVENTS), None);
        (bench, listening)
    }

    fn line(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.remote.push_line(&line, &mut self.acts);
    }

    /// Sends the request of a call, and returns the number of what carries it.
    fn ask(&mut self, number: u64) -> ExchangeId {
        self.line(&asking(number));
        self.sent().0
    }

    /// The only request that was made.
    fn sent(&mut self) -> (ExchangeId, Request) {
        let mut acts = core::mem::take(&mut self.acts);
        match (acts.pop(), acts.as_slice()) {
            (Some(Act::Send(id, request)), []) => (id, request),
            other => panic!("{other:?}"),
        }
    }

    /// The numbers that were dropped, where nothing else was done.
    fn dropped(&mut self) -> Vec<ExchangeId> {
        let acts = core::mem::take(&mut self.acts).into_iter();
        acts.map(|act| match act {
            Act::Drop(id) => id,
            Act::Send(id, request) => panic!("{id:?} {request:?}"),
        })
        .collect()
    }

    fn heard(&mut self) -> Vec<String> {
        core::mem::take(&mut self.heard)
    }

    fn head(&mut self, id: ExchangeId, status: u16, kind: Option<&str>, session: Option<&str>) {
        self.handle_head(
            id,
            Head {
                status,
                content_type: kind,
                session,
                challenge: None,
            },
        );
    }

    fn handle_head(&mut self, id: ExchangeId, head: Head<'_>) {
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote
            .handle_head(self.now, id, &head, &mut self.acts, hear);
    }

    fn body(&mut self, id: ExchangeId, text: &str) {
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote
            .handle_body(self.now, id, text.as_bytes(), &mut self.acts, hear);
    }

    fn end(&mut self, id: ExchangeId) {
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote.handle_end(self.now, id, &mut self.acts, hear);
    }

    fn fault(&mut self, id: ExchangeId, fault: Fault) {
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote
            .handle_fault(self.now, id, fault, "it broke", &mut self.acts, hear);
    }

    fn close(&mut self) {
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote.close(&mut self.acts, hear);
    }

    /// Waits for the next deadline, which comes after `time`.
    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        assert_eq!(self.remote.poll_timeout(), Some(self.now));
        let heard = &mut self.heard;
        let hear = &mut |said: Heard<'_>| heard.push(told(&said));
        self.remote.handle_timeout(self.now, &mut self.acts, hear);
    }
}

fn asking(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"a"}}}}"#)
}

fn answer(number: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{}}}}"#)
}

fn event(id: &str, data: &str) -> String {
    format!("id: {id}\ndata: {data}\n\n")
}

fn header<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let mut headers = request.headers.iter();
    headers.find_map(|(own, value)| (*own == name).then_some(value.as_str()))
}

#[test]
fn a_session_is_opened_used_and_ended() {
    let (mut bench, listening) = Bench::greeted();
    bench.line(&asking(2));
    let (asked, request) = bench.sent();
    assert_eq!((request.method, request.body), ("POST", Some(asking(2))));
    let (listened, request) = {
        bench.line(&asking(3));
        bench.sent()
    };
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-session-id", "s-1"),
        ("mcp-protocol-version", "2025-06-18"),
    ] {
        assert_eq!(header(&request, name), Some(value));
    }
    // One answer is JSON, over several lines; the other one a stream.
    bench.head(asked, 200, Some(JSON), None);
    bench.body(asked, "{\"jsonrpc\":\"2.0\",\r\n");
    bench.body(asked, " \"id\":2,\n\"result\":{}}");
    assert_eq!(bench.heard(), Vec::<String>::new());
    bench.end(asked);
    assert_eq!(
        bench.heard(),
        ["{\"jsonrpc\":\"2.0\",   \"id\":2, \"result\":{}}"]
    );
    bench.head(listened, 200, Some(EVENTS), None);
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    let stream = format!(": hi\n\nid: 0\ndata:\n\ndata: {progress}\n\nevent: other\ndata: 1\n\n");
    bench.body(listened, &stream);
    assert_eq!(bench.heard(), [progress]);
    bench.body(listened, &event("1", &answer(3)));
    assert_eq!(bench.heard(), [answer(3)]);
    bench.body(listening, &event("g1", progress));
    assert_eq!(bench.heard(), [progress]);
    // A stream that does not end behind its answer is closed.
    bench.wait(LINGER);
    assert_eq!(bench.dropped(), [listened]);
    bench.close();
    let Act::Send(end, request) = bench.acts.pop().unwrap() else {
        panic!()
    };
    assert_eq!(
        (request.method, header(&request, "mcp-session-id")),
        ("DELETE", Some("s-1"))
    );
    assert_eq!(bench.dropped(), [listening]);
    bench.head(end, 405, None, None);
    assert_eq!(bench.heard(), ["Disconnected: it was told to end"]);
    // The next connection knows nothing of it.
    bench.acts.clear();
    bench.remote.open(&mut bench.acts);
    bench.line(OPENING);
    assert_eq!(header(&bench.sent().1, "mcp-session-id"), None);
}

#[test]
fn what_is_told_goes_behind_what_was_asked_and_before_what_follows() {
    let (mut bench, _) = Bench::greeted();
    let asked = bench.ask(2);
    let reply = answer(77);
    bench.line(&reply);
    bench.line(&asking(3));
    assert!(bench.acts.is_empty(), "the request may not be there yet");
    bench.remote.handle_sent(asked, &mut bench.acts);
    let (replied, request) = bench.sent();
    assert_eq!(request.body, Some(reply));
    bench.remote.handle_sent(replied, &mut bench.acts);
    assert!(bench.acts.is_empty(), "it may not have been taken yet");
    // Its connection breaks: it is sent once more.
    bench.fault(replied, Fault::Broken);
    let (replied, _) = bench.sent();
    bench.head(replied, 202, None, None);
    assert_eq!(bench.sent().1.body, Some(asking(3)));
    assert_eq!(bench.heard(), Vec::<String>::new());
}

#[test]
fn an_answer_that_is_cut_at_any_event_is_resumed_and_nothing_is_lost_or_repeated() {
    let all: Vec<String> = (0..4)
        .map(|number| format!(r#"{{"jsonrpc":"2.0","method":"n/{number}"}}"#))
        .chain([answer(2)])
        .collect();
    for cut in 0..all.len() {
        for fault in [None, Some(Fault::Broken)] {
            let (mut bench, _) = Bench::greeted();
            let asked = bench.ask(2);
            bench.head(asked, 200, Some(EVENTS), None);
            bench.body(asked, "retry: 250\nid: 2-0\ndata: \n\n");
            for (at, text) in (1..).zip(&all[..cut]) {
                bench.body(asked, &event(&format!("2-{at}"), text));
            }
            // Half an event is none.
            bench.body(asked, "id: 2-9\ndata: {");
            match fault {
                None => bench.end(asked),
                Some(fault) => bench.fault(asked, fault),
            }
            bench.wait(Duration::from_millis(250));
            let (resumed, request) = bench.sent();
            assert_eq!((request.method, &request.body), ("GET", &None));
            let last = format!("2-{cut}");
            assert_eq!(header(&request, "last-event-id"), Some(&*last));
            bench.head(resumed, 200, Some(EVENTS), None);
            for (at, text) in (1..).zip(&all).skip(cut) {
                bench.body(resumed, &event(&format!("2-{at}"), text));
            }
            bench.end(resumed);
            assert_eq!(bench.heard(), all);
            assert_eq!(bench.remote.poll_timeout(), None);
        }
    }
}

#[test]
fn an_answer_that_cannot_be_resumed_fails_its_request_alone() {
    let (mut bench, _) = Bench::greeted();
    let lost = "2 server_exited: the MCP server `far` closed the connection before it had answered";
    let asked = bench.ask(2);
    bench.head(asked, 200, Some(EVENTS), None);
    bench.body(asked, ": nothing\n\n");
    bench.end(asked);
    assert_eq!(bench.heard(), [lost]);
    let asked = bench.ask(2);
    bench.fault(asked, Fault::Broken);
    assert_eq!(bench.heard(), [lost]);
    assert!(bench.acts.is_empty());
    let asked = bench.ask(2);
    bench.head(asked, 200, Some("text/html"), None);
    assert_eq!(bench.dropped(), [asked]);
    let asked = bench.ask(3);
    bench.head(asked, 200, Some(JSON), None);
    bench.body(asked, &answer(4));
    bench.end(asked);
    let asked = bench.ask(4);
    bench.head(asked, 200, Some(JSON), None);
    bench.body(asked, &"x".repeat(150));
    bench.body(asked, &"x".repeat(51));
    assert_eq!(bench.dropped(), [asked]);
    let asked = bench.ask(5);
    bench.head(asked, 200, Some(EVENTS), None);
    bench.body(asked, &event("", &"x".repeat(300)));
    assert_eq!(bench.dropped(), [asked]);
    let asked = bench.ask(6);
    bench.head(asked, 502, Some("text/html"), None);
    bench.body(asked, "<html>");
    bench.end(asked);
    let asked = bench.ask(7);
    bench.head(asked, 307, None, None);
    bench.end(asked);
    let of_far = |text: &str| text.replace('~', "the MCP server `far`");
    assert_eq!(
        bench.heard(),
        [
            "2 bad_answer: ~ answered with neither JSON nor a stream of events",
            "3 bad_answer: ~ answered with something that is no answer to the request",
            "4 bad_answer: ~ wrote a message that is too long (gateway.message_bytes)",
            "5 bad_answer: ~ wrote a message that is too long (gateway.message_bytes)",
            "6 server_unavailable: ~ refused the request: HTTP status 502",
            "7 server_unavailable: ~ refused the request: HTTP status 307, a redirection, which is not followed",
        ]
        .map(of_far)
    );
    // What the server itself says of it is the answer.
    let asked = bench.ask(8);
    bench.head(asked, 400, Some(JSON), None);
    let error = r#"{"code":-32020,"message":"no","data":[1]}"#;
    bench.body(
        asked,
        &format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#),
    );
    bench.end(asked);
    assert_eq!(
        bench.heard(),
        [format!(r#"{{"jsonrpc":"2.0","id":8,"error":{error}}}"#)]
    );
}

#[test]
fn a_server_that_does_not_let_in_is_not_there() {
    for (status, why) in [
        (401, "HTTP status 401"),
        (503, "HTTP status 503"),
        (301, "HTTP status 301, a redirection, which is not followed"),
    ] {
        let mut bench = Bench::new(Form::Streamable);
        bench.line(OPENING);
        let (opening, _) = bench.sent();
        bench.head(opening, status, Some(JSON), None);
        bench.body(opening, r#"{"error":{"code":1,"message":"secret"}}"#);
        bench.end(opening);
        let told = format!("NotStarted: it refused the connection: {why}");
        assert_eq!(bench.heard(), [told]);
    }
    let mut bench = Bench::new(Form::Streamable);
    bench.line(OPENING);
    let (opening, _) = bench.sent();
    bench.fault(opening, Fault::Unreachable);
    assert_eq!(bench.heard(), ["NotStarted: it broke"]);
    // One that knows no such greeting may know another.
    let mut bench = Bench::new(Form::Streamable);
    bench.line(OPENING);
    let (opening, _) = bench.sent();
    bench.head(opening, 404, Some("text/html"), None);
    bench.end(opening);
    assert_eq!(
        bench.heard(),
        [
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"HTTP status 404"}}"#
                .to_string()
        ]
    );
}

#[test]
fn a_server_that_wants_a_token_is_told_with_the_way_to_one() {
    let challenge = |text: &str| Challenge::read([text]).unwrap();
    let scope = challenge(r#"Bearer error="insufficient_scope", scope="write it's:all; $(x)""#);
    let bare = challenge("Bearer");
    for (status, challenge, takes_logins, expected) in [
        (
            401,
            &bare,
            true,
            "HTTP status 401; `mcp login far` gets a token for it",
        ),
        (401, &bare, false, "HTTP status 401"),
        (403, &bare, true, "HTTP status 403"),
        (
            403,
            &scope,
            true,
            "HTTP status 403, as the token permits too little; `mcp login far --scope 'write its:all x'` asks for more",
        ),
    ] {
        let mut bench = Bench::new(Form::Streamable);
        bench.remote.bounds.takes_logins = takes_logins;
        bench.line(OPENING);
        let (opening, _) = bench.sent();
        let head = Head {
            status,
            content_type: None,
            session: None,
            challenge: Some(challenge),
        };
        bench.handle_head(opening, head);
        bench.end(opening);
        let expected = format!("NotStarted: it refused the connection: {expected}");
        assert_eq!(bench.heard(), [expected]);
    }
}

#[test]
fn a_session_that_is_gone_ends_the_connection() {
    let (mut bench, listening) = Bench::greeted();
    let (first, second) = (bench.ask(2), bench.ask(3));
    let over = "Disconnected: it has ended the session (HTTP status 404)";
    let not_taken = |number| format!("{number} not taken: {}", asking(number));
    bench.head(second, 404, Some(JSON), None);
    assert_eq!(bench.heard(), [not_taken(3)]);
    assert_eq!(bench.dropped(), [second]);
    // Nothing more is sent, and a request that the server may have taken has a moment to be answered.
    bench.line(&asking(4));
    bench.wait(LINGER);
    assert_eq!(bench.heard(), [not_taken(4), over.to_owned()]);
    assert_eq!(bench.dropped(), [listening, first]);
    // Late news changes nothing.
    bench.body(first, &answer(2));
    bench.end(first);
    assert_eq!(bench.heard(), Vec::<String>::new());
    // Each request says for itself whether it was taken.
    let (mut bench, listening) = Bench::greeted();
    let (first, second) = (bench.ask(2), bench.ask(3));
    bench.head(second, 200, Some(JSON), None);
    bench.head(first, 404, Some(JSON), None);
    bench.body(second, &answer(3));
    assert_eq!(bench.heard(), [not_taken(2)]);
    bench.end(second);
    assert_eq!(bench.heard(), [answer(3), over.to_owned()]);
    assert_eq!(bench.dropped(), [first, listening]);
    // That a server is gone shows on its stream, too.
    let (mut bench, listening) = Bench::greeted();
    bench.body(listening, "id: g7\ndata:\n\n");
    bench.end(listening);
    bench.wait(Duration::from_secs(1));
    let (again, request) = bench.sent();
    assert_eq!(header(&request, "last-event-id"), Some("g7"));
    bench.fault(again, Fault::Unreachable);
    assert_eq!(bench.heard(), ["Disconnected: it broke"]);
}

#[test]
fn a_server_may_have_no_stream_of_its_own_or_lose_it_for_a_while() {
    for status in [404, 405, 400] {
        let (mut bench, listening) = Bench::greeted();
        bench.remote.has_listened = false;
        bench.head(listening, status, None, None);
        assert_eq!(bench.dropped(), [listening]);
        assert_eq!(bench.remote.poll_timeout(), None);
        assert_eq!(bench.heard(), Vec::<String>::new());
    }
    let (mut bench, mut listening) = Bench::greeted();
    for seconds in [2, 4, 8] {
        bench.fault(listening, Fault::Broken);
        bench.wait(Duration::from_secs(seconds));
        (listening, _) = bench.sent();
    }
    bench.head(listening, 503, None, None);
    assert_eq!(
        bench.heard(),
        ["Disconnected: it does not give its stream of messages any more"]
    );
}

#[test]
fn a_request_is_taken_back_as_its_revision_has_it() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
    let (mut bench, _) = Bench::greeted();
    let asked = bench.ask(2);
    bench.remote.handle_sent(asked, &mut bench.acts);
    bench.line(cancel);
    let Act::Send(_, request) = bench.acts.pop().unwrap() else {
        panic!()
    };
    assert_eq!(request.body.as_deref(), Some(cancel));
    assert_eq!(bench.dropped(), [asked]);
    // It is answered already, or was never there.
    let (mut bench, _) = Bench::greeted();
    bench.line(cancel);
    assert!(bench.acts.is_empty());
    // Revision 2026-07-28 has no sessions.
    let mut bench = Bench::new(Form::Streamable);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    bench.line(&format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"ä",{meta}}}}}"#
    ));
    let (asked, request) = bench.sent();
    for (name, value) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6Q=?="),
    ] {
        assert_eq!(header(&request, name), Some(value));
    }
    bench.remote.handle_sent(asked, &mut bench.acts);
    bench.line(cancel);
    assert_eq!(bench.dropped(), [asked]);
    // What is listened to is asked for again when it is cut.
    let listen = format!(
        r#"{{"jsonrpc":"2.0","id":3,"method":"subscriptions/listen","params":{{{meta}}}}}"#
    );
    bench.line(&listen);
    let (listening, _) = bench.sent();
    bench.head(listening, 200, Some(EVENTS), None);
    bench.end(listening);
    bench.wait(Duration::from_secs(1));
    let (_, request) = bench.sent();
    assert_eq!(request.body, Some(listen));
    assert_eq!(header(&request, "mcp-method"), Some("subscriptions/listen"));
}

#[test]
fn lines_go_where_a_server_of_http_and_sse_wants_them() {
    let mut bench = Bench::new(Form::Events);
    let (listening, request) = bench.sent();
    assert_eq!((request.method, request.place), ("GET", None));
    bench.line(OPENING);
    bench.head(listening, 200, Some(EVENTS), None);
    assert!(bench.acts.is_empty(), "nobody knows where to");
    bench.body(listening, "event: endpoint\ndata: /messages?id=7\n\n");
    let (opening, request) = bench.sent();
    assert_eq!(request.place.as_deref(), Some("/messages?id=7"));
    bench.head(opening, 202, None, None);
    bench.body(opening, "Accepted");
    bench.body(listening, &event("", GREETING));
    bench.end(opening);
    bench.line(INITIALIZED);
    let (initialized, _) = bench.sent();
    bench.head(initialized, 202, None, None);
    assert!(bench.acts.is_empty(), "there is one stream already");
    let asked = bench.ask(2);
    bench.head(asked, 202, None, None);
    bench.body(listening, &event("", &answer(2)));
    assert_eq!(bench.heard(), vec![GREETING.to_string(), answer(2)]);
    bench.end(listening);
    assert_eq!(
        bench.heard(),
        ["Disconnected: it has ended its stream of messages"]
    );
    let mut bench = Bench::new(Form::Events);
    let (listening, _) = bench.sent();
    bench.head(listening, 404, None, None);
    assert_eq!(
        bench.heard(),
        ["NotStarted: it does not give the stream of HTTP+SSE (HTTP status 404)"]
    );
}

#[test]
fn a_server_that_knows_no_post_is_asked_by_http_and_sse_where_nobody_has_said_the_form() {
    for (status, body) in [(405, "Method Not Allowed"), (404, ""), (400, "no")] {
        let mut bench = Bench::open(Form::Streamable, true);
        bench.line(OPENING);
        let (opening, _) = bench.sent();
        bench.head(opening, status, Some("text/plain"), None);
        bench.body(opening, body);
        bench.end(opening);
        let (listening, request) = bench.sent();
        assert_eq!((request.method, request.place), ("GET", None), "{status}");
        bench.head(listening, 200, Some(EVENTS), None);
        bench.body(listening, "event: endpoint\ndata: /messages?id=7\n\n");
        let (_, request) = bench.sent();
        assert_eq!(request.place.as_deref(), Some("/messages?id=7"));
        assert_eq!(request.body.as_deref().map(str::trim), Some(OPENING));
        bench.body(listening, &event("", GREETING));
        assert_eq!(bench.heard(), [GREETING]);
    }
    // An error of JSON-RPC comes from a server that has read the greeting; and a form that was said is kept to.
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"no"}}"#;
    for (falls_back, status, body) in [(true, 400, error), (true, 404, error), (false, 405, "")] {
        let mut bench = Bench::open(Form::Streamable, falls_back);
        bench.line(OPENING);
        let (opening, _) = bench.sent();
        bench.head(opening, status, Some(JSON), None);
        bench.body(opening, body);
        bench.end(opening);
        assert!(
            bench.acts.is_empty() && !bench.heard().is_empty(),
            "{status}"
        );
    }
}

/// A call of revision 2026-07-28 of a tool that repeats an argument.
const CALL: &str = r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"sql","arguments":{"region":"us"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":4}}}"#;

const LIST: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

const SQL: &str = r#"{"name":"sql","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}"#;

const MISMATCH: &str = r#"{"code":-32020,"message":"Header mismatch"}"#;

impl Bench {
    fn answered(&mut self, id: ExchangeId, status: u16, text: &str) {
        self.head(id, status, Some(JSON), None);
        self.body(id, text);
        self.end(id);
    }
}

#[test]
fn arguments_are_repeated_in_headers_once_their_tool_is_listed_and_invalid_tools_are_left_out() {
    let mut bench = Bench::new(Form::Streamable);
    bench.remote.bounds.message_bytes = 1000;
    bench.line(LIST);
    let (listed, _) = bench.sent();
    let invalid = r#"{"name":"bad","inputSchema":{"x-mcp-header":"A"}}"#;
    bench.answered(
        listed,
        200,
        &format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"tools":[{invalid}, {SQL}],"ttlMs":0}}}}"#),
    );
    assert_eq!(
        bench.heard(),
        [
            "left out bad: a header is named where no chain of `properties` leads to".to_owned(),
            format!(r#"{{"jsonrpc":"2.0","id":3,"result":{{"tools":[{SQL}],"ttlMs":0}}}}"#)
        ]
    );
    bench.line(CALL);
    let (_, request) = bench.sent();
    assert_eq!(header(&request, "mcp-param-region"), Some("us"));
    assert_eq!(header(&request, "mcp-name"), Some("sql"));
}

#[test]
fn a_call_that_is_refused_for_its_headers_is_sent_again_behind_the_list_of_tools() {
    let refused = format!(r#"{{"jsonrpc":"2.0","id":4,"error":{MISMATCH}}}"#);
    let begin = || {
        let mut bench = Bench::new(Form::Streamable);
        bench.remote.bounds.message_bytes = 1000;
        bench.line(CALL);
        let (asked, request) = bench.sent();
        assert_eq!(header(&request, "mcp-param-region"), None);
        bench.answered(asked, 400, &refused);
        let (listed, request) = bench.sent();
        assert_eq!(header(&request, "mcp-method"), Some("tools/list"));
        assert_eq!(
            request.body.unwrap(),
            r#"{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
        );
        assert_eq!(bench.heard(), Vec::<String>::new());
        (bench, listed)
    };
    // The list has two pages, of which one comes as an event.
    let (mut bench, listed) = begin();
    let page = r#"{"jsonrpc":"2.0","id":4,"result":{"tools":[],"nextCursor":"n"}}"#;
    bench.answered(listed, 200, page);
    let (listed, request) = bench.sent();
    assert!(request.body.unwrap().contains(r#""cursor":"n""#));
    bench.head(listed, 200, Some(EVENTS), None);
    let page = format!(r#"{{"jsonrpc":"2.0","id":4,"result":{{"tools":[{SQL}]}}}}"#);
    bench.body(listed, &format!("data: {page}\n\n"));
    let (asked, request) = bench.sent();
    assert_eq!(header(&request, "mcp-param-region"), Some("us"));
    assert_eq!(request.body.as_deref(), Some(CALL));
    bench.end(listed);
    // It is sent twice at most.
    bench.answered(asked, 400, &refused);
    assert_eq!(bench.heard(), [&*refused]);
    // Without a list, the call has its own error.
    for (status, text) in [
        (
            200,
            r#"{"jsonrpc":"2.0","id":4,"error":{"code":-1,"message":"no list"}}"#,
        ),
        (
            400,
            r#"{"jsonrpc":"2.0","id":4,"error":{"code":-1,"message":"no list"}}"#,
        ),
    ] {
        let (mut bench, listed) = begin();
        bench.answered(listed, status, text);
        assert_eq!(bench.heard(), [&*refused], "{status}");
    }
    // Nobody waits for it any more.
    let (mut bench, listed) = begin();
    bench.remote.handle_sent(listed, &mut bench.acts);
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}"#);
    assert_eq!(bench.dropped(), [listed]);
    assert!(bench.remote.mismatched.is_empty());
}
