//! Lists and figures are made anew after a change, and cost nothing while there is none.

use super::*;

/// A hub with so many sessions on one link that showed no key, each with a model of its own, and one client.
fn crowd(sessions: usize) -> Bench {
    let mut bench = bench(
        Limits::default(),
        SessionPolicy {
            max: sessions,
            ..SessionPolicy::default()
        },
    );
    let hello = Hello {
        token: None,
        dialled: Some(Dialled::default()),
    };
    let link = bench.hub.connect(bench.now, hello, &mut bench.out).unwrap();
    for number in 0..sessions {
        let registration = crate::link::Registration {
            agent_id: alloc::format!("agent-{number}"),
            models: vec![alloc::format!("model-{number}")],
            ..Default::default()
        };
        let notice = Notice::Register(registration);
        bench
            .hub
            .handle_notice(bench.now, link, notice, &mut bench.out);
    }
    bench.out = HubOut::default();
    bench
}

#[test]
fn a_request_and_a_list_walk_no_sessions_while_nothing_changes() {
    for sessions in [10, 10_000] {
        let mut bench = crowd(sessions);
        let lists = bench.hub.lists();
        assert_eq!(lists.sessions.len(), sessions);
        let before = bench.hub.sessions().walks();
        let ticket = bench.granted("model-5");
        let _ = bench.hub.snapshot(bench.now);
        let same = bench.hub.lists();
        bench.settle(ticket);
        let _ = bench.hub.metrics();
        assert!(Arc::ptr_eq(&lists, &bench.hub.lists()));
        assert!(Arc::ptr_eq(&lists, &same));
        assert_eq!(bench.hub.sessions().walks(), before, "{sessions} sessions");
    }
}

#[test]
fn what_a_request_changes_is_seen_in_lists_that_were_taken_before() {
    let mut bench = plain();
    let (_, session, _) = bench.agent("m");
    let lists = bench.hub.lists();
    let listed = lists.session(session.as_str()).unwrap();
    bench.now = bench.now + Duration::from_secs(1);
    let ticket = bench.granted("m");
    let activity = &listed.activity;
    assert_eq!((activity.in_flight(), activity.requests()), (1, 1));
    assert_eq!(activity.last(), bench.now);
    bench.settle(ticket);
    assert_eq!((activity.in_flight(), activity.requests()), (0, 1));
}

#[test]
fn every_change_is_in_the_next_lists() {
    let mut bench = plain();
    let models = |bench: &mut Bench| -> Vec<String> {
        let lists = bench.hub.lists();
        let names = lists.models.iter().map(|model| model.name.to_string());
        names.collect()
    };
    assert_eq!(models(&mut bench), ["my-gpt-4o"]);
    let (link, session, _) = bench.agent("m");
    assert_eq!(models(&mut bench), ["m", "my-gpt-4o"]);
    bench
        .control("operator", &session, Action::Suspend)
        .unwrap();
    assert_eq!(models(&mut bench), ["my-gpt-4o"]);
    assert_eq!(bench.hub.lists().active, 0);
    bench.control("operator", &session, Action::Resume).unwrap();
    assert_eq!(models(&mut bench), ["m", "my-gpt-4o"]);
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    assert_eq!(models(&mut bench), ["my-gpt-4o"]);
    assert_eq!(bench.hub.lists().active, 1);

    let mut config = bench.hub.config().clone();
    config.aliases.clear();
    bench.hub.reload(bench.now, config, &mut bench.out);
    assert_eq!(models(&mut bench), Vec::<String>::new());
    assert!(!bench.hub.lists().draining);
    bench.hub.drain(bench.now, &mut bench.out);
    assert!(bench.hub.lists().draining);
}

#[test]
fn a_session_that_has_answered_as_often_as_it_may_leaves_the_models() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "once".into(),
        models: vec!["m".into()],
        max_requests: Some(1),
        ..Default::default()
    };
    bench.register(link, registration);
    assert!(bench.hub.lists().model("m").is_some());
    let ticket = bench.granted("m");
    assert!(bench.hub.lists().model("m").is_none());
    assert_eq!(bench.hub.snapshot(bench.now).answering, 0);
    bench.settle(ticket);
}

proptest::proptest! {
    #[test]
    fn figures_are_what_counting_gives(steps in proptest::collection::vec((0usize..8, 0usize..6), 1..60)) {
        let mut bench = bench(Limits::default(), SessionPolicy { manual_approval: true, ..SessionPolicy::default() });
        let mut sessions = Vec::new();
        for (step, which) in steps {
            let which = sessions.len().checked_sub(1).map(|most| which.min(most));
            match (step, which) {
                (0 | 1, _) | (_, None) => sessions.push(bench.agent("m")),
                (2, Some(at)) => {
                    let (link, ..): (LinkId, SessionId, String) = sessions[at].clone();
                    bench.hub.disconnected(bench.now, link, &mut bench.out);
                }
                (_, Some(at)) => {
                    let actions = [Action::Approve, Action::Suspend, Action::Resume, Action::Revoke, Action::Expire];
                    // An action that the state forbids changes nothing.
                    let _ = bench.control("operator", &sessions[at].1.clone(), actions[step - 3]);
                }
            }
            let mut counts = [0; Status::ALL.len()];
            for session in bench.hub.sessions().iter() {
                counts[Status::ALL.iter().position(|status| *status == session.status).unwrap()] += 1;
            }
            let answering = bench.hub.sessions().iter().filter(|session| session.can_answer()).count();
            proptest::prop_assert_eq!(bench.hub.metrics().sessions, counts);
            proptest::prop_assert_eq!(bench.hub.snapshot(bench.now).answering, answering);
        }
    }
}

#[test]
fn tokens_that_an_agent_makes_up_stop_at_the_largest_number() {
    let mut bench = plain();
    let (_, session, _) = bench.agent("m");
    let mut outcome = Outcome::new(Verdict::Completed, 200, 0);
    outcome.usage.prompt_tokens = u64::MAX;
    outcome.usage.completion_tokens = u64::MAX;
    for ticket in [bench.granted("m"), bench.granted("m")] {
        bench.conclude(Some(ticket), &outcome);
    }
    let metrics = bench.hub.metrics();
    assert_eq!(
        [metrics.prompt_tokens, metrics.completion_tokens],
        [u64::MAX; 2]
    );
    let lists = bench.hub.lists();
    let listed = lists.session(session.as_str()).unwrap();
    assert_eq!(listed.activity.tokens(), u64::MAX);
}
