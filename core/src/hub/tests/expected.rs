//! Agents that the program starts: who waits for them, and for how long.

use super::*;

/// A model that answers for every name that nobody knows.
const FALLBACK: &str = "fallback";

impl Bench {
    /// The link of an agent of the program, with its session, which takes one request at once.
    fn started(&mut self, name: &str) -> LinkId {
        let dialled = Dialled {
            name,
            ..Dialled::default()
        };
        let hello = Hello {
            token: None,
            dialled: Some(dialled),
        };
        let link = self.hub.connect(self.now, hello, &mut self.out).unwrap();
        self.busy_after_one(link, name);
        link
    }

    fn busy_after_one(&mut self, link: LinkId, name: &str) {
        let registration = crate::link::Registration {
            agent_id: name.into(),
            models: vec![name.into()],
            max_concurrency: Some(1),
            ..Default::default()
        };
        let notice = Notice::Register(registration);
        self.hub
            .handle_notice(self.now, link, notice, &mut self.out);
    }

    fn expect(&mut self, name: &str, patience: u64) {
        let patience = Duration::from_secs(patience);
        self.hub
            .expect_agent(self.now, name, patience, &mut self.out);
    }

    fn queued(&mut self, model: &str) -> WaitId {
        match self.ask(model, None) {
            Ok(Admission::Queued(wait)) => wait,
            other => panic!("{model}: {other:?}"),
        }
    }

    fn refused_wait(&mut self, wait: WaitId) -> String {
        match self.claim(wait) {
            Claim::Refused(refusal) => refusal.message().into(),
            other => panic!("{other:?}"),
        }
    }

    /// Has an agent answer for every name that nobody knows.
    fn with_fallback(&mut self) {
        self.agent(FALLBACK);
        self.configure(|config| {
            config.aliases.push(Alias {
                name: "*".into(),
                model: FALLBACK.into(),
                context_length: None,
                fallback: Vec::new(),
            });
        });
    }

    fn is_answered_by_fallback(&mut self, asked: &str) -> bool {
        match self.ask(asked, None) {
            Ok(Admission::Granted(ticket)) => {
                let fallback = &*ticket.model == FALLBACK;
                self.settle(ticket);
                fallback
            }
            Ok(Admission::Queued(wait)) => {
                assert!(self.hub.leave(self.now, wait).is_none());
                false
            }
            Err(_) => false,
        }
    }
}

#[test]
fn a_busy_agent_of_the_program_is_waited_for_as_long_as_for_its_first_words_and_any_other_briefly()
{
    let mut bench = plain();
    bench.expect("claude", 60);
    bench.started("claude");
    let link = bench.connect("bridge").unwrap();
    bench.busy_after_one(link, "other");
    let held = ["claude", "other"].map(|model| bench.granted(model));
    let (long, brief) = (bench.queued("claude"), bench.queued("other"));
    bench.pass(Duration::from_secs(5));
    assert_eq!(core::mem::take(&mut bench.out.woken), [brief]);
    let message = bench.refused_wait(brief);
    assert!(message.contains("its max_concurrency allows"), "{message}");
    assert!(
        message.contains("(asked with the key `editor`)"),
        "{message}"
    );
    bench.pass(Duration::from_secs(54));
    assert!(bench.out.woken.is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(core::mem::take(&mut bench.out.woken), [long]);
    let message = bench.refused_wait(long);
    assert!(message.contains("agents[].concurrency"), "{message}");
    assert_eq!(bench.hub.metrics().overloaded, 2);
    for ticket in held {
        bench.settle(ticket);
    }
}

#[test]
fn who_waited_for_a_start_waits_no_longer_than_others_once_the_agent_is_there_and_busy() {
    let mut bench = plain();
    bench.expect("claude", 60);
    bench.expect("other", 60);
    let (first, second) = (bench.queued("claude"), bench.queued("claude"));
    let elsewhere = bench.queued("other");
    bench.pass(Duration::from_secs(2));
    bench.started("claude");
    assert_eq!(core::mem::take(&mut bench.out.woken), [first]);
    let Claim::Granted(held) = bench.claim(first) else {
        panic!("the agent is free");
    };
    bench.pass(Duration::from_secs(59));
    assert_eq!(core::mem::take(&mut bench.out.woken), [elsewhere]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(core::mem::take(&mut bench.out.woken), [second]);
    let message = bench.refused_wait(second);
    assert!(message.contains("agents[].concurrency"), "{message}");
    bench.settle(held);
}

#[test]
fn who_has_no_key_is_named_by_none() {
    let limits = Limits {
        exchanges: 1,
        queue_length: 0,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("m");
    bench.configure(|config| config.auth_required = false);
    let held = bench.granted("m");
    let nobody = bench.hub.keys().authenticate(None, HOME).unwrap();
    let ask = Ask {
        model: "m",
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let refusal = bench.hub.admit(bench.now, &nobody, &ask).unwrap_err();
    assert!(refusal.message().ends_with("in a moment"), "{refusal}");
    bench.settle(held);
}

#[test]
fn the_name_of_an_agent_that_starts_is_a_model_until_it_is_late() {
    let mut bench = plain();
    let begun = bench.now;
    bench.expect("claude", 60);
    let lists = bench.hub.lists();
    let model = lists.model("claude").unwrap();
    assert_eq!(
        (model.agent.as_deref(), model.created_at),
        (Some("claude"), begun)
    );
    let waits = [bench.queued("claude"), bench.queued("claude/opus")];
    bench.pass(Duration::from_secs(60));
    for wait in waits {
        let message = bench.refused_wait(wait);
        assert!(
            message.contains("the agent `claude` was started"),
            "{message}"
        );
    }
    assert!(bench.hub.lists().model("claude").is_none());
}

#[test]
fn a_name_that_is_expected_is_not_answered_by_who_answers_for_every_other() {
    let mut bench = bench(
        Limits::default(),
        SessionPolicy {
            manual_approval: true,
            ..SessionPolicy::default()
        },
    );
    let (_, fallback, _) = {
        bench.with_fallback();
        let lists = bench.hub.lists();
        ((), lists.sessions[0].id.clone(), ())
    };
    bench
        .control("operator", &fallback, Action::Approve)
        .unwrap();
    bench.expect("claude", 60);
    bench.configure(|config| {
        config.default_model = Some("usual".into());
        config.aliases.push(Alias {
            name: "short".into(),
            model: "long".into(),
            context_length: None,
            fallback: Vec::new(),
        });
    });
    for asked in ["claude", "claude/opus", "usual", "long", "my-gpt-4o"] {
        assert!(!bench.is_answered_by_fallback(asked), "{asked}");
    }
    assert!(bench.is_answered_by_fallback("claudette"));
    // A session that may not answer yet has the name to itself, and the last of two does.
    assert!(bench.is_answered_by_fallback("waiting"));
    let [(_, first, _), (_, second, _)] = ["waiting"; 2].map(|model| bench.agent(model));
    for session in [first, second] {
        assert!(!bench.is_answered_by_fallback("waiting"));
        bench.control("operator", &session, Action::Deny).unwrap();
    }
    assert!(bench.is_answered_by_fallback("waiting"));
    // An agent that has registered and gone for good is expected no more.
    let link = bench.started("claude");
    let carried = bench.hub.lists();
    let own = carried.sessions.iter().find(|one| one.link == Some(link));
    let own = own.unwrap().id.clone();
    assert!(!bench.is_answered_by_fallback("claude"));
    bench.control("operator", &own, Action::Deny).unwrap();
    assert!(bench.is_answered_by_fallback("claude"));
}

#[test]
fn an_agent_of_the_program_whose_session_an_operator_ended_waits_for_approval() {
    let mut bench = plain();
    let session_of = |bench: &mut Bench, link: LinkId| {
        let lists = bench.hub.lists();
        let own = lists.sessions.iter().find(|one| one.link == Some(link));
        own.map(|one| (one.id.clone(), one.status)).unwrap()
    };
    let link = bench.started("claude");
    let (first, status) = session_of(&mut bench, link);
    assert_eq!(status, Status::Active);
    for _ in 0..2 {
        let revoked = bench.control("operator", &first, Action::Revoke);
        assert_eq!(
            revoked.unwrap(),
            Status::Revoked,
            "a revoke may be repeated"
        );
    }
    bench.busy_after_one(link, "claude");
    let (second, status) = session_of(&mut bench, link);
    assert_eq!(status, Status::Pending);
    bench.control("operator", &second, Action::Approve).unwrap();
    let unregister = Notice::Unregister(second);
    bench
        .hub
        .handle_notice(bench.now, link, unregister, &mut bench.out);
    bench.busy_after_one(link, "claude");
    assert_eq!(session_of(&mut bench, link).1, Status::Active);

    // Another agent asks for a session when a person has it do so.
    let link = bench.connect("bridge").unwrap();
    bench.busy_after_one(link, "other");
    let (other, _) = session_of(&mut bench, link);
    bench.control("operator", &other, Action::Revoke).unwrap();
    bench.busy_after_one(link, "other");
    assert_eq!(session_of(&mut bench, link).1, Status::Active);
}

#[test]
fn a_bridge_that_is_dialled_again_has_the_sessions_of_its_agents() {
    let mut bench = plain();
    let dial = |bench: &mut Bench| {
        let hello = Hello {
            token: Some("token of the bridge"),
            dialled: Some(Dialled::default()),
        };
        bench.hub.connect(bench.now, hello, &mut bench.out).unwrap()
    };
    let link = dial(&mut bench);
    bench.busy_after_one(link, "behind");
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    assert_eq!(bench.ask("behind", None).unwrap_err().code(), Code::NoAgent);
    let link = dial(&mut bench);
    let ticket = bench.granted("behind");
    assert_eq!(ticket.link, link);
    bench.settle(ticket);
}

#[test]
fn an_agent_that_registers_behind_a_dialled_bridge_takes_nothing_from_the_sessions_there() {
    let mut bench = plain();
    let hello = Hello {
        token: Some("bridge"),
        dialled: Some(Dialled::default()),
    };
    let link = bench.hub.connect(bench.now, hello, &mut bench.out).unwrap();
    let caller = bench.caller("bridge");
    let registration = Registration {
        agent_id: "by-http".into(),
        ..Registration::default()
    };
    bench
        .hub
        .register_by_control(bench.now, &caller, registration, &mut bench.out)
        .unwrap();
    let open = bench.granted("by-http");
    bench.out.commands.clear();
    bench.busy_after_one(link, "behind");
    let ended = |command: &Command| matches!(command, Command::EndSession { .. });
    assert!(!bench.commands(link).iter().any(ended));
    bench.settle(open);
}

#[test]
fn a_used_up_session_is_told_to_its_agent_when_its_last_answer_ends() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "twice".into(),
        models: vec!["m".into()],
        max_requests: Some(2),
        ..Default::default()
    };
    bench.register(link, registration);
    let tickets = [bench.granted("m"), bench.granted("m")];
    for (ticket, told) in tickets.into_iter().zip([0, 1]) {
        bench.settle(ticket);
        let commands = bench.commands(link);
        let used_up = commands.iter().filter(|command| {
            matches!(command, Command::SessionStatus(SessionStatus { status: "active", reason, .. }) if *reason == crate::link::USED_UP)
        });
        assert_eq!(used_up.count(), told, "{commands:?}");
    }
    let message = bench.ask("m", None).unwrap_err().message().to_string();
    assert!(message.contains("requests used up (2)"), "{message}");
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    let (link, ..) = bench.agent("other");
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    let message = bench.ask("other", None).unwrap_err().message().to_string();
    assert!(message.ends_with("is not connected"), "{message}");
}
