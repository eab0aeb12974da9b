//! Order, loss and repeats.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_order_with_repeats_reads_as_the_order_that_was_meant(
        order in Just((0..60u64).collect::<Vec<_>>()).prop_shuffle(),
        count in 1..60usize,
        repeats in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
    ) {
        let count = u64::try_from(count).unwrap();
        let mut order: Vec<u64> = order.into_iter().filter(|index| *index < count).collect();
        for (what, at) in &repeats {
            let repeated = order[what.index(order.len())];
            order.insert(at.index(order.len() + 1), repeated);
        }
        let mut rig = Rig::new();
        let (client, id) = rig.open();
        rig.sent();
        for index in &order {
            if index + 1 == count {
                rig.chunk(id, &format!("\"chunk_index\":{index},\"delta\":{{\"content\":\"{index}\"}},\"finish_reason\":\"stop\""));
            } else {
                rig.text(id, *index, &index.to_string());
            }
        }
        let mut meant: Vec<String> = (0..count).map(|index| index.to_string()).collect();
        meant.push("end(stop)".into());
        prop_assert_eq!(rig.client(client), meant.join(" "));
        prop_assert_eq!(rig.sent(), "");
        prop_assert_eq!(rig.link.open_exchanges(), 0);
        let counters = rig.link.counters();
        prop_assert_eq!(counters.repeats + counters.late, u64::try_from(repeats.len()).unwrap());
        prop_assert_eq!(counters.faults, 0);
        rig.wait(60);
        prop_assert_eq!(rig.link.tombstones(), 0);
    }
}

#[test]
fn sixty_four_chunks_wait_and_one_more_fails_the_exchange() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    let (other, other_id) = rig.open();
    rig.sent();
    for index in 1..=64 {
        rig.text(id, index, "x");
        rig.text(id, index, "x");
    }
    assert_eq!(rig.link.counters().repeats, 64);
    assert_eq!(
        (rig.client(client), rig.sent()),
        (String::new(), String::new())
    );
    rig.text(id, 65, "x");
    assert_eq!(rig.client(client), "failed(AgentFault)");
    assert_eq!(rig.sent(), "model_cancel(stream_gap)");
    rig.text(id, 0, "x");
    assert_eq!(
        (rig.client(client), rig.sent()),
        (String::new(), String::new())
    );
    rig.text(other_id, 0, "y");
    assert_eq!(rig.client(other), "y", "another exchange goes on");
}

#[test]
fn a_full_window_is_delivered_when_the_missing_chunk_comes() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    let long = "x".repeat(4096);
    for index in 1..=64 {
        rig.text(id, index, &long);
    }
    rig.text(id, 0, "first");
    rig.last(id, 65);
    let got = rig.client(client);
    assert!(got.starts_with("first xxx") && got.ends_with("x end(stop)"));
    assert_eq!(got.matches(&long).count(), 64);
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.sent();
    let half = "x".repeat(128 << 10);
    rig.text(id, 1, &half);
    rig.text(id, 2, &half);
    assert_eq!(rig.sent(), "");
    rig.text(id, 3, "x");
    assert_eq!(rig.client(client), "failed(AgentFault)");
    assert_eq!(rig.sent(), "model_cancel(stream_gap)");
}

#[test]
fn a_gap_may_stand_for_five_seconds() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    let (other, other_id) = rig.open();
    rig.sent();
    rig.text(id, 1, "b");
    rig.wait(4);
    rig.text(other_id, 1, "b");
    rig.text(id, 3, "d");
    rig.text(id, 0, "a");
    assert_eq!(rig.client(client), "a b", "the second gap starts now");
    rig.wait(4);
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.link.poll_timeout().unwrap().why, Timer::Gap);
    rig.wait(1);
    assert_eq!(
        rig.sent(),
        "model_cancel(stream_gap) model_cancel(stream_gap)"
    );
    assert_eq!(rig.client(client), "failed(AgentFault)");
    assert_eq!(rig.client(other), "failed(AgentFault)");
    assert_eq!(rig.link.counters().gaps, 2);
}

#[test]
fn a_closed_gap_leaves_no_timer() {
    let mut rig = Rig::new();
    let (_, id) = rig.open();
    rig.text(id, 1, "b");
    rig.text(id, 0, "a");
    assert_eq!(rig.link.poll_timeout().unwrap().why, Timer::Ping);
    rig.text(id, 3, "d");
    rig.cancel(id, CancelReason::Timeout);
    assert_eq!(rig.link.poll_timeout().unwrap().why, Timer::Ping);
}

#[test]
fn the_end_waits_for_what_is_missing_and_drops_what_lies_beyond_it() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.text(id, 3, "beyond");
    rig.last(id, 2);
    rig.text(id, 1, "b");
    assert_eq!(rig.client(client), "");
    rig.text(id, 0, "a");
    assert_eq!(rig.client(client), "a b end(stop)");
    assert_eq!(rig.link.counters().late, 1);
}

#[test]
fn a_result_after_chunks_ends_the_stream_and_repeats_nothing() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    let result = format!(
        "{{\"type\":\"model_result\",\"id\":\"{id}\",\"status\":\"ok\",\"result\":{{\"choices\":[{{\"message\":{{\"content\":\"abc\"}},\"finish_reason\":\"length\"}}]}}}}"
    );
    rig.text(id, 0, "a");
    rig.text(id, 2, "c");
    rig.agent(&result);
    assert_eq!(rig.client(client), "a");
    rig.text(id, 1, "b");
    assert_eq!(rig.client(client), "b c end(length)");
}

#[test]
fn an_agent_that_has_ended_is_not_cancelled() {
    let mut rig = Rig::new();
    let (_, id) = rig.open();
    rig.last(id, 1);
    rig.sent();
    rig.cancel(id, CancelReason::ClientDisconnected);
    assert_eq!(rig.sent(), "");
    assert_eq!(rig.link.open_exchanges(), 0);
}

#[test]
fn everything_that_a_chunk_carries_survives_its_wait() {
    let mut rig = Rig::new();
    let (client, id) = rig.open();
    rig.chunk(
        id,
        r#""chunk_index":1,"delta":{"content":"\ud83d","reasoning_content":"hm","refusal":"no","tool_calls":[{"index":3,"id":"c","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls","usage":{"prompt_tokens":2,"completion_tokens":1}"#,
    );
    rig.text(id, 0, "a");
    assert_eq!(
        rig.client(client),
        r"a \ud83d+reasoning:hm+refusal:no+call:3:c:f:{} end(tool_calls,2+1)"
    );
}
