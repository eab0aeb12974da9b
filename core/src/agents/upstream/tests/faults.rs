//! What goes wrong with a server: one clear error each, before the first step or after it, and bounded memory.

use super::*;
use alloc::format;

const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// A body, and what is said of it: true when it comes after the first step.
type Case = (Api, &'static str, &'static str, (bool, Code, &'static str));

#[test]
fn a_broken_answer_is_one_clear_error() {
    let early = "the answer ended before it was complete";
    let not_json = "the answer is not the JSON of its API";
    let cases: &[Case] = &[
        // Nothing, half a chunk, an end without its mark.
        (Api::OpenAi, EVENTS, "", (false, Code::AgentFault, early)),
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"choices\":[{\"de",
            (false, Code::AgentFault, early),
        ),
        (
            Api::OpenAi,
            EVENTS,
            "data: [DONE]\n\n",
            (false, Code::AgentFault, "the answer says nothing"),
        ),
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
            (true, Code::AgentFault, early),
        ),
        (
            Api::Ollama,
            LINES,
            "{\"message\":{\"content\":\"a\"},\"done\":false}\n",
            (true, Code::AgentFault, early),
        ),
        (
            Api::Ollama,
            LINES,
            "{\"message\":{\"content\":\"a\"},\"done\":false}\n{\"mess",
            (true, Code::AgentFault, not_json),
        ),
        (
            Api::Ollama,
            JSON,
            "{\"message\":{\"content\":\"\"},\"done\":false}",
            (
                false,
                Code::AgentFault,
                "the answer is not complete (no done)",
            ),
        ),
        (
            Api::Anthropic,
            EVENTS,
            "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n",
            (true, Code::AgentFault, early),
        ),
        // Damage.
        (
            Api::OpenAi,
            EVENTS,
            "data: garbage\n\n",
            (false, Code::AgentFault, not_json),
        ),
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{]}\n\n",
            (true, Code::AgentFault, not_json),
        ),
        (
            Api::OpenAi,
            JSON,
            "{}",
            (false, Code::AgentFault, "the answer has no choices"),
        ),
        (Api::OpenAi, JSON, "[]", (false, Code::AgentFault, not_json)),
        (
            Api::OpenAi,
            JSON,
            "<html>",
            (false, Code::AgentFault, not_json),
        ),
        (
            Api::Anthropic,
            EVENTS,
            "data: []\n\n",
            (false, Code::AgentFault, not_json),
        ),
        (
            Api::Anthropic,
            JSON,
            "{}",
            (false, Code::AgentFault, "the answer has no content"),
        ),
        (
            Api::Ollama,
            LINES,
            "\u{1}\n",
            (false, Code::AgentFault, not_json),
        ),
        // Errors within the answer.
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"error\":{\"message\":\"no room\",\"type\":\"server_error\",\"code\":null}}\n\n",
            (false, Code::AgentError, "no room"),
        ),
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"slow down\",\"code\":429},\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
            (true, Code::RateLimited, "slow down"),
        ),
        (
            Api::OpenAi,
            JSON,
            "{\"error\":{\"message\":\"too much\",\"code\":\"context_length_exceeded\"}}",
            (false, Code::ContextLength, "too much"),
        ),
        (
            Api::OpenAi,
            EVENTS,
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
            (
                false,
                Code::AgentError,
                "the server broke off the answer (finish_reason error)",
            ),
        ),
        (
            Api::Ollama,
            LINES,
            "{\"message\":{\"content\":\"a\"},\"done\":false}\n{\"error\":\"out of memory\"}\n",
            (true, Code::AgentError, "out of memory"),
        ),
        (
            Api::Anthropic,
            EVENTS,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            (false, Code::Overloaded, "Overloaded"),
        ),
        (
            Api::Anthropic,
            EVENTS,
            "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"a\"}}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"\"}}\n\n",
            (true, Code::AgentError, "the server reports an error"),
        ),
    ];
    for (api, content_type, body, expected) in cases {
        let outcome = answer(*api, content_type, body);
        assert_eq!(outcome.failed(), *expected, "{body}");
        assert!(outcome.trouble.iter().all(|it| it.status == Some(200)));
        // Whatever the pieces are in which it comes.
        let mut reading = Reading::new(*api, &chat(true), limit());
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        let cut = read(&mut reading, &head(200, Some(content_type)), &pieces, None);
        assert_eq!(cut, outcome, "{body}");
    }
}

#[test]
fn what_follows_an_end_is_passed_over() {
    let body = format!(
        "{FIRST}data: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n{FIRST}data: {{\"error\":\"x\"}}\n\n"
    );
    let outcome = answer(Api::OpenAi, EVENTS, &body);
    assert_eq!(outcome.content(), "a");
    assert_eq!(outcome.end().finish, crate::invocation::Finish::Stop);
}

#[test]
fn a_head_that_cannot_be_read_is_one_clear_error() {
    let cases = [
        (
            head(301, None),
            None,
            "status 301, where 200 is expected; no redirect is followed",
        ),
        (
            head(200, Some("text/html; charset=utf-8")),
            None,
            "the answer is of type text/html, not JSON; is the address right?",
        ),
        (
            head(200, Some(JSON)),
            Some("gzip"),
            "the answer is encoded (gzip), which was not asked for",
        ),
    ];
    for (mut head, content_encoding, message) in cases {
        head.content_encoding = content_encoding;
        let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
        let outcome = read(&mut reading, &head, &[b"<html>"], None);
        assert_eq!(outcome.failed(), (false, Code::AgentFault, message));
        assert!(!outcome.trouble[0].is_transient());
    }
    let mut plain = head(200, None);
    plain.content_encoding = Some("identity");
    let mut reading = Reading::new(Api::OpenAi, &chat(false), limit());
    let body = br#"{"choices":[{"message":{"content":"a"}}]}"#;
    assert_eq!(read(&mut reading, &plain, &[body], None).content(), "a");
}

/// A status with its body, and what becomes of it: the code, the message, whether another attempt may help, whether the server is out.
type Refused = (u16, &'static str, Code, &'static str, bool, bool);

#[test]
fn an_error_status_says_whose_fault_it_is() {
    let cases: &[Refused] = &[
        (
            400,
            r#"{"error":{"message":"bad tool","type":"invalid_request_error","param":"tools[0]","code":null}}"#,
            Code::InvalidRequest,
            "up: status 400: bad tool",
            false,
            false,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
            Code::ContextLength,
            "up: status 400: prompt is too long: 9 tokens > 8 maximum",
            false,
            false,
        ),
        (
            413,
            "too large",
            Code::TooLarge,
            "up: status 413: too large",
            false,
            false,
        ),
        (
            422,
            r#"{"detail":"extra field"}"#,
            Code::InvalidRequest,
            "up: status 422: extra field",
            false,
            false,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key"}}"#,
            Code::AgentError,
            "up refuses its key: status 401: Incorrect API key",
            false,
            false,
        ),
        (
            403,
            "",
            Code::AgentError,
            "up refuses its key: status 403",
            false,
            false,
        ),
        (
            404,
            r#"{"error":"model \"m\" not found"}"#,
            Code::ModelNotFound,
            "up: status 404: model \"m\" not found",
            false,
            false,
        ),
        (
            429,
            r#"{"message":"slow"}"#,
            Code::RateLimited,
            "up: status 429: slow",
            true,
            false,
        ),
        (
            500,
            "<html>an error</html>",
            Code::AgentError,
            "up: status 500",
            true,
            true,
        ),
        (
            502,
            r#"["a"]"#,
            Code::AgentError,
            "up: status 502",
            true,
            true,
        ),
        (503, "", Code::Overloaded, "up: status 503", true, true),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Code::Overloaded,
            "up: status 529: Overloaded",
            true,
            true,
        ),
    ];
    for (status, body, code, message, transient, outage) in cases {
        let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
        let mut head = head(*status, Some("text/html"));
        head.retry_after = Some("7");
        let outcome = read(&mut reading, &head, &[body.as_bytes()], None);
        let [trouble] = &*outcome.trouble else {
            panic!("{outcome:?}")
        };
        let refusal = trouble.refusal("up");
        assert_eq!(refusal.code(), *code, "{body}");
        assert_eq!(refusal.message(), format!("upstream {message}"));
        assert_eq!(refusal.retry_after_seconds(), Some(7));
        assert_eq!(trouble.status, Some(*status));
        assert_eq!(
            (trouble.is_transient(), trouble.is_outage()),
            (*transient, *outage),
            "{status}"
        );
        assert_eq!(trouble.failure("up").message, refusal.message());
        assert_eq!(
            refusal.param(),
            (*status == 400)
                .then_some("tools[0]")
                .filter(|_| body.contains("param"))
        );
    }
}

#[test]
fn a_date_to_retry_after_does_not_count_and_a_long_wait_is_cut() {
    for (text, seconds) in [
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("0", Some(1)),
        ("99999999999", Some(24 * 60 * 60)),
    ] {
        let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
        let mut head = head(429, None);
        head.retry_after = Some(text);
        let outcome = read(&mut reading, &head, &[], None);
        assert_eq!(
            outcome.trouble[0].refusal("up").retry_after_seconds(),
            seconds
        );
    }
}

#[test]
fn a_lost_connection_is_a_failure_unless_all_has_come() {
    let lost = || Trouble::new(Fault::Connection, "the connection was reset");
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    let events = head(200, Some(EVENTS));
    let outcome = read(&mut reading, &events, &[], Some(lost()));
    assert_eq!(
        outcome.failed(),
        (false, Code::AgentLost, "the connection was reset")
    );
    assert!(outcome.trouble[0].is_outage());
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    let outcome = read(&mut reading, &events, &[FIRST.as_bytes()], Some(lost()));
    assert_eq!(
        outcome.failed(),
        (true, Code::AgentLost, "the connection was reset")
    );
    // A role alone is nothing that a client has seen.
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    let role = b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let outcome = read(&mut reading, &events, &[role], Some(lost()));
    assert!(!outcome.failed().0);
    // Before the head, a failure too.
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    assert!(reading.lost(lost(), &mut |_| {}).is_err());
    // An error status says more than the loss.
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    let outcome = read(&mut reading, &head(401, None), &[b"no"], Some(lost()));
    assert_eq!(outcome.trouble[0].fault, Fault::Key);
    let mut reading = Reading::new(Api::OpenAi, &chat(true), limit());
    let end = format!("{FIRST}data: [DONE]\n\n");
    let outcome = read(&mut reading, &events, &[end.as_bytes()], Some(lost()));
    assert_eq!(outcome.end().finish, crate::invocation::Finish::Stop);
}

#[test]
fn an_answer_without_a_line_end_is_given_up_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let piece = [b'x'; 64 << 10];
    // A gibibyte, in pieces of 64 KiB.
    let pieces: Vec<&[u8]> = (0..16 << 10).map(|_| &piece[..]).collect();
    for (api, content_type, status) in [
        (Api::OpenAi, EVENTS, 200),
        (Api::Anthropic, JSON, 200),
        (Api::Ollama, LINES, 200),
        (Api::Ollama, LINES, 500),
    ] {
        let mut reading = Reading::new(api, &chat(true), LIMIT);
        let outcome = read(
            &mut reading,
            &head(status, Some(content_type)),
            &pieces,
            None,
        );
        let (begun, _, message) = outcome.failed();
        assert!(!begun);
        match status {
            200 => assert_eq!(message, "a part of the answer is longer than 1048576 bytes"),
            _ => assert!(message.len() <= Trouble::MESSAGE),
        }
        assert!(outcome.held <= 2 * LIMIT, "{} bytes", outcome.held);
    }
}

#[test]
fn a_message_is_cut_between_two_characters() {
    let trouble = Trouble::new(Fault::Server, "\u{e9}".repeat(2000));
    assert_eq!(trouble.message.len(), Trouble::MESSAGE);
    let trouble = Trouble::new(Fault::Server, format!("a{}", "\u{e9}".repeat(2000)));
    assert_eq!(trouble.message.len(), Trouble::MESSAGE - 1);
}
