//! Upstreams: their models, their circuits and their own rates.

use super::*;
use crate::config::CircuitLimits;
use crate::error::Code;
use crate::hub::upstreams::{UpstreamStatus, UpstreamTerms, own_name};
use crate::invocation::{Kind, Usage};
use crate::supports::{Capabilities, Supports};
use alloc::vec::Vec;

pub(super) fn terms(name: &str, models: &[&str]) -> UpstreamTerms {
    UpstreamTerms {
        name: name.into(),
        supports: Supports::default(),
        models: models.iter().map(ToString::to_string).collect(),
        concurrency: None,
        requests_per_minute: None,
        tokens_per_minute: None,
        circuit: CircuitLimits {
            failures: 2,
            pause: Duration::from_secs(30),
        },
        patience: Duration::from_secs(10),
    }
}

impl Bench {
    pub(super) fn upstream(&mut self, terms: &UpstreamTerms) -> LinkId {
        self.hub
            .add_upstream(self.now, terms, &mut self.out)
            .unwrap()
    }

    pub(super) fn upstream_state(&self, name: &str) -> UpstreamStatus {
        let all = self.hub.upstreams();
        all.into_iter().find(|it| &*it.name == name).unwrap()
    }

    /// The upstream of an exchange fails. True when it is left alone from now on.
    pub(super) fn upstream_fails(&mut self, ticket: Ticket) -> bool {
        let is_open = self.hub.upstream_failed(self.now, &ticket, &mut self.out);
        let failed = Outcome::new(Verdict::Failed(Code::AgentFault), 502, 0);
        self.conclude(Some(ticket), &failed);
        is_open
    }

    /// The upstream of an exchange answers, and that takes so many tokens.
    fn upstream_answers(&mut self, ticket: Ticket, tokens: u64) {
        let outcome = Outcome {
            usage: Usage {
                prompt_tokens: tokens,
                ..Usage::default()
            },
            first_chunk: Some(self.now),
            ..Outcome::new(Verdict::Completed, 200, 0)
        };
        self.conclude(Some(ticket), &outcome);
    }

    fn learns(&mut self, link: LinkId, models: &[&str]) {
        let models: Vec<String> = models.iter().map(ToString::to_string).collect();
        self.hub
            .upstream_models(self.now, link, &models, &mut self.out);
    }

    fn waits(&mut self, model: &str) -> WaitId {
        match self.ask(model, None) {
            Ok(Admission::Queued(wait)) => wait,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for so many tokens.
    fn costs(&mut self, model: &str, tokens: u64) -> Result<Ticket, Refusal> {
        let ask = Ask {
            model,
            session: None,
            prompts: 1,
            tokens,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        match self.ask_as("editor", &ask)? {
            Admission::Granted(ticket) => Ok(ticket),
            Admission::Queued(wait) => panic!("{wait:?} waits"),
        }
    }

    fn code(&mut self, model: &str) -> Code {
        self.ask(model, None).unwrap_err().code()
    }
}

#[test]
fn models_have_the_name_of_their_upstream_and_a_bare_one_where_that_is_plain() {
    // No session answers more than one request, but for those of upstreams.
    let policy = SessionPolicy {
        max_requests: 1,
        ..SessionPolicy::default()
    };
    let mut bench = bench(Limits::default(), policy);
    let a = bench.upstream(&terms("a", &["m", "n"]));
    let b = bench.upstream(&terms("b", &["m"]));
    for (asked, link, model) in [
        ("a/m", a, "a/m"),
        ("b/m", b, "b/m"),
        ("n", a, "a/n"),
        ("n:latest", a, "a/n"),
        ("a/n", a, "a/n"),
    ] {
        let ticket = bench.granted(asked);
        assert_eq!((ticket.link, &*ticket.model), (link, model), "{asked}");
        assert!(["a", "b"].contains(&&*ticket.label), "{}", ticket.label);
        let name = ticket.label.to_string();
        assert_eq!(bench.upstream_state(&name).in_flight, 1);
        bench.settle(ticket);
        assert_eq!(bench.upstream_state(&name).in_flight, 0);
    }
    // The alias stands for it.
    for asked in ["m", "my-gpt-4o"] {
        let refusal = bench.ask(asked, None).unwrap_err();
        assert_eq!(refusal.code(), Code::ModelNotFound);
        assert!(refusal.message().contains("`a/m`, `b/m`"), "{refusal}");
        assert!(refusal.lists_models());
    }
    let refusal = bench.ask("o", None).unwrap_err();
    assert!(!refusal.message().contains("several"), "{refusal}");
    let states = bench.hub.upstreams();
    let states: Vec<_> = states
        .iter()
        .map(|it| (&*it.name, it.models, it.requests))
        .collect();
    assert_eq!(states, [("a", 2, 4), ("b", 1, 1)]);
    let lists = bench.hub.lists();
    let listed: Vec<_> = lists
        .models
        .iter()
        .map(|it| (&*it.name, it.agent.as_deref()))
        .filter(|(name, _)| *name != "my-gpt-4o")
        .collect();
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(
        listed,
        [("a/m", a), ("a/n", a), ("b/m", b), ("n", a)],
        "a name that means two models is listed for neither"
    );
    for (model, own) in [
        ("a/m", Some("m")),
        ("a/x/y", Some("x/y")),
        ("am", None),
        ("ab/m", None),
        ("b/m", None),
    ] {
        assert_eq!(own_name("a", model), own, "{model}");
    }
}

#[test]
fn an_agent_has_its_name_before_an_upstream_has_it_bare() {
    let mut bench = plain();
    let upstream = bench.upstream(&terms("a", &["m"]));
    assert_eq!(bench.hub.awaited(), []);
    let ticket = bench.granted("m");
    assert_eq!(ticket.link, upstream);
    assert_eq!(
        bench.hub.awaited(),
        [],
        "an upstream answers in its own task"
    );
    bench.settle(ticket);
    let (agent, ..) = bench.agent("m");
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, &*ticket.model), (agent, "m"));
    assert_eq!(bench.hub.awaited(), [(agent, 1)]);
    bench.settle(ticket);
    assert_eq!(bench.hub.awaited(), []);
    let ticket = bench.granted("a/m");
    assert_eq!(ticket.link, upstream);
    bench.settle(ticket);
    let model = bench.hub.lists().model("m").cloned().unwrap();
    assert_eq!(model.agent.as_deref(), Some("agent"));
}

#[test]
fn requests_wait_for_the_first_list_of_models() {
    let mut bench = plain();
    let link = bench.upstream(&terms("a", &[]));
    assert!(bench.hub.lists().model("a").is_none(), "it is no model");
    let (known, unknown) = (bench.waits("a/m"), bench.waits("a/x"));
    bench.learns(LinkId(99), &["m"]);
    assert!(matches!(bench.claim(known), Claim::Waiting));
    bench.learns(link, &["m"]);
    let Claim::Granted(ticket) = bench.claim(known) else {
        panic!("its model is known");
    };
    assert_eq!((ticket.link, &*ticket.model), (link, "a/m"));
    bench.settle(ticket);
    let Claim::Refused(refusal) = bench.claim(unknown) else {
        panic!("it has no such model");
    };
    assert_eq!(refusal.code(), Code::ModelNotFound);
    // Another list takes its place.
    bench.learns(link, &["n", "o"]);
    assert_eq!(bench.code("a/m"), Code::ModelNotFound);
    let ticket = bench.granted("n");
    assert_eq!(&*ticket.model, "a/n");
    bench.settle(ticket);
    assert_eq!(bench.upstream_state("a").models, 2);
    let many: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    bench.learns(link, &many);
    assert_eq!(bench.upstream_state("a").models, 256);
    assert_eq!(bench.code("a/256"), Code::ModelNotFound);
    let ticket = bench.granted("255");
    bench.settle(ticket);
}

#[test]
fn the_reason_for_which_there_is_no_list_is_told() {
    let mut bench = plain();
    let link = bench.upstream(&terms("a", &[]));
    let wait = bench.waits("a/m");
    bench.pass(Duration::from_secs(10));
    let Claim::Refused(refusal) = bench.claim(wait) else {
        panic!("the list has not come in time");
    };
    assert_eq!(refusal.code(), Code::NoAgent);
    let late = "of the upstream `a` has not come within its connect_timeout";
    assert!(refusal.message().contains(late), "{refusal}");
    assert_eq!(bench.upstream_state("a").unlisted, None);
    let why = "the connection is refused";
    bench
        .hub
        .upstream_unlisted(bench.now, link, why, &mut bench.out);
    assert_eq!(bench.upstream_state("a").unlisted.as_deref(), Some(why));
    let refusal = bench.ask("a/m", None).unwrap_err();
    assert!(refusal.message().contains(why), "{refusal}");
    bench.learns(link, &["m"]);
    assert_eq!(bench.upstream_state("a").unlisted, None);
    // A list that cannot be read again changes nothing of what is known.
    bench
        .hub
        .upstream_unlisted(bench.now, link, why, &mut bench.out);
    let ticket = bench.granted("a/m");
    bench.settle(ticket);
    assert_eq!(bench.code("a/x"), Code::ModelNotFound);
}

#[test]
fn an_upstream_that_fails_again_and_again_is_left_alone_and_then_asked_once() {
    let mut bench = plain();
    bench.upstream(&terms("a", &["m"]));
    let state = |bench: &Bench| {
        let state = bench.upstream_state("a");
        (state.circuit, state.failures, state.failed)
    };
    let ticket = bench.granted("a/m");
    assert!(!bench.upstream_fails(ticket));
    assert_eq!(state(&bench), ("closed", 1, 1));
    let ticket = bench.granted("a/m");
    bench.upstream_answers(ticket, 1);
    assert_eq!(state(&bench), ("closed", 0, 1));
    let (one, two, open) = (
        bench.granted("a/m"),
        bench.granted("a/m"),
        bench.granted("a/m"),
    );
    assert!(!bench.upstream_fails(one));
    assert!(!bench.hub.is_upstream_left_alone(&open));
    assert!(bench.upstream_fails(two));
    assert_eq!(state(&bench), ("open", 2, 3));
    let until = bench.now + Duration::from_secs(30);
    assert_eq!(bench.upstream_state("a").open_until, Some(until));
    assert!(bench.hub.is_upstream_left_alone(&open));
    bench.settle(open);
    let timeout = bench.hub.poll_timeout().unwrap();
    assert!(timeout.at <= until, "{timeout:?}");
    // It is in the lists all the same: clients that see it go take it out of their own.
    assert!(bench.hub.lists().model("a/m").is_some());
    let refusal = bench.ask("a/m", None).unwrap_err();
    assert_eq!(refusal.code(), Code::NoAgent);
    let why = "the upstream `a` has failed several times in a row";
    assert!(refusal.message().contains(why), "{refusal}");
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.code("a/m"), Code::NoAgent);
    bench.pass(Duration::from_secs(1));
    assert_eq!(state(&bench).0, "probing");
    let probe = bench.granted("a/m");
    let wait = bench.waits("a/m");
    assert!(bench.upstream_fails(probe), "one failure ends the probe");
    assert_eq!(state(&bench), ("open", 2, 4));
    bench.pass(Duration::from_secs(30));
    let Claim::Refused(_) = bench.claim(wait) else {
        panic!("it has waited too long");
    };
    let probe = bench.granted("a/m");
    let wait = bench.waits("a/m");
    bench.upstream_answers(probe, 1);
    assert_eq!(state(&bench), ("closed", 0, 4));
    let Claim::Granted(ticket) = bench.claim(wait) else {
        panic!("it may be asked again");
    };
    bench.settle(ticket);
}

#[test]
fn an_upstream_has_rates_and_room_of_its_own() {
    let mut bench = plain();
    let narrow = UpstreamTerms {
        requests_per_minute: Some(2),
        ..terms("few", &["m"])
    };
    bench.upstream(&narrow);
    for _ in 0..2 {
        let ticket = bench.granted("few/m");
        bench.settle(ticket);
    }
    let refusal = bench.ask("few/m", None).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (429, Code::RateLimited));
    assert!(
        refusal.message().contains("the upstream `few`"),
        "{refusal}"
    );
    assert_eq!(bench.hub.metrics().limited_requests, 1);

    let small = UpstreamTerms {
        tokens_per_minute: Some(100),
        ..terms("small", &["m"])
    };
    bench.upstream(&small);
    // What was reserved and not used goes back.
    let ticket = bench.costs("small/m", 60).unwrap();
    assert_eq!(bench.costs("small/m", 41).unwrap_err().status(), 429);
    bench.upstream_answers(ticket, 10);
    assert_eq!(bench.costs("small/m", 91).unwrap_err().status(), 429);
    let ticket = bench.costs("small/m", 40).unwrap();
    // What was used beyond it is taken: 90 - 40 - 20.
    bench.upstream_answers(ticket, 60);
    assert_eq!(bench.costs("small/m", 31).unwrap_err().status(), 429);
    let ticket = bench.costs("small/m", 10).unwrap();
    bench.upstream_answers(ticket, 10);
    assert_eq!(bench.costs("small/m", 21).unwrap_err().status(), 429);
    let ticket = bench.costs("small/m", 20).unwrap();
    bench.settle(ticket);

    let single = UpstreamTerms {
        concurrency: Some(1),
        supports: Supports::words(Capabilities::default()),
        ..terms("single", &["m"])
    };
    bench.upstream(&single);
    let ticket = bench.granted("single/m");
    let wait = bench.waits("single/m");
    bench.settle(ticket);
    let Claim::Granted(ticket) = bench.claim(wait) else {
        panic!("there is room");
    };
    bench.settle(ticket);
    let insertion = Needs {
        kind: Kind::Insertion,
        ..Needs::default()
    };
    let refusal = bench.ask_for("single/m", None, insertion).unwrap_err();
    assert_eq!((refusal.status(), refusal.param()), (400, Some("suffix")));
}

#[test]
fn a_session_that_takes_the_place_of_a_revoked_upstream_gets_nothing_of_it() {
    let mut bench = plain();
    let upstream = bench.upstream(&terms("a", &["m"]));
    let ticket = bench.granted("a/m");
    let session = ticket.session().clone();
    bench.settle(ticket);
    let end = |bench: &mut Bench, session: &SessionId| {
        bench.control("operator", session, Action::Revoke).unwrap();
    };
    end(&mut bench, &session);
    // Sessions that have ended are remembered, so many at most.
    for _ in 0..300 {
        let (_, session, _) = bench.agent("other");
        end(&mut bench, &session);
    }
    let (link, _, _) = bench.agent("mine");
    bench.learns(upstream, &["m", "n"]);
    bench.hub.handle_timeout(bench.now, &mut bench.out);
    let ticket = bench.granted("mine");
    assert_eq!(ticket.link, link);
    bench.settle(ticket);
    for model in ["a/m", "a/n", "n"] {
        assert!(bench.ask(model, None).is_err(), "{model}");
    }
    assert!(bench.hub.upstreams().is_empty());
}
