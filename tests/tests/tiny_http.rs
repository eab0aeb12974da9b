//! The one suite against tiny_http, with what it is known to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::process::Command;

/// Tests that may fail and are not run, and why nothing can be done about it from outside.
const SHORTFALLS: &[(&str, &str)] = &[
    (
        "audit::every_event_is_a_record_that_says_who_did_what",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "bad_input::slow_heads_and_slow_bodies_are_cut",
        "its sockets have no timeouts",
    ),
    (
        "browser_safety::desktop_programs_and_pages_of_this_machine_may_call",
        "agents cannot dial the address that it serves",
    ),
    (
        "canary::prompts_keys_and_tokens_are_written_down_nowhere",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "command_line::the_demo_answers_the_lines_that_it_prints",
        "the demo's agent cannot dial the only address",
    ),
    (
        "commands::a_prompt_that_is_interrupted_is_cancelled",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "completions::several_prompts_are_answered_in_order_by_one_answer",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "connections::a_client_that_closes_its_sending_side_while_it_waits_for_an_agent_has_left",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "connections::a_client_that_does_not_read_is_reset",
        "its sockets have no timeouts",
    ),
    (
        "connections::a_connection_that_an_agent_has_answered_waits_for_its_next_request_as_any_other",
        "it keeps its connections to itself, and limits.connections counts requests",
    ),
    (
        "connections::a_connection_that_waits_for_a_request_makes_room_for_a_new_one",
        "it keeps its connections to itself, and limits.connections counts requests",
    ),
    (
        "connections::a_draining_program_serves_open_work_and_its_health_alone",
        "its idle connections are not ended",
    ),
    (
        "connections::what_a_client_asked_before_it_closed_its_sending_side_is_answered",
        "it gives a connection up whose client has closed its sending side",
    ),
    (
        "connections::requests_that_come_before_their_time_are_answered_in_their_order",
        "it gives a request out before the one ahead of it on its connection is answered, so that agents get them in any order",
    ),
    (
        "failures::a_client_that_leaves_is_told_to_the_agent_once",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "failures::an_ending_program_lets_streams_end_and_takes_nothing_new",
        "its idle connections are not ended",
    ),
    (
        "framing::a_request_that_could_be_read_in_two_ways_is_refused",
        "it mends what it should refuse, and keeps the connection",
    ),
    (
        "framing::the_rest_of_a_body_that_nobody_wants_is_skipped_when_it_is_little_and_ends_the_connection_else",
        "it reads the rest of a body on its own terms, and keeps the connection",
    ),
    (
        "framing::what_is_pipelined_behind_a_refused_request_with_a_small_body_is_answered",
        "it takes unread chunks for the next request",
    ),
    (
        "gateway::remote::a_server_of_the_first_revision_is_reached_by_its_two_addresses",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "agent_library::a_client_that_leaves_ends_the_script_and_all_that_it_started",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::several_stateless::a_client_that_closes_its_answer_takes_the_request_back_from_its_server",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "upstreams::cuts::a_client_that_leaves_closes_the_connection_to_the_server",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::rest::a_client_that_leaves_cancels_its_call_and_the_session_hears_what_else_is_said",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::stateless::a_client_that_closes_its_answer_takes_the_request_back",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::socket::a_batch_is_answered_in_one_frame",
        "it opens no WebSockets",
    ),
    (
        "gateway::socket::a_client_that_answers_no_ping_is_taken_for_lost_and_its_session_stays",
        "it opens no WebSockets",
    ),
    (
        "gateway::socket::a_plain_socket_speaks_mcp_and_nothing_else",
        "it opens no WebSockets",
    ),
    (
        "gateway::socket::a_session_is_created_used_and_closed_on_one_socket",
        "it opens no WebSockets",
    ),
    (
        "gateway::socket::a_socket_that_is_lost_and_attached_again_is_told_what_it_missed",
        "it opens no WebSockets",
    ),
    (
        "gateway::socket::what_is_wrong_with_a_frame_is_named_and_the_socket_stays_open",
        "it opens no WebSockets",
    ),
    (
        "integrations::a_client_that_leaves_ends_its_tools_and_tells_the_agent",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "registry_completions::a_caller_that_leaves_a_stream_tells_the_agent",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::sse::a_stream_that_is_lost_ends_its_session_and_its_process",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "stopped::what_a_client_sent_meanwhile_is_not_late",
        "its pool gives a connection to a thread that another one has just taken, where it waits for the other's head",
    ),
    (
        "gateway::remote::everything_passes_by_a_websocket_and_back",
        "it opens no WebSockets",
    ),
    (
        "gateway::remote::a_websocket_that_is_cut_fails_its_requests_and_is_dialled_again",
        "it opens no WebSockets",
    ),
    (
        "gateway::remote::a_websocket_that_refuses_the_key_is_not_available",
        "it opens no WebSockets",
    ),
    (
        "gateway::remote::a_server_without_a_type_is_found_to_speak_http_and_sse",
        "a stream is passed on late",
    ),
    (
        "registry_rest::a_caller_that_leaves_ends_what_it_started",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "gateway::sampling::a_client_that_leaves_fails_what_it_was_asked",
        "its agents read streams, and leave in silence",
    ),
    (
        "registry_completions::a_socket_tells_the_same_events_and_takes_a_cancel",
        "it has no WebSockets",
    ),
    (
        "registry_left::a_run_that_is_left_at_any_step_ends_what_it_has_begun_and_nothing_else",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "registry_server::every_other_transport_reaches_it",
        "it has no WebSockets",
    ),
    (
        "registry_server::a_call_that_is_taken_back_ends_its_command",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "upstreams::counts::a_client_that_leaves_closes_the_connection_to_the_server_that_counts",
        "a client that leaves in silence is noticed by the next write only",
    ),
    (
        "upstreams::cuts::a_client_that_leaves_between_two_attempts_is_asked_for_no_more",
        "a client that leaves in silence is noticed by the next write only",
    ),
];

/// Further runs, by itself, of a test that fails and is not known. The fault of the pool that [`SHORTFALLS`] tells of
/// meets any test whose connections come at once, now and then; a fault of ours fails every time.
const AGAIN: usize = 2;

/// The names of the tests whose line ends in `verdict`.
fn names<'t>(text: &'t str, verdict: &str) -> BTreeSet<&'t str> {
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(verdict)?;
        Some(name.trim_end_matches(" ... "))
    });
    names.collect()
}

/// Runs the suite with `filter` and returns its output.
fn suite(filter: &[&str]) -> String {
    let suite = Command::new(env!("CARGO"))
        .args([
            "test",
            // With the features of what is built already.
            "--workspace",
            "--test",
            "it-tiny-http",
        ])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--")
        .args(filter)
        .output()
        .unwrap();
    String::from_utf8_lossy(&suite.stdout).into_owned()
}

/// True when a test passes when it is run by itself.
fn passes_alone(name: &str) -> bool {
    (0..AGAIN).any(|_| names(&suite(&["--exact", name]), "ok").contains(name))
}

#[test]
#[ignore = "takes minutes; .ci/run runs it"]
fn the_suite_fails_nothing_but_what_is_known() {
    let known: BTreeSet<&str> = SHORTFALLS.iter().map(|(name, _)| *name).collect();
    let list = suite(&["--list"]);
    let all: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(gone.is_empty(), "{gone:?} are no tests any more");
    // Those that may fail wait for what does not come, most of them for as long as any test waits.
    let skipped = known.iter().flat_map(|name| ["--skip", *name]);
    let words: Vec<&str> = ["--exact"].into_iter().chain(skipped).collect();
    let text = suite(&words);
    let (passed, failed) = (names(&text, "ok"), names(&text, "FAILED"));
    assert_eq!(
        passed.len() + failed.len() + known.len(),
        all.len(),
        "{text}"
    );
    let new: Vec<_> = failed.iter().filter(|name| !passes_alone(name)).collect();
    assert!(new.is_empty(), "{new:?} fail too:\n{text}");
}
