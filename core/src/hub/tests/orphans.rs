//! Sessions whose agent is away.

use super::*;

#[test]
fn a_session_whose_agent_died_waits_for_that_agent_and_no_other() {
    let mut bench = plain();
    let (first, _, token) = bench.agent("m");
    bench.hub.disconnected(bench.now, first, &mut bench.out);
    let second = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "another".into(),
        models: vec!["n".into()],
        ..Default::default()
    };
    bench.register(second, registration);
    assert_eq!(
        bench.ask("m", None).unwrap_err().code(),
        Code::NoAgent,
        "known, but nobody answers for it now"
    );
    assert_eq!(
        bench.ask("o", None).unwrap_err().code(),
        Code::ModelNotFound
    );
    let back = bench.connect(&token).unwrap();
    let ticket = bench.granted("m");
    assert_eq!(ticket.link, back);
    bench.settle(ticket);
    let ticket = bench.granted("n");
    assert_eq!(ticket.link, second);
    bench.settle(ticket);
}

#[test]
fn an_agent_that_comes_back_without_its_token_replaces_its_own_session() {
    let mut bench = plain();
    let (first, old, _) = bench.agent("m");
    bench.hub.disconnected(bench.now, first, &mut bench.out);
    let (second, new, _) = bench.agent("m");
    assert_ne!(old, new);
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, &ticket.session), (second, &new));
    bench.settle(ticket);
    let slot = bench.hub.sessions().find(old.as_str()).unwrap();
    let status = bench.hub.sessions().get(slot).unwrap().status;
    assert_eq!(status, sessions::Status::Revoked);
}
