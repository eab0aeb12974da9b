//! Both dialects, every message, every error code.

use super::*;
use crate::budget::Budget;
use crate::scope::Scope;
use crate::supports::{Capabilities, Supports};

fn decode(frame: &str) -> FromAgent<'_> {
    websocket::decode(frame, 1 << 20).expect(frame)
}

/// The deliveries that one exchange gets from frames in which `ID` stands for its id.
fn answered(frames: &[&str]) -> String {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    for frame in frames {
        rig.agent(&frame.replace("ID", &id.to_string()));
    }
    assert_eq!(rig.link.counters().faults, 0, "{frames:?}");
    rig.client(client)
}

#[test]
fn both_dialects_mean_the_same() {
    let streamed = "empty Hel lo end(stop)";
    assert_eq!(
        answered(&[
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":0,"delta":{"role":"assistant"},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":1,"delta":{"content":"Hel"},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":2,"delta":{"content":"lo"},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":3,"delta":{},"finish_reason":"stop"}"#,
        ]),
        streamed
    );
    assert_eq!(
        answered(&[
            r#"{"type":"model_stream_chunk","id":"ID","chunk":{"delta":{"role":"assistant"},"finish_reason":null},"finished":false}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk":{"delta":{"content":"Hel"},"finish_reason":null},"finished":false}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk":{"delta":{"content":"lo"},"finish_reason":null},"finished":false}"#,
            r#"{"type":"model_stream_chunk","id":"ID","chunk":{"delta":{},"finish_reason":null},"finished":true}"#,
        ]),
        streamed
    );
    let whole = "Hello+call:0:c1:f:{} end(tool_calls,9+1)";
    assert_eq!(
        answered(&[
            r#"{"type":"model_result","id":"ID","status":"ok","result":{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}}"#
        ]),
        whole
    );
    assert_eq!(
        answered(&[
            r#"{"type":"model_result","id":"ID","choices":[{"message":{"content":"Hello","tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{}"}}]}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#
        ]),
        whole
    );
    assert_eq!(
        answered(&[r#"{"type":"error","id":"ID","error":{"code":"internal","message":"no"}}"#]),
        answered(&[r#"{"type":"error","id":"ID","error":"no"}"#]),
    );
}

#[test]
fn an_embedding_is_one_delivery_for_each_vector() {
    assert_eq!(
        answered(&[
            "{\"type\":\"model_result\",\"id\":\"ID\",\"status\":\"ok\",\"result\":{\"embeddings\":[[0.25,-5e-1, 1],[\n],[ 7 ]],\"usage\":{\"prompt_tokens\":4}}}"
        ]),
        "vector[0.25,-5e-1,1] vector[] vector[7] end(stop,4+0)"
    );
}

#[test]
fn every_error_code_of_an_agent_has_its_own() {
    for (code, expected) in [
        ("rate_limited", Code::RateLimited),
        ("overloaded", Code::Overloaded),
        ("context_length", Code::ContextLength),
        ("invalid_request", Code::InvalidRequest),
        ("refused", Code::AgentRefused),
        ("timeout", Code::AgentTimeout),
        ("internal", Code::AgentError),
        ("anything", Code::AgentError),
    ] {
        let expected = format!("failed({expected:?})");
        let error = format!("{{\"code\":\"{code}\",\"message\":\"m\"}}");
        for frame in [
            format!("{{\"type\":\"error\",\"id\":\"ID\",\"error\":{error}}}"),
            format!(
                "{{\"type\":\"model_result\",\"id\":\"ID\",\"status\":\"error\",\"error\":{error}}}"
            ),
            format!(
                "{{\"type\":\"model_stream_chunk\",\"id\":\"ID\",\"finish_reason\":\"error\",\"error\":{error}}}"
            ),
        ] {
            assert_eq!(answered(&[&frame]), expected, "{frame}");
        }
    }
    assert_eq!(
        answered(&[r#"{"type":"model_result","id":"ID","status":"timeout"}"#]),
        "failed(AgentTimeout)"
    );
    assert_eq!(
        answered(&[
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":0,"delta":{"content":"a"},"finish_reason":"error"}"#
        ]),
        "a failed(AgentError)"
    );
}

#[test]
fn what_an_agent_says_of_a_failure_is_passed_on_within_bounds() {
    let long = "é".repeat(4000);
    for (error, message, retry) in [
        (
            r#"{"message":"try \"later\"","retry_after":3}"#.to_string(),
            "try \"later\"",
            Some(3.0),
        ),
        (
            r#"{"message":"m","retry_after":0.5}"#.to_string(),
            "m",
            Some(0.5),
        ),
        (
            r#"{"message":"m","retry_after":1e300}"#.to_string(),
            "m",
            Some(86_400.0),
        ),
        (
            r#"{"message":"m","retry_after":null}"#.to_string(),
            "m",
            None,
        ),
        (
            "{}".to_string(),
            "the agent reported an error without a message",
            None,
        ),
        ("\"bare \\ud83d\"".to_string(), "bare \u{fffd}", None),
        (format!("\"{long}\""), &long[..4096], None),
    ] {
        let frame = format!("{{\"type\":\"error\",\"error\":{error}}}");
        let FromAgent::Error { id: None, failure } = decode(&frame) else {
            panic!("{frame}");
        };
        assert_eq!(failure.message, message);
        assert_eq!(failure.retry_after.map(|wait| wait.as_secs_f64()), retry);
    }
}

#[test]
fn an_agent_asks_for_a_session_and_gives_it_back() {
    let mut rig = Rig::new();
    rig.agent(r#"{"type":"register","agent_id":"cursor-1","label":"Cursor \u00e9","requested_scopes":["inference"],"ttl_seconds":300,"models":["cursor-agent","b"],"max_concurrency":4,"invocations":"flat","capabilities":{"tools":true,"vision":false,"embeddings":null},"other":[1]}"#);
    rig.agent(r#"{"type":"register","agent_id":"x","label":null,"models":null}"#);
    rig.agent(r#"{"type":"unregister","session_id":"s-1"}"#);
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    assert_eq!(
        rig.out.notices,
        [
            Notice::Register(Registration {
                agent_id: "cursor-1".into(),
                label: Some("Cursor é".into()),
                ttl_seconds: Some(300),
                models: texts(&["cursor-agent", "b"]),
                max_concurrency: Some(4),
                max_requests: None,
                form: Some(crate::invocation::InvokeForm::Flat),
                supports: Supports::declared(
                    Scope::Inference.into(),
                    Capabilities {
                        tools: true,
                        ..Capabilities::default()
                    },
                ),
            }),
            Notice::Register(Registration {
                agent_id: "x".into(),
                ..Registration::default()
            }),
            Notice::Unregister(SessionId::new("s-1").unwrap()),
        ]
    );
    assert_eq!(rig.sent(), "");
    rig.agent(r#"{"type":"unregister","session_id":"no such form"}"#);
    assert_eq!(rig.sent(), "error(session_not_found)");
}

#[test]
fn an_application_ping_gets_its_timestamp_back() {
    let mut rig = Rig::new();
    for (ping, pong) in [
        (
            r#""timestamp":"2026-01-01T00:00:00Z""#,
            r#""2026-01-01T00:00:00Z""#,
        ),
        (r#""timestamp": 17.5 "#, "17.5"),
        (r#""other":1"#, r#""2026-01-01T00:00:00.000000Z""#),
    ] {
        rig.agent(&format!("{{\"type\":\"ping\",{ping}}}"));
        assert_eq!(
            rig.frame(),
            format!("{{\"type\":\"pong\",\"timestamp\":{pong}}}")
        );
    }
    rig.agent(&format!(
        "{{\"type\":\"ping\",\"timestamp\":\"{}\"}}",
        "x".repeat(100)
    ));
    assert!(
        rig.frame().contains("2026-01-01T"),
        "a long one is not sent back"
    );
    rig.agent(r#"{"type":"pong","timestamp":1}"#);
    assert_eq!(rig.sent(), "");
}

#[test]
fn escapes_in_names_types_and_ids_are_read() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    let escaped = id.to_string().replacen('6', "\\u0036", 1);
    rig.agent(&format!(
        r#"{{"\u0074ype":"model\u005fstream_chunk","id":"{escaped}","delta":{{"content":"a\ud83d"}}}}"#
    ));
    assert_eq!(rig.client(client), r"a\ud83d");
}

#[test]
fn what_was_taken_counts_until_more_is_taken_though_something_always_waits() {
    const PROMPT: usize = 100_000;
    let mut rig = Rig::new();
    let budget = Budget::new(usize::MAX);
    rig.out = LinkOut::sharing(budget.share());
    let prompt = format!("\"{}\"", "x".repeat(PROMPT));
    let prompt: JsonStr<'_> = serde_json::from_str(&prompt).unwrap();
    rig.open_with("s-1", 1 << 20, prompt);
    for _ in 0..5 {
        // The writer takes all there is, and is never without anything to write.
        assert_eq!(rig.frames().len(), 1);
        rig.open_with("s-1", 1 << 20, prompt);
        let taken = budget.taken();
        assert!((2 * PROMPT..3 * PROMPT).contains(&taken), "{taken}");
    }
    assert_eq!(rig.frames().len(), 1);
    rig.out.written();
    assert_eq!(budget.taken(), 0);
}
