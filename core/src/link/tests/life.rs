//! Heartbeat, budgets, tombstones, and what the hub asks.

use super::*;

#[test]
fn a_silent_agent_is_dropped_ten_seconds_after_a_ping() {
    let mut rig = Rig::new();
    let (client, _) = rig.open();
    rig.sent();
    rig.wait(29);
    assert_eq!(rig.sent(), "");
    rig.wait(1);
    assert_eq!(rig.sent(), "PING");
    rig.wait(9);
    rig.link.handle_alive(rig.now);
    rig.wait(20);
    assert_eq!(rig.out.close, None);
    rig.wait(1);
    assert_eq!(rig.sent(), "PING");
    rig.agent("{\"type\":\"pong\"}");
    rig.wait(30);
    assert_eq!(rig.sent(), "PING");
    rig.wait(10);
    assert_eq!(rig.out.close, Some(CloseCode::NoSignOfLife));
    assert_eq!(rig.client(client), "failed(AgentLost)");
    assert_eq!(rig.link.poll_timeout(), None);
}

#[test]
fn a_call_that_comes_early_changes_nothing_and_time_never_goes_back() {
    let mut rig = Rig::new();
    let before = rig.link.poll_timeout();
    rig.link
        .handle_timeout(Instant::from_micros(5), &mut rig.out, &mut rig.clients);
    assert_eq!(rig.link.poll_timeout(), before);
    assert_eq!(rig.sent(), "");
    rig.link.handle_timeout(
        Instant::from_micros(u64::MAX),
        &mut rig.out,
        &mut rig.clients,
    );
    rig.link
        .handle_timeout(Instant::ZERO, &mut rig.out, &mut rig.clients);
}

#[test]
fn an_agent_that_does_not_read_is_closed_and_its_exchanges_fail() {
    let mut rig = Rig::with(&LinkConfig {
        queue_bytes: 1000,
        ..LinkConfig::default()
    });
    let (first, id) = rig.open();
    let mut opened = 1;
    let refused = loop {
        let next = rig.ids.next();
        let permit = permit("s-1");
        rig.clients.mailboxes.push(Mailbox::new(1000));
        match rig
            .link
            .open(rig.now, invoke(next, &permit), opened, &mut rig.out)
        {
            Ok(()) => opened += 1,
            Err((Unopened::Closed, to)) => break to,
            Err((Unopened::SessionEnded, _)) => panic!("it has not ended"),
        }
    };
    assert_eq!(opened, 16, "each of them costs 64 bytes of 1000");
    assert_eq!(refused, 16);
    assert_eq!(rig.out.close, Some(CloseCode::NotReading));
    rig.cancel(id, CancelReason::ClientDisconnected);
    rig.disconnect();
    rig.disconnect();
    assert_eq!(rig.client(first), "", "nobody waits for what was cancelled");
    for client in 1..opened {
        assert_eq!(rig.client(client), "failed(AgentLost)");
    }
    assert_eq!(rig.client(refused), "");

    let mut rig = Rig::with(&LinkConfig {
        queue_bytes: 1000,
        ..LinkConfig::default()
    });
    for _ in 0..100 {
        rig.agent("{\"type\":\"ping\"}");
    }
    assert_eq!(rig.out.close, Some(CloseCode::NotReading));
    assert!(rig.out.queued_bytes <= 1000 + 100);
}

#[test]
fn a_client_that_does_not_read_costs_only_its_own_exchange() {
    let mut rig = Rig::new();
    let (slow, slow_id) = rig.open_for("s-1", 200);
    let (quick, quick_id) = rig.open();
    rig.sent();
    for index in 0..10 {
        rig.text(slow_id, index, "x");
        rig.text(quick_id, index, "y");
    }
    assert_eq!(rig.client(slow), "x x x x failed(SlowClient)");
    assert_eq!(rig.sent(), "model_cancel(budget_overrun)");
    rig.last(quick_id, 10);
    assert_eq!(rig.client(quick), "y y y y y y y y y y end(stop)");
    assert_eq!(rig.link.counters().overruns, 1);
    assert_eq!(rig.link.counters().late, 5);
}

#[test]
fn an_overrun_by_the_last_chunk_cancels_nothing() {
    let mut rig = Rig::new();
    let (client, id) = rig.open_for("s-1", 64);
    rig.sent();
    rig.text(id, 0, "x");
    rig.chunk(
        id,
        r#""chunk_index":1,"delta":{"content":"y"},"finish_reason":"stop""#,
    );
    assert_eq!(rig.client(client), "x failed(SlowClient)");
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.link.open_exchanges(), 0);
}

#[test]
fn what_arrives_for_an_id_that_is_done_is_dropped_without_a_word() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.sent();
    rig.cancel(id, CancelReason::ClientDisconnected);
    assert_eq!(
        rig.frame(),
        format!("{{\"type\":\"model_cancel\",\"id\":\"{id}\",\"reason\":\"client_disconnected\"}}")
    );
    for index in 0..50 {
        rig.text(id, index, "late");
        rig.chunk(id, "\"delta\":5");
        rig.live(20);
    }
    assert_eq!(rig.client(client), "");
    assert_eq!(rig.link.counters().late, 100);
    assert_eq!(
        rig.link.counters().faults,
        0,
        "it is remembered while it is used"
    );
    assert_eq!(rig.link.tombstones(), 1);
    rig.live(10);
    assert_eq!(rig.link.tombstones(), 0);
    rig.sent();
    rig.text(id, 60, "much too late");
    assert_eq!(rig.sent(), "error(protocol)");
}

#[test]
fn tombstones_are_bounded_and_go_in_their_order() {
    let mut rig = Rig::with(&LinkConfig {
        tombstones: 3,
        ..LinkConfig::default()
    });
    let ids: Vec<_> = (0..5).map(|_| rig.open().1).collect();
    for id in &ids {
        rig.cancel(*id, CancelReason::Timeout);
        assert!(rig.link.tombstones() <= 3);
    }
    rig.sent();
    rig.text(ids[1], 0, "forgotten");
    assert_eq!(rig.sent(), "error(protocol)");
    rig.text(ids[2], 0, "remembered");
    assert_eq!(rig.sent(), "");
    rig.wait(29);
    assert_eq!(rig.link.tombstones(), 3);
    rig.wait(1);
    assert_eq!(rig.link.tombstones(), 0);
}

#[test]
fn an_exchange_is_opened_once() {
    let mut rig = Rig::new();
    let (_, id) = rig.open();
    let permit = permit("s-1");
    assert!(
        rig.link
            .open(rig.now, invoke(id, &permit), 7, &mut rig.out)
            .is_err()
    );
    rig.cancel(id, CancelReason::Timeout);
    assert!(
        rig.link
            .open(rig.now, invoke(id, &permit), 7, &mut rig.out)
            .is_err()
    );
    assert_eq!(rig.sent(), "model_invoke model_cancel(timeout)");
}

#[test]
fn the_hub_speaks_to_the_agent() {
    let mut rig = Rig::new();
    let session = SessionId::new("s-1").unwrap();
    rig.command(Command::Registered(Registered {
        session: session.clone(),
        token: Some("st-1".into()),
        status: "pending",
        expires_at: "2026-01-01T00:05:00.000000Z".into(),
    }));
    assert_eq!(
        rig.frame(),
        r#"{"type":"registered","session_id":"s-1","session_token":"st-1","status":"pending","expires_at":"2026-01-01T00:05:00.000000Z"}"#
    );
    rig.command(Command::Registered(Registered {
        session: session.clone(),
        token: None,
        status: "active",
        expires_at: "2026".into(),
    }));
    assert_eq!(
        rig.frame(),
        r#"{"type":"registered","session_id":"s-1","status":"active","expires_at":"2026"}"#
    );
    rig.command(Command::SessionStatus(SessionStatus {
        session,
        status: "active",
        reason: "approved",
    }));
    assert_eq!(
        rig.frame(),
        r#"{"type":"session_status","session_id":"s-1","status":"active","reason":"approved"}"#
    );
    rig.command(Command::Error {
        code: "invalid_request",
        message: "agent_id: \"\"".into(),
    });
    assert_eq!(
        rig.frame(),
        r#"{"type":"error","error":{"code":"invalid_request","message":"agent_id: \"\""}}"#
    );
}

#[test]
fn the_end_of_a_session_ends_its_exchanges_and_no_others() {
    let mut rig = Rig::new();
    let (a, _) = rig.open_for("s-1", 1000);
    let (b, b_id) = rig.open_for("s-2", 1000);
    let (c, _) = rig.open_for("s-1", 1000);
    rig.sent();
    rig.end_session("s-1");
    rig.end_session("s-1");
    assert_eq!(
        rig.sent(),
        "model_cancel(session_ended) model_cancel(session_ended)"
    );
    assert_eq!(rig.client(a), "failed(SessionEnded)");
    assert_eq!(rig.client(c), "failed(SessionEnded)");
    rig.text(b_id, 0, "goes on");
    assert_eq!(rig.client(b), "goes on");
}

#[test]
fn a_closed_link_takes_nothing_and_says_nothing() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.sent();
    rig.command(Command::Close(CloseCode::Replaced));
    assert_eq!(rig.out.close, Some(CloseCode::Replaced));
    assert_eq!(CloseCode::Replaced.code(), 4001);
    assert_eq!(rig.client(client), "failed(AgentLost)");
    rig.text(id, 0, "a");
    rig.agent("nonsense");
    rig.agent("{\"type\":\"ping\"}");
    rig.agent("{\"type\":\"register\",\"agent_id\":\"a\"}");
    rig.command(Command::Close(CloseCode::GoingAway));
    rig.cancel(id, CancelReason::Timeout);
    rig.wait(100);
    rig.disconnect();
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.client(client), "");
    assert_eq!(rig.out.close, Some(CloseCode::Replaced));
    assert!(rig.out.notices.is_empty());
    assert_eq!((rig.link.open_exchanges(), rig.link.tombstones()), (0, 0));
}

#[test]
fn no_text_and_no_token_is_shown_for_debugging() {
    let command = Command::Registered(Registered {
        session: SessionId::new("s-1").unwrap(),
        token: Some("secret".into()),
        status: "active",
        expires_at: String::new(),
    });
    let error = ToAgent::error("protocol", "secret");
    let chunk = websocket::decode(
        "{\"type\":\"model_stream_chunk\",\"id\":\"x\",\"delta\":{\"content\":\"secret\"}}",
        1000,
    );
    let shown = format!("{command:?} {error:?} {chunk:?}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn nothing_is_asked_with_a_permit_that_was_withdrawn() {
    let mut rig = Rig::new();
    let permits = Permits::default();
    let session = SessionId::new("s-1").unwrap();
    let early = permits.issue(session.clone(), Authority::Anyone);
    permits.withdraw();
    let late = permits.issue(session, Authority::Anyone);
    let mut open = |permit: &Permit| {
        let id = rig.ids.next();
        rig.link.open(rig.now, invoke(id, permit), 0, &mut rig.out)
    };
    assert_eq!(open(&early), Err((Unopened::SessionEnded, 0)));
    assert_eq!(open(&late), Ok(()));
    assert_eq!(rig.out.messages.len(), 1);
}
