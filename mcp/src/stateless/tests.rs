//! Tests of requests without a session: what they must say, what becomes of them, and their rounds.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::refusal::{Reason, Refusal};
use crate::server::CallId;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::task::Waker;
use core::time::Duration;
use mcp_local_provider_core::rpc::Message;
use mcp_local_provider_core::time::Instant;

const NOW: Instant = Instant::ZERO;
const LATER: Instant = Instant::from_micros(100_000);

fn meta(more: &str) -> String {
    alloc::format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{"sampling":{{}}}},"progressToken":7{more}}}"#
    )
}

fn call(params: &str) -> String {
    alloc::format!(r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{{params}}}}}"#)
}

fn read<'m>(text: &'m str, headers: &Headers<'_>) -> Result<Wanted<'m>, Refusal> {
    match Message::read(text).unwrap() {
        Message::Request { id, call } => Wanted::read(headers, id, &call),
        other => panic!("{other:?}"),
    }
}

const HEADERS: Headers<'_> = Headers {
    version: Some(REVISION),
    method: Some("tools/call"),
    name: Some("t"),
    given: None,
};

fn wanted(text: &str) -> Wanted<'_> {
    read(text, &HEADERS).unwrap()
}

fn answer(exchange: &mut Exchange, now: Instant) -> (u16, String) {
    match exchange.take(now, Waker::noop()).ending {
        Some(Ending::Answer { status, text, .. }) => (status, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_request_lacks_is_said_by_its_number() {
    let whole = call(&alloc::format!(r#""name":"t",{}"#, meta("")));
    let refused = |text: &str, headers: Headers<'_>| {
        let refusal = read(text, &headers).unwrap_err();
        (refusal.reason.status(), refusal.reason.code())
    };
    assert!(read(&whole, &HEADERS).is_ok());
    let encoded = Headers {
        name: Some("=?base64?dA==?="),
        ..HEADERS
    };
    assert!(read(&whole, &encoded).is_ok());
    for wrong in [
        Headers {
            version: None,
            ..HEADERS
        },
        Headers {
            version: Some("2025-11-25"),
            ..HEADERS
        },
        Headers {
            method: Some("tools/list"),
            ..HEADERS
        },
        Headers {
            method: None,
            ..HEADERS
        },
        Headers {
            name: Some("T"),
            ..HEADERS
        },
        Headers {
            name: Some("=?base64?d?="),
            ..HEADERS
        },
        Headers {
            name: None,
            ..HEADERS
        },
    ] {
        assert_eq!(refused(&whole, wrong), (400, -32020), "{wrong:?}");
    }
    assert_eq!(refused(&call(r#""name":"t""#), HEADERS), (400, -32602));
    let incapable = whole.replace("clientCapabilities", "other");
    assert_eq!(refused(&incapable, HEADERS), (400, -32602));
    let newer = whole.replace(REVISION, "2099-01-01");
    let refusal = read(
        &newer,
        &Headers {
            version: Some("2099-01-01"),
            ..HEADERS
        },
    )
    .unwrap_err();
    assert!(
        refusal
            .answer("1")
            .contains(r#""supported":["2026-07-28"],"requested":"2099-01-01""#),
        "{refusal:?}"
    );
    for method in ["ping", "initialize", "tasks/list"] {
        let text = whole.replace("tools/call", method);
        let headers = Headers {
            method: Some(method),
            ..HEADERS
        };
        assert_eq!(refused(&text, headers), (404, -32601), "{method}");
    }
}

fn lowered_of(text: &str) -> String {
    match Message::read(text) {
        Ok(Message::Request { id, call }) => crate::envelope::lowered(id, &call),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_with_sessions_sees_nothing_of_the_revision() {
    let text = call(&alloc::format!(
        r#""name":"t","arguments":{{"a":1.0}},"inputResponses":{{}},"requestState":"x",{}"#,
        meta(r#","own":1"#)
    ));
    assert_eq!(
        lowered_of(&text),
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t","arguments":{"a":1.0},"_meta":{"progressToken":7,"own":1}}}"#
    );
    assert_eq!(wanted(&text).told(), r#"{"sampling":{}}"#);
}

#[test]
fn an_answer_says_what_the_revision_wants() {
    let text = call(&alloc::format!(r#""name":"t",{}"#, meta("")));
    for (method, said, status, expected) in [
        (
            "tools/list",
            r#"{"result":{"ttlMs":5,"cacheScope":"public","tools":[],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"t"}},"resultType":"complete"},"id":9}"#,
            200,
            r#"{"result":{"ttlMs":5,"cacheScope":"public","tools":[],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"t"}},"resultType":"complete"},"id":"a"}"#,
        ),
        (
            "resources/read",
            r#"{"id":9,"result":{"resultType":"input_required","requestState":"x"}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","requestState":"x","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}"#,
        ),
        (
            "tools/call",
            r#"{"id":9,"error":{"code":-32021,"message":"m"}}"#,
            400,
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32021,"message":"m"}}"#,
        ),
        (
            "tools/call",
            r#"{"id":9,"result":{"content":[],"_meta":{"a":1}}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","content":[],"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"s"}}}}"#,
        ),
        (
            "tools/list",
            r#"{"id":9,"result":{"tools":[],"ttlMs":5}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","tools":[],"ttlMs":5,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"cacheScope":"private"}}"#,
        ),
        (
            "x",
            r#"{"id":9,"error":{"code":-32601,"message":"no"}}"#,
            404,
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32601,"message":"no"}}"#,
        ),
        (
            "resources/read",
            r#"{"id":9,"error":{"code":-32002,"message":"no"}}"#,
            200,
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"no","data":{"uri":"x:y"}}}"#,
        ),
        (
            "server/discover",
            "",
            200,
            r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}},"ttlMs":0,"cacheScope":"private"}}"#,
        ),
    ] {
        let text = text
            .replace("tools/call", method)
            .replace(r#""name":"t""#, r#""uri":"x:y""#);
        let headers = Headers {
            method: Some(method),
            name: Some("x:y"),
            ..HEADERS
        };
        let mut exchange = Exchange::new(&read(&text, &headers).unwrap());
        let greeting = r#"{"serverInfo":{"name":"s"},"capabilities":{"tools":{},"tasks":{}}}"#;
        exchange.handle_ready(greeting, &mut Vec::new());
        exchange.handle_answer(said, &mut Vec::new());
        assert_eq!(answer(&mut exchange, NOW), (status, expected.to_string()));
    }
}

fn ask(exchange: &mut Exchange, id: &str, method: &str) -> Result<(), String> {
    let text = alloc::format!(
        r#"{{"id":{id},"method":"{method}","params":{{"n":{id},"_meta":{{"progressToken":1}}}}}}"#
    );
    let of = JsonValue::read(&text).unwrap().member("id").unwrap();
    exchange.handle_asked(NOW, &text, of, method, &mut Vec::new())
}

#[test]
fn questions_go_to_the_client_and_its_answers_to_the_server() {
    let first = call(&alloc::format!(r#""name":"t",{}"#, meta("")));
    let mut exchange = Exchange::new(&wanted(&first));
    ask(&mut exchange, "5", "sampling/createMessage").unwrap();
    ask(&mut exchange, "\"six\"", "sampling/createMessage").unwrap();
    let step = exchange.take(NOW, Waker::noop());
    assert_eq!(
        (step.ending, step.until),
        (None, Some(NOW + Duration::from_millis(25)))
    );
    assert_eq!(
        exchange.take(LATER, Waker::noop()).ending,
        Some(Ending::Questions)
    );
    assert_eq!(
        exchange.suspend("state"),
        r#"{"jsonrpc":"2.0","id":"a","result":{"resultType":"input_required","inputRequests":{"input-1":{"method":"sampling/createMessage","params":{"n":5}},"input-2":{"method":"sampling/createMessage","params":{"n":"six"}}},"requestState":"state"}}"#
    );
    let next = |name: &str, responses: &str| {
        let text = call(&alloc::format!(
            r#""name":"{name}","inputResponses":{responses},"requestState":"state",{}"#,
            meta("")
        ));
        text.replace("\"id\":\"a\"", "\"id\":2")
    };
    // Another request, and answers that are none, change nothing.
    let headers = Headers {
        name: Some("u"),
        ..HEADERS
    };
    let other = next("u", "{}");
    assert!(
        exchange
            .resume(NOW, &read(&other, &headers).unwrap())
            .is_err()
    );
    for wrong in ["7", r#"{"input-1":7}"#] {
        let text = next("t", wrong);
        assert_eq!(
            exchange.resume(NOW, &wanted(&text)).unwrap_err().reason,
            Reason::BadParams
        );
    }
    // One answer of two: the other question is asked again.
    let text = next("t", r#"{"input-2":{"role":"x"},"other":{}}"#);
    assert_eq!(
        exchange.resume(NOW, &wanted(&text)).unwrap(),
        ["{\"jsonrpc\":\"2.0\",\"id\":\"six\",\"result\":{\"role\":\"x\"}}\n"]
    );
    assert_eq!(
        exchange.take(NOW, Waker::noop()).ending,
        Some(Ending::Questions)
    );
    let again = exchange.suspend("next");
    assert!(
        again.starts_with(r#"{"jsonrpc":"2.0","id":2,"#) && !again.contains("input-2"),
        "{again}"
    );
    let text = next("t", r#"{"input-1":{}}"#);
    assert_eq!(exchange.resume(NOW, &wanted(&text)).unwrap().len(), 1);
    assert!(
        exchange.resume(NOW, &wanted(&text)).is_err(),
        "it is used up"
    );
    exchange.handle_answer(r#"{"id":1,"result":{}}"#, &mut Vec::new());
    assert_eq!(
        answer(&mut exchange, NOW).1,
        r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"complete"}}"#
    );
    let end = exchange.end().unwrap();
    assert!(end.is_clean && end.call.is_none());
}

#[test]
fn a_question_that_the_client_cannot_answer_fails_its_request() {
    let text = call(&alloc::format!(r#""name":"t",{}"#, meta("")));
    let mut exchange = Exchange::new(&wanted(&text));
    exchange.sent(CallId(7));
    assert!(
        ask(&mut exchange, "5", "tasks/get")
            .unwrap_err()
            .contains("-32601")
    );
    assert!(exchange.take(NOW, Waker::noop()).ending.is_none());
    assert!(ask(&mut exchange, "6", "roots/list").is_err());
    let (status, text) = answer(&mut exchange, NOW);
    assert_eq!(status, 400);
    assert!(
        text.contains("-32021") && text.contains(r#""requiredCapabilities":{"roots":{}}"#),
        "{text}"
    );
    let end = exchange.end().unwrap();
    assert!(!end.is_clean);
    assert_eq!(
        end.call, None,
        "the server answers by itself: it is not told to stop"
    );
}

#[test]
fn a_listener_is_told_what_it_asked_for_and_nothing_else() {
    let text = alloc::format!(
        r#"{{"id":4,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["x:a"]}},{}}}}}"#,
        meta("")
    );
    let headers = Headers {
        method: Some("subscriptions/listen"),
        ..HEADERS
    };
    let mut exchange = Exchange::new(&read(&text, &headers).unwrap());
    assert_eq!(exchange.subscriptions().collect::<Vec<_>>(), ["\"x:a\""]);
    let wake = &mut Vec::new();
    let greeting =
        r#"{"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}}}"#;
    exchange.handle_ready(greeting, wake);
    exchange.handle_notified(
        r#"{"method":"notifications/tools/list_changed"}"#,
        "notifications/tools/list_changed",
        wake,
    );
    for (method, uri) in [
        ("updated", "x:a"),
        ("updated", "x:b"),
        ("list_changed", "x:a"),
    ] {
        let method = alloc::format!("notifications/resources/{method}");
        let text = alloc::format!(r#"{{"method":"{method}","params":{{"uri":"{uri}"}}}}"#);
        exchange.handle_notified(&text, &method, wake);
    }
    exchange.handle_notified(
        r#"{"method":"notifications/message","params":{"level":"error"}}"#,
        "notifications/message",
        wake,
    );
    exchange.handle_ready(greeting, wake);
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#;
    assert_eq!(
        exchange.take(NOW, Waker::noop()).messages,
        [
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:a"]},"_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#,
            changed,
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:a","_meta":{"io.modelcontextprotocol/subscriptionId":4}}}"#,
            changed,
        ]
    );
    exchange.handle_over(wake);
    assert!(
        answer(&mut exchange, NOW)
            .1
            .contains(r#""resultType":"complete""#)
    );
}

#[test]
fn log_messages_come_to_who_asked_for_them() {
    for (more, count) in [
        ("", 0),
        (r#","io.modelcontextprotocol/logLevel":"warning""#, 2),
    ] {
        let text = call(&alloc::format!(r#""name":"t",{}"#, meta(more)));
        let mut exchange = Exchange::new(&wanted(&text));
        for level in ["debug", "warning", "error"] {
            let text = alloc::format!(
                r#"{{"method":"notifications/message","params":{{"level":"{level}"}}}}"#
            );
            exchange.handle_notified(&text, "notifications/message", &mut Vec::new());
        }
        assert_eq!(exchange.take(NOW, Waker::noop()).messages.len(), count);
    }
}
