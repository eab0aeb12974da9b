//! Faults of an agent, and the exchanges that they fail.

use super::*;

/// Each wrong message fails the exchange that it is about, says where it is wrong, and hurts nobody else.
#[test]
fn a_wrong_field_is_named_and_fails_only_its_exchange() {
    for (frame, what) in [
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"content":5}}"#,
            "delta.content: invalid type: number, expected a string",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"content":{"secret":1}}}"#,
            "delta.content: invalid type: map, expected a string",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":"secret"}"#,
            "delta: invalid type: string, expected an object",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":["secret"]}"#,
            "delta: invalid type: array, expected an object",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":"secret"}"#,
            "chunk_index: invalid type: string, expected a whole number of at least 0",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","chunk_index":-1}"#,
            "chunk_index: invalid type: number, expected a whole number of at least 0",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","finish_reason":"secret"}"#,
            "finish_reason: unknown value, expected null or one of stop, length, tool_calls, content_filter, error",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"tool_calls":[{"index":0},{"function":{"arguments":{}}}]}}"#,
            "delta.tool_calls[1].function.arguments: invalid type: map, expected a string",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"tool_calls":{}}}"#,
            "delta.tool_calls: invalid type: object, expected an array",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","chunk":{"delta":{"content":false}}}"#,
            "chunk.delta.content: invalid type: boolean, expected a string",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"content":"a","content":"b"}}"#,
            "delta: duplicate field `content`",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","usage":{"prompt_tokens":1.5}}"#,
            "usage.prompt_tokens: invalid type: number, expected a whole number of at least 0",
        ),
        (
            r#"{"type":"model_result","id":"ID","status":"secret"}"#,
            "status: unknown value, expected one of ok, error, timeout",
        ),
        (
            r#"{"type":"model_result","id":"ID","status":"ok"}"#,
            "result: missing field",
        ),
        (
            r#"{"type":"model_result","id":"ID","result":{}}"#,
            "result: neither choices nor embeddings",
        ),
        (
            r#"{"type":"model_result","id":"ID","result":{"choices":[]}}"#,
            "result.choices: empty, expected one choice",
        ),
        (
            r#"{"type":"model_result","id":"ID","result":{"embeddings":[[1],[1,"secret"]]}}"#,
            "result.embeddings[1]: invalid type: sequence, expected an array of numbers",
        ),
        (
            r#"{"type":"error","id":"ID","error":{"code":5}}"#,
            "error: code: invalid type: number, expected a string",
        ),
        (
            r#"{"type":"error","id":"ID","error":7}"#,
            "error: invalid type: number, expected an object or a string",
        ),
        (r#"{"id":"ID","delta":{}}"#, "type: missing field"),
        (
            r#"{"type":5,"id":"ID"}"#,
            "type: invalid type: number, expected a string",
        ),
        (
            r#"{"type":"model_stream_chunk","id":"ID","delta":{"content":"sec"#,
            "EOF while parsing a string at line 1 column 80",
        ),
        (
            "{\"type\":\"model_stream_chunk\",\"id\":\"ID\",\"delta\":{\"content\":\"a\u{7}\"}}",
            "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 78",
        ),
    ] {
        let mut rig = Rig::new();
        let (client, id) = rig.open();
        let (other, other_id) = rig.open();
        rig.text(other_id, 0, "a");
        rig.sent();
        rig.agent(&frame.replace("ID", &id.to_string()));
        assert_eq!(rig.client(client), "failed(AgentFault)", "{frame}");
        let frames = rig.frames();
        let [Some(cancel), Some(error)] = &frames[..] else {
            panic!("{frame}: {frames:?}");
        };
        assert_eq!(
            **cancel,
            format!("{{\"type\":\"model_cancel\",\"id\":\"{id}\",\"reason\":\"protocol\"}}")
        );
        let error: Value = serde_json::from_str(error).unwrap();
        assert_eq!(
            error["error"]["message"],
            format!("malformed message: {what}")
        );
        assert_eq!(error["error"]["code"], "protocol");
        assert_eq!(error["id"], id.to_string());
        assert_eq!(rig.link.counters().faults, 1);
        rig.text(id, 0, "late");
        rig.text(other_id, 1, "b");
        assert_eq!(rig.client(client), "");
        assert_eq!(rig.client(other), "a b");
        assert_eq!(rig.sent(), "");
    }
}

#[test]
fn a_message_that_names_no_exchange_is_answered_and_hurts_none() {
    for frame in [
        "",
        "nonsense",
        "[]",
        "\"secret\"",
        "5",
        "{}",
        "{\"type\":\"model_stream_chunk\"}",
        "{\"type\":\"model_stream_chunk\",\"id\":5}",
        "{\"type\":\"register\"}",
        "{\"type\":\"register\",\"agent_id\":\"a\",\"models\":[5]}",
        "{\"type\":\"register\",\"agent_id\":\"a\",\"ttl_seconds\":\"secret\"}",
        "{\"type\":\"unregister\"}",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
    ] {
        let mut rig = Rig::new();
        let (client, id) = rig.open();
        rig.sent();
        rig.agent(frame);
        let answer = rig.frame();
        assert!(
            answer.contains("\"code\":\"protocol\""),
            "{frame}: {answer}"
        );
        assert!(!answer.contains("secret"), "{answer}");
        rig.text(id, 0, "a");
        assert_eq!(rig.client(client), "a");
        assert_eq!(rig.link.counters().faults, 1);
    }
    let mut rig = Rig::new();
    rig.fault(AgentFault::Binary);
    assert_eq!(rig.sent(), "error(protocol)");
}

#[test]
fn an_id_that_was_never_issued_is_answered_with_itself() {
    let mut rig = Rig::new();
    let answer = |id: &str| {
        format!(
            "{{\"type\":\"error\",{id}\"error\":{{\"code\":\"protocol\",\"message\":\"no invocation with this id was issued on this connection\"}}}}"
        )
    };
    let elsewhere = Ids::new(7).next().to_string();
    let long = "x".repeat(200);
    for (id, echoed) in [
        ("never-issued", "\"id\":\"never-issued\","),
        (&*elsewhere, &format!("\"id\":\"{elsewhere}\",")),
        ("a\\\"b", "\"id\":\"a\\\"b\","),
        (&long, ""),
    ] {
        for frame in [
            format!("{{\"type\":\"model_stream_chunk\",\"id\":\"{id}\",\"chunk_index\":0}}"),
            format!("{{\"type\":\"error\",\"id\":\"{id}\",\"error\":\"x\"}}"),
            format!("{{\"type\":\"model_result\",\"id\":\"{id}\",\"status\":\"timeout\"}}"),
        ] {
            rig.agent(&frame);
            assert_eq!(rig.frame(), answer(echoed));
        }
    }
    assert_eq!(rig.link.counters().unknown_ids, 12);
}

#[test]
fn sixteen_faults_in_a_minute_close_the_link_and_slower_ones_do_not() {
    let mut rig = Rig::new();
    for _ in 0..40 {
        rig.agent("{\"type\":\"model_result\",\"id\":\"x\",\"status\":\"timeout\"}");
        rig.live(5);
    }
    assert_eq!(rig.out.close, None);
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.text(id, 0, "a");
    for count in 1..=16 {
        assert_eq!(rig.out.close, None, "{count}");
        rig.agent("{\"type\":\"model_result\",\"id\":\"x\",\"status\":\"timeout\"}");
    }
    assert_eq!(rig.out.close, Some(CloseCode::Protocol));
    assert_eq!(rig.client(client), "a failed(AgentLost)");
    rig.text(id, 1, "b");
    rig.disconnect();
    assert_eq!(rig.client(client), "");
    assert_eq!(rig.link.poll_timeout(), None);
}

#[test]
fn a_frame_over_the_limit_closes_the_link() {
    let mut rig = Rig::with(&LinkConfig {
        frame_bytes: 200,
        ..LinkConfig::default()
    });
    let (client, id) = rig.open();
    rig.text(id, 0, "x");
    rig.agent(&"x".repeat(201));
    assert_eq!(rig.out.close, Some(CloseCode::TooLarge));
    assert_eq!(rig.client(client), "x failed(AgentLost)");
}

#[test]
fn a_frame_over_the_limit_that_names_its_exchange_costs_only_that() {
    let mut rig = Rig::with(&LinkConfig {
        frame_bytes: 200,
        ..LinkConfig::default()
    });
    let (one, first) = rig.open();
    let (other, second) = rig.open();
    rig.text(first, 0, "x");
    rig.text(first, 1, &"x".repeat(200));
    rig.text(second, 0, "y");
    assert_eq!(rig.out.close, None);
    assert_eq!(rig.client(one), "x failed(AgentFault)");
    assert_eq!(rig.client(other), "y");
}

#[test]
fn an_unknown_type_is_answered_and_the_link_stays() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.sent();
    for _ in 0..100 {
        rig.agent(&format!(
            "{{\"type\":\"model_thought\",\"id\":\"{id}\",\"delta\":5}}"
        ));
    }
    assert_eq!(rig.frames().len(), 100);
    rig.agent("{\"type\":\"hello\"}");
    assert_eq!(rig.sent(), "error(unknown_type)");
    assert_eq!(rig.link.counters().unknown_types, 101);
    assert_eq!(rig.link.counters().faults, 0);
    assert_eq!(rig.out.close, None);
    rig.text(id, 0, "a");
    assert_eq!(rig.client(client), "a");
}
