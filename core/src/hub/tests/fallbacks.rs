//! Models that are asked in the place of whoever cannot answer.

use super::upstreams::terms;
use super::*;
use crate::config::Fallback;
use crate::hub::links::Dialled;
use crate::hub::upstreams::UpstreamTerms;
use crate::invocation::Kind;
use crate::supports::{Capabilities, Supports};

/// Three upstreams with a model each. The others answer for the first, and the last alone for its alias.
fn three(limits: Limits, change: impl Fn(&mut UpstreamTerms)) -> Bench {
    let mut bench = bench(limits, SessionPolicy::default());
    bench.configure(|config| {
        config.fallbacks = vec![Fallback {
            of: "a".into(),
            // Itself is no fallback.
            models: vec!["a/m".into(), "b/m".into(), "c/m".into()],
        }];
        config.aliases.push(Alias {
            name: "big".into(),
            model: "a/m".into(),
            context_length: None,
            fallback: vec!["c/m".into()],
        });
    });
    for name in ["a", "b", "c"] {
        let mut terms = terms(name, &["m"]);
        change(&mut terms);
        bench.upstream(&terms);
    }
    bench
}

fn plain_three() -> Bench {
    three(Limits::default(), |_| {})
}

const fn of_model(model: &str) -> Ask<'_> {
    Ask {
        model,
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs {
            kind: Kind::Text,
            images: false,
            tools: false,
        },
    }
}

impl Bench {
    fn falls_back(&mut self, ticket: Ticket, model: &str) -> Result<Admission, Box<Ticket>> {
        let ask = of_model(model);
        self.hub.fall_back(self.now, ticket, &ask, &mut self.out)
    }

    fn next(&mut self, ticket: Ticket, model: &str) -> Ticket {
        match self.falls_back(ticket, model) {
            Ok(Admission::Granted(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Who answers instead is asked by its own name.
    fn answered_by(&mut self, asked: &str, model: &str) {
        let ticket = self.granted(asked);
        assert_eq!(&*ticket.model, model, "{asked}");
        self.settle(ticket);
    }

    /// The upstream is left alone.
    fn opens(&mut self, name: &str) {
        for _ in 0..2 {
            let ask = Ask {
                session: None,
                ..of_model(name)
            };
            let Ok(Admission::Granted(ticket)) = self.ask_as("editor", &ask) else {
                panic!("{name} answers");
            };
            self.upstream_fails(ticket);
        }
    }
}

#[test]
fn each_is_asked_once_in_their_order() {
    let mut bench = plain_three();
    let ticket = bench.granted("a/m");
    assert_eq!(&*ticket.label, "a");
    assert!(ticket.has_fallback());
    let ticket = bench.next(ticket, "a/m");
    assert_eq!((&*ticket.label, &*ticket.model), ("b", "b/m"));
    assert!(ticket.has_fallback());
    assert_eq!(bench.upstream_state("a").in_flight, 0);
    let ticket = bench.next(ticket, "a/m");
    assert_eq!((&*ticket.label, &*ticket.model), ("c", "c/m"));
    assert!(!ticket.has_fallback(), "nobody is left");
    let metrics = bench.hub.metrics();
    assert_eq!((metrics.fallbacks, metrics.failed, metrics.open), (2, 2, 1));
    let Err(ticket) = bench.falls_back(ticket, "a/m") else {
        panic!("nobody is left");
    };
    bench.settle(*ticket);
    let metrics = bench.hub.metrics();
    assert_eq!((metrics.open, metrics.unsettled), (0, 0));
    assert_eq!(bench.hub.settled(), 3);
    // The others have no fallback.
    let ticket = bench.granted("b/m");
    assert!(!ticket.has_fallback());
    bench.settle(ticket);
}

#[test]
fn an_alias_has_its_own_and_a_session_that_is_named_has_none() {
    let mut bench = plain_three();
    for asked in ["big", "big:latest"] {
        let ticket = bench.granted(asked);
        assert_eq!(&*ticket.model, "a/m");
        let ticket = bench.next(ticket, asked);
        assert_eq!(&*ticket.model, "c/m");
        assert!(!ticket.has_fallback());
        bench.settle(ticket);
    }
    let ticket = bench.granted("a/m");
    let session = ticket.session().clone();
    bench.settle(ticket);
    let Ok(Admission::Granted(ticket)) = bench.ask("a/m", Some(session.as_str())) else {
        panic!("it answers");
    };
    assert!(!ticket.has_fallback());
    bench.settle(ticket);
}

#[test]
fn who_is_left_alone_or_has_used_its_rate_up_is_not_asked_at_all() {
    let mut bench = plain_three();
    bench.opens("a/m");
    let before = bench.hub.metrics().fallbacks;
    let ticket = bench.granted("a/m");
    assert_eq!(&*ticket.model, "b/m");
    assert!(ticket.has_fallback());
    bench.settle(ticket);
    assert_eq!(bench.hub.metrics().fallbacks, before + 1);
    bench.opens("b/m");
    bench.answered_by("a/m", "c/m");
    bench.opens("c/m");
    let refusal = bench.ask("a/m", None).unwrap_err();
    assert_eq!(refusal.code(), Code::NoAgent);
    assert!(refusal.message().contains("`a`"), "{refusal}");

    let mut bench = three(Limits::default(), |terms| {
        terms.requests_per_minute = (terms.name == "a").then_some(1);
    });
    bench.answered_by("a/m", "a/m");
    bench.answered_by("a/m", "b/m");
    assert_eq!(bench.hub.metrics().limited_requests, 0);
}

#[test]
fn a_request_that_is_wrong_is_wrong_for_all() {
    let mut bench = three(Limits::default(), |terms| {
        if terms.name == "a" {
            terms.supports = Supports::words(Capabilities::default());
        }
    });
    let insertion = Needs {
        kind: Kind::Insertion,
        ..Needs::default()
    };
    let refusal = bench.ask_for("a/m", None, insertion).unwrap_err();
    assert_eq!((refusal.status(), refusal.param()), (400, Some("suffix")));
}

#[test]
fn a_fallback_that_is_busy_is_waited_for_where_there_is_room() {
    for length in [0, 1, 2] {
        let limits = Limits {
            queue_length: length,
            ..Limits::default()
        };
        let mut bench = three(limits, |terms| terms.concurrency = Some(1));
        let busy = bench.granted("b/m");
        let failed = bench.granted("a/m");
        let first = bench.falls_back(failed, "a/m");
        let Ok(Admission::Queued(wait)) = first else {
            assert_eq!(length, 0, "{first:?}");
            bench.settle(busy);
            bench.settle(*first.unwrap_err());
            continue;
        };
        assert_ne!(length, 0);
        assert!(matches!(bench.claim(wait), Claim::Waiting));
        assert_eq!(bench.hub.metrics().fallbacks, 1);
        let failed = bench.granted("a/m");
        let second = bench.falls_back(failed, "a/m");
        assert_eq!(second.is_ok(), length == 2, "{second:?}");
        bench.settle(busy);
        let Claim::Granted(ticket) = bench.claim(wait) else {
            panic!("it has room");
        };
        assert_eq!(&*ticket.model, "b/m");
        assert!(ticket.has_fallback());
        bench.settle(ticket);
        match second {
            Err(ticket) => bench.settle(*ticket),
            Ok(Admission::Queued(wait)) => match bench.claim(wait) {
                Claim::Granted(ticket) => bench.settle(ticket),
                other => panic!("{other:?}"),
            },
            Ok(Admission::Granted(ticket)) => panic!("{ticket:?}"),
        }
        assert_eq!(bench.hub.metrics().open, 0);
    }
}

#[test]
fn a_program_that_ends_asks_nobody_else() {
    let mut bench = plain_three();
    let ticket = bench.granted("a/m");
    assert!(!bench.hub.is_draining());
    bench.hub.drain(bench.now, &mut bench.out);
    assert!(bench.hub.is_draining());
    let Err(ticket) = bench.falls_back(ticket, "a/m") else {
        panic!("it drains");
    };
    bench.settle(*ticket);
}

#[test]
fn who_is_not_there_is_known_by_its_name_or_by_the_models_that_it_had() {
    let mut bench = plain();
    bench.configure(|config| {
        config.fallbacks = ["far", "cursor"]
            .map(|of| Fallback {
                of: of.into(),
                models: vec!["b/m".into()],
            })
            .into();
    });
    bench.upstream(&terms("b", &["m"]));
    for asked in ["cursor", "cursor/large", "far", "cursor:latest"] {
        bench.answered_by(asked, "b/m");
    }
    for unknown in ["cursory", "curs", "m2"] {
        let refusal = bench.ask(unknown, None).unwrap_err();
        assert_eq!(refusal.code(), Code::ModelNotFound, "{unknown}");
    }
    let hello = Hello {
        token: None,
        dialled: Some(Dialled {
            name: "far",
            ..Dialled::default()
        }),
    };
    let link = bench.hub.connect(bench.now, hello, &mut bench.out).unwrap();
    let registration = crate::link::Registration {
        agent_id: "there".into(),
        models: vec!["other".into(), "another".into()],
        ..Default::default()
    };
    let (session, _) = bench.register(link, registration);
    bench.answered_by("another", "another");
    let own = bench.agent("plain").1;
    bench.control("operator", &own, Action::Suspend).unwrap();
    assert_eq!(bench.ask("plain", None).unwrap_err().code(), Code::NoAgent);
    bench
        .control("operator", &session, Action::Suspend)
        .unwrap();
    bench.answered_by("another", "b/m");
    bench.answered_by("other", "b/m");
}

#[test]
fn one_that_may_answer_fewer_prompts_than_there_are_is_passed_over() {
    let mut bench = plain_three();
    bench.configure(|config| config.aliases[0].fallback = vec!["few".into(), "c/m".into()]);
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "few".into(),
        models: vec!["few".into()],
        max_requests: Some(1),
        ..Default::default()
    };
    bench.register(link, registration);
    let several = Ask {
        prompts: 2,
        ..of_model("my-gpt-4o")
    };
    bench.configure(|config| config.aliases[0].model = "a/m".into());
    let Ok(Admission::Granted(ticket)) = bench.ask_as("editor", &several) else {
        panic!("it answers");
    };
    assert_eq!(&*ticket.model, "a/m");
    let now = bench.now;
    let fallen = bench.hub.fall_back(now, ticket, &several, &mut bench.out);
    let Ok(Admission::Granted(ticket)) = fallen else {
        panic!("{fallen:?}");
    };
    assert_eq!(&*ticket.model, "c/m");
    bench.settle(ticket);
    let alone = Ask {
        model: "few",
        ..several
    };
    let refusal = bench.ask_as("editor", &alone).unwrap_err();
    assert!(refusal.message().contains("1 requests more"), "{refusal}");
}
