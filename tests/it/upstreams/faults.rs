//! Servers that fail before the first byte of an answer: one clear error in the client's API, or the fallback's answer.

use super::ask::{Dialect, EVERY, Fails, ask, ask_whole, open, told};
use super::server::{Api, Reply, Server, Then, entry};
use super::{QUICK, start};
use crate::program::Program;
use crate::tls::Roots;
use mcp_local_provider_tests::certificates::Authority;
use rustls::{ServerConfig, ServerConnection};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A fault, what it is to the client, words of the message, and the requests that come with `retries: 1`.
struct Case {
    name: &'static str,
    reply: Reply,
    fails: Fails,
    says: &'static str,
    asked: usize,
}

fn cases() -> Vec<Case> {
    let case = |name, reply, fails, says, asked| Case { name, reply, fails, says, asked };
    let error = |message: &str| json!({ "error": { "message": message, "type": "it", "code": null } });
    let raw = |bytes: &str, then| Reply::Raw(bytes.into(), then);
    let page = "<html><body><h1>Bad gateway</h1></body></html>";
    let html = "Content-Type: text/html\r\n";
    let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        case("reset", raw("", Then::Reset), Fails::LOST, "", 2),
        case("closed", raw("", Then::Close), Fails::LOST, "", 2),
        case("silent", raw("", Then::Silence), Fails::LATE, "", 0),
        case("half-head", raw("HTTP/1.1 200 OK\r\nContent-", Then::Silence), Fails::LATE, "", 0),
        case("half-chunk", raw(&format!("{events}400\r\ndata: {{\"cho"), Then::Close), Fails::FAULT, "", 1),
        case("no-http", raw("SSH-2.0-OpenSSH_9.2\r\n\r\n", Then::Close), Fails::LOST, "not HTTP", 0),
        case("html-200", Reply::typed(200, html, page), Fails::FAULT, "text/html", 1),
        case("html-502", Reply::typed(502, html, page), Fails::ERROR, "status 502", 2),
        case("gzip", Reply::typed(200, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "\u{1f}"), Fails::FAULT, "gzip", 1),
        case("redirect", Reply::typed(307, "Location: http://127.0.0.1:9/v1/chat/completions\r\n", ""), Fails::FAULT, "redirect", 1),
        case("e401", Reply::status(401, "", &error("who are you")), Fails::ERROR, "refuses its key", 1),
        case("e403", Reply::status(403, "", &error("not for you")), Fails::ERROR, "refuses its key", 1),
        case("e404", Reply::status(404, "", &error("no such model here")), Fails::NO_MODEL, "no such model here", 1),
        case("e429", Reply::status(429, "", &error("slow down")), Fails::LIMITED, "slow down", 2),
        case("e500", Reply::status(500, "", &error("it broke")), Fails::ERROR, "it broke", 2),
        case("e503", Reply::status(503, "", &error("no room")), Fails::OVERLOADED, "no room", 2),
        case("e529", Reply::status(529, "", &json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } })),
            Fails::OVERLOADED, "Overloaded", 2),
    ]
}

#[test]
fn each_fault_is_one_clear_error_in_the_api_of_the_client() {
    let cases: Vec<(Case, Server)> = cases()
        .into_iter()
        .map(|case| {
            let server = Server::start(Api::OpenAi, [case.reply.clone()]);
            (case, server)
        })
        .collect();
    let entries: String = cases
        .iter()
        .map(|(case, server)| server.entry(case.name, ", models: [m], retries: 1, circuit: { failures: 0 }"))
        .collect();
    // `timeouts.first_chunk` holds for all attempts together, so only the silent ones have a short one.
    let programs = [start(&entries, ""), start(&entries, QUICK)];
    thread::scope(|scope| {
        for (case, server) in &cases {
            let program = &programs[usize::from(case.fails == Fails::LATE)];
            scope.spawn(move || {
                for (round, as_client) in EVERY.into_iter().enumerate() {
                    let told = ask(program, as_client, &format!("{}/m", case.name));
                    // Of a whole answer that is late the exchange tells, which knows no upstream.
                    let name = if case.fails == Fails::LATE { "" } else { case.name };
                    told.fails(case.fails, &[name, case.says]);
                    assert!(!told.answer.body.contains('<'), "a page is quoted: {told:?}");
                    let asked = server.asked().len();
                    assert!(asked > round, "{} was not asked", case.name);
                    if case.asked > 0 {
                        assert_eq!(asked, case.asked * (round + 1), "requests to {}", case.name);
                    }
                }
            });
        }
    });
}

#[test]
fn a_fallback_answers_for_every_fault_of_the_server() {
    let good = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let mut entries = good.entry("good", ", models: [m]");
    let mut cases = cases();
    // A server may want more patience than a client has.
    let wait = json!({ "error": { "message": "tomorrow", "type": "it", "code": null } });
    // A silence uses the client's time up.
    cases.retain(|case| case.fails != Fails::LATE);
    cases.push(Case {
        name: "tomorrow",
        reply: Reply::status(429, "Retry-After: 86400\r\n", &wait),
        fails: Fails::LIMITED,
        says: "",
        asked: 0,
    });
    let servers: Vec<Server> = cases
        .iter()
        .map(|case| {
            let server = Server::start(Api::OpenAi, [case.reply.clone()]);
            entries.push_str(&server.entry(
                case.name,
                ", models: [m], retries: 0, fallback: [good/m], circuit: { failures: 0 }",
            ));
            server
        })
        .collect();
    let program = start(&entries, "");
    thread::scope(|scope| {
        for case in &cases {
            let program = &program;
            scope.spawn(move || {
                for as_client in EVERY {
                    ask(program, as_client, &format!("{}/m", case.name)).is("fine");
                }
            });
        }
    });
    assert_eq!(good.asked().len(), EVERY.len() * cases.len());
    for (case, server) in cases.iter().zip(&servers) {
        assert_eq!(server.asked().len(), EVERY.len(), "requests to {}", case.name);
    }
}

#[test]
fn a_request_that_the_server_does_not_take_is_the_clients_and_goes_nowhere_else() {
    let good = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let mut entries = good.entry("good", ", models: [m]");
    let message = "tools[0] has no name";
    let servers = Api::EVERY.map(|api| {
        let body = match api {
            Api::OpenAi => json!({ "error": { "message": message, "type": "invalid_request_error", "param": "tools[0]", "code": null } }),
            Api::Anthropic => json!({ "type": "error", "error": { "type": "invalid_request_error", "message": message } }),
            Api::Ollama => json!({ "error": message }),
        };
        let server = Server::start(api, [Reply::status(400, "", &body)]);
        let more = ", models: [m], retries: 3, fallback: [good/m], circuit: { failures: 1, pause: 60s }";
        entries.push_str(&server.entry(api.kind(), more));
        server
    });
    let program = start(&entries, "");
    for (api, server) in Api::EVERY.iter().zip(&servers) {
        for (round, as_client) in EVERY.into_iter().enumerate() {
            let told = ask(&program, as_client, &format!("{}/m", api.kind()));
            told.fails(Fails::INVALID, &[api.kind(), message]);
            // It opens no circuit either: the next one arrives too.
            assert_eq!(server.asked().len(), round + 1);
        }
    }
    assert_eq!(good.asked().len(), 0);
}

#[test]
fn a_server_that_nobody_can_connect_to_is_told_of_by_name() {
    // Nobody listens there, and the system gives that port to nobody who lets it choose.
    let gone = "127.0.0.1:1";
    // It takes connections, and never says a word of TLS.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = Authority::new();
    let roots = Roots::new(&authority);
    let stranger = secure(&Authority::new().server(&["localhost"]));
    let other_name = secure(&authority.server(&["models.test"]));
    let expired = secure(&authority.server_until(&["localhost"], 2020));
    let secure_entry = |name, address: SocketAddr| {
        entry(Api::OpenAi, name, &format!("https://localhost:{}", address.port()), ", models: [m], retries: 1")
    };
    let entries = [
        entry(Api::OpenAi, "gone", &format!("http://{gone}"), ", models: [m], retries: 1"),
        entry(Api::OpenAi, "mute", &format!("https://{}", mute.local_addr().unwrap()), ", models: [m], retries: 1, connect_timeout: 200ms"),
        secure_entry("stranger", stranger),
        secure_entry("other-name", other_name),
        secure_entry("expired", expired),
        entry(Api::OpenAi, "no-such-host", "http://no-such-host.invalid", ", models: [m], retries: 1"),
    ];
    let program = start(&entries.concat(), &format!("tls: {{ ca_file: \"{}\" }}\n", roots.path().display()));
    let cases = [
        ("gone", Fails::LOST, "cannot be reached"),
        ("mute", Fails::LATE, "in time"),
        ("stranger", Fails::LOST, "not trusted"),
        ("other-name", Fails::LOST, "not for `localhost`, but for `models.test`"),
        ("expired", Fails::LOST, "has expired"),
        ("no-such-host", Fails::LOST, "look"),
    ];
    for (name, fails, says) in cases {
        for as_client in [(Dialect::OpenAi, true), (Dialect::Ollama, false), (Dialect::Anthropic, true)] {
            ask(&program, as_client, &format!("{name}/m")).fails(fails, &[name, says]);
        }
    }
}

/// Address of a server with a certificate that is refused.
fn secure(server: &Arc<ServerConfig>) -> SocketAddr {
    let server = server.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = ServerConnection::new(server.clone()).unwrap();
            connection.complete_io(&mut stream).expect_err("a handshake");
        }
    });
    address
}

#[test]
fn a_server_that_asks_for_patience_is_asked_again_when_it_is_over() {
    let limited = |after| Reply::status(429, after, &json!({ "error": { "message": "slow down" } }));
    for api in Api::EVERY {
        let server = Server::start(api, [limited("Retry-After: 1\r\n"), Reply::Text("fine")]);
        let program = start(&server.entry("up", ", models: [m]"), "");
        ask_whole(&program, "up/m").is("fine");
        let asked = server.asked();
        assert_eq!(asked.len(), 2);
        let waited = asked[1].at.duration_since(asked[0].at);
        assert!(waited >= Duration::from_secs(1), "asked again after {waited:?}");
        assert_eq!(asked[0].body, asked[1].body);
    }
    // Nobody holds a client up for a day: it is told when to come back.
    let server = Server::start(Api::OpenAi, [limited("Retry-After: 86400\r\n")]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    let begun = Instant::now();
    for as_client in EVERY {
        let told = ask(&program, as_client, "up/m");
        told.fails(Fails::LIMITED, &["up", "slow down"]);
        assert_eq!(told.answer.header("retry-after"), Some("86400"), "{told:?}");
    }
    assert!(begun.elapsed() < crate::program::PATIENCE, "clients were held up");
}

#[test]
fn a_server_that_asks_for_patience_for_too_long_is_told_of_and_its_circuit_stays() {
    let body = json!({ "error": { "message": "slow down" } });
    let server = Server::start(Api::OpenAi, [Reply::status(429, "Retry-After: 1\r\n", &body)]);
    let entry = server.entry("up", ", models: [m], retries: 10, circuit: { failures: 1 }");
    let program = start(&entry, "timeouts: { first_chunk: 1500ms }\n");
    for _ in 0..2 {
        ask(&program, (Dialect::OpenAi, true), "up/m").fails(Fails::LIMITED, &["up", "slow down"]);
    }
}

#[test]
fn every_fault_that_passes_is_tried_again_and_never_more_often_than_configured() {
    let body = json!({ "error": { "message": "later" } });
    for failing in [
        Reply::Raw(String::new(), Then::Reset),
        Reply::Raw(String::new(), Then::Close),
        Reply::status(500, "", &body),
        Reply::status(502, "", &body),
        Reply::status(503, "", &body),
        Reply::status(504, "", &body),
        Reply::status(529, "", &body),
        Reply::status(429, "", &body),
    ] {
        let script = [failing.clone(), failing.clone(), Reply::Text("fine")];
        let server = Server::start(Api::OpenAi, script.clone());
        let program = start(&server.entry("up", ", models: [m], circuit: { failures: 0 }"), "");
        ask(&program, (Dialect::OpenAi, true), "up/m").is("fine");
        assert_eq!(server.asked().len(), 3, "with the two retries that are the default: {failing:?}");
        let server = Server::start(Api::OpenAi, script);
        let program = start(&server.entry("up", ", models: [m], retries: 0"), "");
        let told = ask(&program, (Dialect::OpenAi, true), "up/m");
        assert!(told.answer.status >= 429, "{told:?}");
        assert_eq!(server.asked().len(), 1, "without retries: {failing:?}");
    }
}

#[test]
fn connections_are_kept_and_one_that_was_closed_meanwhile_costs_nobody_an_answer() {
    let server = Server::start(Api::OpenAi, [Reply::Text("fine")]);
    let program = start(&server.entry("up", ", models: [m]"), "");
    for as_client in EVERY {
        ask(&program, as_client, "up/m").is("fine");
    }
    assert_eq!(server.connections(), 1, "connections for {} requests", EVERY.len());
    // A whole answer, and the server closes without having said that it would.
    let body = r#"{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"last"},"finish_reason":"stop"}]}"#;
    let Reply::Raw(bytes, _) = Reply::typed(200, "Content-Type: application/json\r\n", body) else {
        unreachable!()
    };
    server.rewrite([Reply::Raw(bytes, Then::Close), Reply::Text("fine")]);
    ask_whole(&program, "up/m").is("last");
    ask_whole(&program, "up/m").is("fine");
}

#[test]
fn as_many_connections_are_kept_as_were_used_at_once() {
    let server = Server::start(Api::OpenAi, [Reply::Held("fine")]);
    let program = start(&server.entry("up", ", models: [m], concurrency: 0"), "");
    let as_client = (Dialect::OpenAi, false);
    let mut asked = 0;
    // The first round opens more than the others need: a connection that is just being looked at is none that is used.
    for at_once in [24, 20, 20] {
        server.hold();
        let clients: Vec<_> = (0..at_once).map(|_| open(&program, as_client, "up/m")).collect();
        asked += at_once;
        server.wait_asked(asked);
        server.release();
        clients.into_iter().for_each(|client| told(as_client, client).is("fine"));
    }
    assert_eq!(server.connections(), 24);
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ";
    let server = Server::start(Api::OpenAi, [Reply::Raw(head.into(), Then::Endless)]);
    let program = Program::start(&format!(
        "limits: {{ answer_bytes: 1MiB, requests_per_minute: 1000, burst: 1000 }}\nupstreams:\n{}",
        server.entry("up", ", models: [m]")
    ));
    for (round, as_client) in [(Dialect::OpenAi, true), (Dialect::Anthropic, true), (Dialect::Ollama, false)].into_iter().enumerate() {
        let told = ask(&program, as_client, "up/m");
        assert_eq!((told.answer.status, &*told.text), (502, ""), "{told:?}");
        assert!(told.message().contains("up"), "{told:?}");
        server.wait_closed();
        assert_eq!(server.asked().len(), round + 1, "it is not asked again");
    }
    // What the sockets hold comes on top of what was read.
    let taken = server.endless();
    assert!(taken < 96 << 20, "{taken} bytes were taken");
}
