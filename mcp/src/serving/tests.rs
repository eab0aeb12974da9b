//! Clients that answer as models: calls, questions, rounds and their ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::streams::{Reader, Taken};
use alloc::string::ToString;
use alloc::vec;
use mcp_local_provider_core::rpc::Message;

const NEWEST: Spoken = Spoken::Sessions(Revision::NEWEST);
const TIME: Duration = Duration::from_secs(50);

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// A client with its machine.
struct Client {
    machine: Serving<u32>,
    wake: Vec<Waker>,
}

impl Client {
    fn new(spoken: Spoken) -> Self {
        let machine = Serving::new(at(0), "name", spoken, 1 << 20, None);
        Self {
            machine,
            wake: Vec::new(),
        }
    }

    fn read(&mut self, now: u64, stream: StreamId) -> Reader {
        let (reader, _) = self.machine.streams_mut().read(stream).unwrap();
        self.machine.attend(at(now), &mut self.wake);
        reader
    }

    fn leave(&mut self, now: u64, stream: StreamId, reader: Reader) {
        self.machine.streams_mut().leave(at(now), stream, reader);
        self.machine.attend(at(now), &mut self.wake);
    }

    fn serve(&mut self, now: u64, id: &str) -> StreamId {
        self.machine
            .serve(at(now), id, TIME, &mut self.wake)
            .unwrap()
    }

    fn ask(&mut self, now: u64, of: u32) {
        let params = format!("{{\"of\":{of}}}");
        self.machine.ask(at(now), of, params, &mut self.wake);
    }

    fn withdraw(&mut self, now: u64, of: u32) {
        self.machine
            .withdraw(at(now), of, "timeout", &mut self.wake);
    }

    fn answered(&mut self, now: u64, id: &str) -> Option<u32> {
        let id = JsonValue::read(id).unwrap();
        self.machine.answered(at(now), id, &mut self.wake)
    }

    /// What came on a stream, and whether it has ended.
    fn told(&mut self, stream: StreamId, reader: Reader) -> (Vec<String>, bool) {
        let mut told = Vec::new();
        let mut each = |_, text: &str| told.push(text.to_string());
        let streams = self.machine.streams_mut();
        let taken = streams.take_each(stream, reader, Waker::noop(), &mut each);
        (told, taken == Taken::Ended)
    }

    /// The result of a call of revision 2026-07-28.
    fn result(&mut self, stream: StreamId) -> String {
        let answer = self
            .machine
            .streams()
            .sole_answer(stream)
            .unwrap()
            .to_string();
        self.machine.streams_mut().close(stream);
        answer
    }

    /// Goes on with a round, and gives what was answered.
    fn go_on(&mut self, now: u64, more: &str) -> Result<(StreamId, Vec<(u32, String)>), Refusal> {
        let text = request(more);
        let Ok(Message::Request { id, call }) = Message::read(&text) else {
            panic!("{text}")
        };
        let wanted = Wanted::read_part(id, &call).unwrap();
        let mut answers = Vec::new();
        let stream = self
            .machine
            .go_on(at(now), &wanted, &mut self.wake, &mut |of, result| {
                answers.push((of, result.get().to_string()));
            })?;
        Ok((stream, answers))
    }
}

/// A request of revision 2026-07-28 that calls the tool.
fn request(more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"r","method":"tools/call","params":{{"name":"serve"{more},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{"sampling":{{}}}}}}}}}}"#
    )
}

/// The parameters that answer a question of a round.
fn responses(round: u64, question: u64) -> String {
    format!(
        r#","requestState":"name-{round}","inputResponses":{{"question-{question}":{{"x":{question}}}}}"#
    )
}

fn question(number: u64, of: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"sampling/createMessage","params":{{"of":{of}}}}}"#
    )
}

#[test]
fn a_question_waits_for_a_reader_and_goes_to_the_open_call_first() {
    let mut client = Client::new(NEWEST);
    client.ask(0, 7);
    let own = client.read(1, StreamId::SESSION);
    assert_eq!(
        client.told(StreamId::SESSION, own),
        (vec![question(1, 7)], false)
    );
    let call = client.serve(2, "\"c\"");
    client.ask(2, 8);
    // Nobody reads the call yet.
    assert_eq!(client.told(StreamId::SESSION, own).0, [question(2, 8)]);
    let reader = client.read(3, call);
    client.ask(3, 9);
    assert_eq!(client.told(call, reader), (vec![question(3, 9)], false));
    assert_eq!(client.told(StreamId::SESSION, own).0, [""; 0]);
    // Answers come in any order, once, and as strings too.
    assert_eq!(client.answered(4, "3"), Some(9));
    assert_eq!(client.answered(4, "\"1\""), Some(7));
    assert_eq!(client.answered(4, "1"), None);
    assert_eq!(client.answered(4, "null"), None);
}

#[test]
fn a_call_ends_in_its_time_once_its_questions_are_answered() {
    let mut client = Client::new(NEWEST);
    let call = client.serve(0, "5");
    let reader = client.read(0, call);
    assert_eq!(client.machine.poll_timeout(), Some(at(50)));
    client.ask(49, 1);
    assert_eq!(
        client.machine.poll_timeout(),
        None,
        "it waits for the answer"
    );
    client.machine.handle_timeout(at(50), &mut client.wake);
    assert_eq!(client.told(call, reader), (vec![question(1, 1)], false));
    // Another question waits for another call.
    client.ask(51, 2);
    assert_eq!(client.told(call, reader), (vec![], false));
    assert_eq!(client.answered(52, "1"), Some(1));
    let (told, has_ended) = client.told(call, reader);
    assert!(
        has_ended && told[0].starts_with(r#"{"jsonrpc":"2.0","id":5,"result":{"content":"#),
        "{told:?}"
    );
    client.leave(52, call, reader);
    let call = client.serve(53, "6");
    let reader = client.read(53, call);
    assert_eq!(client.told(call, reader).0, [question(2, 2)]);
}

#[test]
fn a_question_that_is_withdrawn_is_taken_back() {
    let mut client = Client::new(NEWEST);
    client.ask(0, 1);
    client.withdraw(0, 1);
    let own = client.read(1, StreamId::SESSION);
    assert_eq!(
        client.told(StreamId::SESSION, own).0,
        [""; 0],
        "it was never told"
    );
    let call = client.serve(1, "1");
    let reader = client.read(1, call);
    client.ask(2, 2);
    client.withdraw(3, 2);
    client.withdraw(3, 2);
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":"timeout"}}"#;
    assert_eq!(client.told(call, reader).0, [&question(2, 2), cancelled]);
    assert_eq!(client.answered(4, "2"), None);
}

#[test]
fn a_client_that_is_away_for_too_long_is_gone() {
    // It never listened.
    let mut client = Client::new(NEWEST);
    assert_eq!(client.machine.poll_timeout(), Some(at(0) + GAP));
    client.machine.handle_timeout(at(59), &mut client.wake);
    assert!(!client.machine.is_over());
    client.machine.handle_timeout(at(60), &mut client.wake);
    assert!(client.machine.is_over());
    // After a call that ended as it should, it has the same time.
    let mut client = Client::new(NEWEST);
    let call = client.serve(0, "1");
    let reader = client.read(0, call);
    client.machine.handle_timeout(at(50), &mut client.wake);
    client.leave(51, call, reader);
    assert_eq!(client.machine.poll_timeout(), Some(at(51) + GAP));
    // Whose call is cut has less, and whose stream is.
    let call = client.serve(60, "1");
    let reader = client.read(60, call);
    client.leave(61, call, reader);
    assert_eq!(client.machine.poll_timeout(), Some(at(61) + LOST));
    let mut client = Client::new(NEWEST);
    let own = client.read(1, StreamId::SESSION);
    client.leave(2, StreamId::SESSION, own);
    assert_eq!(client.machine.poll_timeout(), Some(at(2) + LOST));
    // So has who was asked something.
    let mut client = Client::new(NEWEST);
    let own = client.read(1, StreamId::SESSION);
    assert_eq!(client.machine.poll_timeout(), None);
    client.ask(2, 1);
    client.leave(3, StreamId::SESSION, own);
    assert_eq!(client.machine.poll_timeout(), Some(at(3) + LOST));
    // It comes back in time.
    let own = client.read(7, StreamId::SESSION);
    client.machine.handle_timeout(at(8), &mut client.wake);
    assert!(!client.machine.is_over());
    client.leave(9, StreamId::SESSION, own);
    client.machine.handle_timeout(at(14), &mut client.wake);
    assert!(client.machine.is_over());
    let mut gone = Vec::new();
    client
        .machine
        .end(at(14), &mut client.wake, &mut |of| gone.push(of));
    client
        .machine
        .end(at(14), &mut client.wake, &mut |of| gone.push(of));
    assert_eq!(gone, [1]);
}

#[test]
fn a_call_that_the_client_takes_back_has_no_answer() {
    let mut client = Client::new(NEWEST);
    let call = client.serve(0, "\"x\"");
    let reader = client.read(0, call);
    client
        .machine
        .cancelled(at(1), JsonValue::read("1").unwrap(), &mut client.wake);
    assert!(!client.told(call, reader).1);
    client
        .machine
        .cancelled(at(1), JsonValue::read("\"x\"").unwrap(), &mut client.wake);
    assert_eq!(client.told(call, reader), (vec![], true));
    for id in 0..CALLS {
        client.serve(2, &id.to_string());
    }
    let refusal = client
        .machine
        .serve(at(2), "17", TIME, &mut client.wake)
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::InFlightFull);
}

#[test]
fn a_round_has_all_that_waits_and_the_client_brings_the_answers() {
    let mut client = Client::new(Spoken::Stateless);
    let call = client.serve(0, "\"a\"");
    client.read(0, call);
    assert!(!client.machine.is_idle());
    client.ask(1, 7);
    client.ask(1, 8);
    let asked = client.result(call);
    assert!(
        asked.contains(r#""resultType":"input_required""#),
        "{asked}"
    );
    assert!(asked.contains(r#""inputRequests":{"question-1":{"method":"sampling/createMessage","params":{"of":7}}}"#), "{asked}");
    assert!(asked.contains(r#""requestState":"name-1""#), "{asked}");
    assert!(!client.machine.is_idle(), "the client is at work");
    assert_eq!(client.machine.poll_timeout(), None);
    for wrong in [
        "",
        r#","requestState":"name-2""#,
        r#","requestState":"name-1","inputResponses":[]"#,
        r#","requestState":"name-1","inputResponses":{"question-1":1}"#,
    ] {
        assert_eq!(
            client.go_on(2, wrong).unwrap_err().reason,
            Reason::BadParams,
            "{wrong}"
        );
    }
    let (call, answers) = client.go_on(2, &responses(1, 1)).unwrap();
    assert_eq!(answers, [(7, r#"{"x":1}"#.into())]);
    assert!(client.result(call).contains(r#""question-2""#));
    assert!(client.go_on(2, &responses(1, 1)).is_err(), "it was used");
    // Without an answer it is asked again.
    let (call, answers) = client.go_on(3, r#","requestState":"name-2""#).unwrap();
    assert_eq!(answers, []);
    assert!(client.result(call).contains(r#""requestState":"name-3""#));
    let (call, answers) = client.go_on(4, &responses(3, 2)).unwrap();
    assert_eq!(answers, [(8, r#"{"x":2}"#.into())]);
    assert!(client.machine.streams().sole_answer(call).is_none());
}

#[test]
fn a_call_has_eight_rounds_and_the_next_goes_on() {
    let mut client = Client::new(Spoken::Stateless);
    let mut call = client.serve(0, "1");
    for round in 1..=u64::from(ROUNDS) {
        client.ask(round, 1);
        assert!(client.result(call).contains("input_required"));
        call = client.go_on(round, &responses(round, round)).unwrap().0;
    }
    client.ask(9, 2);
    let last = client.result(call);
    assert!(
        last.contains(r#""resultType":"complete""#) && last.contains("Call `serve` again"),
        "{last}"
    );
    assert!(client.machine.is_idle());
    assert_eq!(client.machine.poll_timeout(), Some(at(8) + GAP));
    let call = client.serve(20, "2");
    assert!(client.result(call).contains(r#""question-9""#));
}

#[test]
fn a_client_that_closes_its_call_is_gone_and_one_at_work_is_not() {
    let mut client = Client::new(Spoken::Stateless);
    let call = client.serve(0, "1");
    let reader = client.read(0, call);
    client.ask(1, 1);
    client.result(call);
    client.leave(1, call, reader);
    assert!(!client.machine.is_over());
    // What it works on is withdrawn, and it does not come back.
    client.withdraw(2, 1);
    assert!(client.machine.is_idle());
    assert_eq!(client.machine.poll_timeout(), Some(at(2) + GAP));
    // It does: its answer goes nowhere.
    let (call, answers) = client.go_on(3, &responses(1, 1)).unwrap();
    assert_eq!(answers, []);
    // The reader of an earlier call may leave before the one of this call comes.
    client.machine.attend(at(3), &mut client.wake);
    assert!(!client.machine.is_over());
    let reader = client.read(3, call);
    client.leave(4, call, reader);
    assert!(client.machine.is_over());
}

#[test]
fn a_program_that_ends_answers_open_calls() {
    let mut client = Client::new(NEWEST);
    let call = client.serve(0, "1");
    let reader = client.read(0, call);
    client.ask(0, 1);
    client.machine.drain(at(1), &mut client.wake);
    assert!(!client.told(call, reader).1);
    assert_eq!(client.answered(2, "1"), Some(1));
    assert!(client.told(call, reader).1);
    let mut client = Client::new(Spoken::Stateless);
    let call = client.serve(0, "1");
    client.machine.drain(at(1), &mut client.wake);
    assert!(client.result(call).contains("about to end"));
}

#[test]
fn the_tool_says_what_is_wrong_with_its_arguments() {
    let asked = |params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let Ok(Message::Request { id, call }) = Message::read(&text) else {
            panic!("{text}")
        };
        in_session(id, &call)
    };
    assert_eq!(asked(r#"{"name":"serve"}"#), Asked::Serve(TIME));
    assert_eq!(
        asked(r#"{"name":"serve","arguments":{"seconds":3600}}"#),
        Asked::Serve(Duration::from_secs(3600))
    );
    for (params, why) in [
        (
            r#"{"name":"serve","arguments":{"seconds":"1"}}"#,
            r#"seconds: expected a whole number from 1 to 3600"}],"isError":true"#,
        ),
        (
            r#"{"name":"serve","arguments":{"seconds":3601}}"#,
            "isError",
        ),
        (
            r#"{"name":"serve","arguments":{"x":1}}"#,
            "x: there is no such argument",
        ),
        (r#"{"name":"other"}"#, r#""code":-32602"#),
        ("[]", r#""code":-32602"#),
    ] {
        let Asked::Answer(text) = asked(params) else {
            panic!("{params}")
        };
        assert!(text.contains(why), "{text}");
    }
}
