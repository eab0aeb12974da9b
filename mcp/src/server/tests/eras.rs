//! Tests of the forms of the protocol: which one a process is asked for, and clients with sessions before one that has none.

use super::*;
use crate::revision::Era;
use crate::server::Known;

const HELLO: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{"sampling":{},"roots":{}},"clientInfo":{"name":"ide"}}"#;

/// Members that each request of this client has in `_meta`.
const CLIENT: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{},"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"ide"}"#;

/// The level of a session that has chosen none.
const USUAL: &str = r#""io.modelcontextprotocol/logLevel":"info""#;

/// Result of `server/discover`.
const DISCOVERY: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"instructions":"Be kind.","x-more":[1.0],"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"everything","version":"1"}}}"#;

/// The refusal of a server that speaks the stateless form alone.
const MODERN: &str = r#""error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"]}}"#;

impl Bench {
    /// A server for such callers, of which this is known.
    fn for_callers(callers: Era, known: Known) -> Self {
        let mut bench = Self::new(&Gateway::default());
        let server = Server::new("files".into(), HELLO, &Gateway::default());
        bench.server = server.serving(callers, known);
        bench.server.start(bench.at(), &mut bench.out);
        bench
    }

    /// One for sessions, whose process speaks the stateless form.
    pub(super) fn raised() -> Self {
        let mut bench = Self::for_callers(Era::Sessions, Known::default());
        assert_eq!(bench.spawn(), "initialize");
        bench.line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{MODERN}}}"));
        bench.answer(2, DISCOVERY);
        bench.answer_to_listening(3);
        bench.lines();
        bench.said();
        bench
    }

    /// The process starts: the method that it is greeted with.
    fn spawn(&mut self) -> String {
        assert_eq!(self.out.orders.split_off(0).last(), Some(&Order::Spawn));
        self.server.handle_started(self.at(), &mut self.out);
        self.methods().remove(0)
    }

    pub(super) fn ask_stateless(&mut self, text: &str) {
        let Ok(Message::Request { id, call }) = Message::read(text) else {
            panic!("{text}")
        };
        let request = (text, id, &call);
        self.server
            .request_stateless(self.at(), request, None, "ann", &mut self.out)
            .unwrap();
    }

    fn answer(&mut self, id: u64, result: &str) {
        self.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"
        ));
    }

    fn answer_to_listening(&mut self, id: u64) {
        self.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}}}}}}"
        ));
    }

    fn methods(&mut self) -> Vec<String> {
        let lines = self.lines().into_iter();
        let methods = lines.map(|line| match Message::read(line.trim_end()) {
            Ok(Message::Request { call, .. } | Message::Notification(call)) => call.method.into(),
            Ok(Message::Response { .. }) | Err(_) => line.clone(),
        });
        methods.collect()
    }

    /// The client answers a question of the process.
    fn reply(&mut self, question: &str, outcome: &str) {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":7,{outcome}}}");
        let Ok(Message::Response { id, .. }) = Message::read(&text) else {
            panic!("{text}")
        };
        let now = self.at();
        self.server
            .send(now, &text, Some((id, question)), &mut self.out);
    }
}

#[test]
fn a_process_that_refuses_initialize_as_modern_servers_do_is_asked_to_discover() {
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    assert_eq!(bench.spawn(), "initialize");
    bench.line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{MODERN}}}"));
    let discover = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"server/discover\",\"params\":{{\"_meta\":{{{CLIENT}}}}}}}\n"
    );
    assert_eq!(bench.lines(), [discover]);
    bench.answer(2, DISCOVERY);
    assert_eq!(bench.said(), ["ready, again: false"]);
    assert_eq!(bench.server.era(), Era::Stateless);
    let known = bench.server.known();
    assert_eq!((known.sessions, known.stateless), (Some(false), Some(true)));
    // The next process is asked so at once.
    let mut next = Bench::for_callers(Era::Sessions, known);
    assert_eq!(next.spawn(), "server/discover");
    // One that has changed its mind is asked for the other form.
    next.line(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}"#);
    assert_eq!(next.methods(), ["initialize"]);
    next.answer(2, "{}");
    assert_eq!(next.said(), ["ready, again: false"]);
    let known = next.server.known();
    assert_eq!((known.sessions, known.stateless), (Some(true), Some(false)));
}

#[test]
fn a_process_that_refuses_both_forms_cannot_be_used_and_tells_its_first_reason() {
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    bench.spawn();
    bench.line(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no key"}}"#);
    bench.line(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"what?"}}"#);
    assert_eq!(bench.out.orders.split_off(0), [Order::Kill]);
    bench.exit(Exit::Signal(9));
    assert_eq!(
        bench.said(),
        [
            "gone: it refused `initialize`: no key",
            "not ready: the MCP server `files` is not available: it refused `initialize`: no key"
        ]
    );
    assert_eq!(bench.server.known(), Known::default());
    // An error that no modern server gives says nothing of the form.
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    bench.spawn();
    bench.line(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no key"}}"#);
    assert!(bench.lines().is_empty());
    assert_eq!(bench.out.orders, [Order::Kill]);
}

#[test]
fn a_process_that_ends_when_it_is_asked_for_the_other_form_is_told_with_both_reasons() {
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    bench.spawn();
    bench.line(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"no header"}}"#);
    bench.exit(Exit::Code(1));
    let why = bench.server.trouble().unwrap();
    assert_eq!(
        why,
        "it refused `initialize`: no header; asked by `server/discover`, it ended"
    );
}

#[test]
fn a_process_that_does_not_take_the_first_discover_is_thrown_away_whatever_it_does() {
    let silence = |bench: &mut Bench| {
        bench.wait(Duration::from_secs(5));
        assert_eq!(bench.out.orders.split_off(0), [Order::CloseInput]);
        bench.exit(Exit::Code(0));
    };
    let refusal = |bench: &mut Bench| {
        bench.line(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"?"}}"#);
        assert_eq!(bench.out.orders.split_off(0), [Order::CloseInput]);
        bench.exit(Exit::Code(0));
    };
    let nonsense = |bench: &mut Bench| {
        bench.answer(2, r#"{"supportedVersions":["2027-01-01"]}"#);
        assert_eq!(bench.out.orders.split_off(0), [Order::CloseInput]);
        bench.exit(Exit::Code(0));
    };
    let exit = |bench: &mut Bench| bench.exit(Exit::Code(1));
    for answer in [&silence as &dyn Fn(&mut Bench), &refusal, &nonsense, &exit] {
        let mut bench = Bench::for_callers(Era::Stateless, Known::default());
        bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
        assert_eq!(bench.spawn(), "server/discover");
        answer(&mut bench);
        assert!(bench.said().iter().all(|said| said == "gone"));
        assert_eq!(bench.server.known().stateless, Some(false));
        assert_eq!(bench.spawn(), "initialize");
        bench.answer(3, "{}");
        assert_eq!(bench.said(), ["ready, again: false"]);
        assert_eq!(bench.methods(), ["notifications/initialized", "x"]);
        assert_eq!(bench.server.era(), Era::Sessions);
    }
    // One that is told to end meanwhile is not started again.
    let mut bench = Bench::for_callers(Era::Stateless, Known::default());
    bench.spawn();
    let now = bench.at();
    bench.server.stop(now, &mut bench.out);
    bench.exit(Exit::Code(0));
    bench.out.orders.clear();
    bench.wait(Duration::from_secs(5));
    assert!(bench.out.orders.is_empty());
}

/// A request of revision 2026-07-28.
const STATELESS: &str = r#"{"id":"a","method":"tools/call","params":{"name":"t","inputResponses":{"q":{}},"requestState":"s","_meta":{"progressToken":"p","x":1.0,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

#[test]
fn a_request_without_a_session_passes_as_it_is_to_a_process_that_knows_it() {
    let mut bench = Bench::for_callers(Era::Stateless, Known::default());
    bench.spawn();
    bench.answer(1, DISCOVERY);
    bench.wait(Duration::from_secs(29));
    bench.lines();
    bench.ask_stateless(STATELESS);
    let number = STATELESS.replace("\"a\"", "3").replace("\"p\"", "3");
    assert_eq!(bench.lines(), [number + "\n"]);
    let result = r#"{"resultType":"input_required","requestState":"t","inputRequests":{"q":{"method":"roots/list"}}}"#;
    bench.answer(3, result);
    assert_eq!(
        bench.said().last().unwrap(),
        &format!(r#"ann: 3 {{"jsonrpc":"2.0","id":3,"result":{result}}}"#)
    );
    // A session at the same process speaks its own form.
    bench
        .ask(r#"{"id":1,"method":"tools/call"}"#, "bob")
        .unwrap();
    assert!(bench.lines()[0].contains(USUAL));
    bench.answer(4, r#"{"resultType":"complete","content":[]}"#);
    assert_eq!(
        bench.said(),
        [r#"bob: 4 {"jsonrpc":"2.0","id":4,"result":{"content":[]}}"#]
    );
}

#[test]
fn a_request_without_a_session_loses_what_a_process_with_sessions_does_not_know() {
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    // It waits for the greeting.
    bench.ask_stateless(STATELESS);
    bench.spawn();
    bench.answer(2, "{}");
    let lowered = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":1,"x":1.0}}}"#;
    assert_eq!(bench.lines()[1..], [format!("{lowered}\n")]);
}

#[test]
fn a_session_before_a_stateless_process_is_told_what_its_revision_knows() {
    let mut bench = Bench::for_callers(Era::Sessions, Known::default());
    bench.spawn();
    bench.line(&format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{MODERN}}}"));
    let (now, mut greeting) = (bench.at(), String::new());
    let discovered = format!("{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{DISCOVERY}}}");
    let discovered = Line::Whole(discovered.as_bytes());
    bench
        .server
        .handle_line(now, discovered, &mut bench.out, &mut |delivery| {
            if let Delivery::Ready { result, .. } = delivery {
                greeting = result.into();
            }
        });
    assert_eq!(
        greeting,
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"serverInfo":{"name":"everything","version":"1"},"instructions":"Be kind.","x-more":[1.0]}"#
    );
    let listen = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"subscriptions/listen\",\"params\":{{\"notifications\":{{\"toolsListChanged\":true}},\"_meta\":{{{CLIENT}}}}}}}\n"
    );
    assert_eq!(bench.lines().last(), Some(&listen));
    // Nobody waits for the answer to that.
    bench.server.attend(now, false);
    assert_eq!(bench.server.idle_since(), Some(now));
}

#[test]
fn a_request_gets_what_its_revision_did_not_have_and_its_answer_loses_it() {
    let mut bench = Bench::raised();
    let text = r#"{"id":"a","method":"tools/call","params":{"_meta":{"progressToken":"a","own":1},"name":"x","arguments":{"n":1.0e0}},"jsonrpc":"2.0"}"#;
    bench.ask(text, "ann").unwrap();
    let sent = format!(
        "{{\"id\":4,\"method\":\"tools/call\",\"jsonrpc\":\"2.0\",\"params\":{{\"name\":\"x\",\"arguments\":{{\"n\":1.0e0}},\"_meta\":{{\"progressToken\":4,\"own\":1,{USUAL},{CLIENT}}}}}}}\n"
    );
    assert_eq!(bench.lines(), [sent]);
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":4,"progress":1}}"#);
    bench.answer(4, r#"{"resultType":"complete","content":[ ],"ttlMs":1,"cacheScope":"public","more":1.0,"_meta":{"io.modelcontextprotocol/serverInfo":{},"own":2}}"#);
    bench.answer(4, "{}");
    assert_eq!(
        bench.said(),
        [
            "ann: progress 4",
            r#"ann: 4 {"jsonrpc":"2.0","id":4,"result":{"content":[ ],"more":1.0,"_meta":{"own":2}}}"#
        ]
    );
    // A resource that is not there has another number.
    for (method, code) in [("resources/read", -32002), ("prompts/get", -32602)] {
        let CallId(number) = bench
            .ask(
                &format!("{{\"id\":1,\"method\":\"{method}\",\"params\":{{\"uri\":\"a\"}}}}"),
                "bob",
            )
            .unwrap();
        bench.line(&format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"error\":{{\"code\":-32602,\"message\":\"no\",\"data\":{{\"uri\":\"a\"}}}}}}"
        ));
        assert_eq!(
            bench.said(),
            [format!(
                "bob: {number} {{\"jsonrpc\":\"2.0\",\"id\":{number},\"error\":{{\"code\":{code},\"message\":\"no\",\"data\":{{\"uri\":\"a\"}}}}}}"
            )]
        );
    }
    // A kind of result that no client of sessions can be told.
    bench
        .ask(r#"{"id":1,"method":"tools/call"}"#, "eve")
        .unwrap();
    bench.answer(7, r#"{"resultType":"task","taskId":"1"}"#);
    assert_eq!(bench.said(), ["eve: BadAnswer"]);
}

#[test]
fn what_a_process_wants_to_know_is_asked_and_the_request_sent_again_with_the_answers() {
    let mut bench = Bench::raised();
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"x"}}"#;
    bench.ask(call, "ann").unwrap();
    bench.lines();
    bench.answer(4, r#"{"resultType":"input_required","requestState":"s\n1","inputRequests":{"a\"b":{"method":"sampling/createMessage","params":{"maxTokens":1.0}},"c":{"method":"roots/list"}}}"#);
    let asked = "asked of ann";
    assert_eq!(
        bench.said(),
        [
            format!(
                "{asked} 1 {{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sampling/createMessage\",\"params\":{{\"maxTokens\":1.0}}}}"
            ),
            format!(
                "{asked} 2 {{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"roots/list\",\"params\":{{}}}}"
            ),
        ]
    );
    bench.reply("2", r#""result":{"roots":[]}"#);
    bench.reply("2", r#""result":{"roots":[1]}"#);
    assert!(bench.lines().is_empty());
    bench.reply("1", r#""result":{"model":"m"}"#);
    let sent = format!(
        "{{\"id\":5,\"method\":\"tools/call\",\"params\":{{\"name\":\"x\",\"inputResponses\":{{\"a\\\"b\":{{\"model\":\"m\"}},\"c\":{{\"roots\":[]}}}},\"requestState\":\"s\\n1\",\"_meta\":{{{USUAL},{CLIENT}}}}}}}\n"
    );
    assert_eq!(bench.lines(), [sent]);
    // The next round wants nothing but its state back.
    bench.answer(
        5,
        r#"{"resultType":"input_required","requestState":"s2","inputRequests":{}}"#,
    );
    let sent = format!(
        "{{\"id\":6,\"method\":\"tools/call\",\"params\":{{\"name\":\"x\",\"requestState\":\"s2\",\"_meta\":{{{USUAL},{CLIENT}}}}}}}\n"
    );
    assert_eq!(bench.lines(), [sent]);
    bench.answer(6, r#"{"resultType":"complete","content":[]}"#);
    assert_eq!(
        bench.said(),
        [r#"ann: 6 {"jsonrpc":"2.0","id":6,"result":{"content":[]}}"#]
    );
    assert_eq!(bench.server.open_calls(), 0);
    // There is an end to it.
    bench.ask(call, "bob").unwrap();
    for round in 7..7 + 33 {
        bench.answer(
            round,
            r#"{"resultType":"input_required","requestState":"s"}"#,
        );
    }
    assert_eq!(bench.said(), ["bob: BadAnswer"]);
    assert_eq!(bench.lines().len(), 33);
}

#[test]
fn a_question_that_the_client_cannot_or_will_not_answer_ends_its_call() {
    let mut bench = Bench::raised();
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"x"}}"#;
    bench.ask(call, "ann").unwrap();
    bench.answer(
        4,
        r#"{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create"}}}"#,
    );
    assert_eq!(
        bench.said(),
        [
            r#"ann: 4 {"jsonrpc":"2.0","id":4,"error":{"code":-32021,"message":"the server asks for `elicitation/create`, for which the client has not declared `elicitation`","data":{"requiredCapabilities":{"elicitation":{}}}}}"#
        ]
    );
    let two = r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"},"b":{"method":"roots/list"}}}"#;
    bench.ask(call, "ann").unwrap();
    bench.answer(5, two);
    bench.said();
    bench.reply("1", r#""error":{"code":-1,"message":"never \"ever\""}"#);
    assert_eq!(
        bench.said(),
        [
            "withdrawn 2",
            r#"ann: 5 {"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"never \"ever\""}}"#
        ]
    );
    // One that is cancelled while its client is asked is not at the process.
    let number = bench.ask(call, "ann").unwrap();
    bench.answer(6, two);
    bench.said();
    bench.lines();
    let now = bench.at();
    bench.server.cancel(now, number, None, &mut bench.out);
    assert_eq!(bench.said(), ["withdrawn 3", "withdrawn 4"]);
    assert!(bench.lines().is_empty());
    // One whose second round runs is, under another number.
    let number = bench.ask(call, "ann").unwrap();
    bench.answer(
        7,
        r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list"}}}"#,
    );
    bench.reply("5", r#""result":{}"#);
    bench.lines();
    bench.server.cancel(now, number, None, &mut bench.out);
    assert_eq!(
        bench.lines(),
        [
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":8}}\n"
        ]
    );
    assert_eq!(bench.server.open_calls(), 0);
    bench.server.attend(now, false);
    assert_eq!(bench.server.idle_since(), Some(now));
}

#[test]
fn a_level_goes_with_each_later_request_and_is_not_a_request_itself() {
    let mut bench = Bench::raised();
    bench
        .ask(
            r#"{"id":1,"method":"logging/setLevel","params":{"level":"error"}}"#,
            "ann",
        )
        .unwrap();
    bench
        .ask(
            r#"{"id":2,"method":"logging/setLevel","params":{"level":"loud"}}"#,
            "bob",
        )
        .unwrap();
    assert_eq!(
        bench.said(),
        [
            r#"ann: 4 {"jsonrpc":"2.0","id":4,"result":{}}"#,
            r#"bob: 5 {"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"there is no such level"}}"#
        ]
    );
    assert!(bench.lines().is_empty());
    bench.ask(r#"{"id":1,"method":"x"}"#, "ann").unwrap();
    assert!(
        bench.lines()[0]
            .contains(r#""_meta":{"io.modelcontextprotocol/logLevel":"error","io.model"#)
    );
}

#[test]
fn subscriptions_are_one_request_that_is_renewed_and_nothing_is_told_twice() {
    let mut bench = Bench::raised();
    let update = |of: u64, uri: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{{\"uri\":\"{uri}\",\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{of}}}}}}}"
        )
    };
    bench
        .ask(
            r#"{"id":1,"method":"resources/subscribe","params":{"uri":"a"}}"#,
            "ann",
        )
        .unwrap();
    let lines = bench.lines();
    let asked =
        r#""params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]},"#;
    assert!(lines.len() == 1 && lines[0].contains(asked), "{lines:?}");
    assert!(bench.said().is_empty(), "the process has not agreed yet");
    bench.answer_to_listening(5);
    assert_eq!(
        bench.said(),
        [r#"ann: 4 {"jsonrpc":"2.0","id":4,"result":{}}"#]
    );
    assert_eq!(
        bench.lines(),
        [
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":3}}\n"
        ]
    );
    bench.line(&update(3, "a"));
    bench.line(&update(5, "a"));
    bench.line(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#);
    assert_eq!(
        bench.said(),
        [
            r#"notified notifications/resources/updated {"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a"}}"#,
            r#"notified notifications/message {"jsonrpc":"2.0","method":"notifications/message","params":{}}"#
        ]
    );
    // The next process is asked for the same.
    bench.exit(Exit::Signal(9));
    bench.said();
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.spawn(), "server/discover");
    bench.answer(6, DISCOVERY);
    let lines = bench.lines();
    assert!(lines.len() == 1 && lines[0].contains(asked), "{lines:?}");
    // One that does not take it says why to who waits for it.
    bench
        .ask(
            r#"{"id":1,"method":"resources/unsubscribe","params":{"uri":"a"}}"#,
            "bob",
        )
        .unwrap();
    let line = &bench.lines()[0];
    assert!(line.contains(r#""notifications":{"toolsListChanged":true},"#));
    bench.line(r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32603,"message":"no"}}"#);
    assert_eq!(
        bench.said()[1],
        r#"bob: 8 {"jsonrpc":"2.0","id":8,"error":{"code":-32603,"message":"no"}}"#
    );
}
