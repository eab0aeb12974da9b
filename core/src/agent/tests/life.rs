use super::*;

const REGISTER: &str = r#"{"type":"register","agent_id":"me","label":"Me \"too\"","requested_scopes":["inference"],"models":["my-model"],"max_concurrency":4,"capabilities":{"tools":false,"vision":false,"embeddings":false,"insert":false,"thinking":false}}"#;

#[test]
fn a_conversation_goes_as_the_golden_transcript_says() {
    let mut rig = Rig::new();
    assert_eq!(rig.agent.poll_timeout().unwrap().why, Timer::Dial);
    rig.due();
    assert_eq!(rig.take(), ["Dial"]);
    rig.agent.handle_connected(rig.now, &mut rig.out);
    assert_eq!(rig.take(), [REGISTER]);
    rig.frame(
        r#"{"type":"registered","session_id":"s-1","session_token":"st-1","status":"pending"}"#,
    );
    assert_eq!(
        rig.take(),
        ["session s-1 is pending; approve it on the provider's side: mcp-local-provider sessions"]
    );
    rig.frame(
        r#"{"type":"session_status","session_id":"s-1","status":"active","reason":"approved"}"#,
    );
    assert_eq!(rig.take(), ["session s-1 is active: approved"]);
    rig.frame(r#"{"type":"ping","timestamp":[1]}"#);
    assert_eq!(rig.take(), [r#"{"type":"pong","timestamp":[1]}"#]);
    rig.frame(r#"{"type":"model_invoke","id":"a","payload":{"messages":[{"role":"user","content":"Hi"}]}}"#);
    rig.frame(r#"{"type":"model_invoke","id":"a","payload":{}}"#);
    let Some(Action::Invoke(request)) = rig.out.pop_front() else {
        panic!("{:?}", rig.out);
    };
    assert!(rig.out.is_empty(), "a repeat begins nothing");
    let id = request.id().clone();
    let usage = Some(Usage {
        prompt_tokens: 3,
        completion_tokens: 4,
        estimated: false,
    });
    let pieces = [
        Piece::Reasoning("Hm"),
        Piece::Text("a \"b\"\n"),
        Piece::Text(""),
        Piece::ToolCall {
            index: 0,
            id: "c1",
            name: "weather",
            arguments: "",
        },
        Piece::Arguments {
            index: 0,
            arguments: "{\"x\":1}",
        },
    ];
    for piece in &pieces {
        rig.agent.write(&id, piece, &mut rig.out).unwrap();
    }
    let finish = Finish::ToolCalls;
    let end = End { finish, usage };
    rig.agent.finish(&id, end, &mut rig.out).unwrap();
    assert_eq!(rig.agent.finish(&id, end, &mut rig.out), Err(Cancelled));
    assert_eq!(
        rig.take(),
        [
            r#"{"type":"model_stream_chunk","id":"a","chunk_index":0,"delta":{"reasoning_content":"Hm"},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"a","chunk_index":1,"delta":{"content":"a \"b\"\n"},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"a","chunk_index":2,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"a","chunk_index":3,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]},"finish_reason":null}"#,
            r#"{"type":"model_stream_chunk","id":"a","chunk_index":4,"delta":{},"finish_reason":"tool_calls","usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        ]
    );
    rig.agent.stop(&mut rig.out);
    assert_eq!(
        rig.take(),
        [
            r#"{"type":"unregister","session_id":"s-1"}"#,
            "Close(1000)",
            "Asked"
        ]
    );
    assert_eq!(rig.agent.poll_timeout(), None);
}

#[test]
fn a_cancel_and_a_lost_connection_end_every_answer_at_once() {
    let mut rig = Rig::registered();
    for id in ["a", "b", "c"] {
        rig.frame(&alloc::format!(
            r#"{{"type":"model_invoke","id":"{id}","payload":{{}}}}"#
        ));
    }
    let Some(Action::Invoke(first)) = rig.out.pop_front() else {
        panic!();
    };
    rig.out.clear();
    rig.frame(r#"{"type":"model_cancel","id":"a","reason":"client_disconnected"}"#);
    rig.frame(r#"{"type":"model_cancel","id":"a","reason":"client_disconnected"}"#);
    assert_eq!(rig.take(), ["Cancel(a)"]);
    assert!(!rig.agent.is_open(first.id()));
    let late = rig.agent.write(first.id(), &Piece::Text("x"), &mut rig.out);
    assert_eq!(late, Err(Cancelled));
    rig.lost(Lost::Broken("reset".into()));
    let lines = rig.take();
    assert_eq!(lines[..2], ["Cancel(b)", "Cancel(c)"]);
    assert!(lines[2].starts_with("reset; trying again in "), "{lines:?}");
}

#[test]
fn a_session_is_resumed_and_given_up_when_its_token_is_refused() {
    let mut rig = Rig::registered();
    rig.lost(Lost::Closed(Some(1001)));
    rig.due();
    assert_eq!(rig.agent.session_token(), Some("st-1"));
    rig.agent.handle_connected(rig.now, &mut rig.out);
    assert!(rig.take().contains(&Event::Resumed.to_string()));
    rig.lost(Lost::Closed(None));
    rig.due();
    rig.take();
    rig.lost(Lost::Refused(403));
    assert_eq!(rig.take(), ["Dial"], "at once, with the agent's own token");
    assert_eq!(rig.agent.session_token(), None);
    rig.lost(Lost::Refused(403));
    assert_eq!(rig.take(), ["Refused { status: 403 }"]);
    assert_eq!(rig.agent.poll_timeout(), None);
}

#[test]
fn an_expired_session_is_registered_anew_and_a_revoked_one_is_not() {
    let mut rig = Rig::registered();
    rig.frame(r#"{"type":"session_status","session_id":"other","status":"revoked","reason":"x"}"#);
    rig.frame(r#"{"type":"session_status","session_id":"s-1","status":"expired","reason":"ttl"}"#);
    assert_eq!(rig.take()[2], REGISTER);
    rig.frame(r#"{"type":"error","error":{"code":"x","message":"too many"}}"#);
    let refused = Stopped::NotRegistered("too many".into());
    assert_eq!(rig.out.pop_back(), Some(Action::Stop(refused)));
    let mut rig = Rig::registered();
    rig.frame(r#"{"type":"session_status","session_id":"s-1","status":"revoked","reason":"x"}"#);
    assert_eq!(rig.out.pop_back(), Some(Action::Stop(Stopped::Revoked)));
}

#[test]
fn each_close_code_is_taken_as_the_protocol_says() {
    for (code, stopped) in [
        (Some(4001), Some(Stopped::Replaced)),
        (Some(4002), Some(Stopped::Faulty(4002))),
        (Some(1009), Some(Stopped::Faulty(1009))),
        (Some(1000), None),
        (Some(1008), None),
        (Some(4003), None),
        (Some(4004), None),
        (None, None),
    ] {
        let mut rig = Rig::registered();
        rig.lost(Lost::Closed(code));
        let ended = match rig.out.pop_back() {
            Some(Action::Stop(stopped)) => Some(stopped),
            _ => None,
        };
        assert_eq!(ended, stopped, "{code:?}");
        let keeps = stopped.is_none() && code != Some(1008);
        assert_eq!(rig.agent.session_token().is_some(), keeps, "{code:?}");
    }
}

#[test]
fn a_silent_provider_is_asked_and_then_given_up() {
    let mut rig = Rig::registered();
    let connected = rig.now;
    rig.due();
    assert_eq!(rig.take(), ["Ping"]);
    assert_eq!(rig.now.since(connected), Duration::from_secs(30));
    rig.agent.handle_alive(rig.now);
    rig.due();
    rig.due();
    assert_eq!(rig.take()[..2], ["Ping", "Close(4003)"]);
    assert_eq!(rig.now.since(connected), Duration::from_secs(70));
    rig.due();
    assert_eq!(rig.take(), ["Dial"]);
    rig.due();
    assert_eq!(rig.take()[0], "Close(4003)", "a dial has its time");
}

#[test]
fn pauses_stay_within_their_bound_and_are_short_again_after_a_hello() {
    let mut rig = Rig::new();
    let mut bound = Duration::from_secs(1);
    rig.due();
    for _ in 0..10 {
        rig.lost(Lost::Refused(503));
        let pause = rig.agent.poll_timeout().unwrap().at.since(rig.now);
        assert!(pause <= bound, "{pause:?} {bound:?}");
        bound = (bound * 2).min(Duration::from_secs(60));
        rig.due();
    }
    rig.agent.handle_connected(rig.now, &mut rig.out);
    rig.frame(r#"{"type":"registered","session_id":"s","status":"active"}"#);
    rig.lost(Lost::Closed(None));
    let pause = rig.agent.poll_timeout().unwrap().at.since(rig.now);
    assert!(pause <= Duration::from_secs(1));
}

#[test]
fn frames_that_are_none_are_told_and_those_of_later_versions_ignored() {
    let mut rig = Rig::registered();
    for frame in [
        "",
        "{",
        "[1]",
        r#"{"id":"x"}"#,
        r#"{"type":"model_invoke"}"#,
    ] {
        rig.frame(frame);
        let told = rig.take();
        assert_eq!(told.len(), 1, "{frame}");
        assert!(told[0].starts_with("the provider sent "), "{told:?}");
    }
    rig.frame(r#"{"type":"something_new","id":7}"#);
    rig.frame(r#"{"type":"pong"}"#);
    assert!(rig.out.is_empty());
}

proptest! {
    /// Whatever happens in whatever order: it never panics, debug builds hold it to its table, and who is stopped is silent.
    #[test]
    fn every_order_of_events_is_legal(events in proptest::collection::vec(0_u8..16, 0..60)) {
        let mut rig = Rig::new();
        let mut stopped = false;
        for event in events {
            rig.now = rig.now + Duration::from_millis(700 * u64::from(event));
            match event {
                0..=3 => rig.agent.handle_timeout(rig.now, &mut rig.out),
                4 | 5 => rig.agent.handle_connected(rig.now, &mut rig.out),
                6 => rig.lost(Lost::Closed(Some(1008))),
                7 => rig.lost(Lost::Refused(403)),
                8 => rig.frame(r#"{"type":"registered","session_id":"s","session_token":"t","status":"active"}"#),
                9 => rig.frame(r#"{"type":"session_status","session_id":"s","status":"expired"}"#),
                10 => rig.frame(r#"{"type":"model_invoke","id":"a","model":"m"}"#),
                11 => rig.frame(r#"{"type":"model_cancel","id":"a"}"#),
                12 => rig.lost(Lost::Broken("x".into())),
                13 => rig.frame(r#"{"type":"error","error":{}}"#),
                14 => rig.agent.handle_alive(rig.now),
                _ => rig.agent.stop(&mut rig.out),
            }
            prop_assert!(!stopped || rig.out.is_empty());
            stopped |= rig.out.drain(..).any(|action| matches!(action, Action::Stop(_)));
            if stopped {
                prop_assert_eq!(rig.agent.poll_timeout(), None);
            }
        }
    }
}
