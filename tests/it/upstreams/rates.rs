//! Limits of an upstream itself: requests and tokens in a minute, and requests at once.

use super::ask::{Dialect, EVERY, Fails, ask, ask_whole, open, open_with, told};
use super::server::{Api, Reply, Server};
use super::start;
use crate::program::CLIENT;

const FINE: Reply = Reply::Text("fine");

#[test]
fn rates_that_are_used_up_are_told_with_the_name_of_the_upstream() {
    for (limit, asked) in [("requests_per_minute: 2", 2), ("tokens_per_minute: 1", 1)] {
        let server = Server::start(Api::OpenAi, [FINE]);
        let program = start(&server.entry("metered", &format!(", models: [m], {limit}")), "");
        for _ in 0..asked {
            ask_whole(&program, "metered/m").is("fine");
        }
        for as_client in EVERY {
            let told = ask(&program, as_client, "metered/m");
            told.fails(Fails::LIMITED, &["metered"]);
            // More tokens than a minute has never fit, so there is no time to tell.
            if limit.starts_with("tokens") {
                continue;
            }
            let after = told.answer.header("retry-after").and_then(|after| after.parse::<u64>().ok());
            assert!((1..=60).contains(&after.unwrap_or_default()), "{told:?}");
        }
        assert_eq!(server.asked().len(), asked);
    }
}

#[test]
fn a_fallback_answers_when_rates_are_used_up() {
    let server = Server::start(Api::OpenAi, [Reply::Text("dear")]);
    let good = Server::start(Api::Ollama, [FINE]);
    let entries = server.entry("metered", ", models: [m], requests_per_minute: 1, fallback: [good/m]")
        + &good.entry("good", ", models: [m]");
    let program = start(&entries, "");
    ask_whole(&program, "metered/m").is("dear");
    for as_client in EVERY {
        ask(&program, as_client, "metered/m").is("fine");
    }
    assert_eq!((server.asked().len(), good.asked().len()), (1, EVERY.len()));
}

#[test]
fn more_requests_than_it_may_have_at_once_wait_their_turn() {
    let server = Server::start(Api::OpenAi, [Reply::Held("first"), Reply::Text("second")]);
    let program = start(&server.entry("narrow", ", models: [m], concurrency: 1"), "");
    let as_client = (Dialect::OpenAi, true);
    let first = open(&program, as_client, "narrow/m");
    server.wait_asked(1);
    let second = open_with(&program, as_client, "narrow/m", "wait");
    // Both are known to the program once a later request of another kind was answered.
    assert_eq!(program.request("GET", "/v1/models", Some(CLIENT), "").status, 200);
    assert_eq!(server.asked().len(), 1);
    server.release();
    told(as_client, first).is("first");
    told(as_client, second).is("second");
}
