//! Signs of life: when a process is asked for one, and what becomes of one that gives none.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A process that is ready, whose lines so far are read.
fn ready() -> Bench {
    let mut bench = Bench::ready();
    bench.lines();
    bench.said();
    bench
}

/// The only line that the process was sent is a request of this method.
fn asked(bench: &mut Bench, method: &str) -> String {
    let lines = bench.lines();
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(line.contains(&format!("\"method\":\"{method}\"")), "{line}");
    id_of(line)
}

fn alive(bench: &mut Bench, id: &str) {
    bench.line(&format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}"
    ));
}

#[test]
fn a_silent_process_is_asked_for_a_sign_of_life_and_one_that_writes_is_not() {
    let mut bench = ready();
    bench.wait(29 * SECOND);
    assert!(bench.lines().is_empty());
    bench.line("no message at all");
    bench.wait(29 * SECOND);
    assert!(bench.lines().is_empty(), "what it writes is a sign of life");
    bench.wait(SECOND);
    let id = asked(&mut bench, "ping");
    alive(&mut bench, &id);
    assert!(bench.said().is_empty(), "its answer is nobody's");
    bench.wait(30 * SECOND);
    asked(&mut bench, "ping");
    assert_eq!(bench.server.state_name(), "ready");
}

#[test]
fn a_process_without_a_sign_of_life_is_unresponsive_and_then_killed() {
    let mut bench = ready();
    bench
        .ask(r#"{"id":1,"method":"tools/call"}"#, "ann")
        .unwrap();
    bench.lines();
    // Each question has ten seconds, and the next one comes thirty seconds after it.
    for (missed, state) in [(1, "ready"), (2, "unresponsive")] {
        bench.wait(30 * SECOND - 10 * SECOND * u32::from(missed > 1));
        asked(&mut bench, "ping");
        bench.wait(10 * SECOND);
        assert_eq!(bench.server.state_name(), state);
    }
    // It is sent requests still.
    bench.ask(r#"{"id":2,"method":"x"}"#, "bob").unwrap();
    asked(&mut bench, "x");
    assert!(bench.out.orders.is_empty());
    bench.wait(20 * SECOND);
    asked(&mut bench, "ping");
    bench.wait(10 * SECOND);
    assert_eq!(bench.out.orders.split_off(0), [Order::Kill]);
    assert_eq!(bench.server.state_name(), "stopping");
    bench.exit(Exit::Signal(9));
    assert_eq!(
        bench.said(),
        [
            "gone: it gave no sign of life (gateway.health)",
            "ann: ServerExited",
            "bob: ServerExited"
        ]
    );
    assert_eq!(bench.server.state_name(), "backoff");
    bench.wait(SECOND);
    bench.begin();
    assert_eq!(bench.server.state_name(), "ready");
    assert_eq!(bench.said(), ["ready, again: true"]);
}

#[test]
fn a_late_sign_of_life_makes_an_unresponsive_process_ready_with_all_questions_before_it() {
    let mut bench = ready();
    bench.wait(30 * SECOND);
    bench.wait(30 * SECOND);
    bench.wait(10 * SECOND);
    assert_eq!(bench.server.state_name(), "unresponsive");
    bench.line("still at work");
    assert_eq!(bench.server.state_name(), "ready");
    for _ in 0..2 {
        bench.wait(30 * SECOND);
        bench.wait(10 * SECOND);
        bench.line("still at work");
    }
    assert!(bench.out.orders.is_empty());
}

#[test]
fn a_question_for_a_sign_of_life_keeps_no_process_that_nobody_needs() {
    let mut bench = ready();
    let now = bench.at();
    bench.server.attend(now, false);
    for _ in 0..20 {
        bench.wait(30 * SECOND);
        if let Some(line) = bench.lines().pop() {
            alive(&mut bench, &id_of(&line));
        }
    }
    assert_eq!(bench.out.orders, [Order::CloseInput], "after ten minutes");
}

#[test]
fn without_an_interval_no_process_is_asked() {
    let mut config = Gateway::default();
    config.health.interval = Duration::ZERO;
    let mut bench = Bench::new(&config);
    bench.server.start(bench.at(), &mut bench.out);
    bench.begin();
    bench.lines();
    bench.wait(3600 * SECOND);
    assert!(bench.lines().is_empty());
    assert_eq!(bench.server.state_name(), "ready");
}

#[test]
fn a_process_of_a_revision_without_ping_is_asked_to_discover() {
    let mut bench = Bench::raised();
    bench.lines();
    bench.wait(30 * SECOND);
    let id = asked(&mut bench, "server/discover");
    bench.said();
    alive(&mut bench, &id);
    assert!(bench.said().is_empty());
    assert_eq!(bench.server.state_name(), "ready");
}
