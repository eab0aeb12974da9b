//! Figures: counters, histograms, and what happened in the last minutes.

use super::*;
use crate::hub::metrics::{BOUNDS, Gaps, Histogram, Tally};
use crate::invocation::Usage;
use crate::scope::Scope;
use crate::supports::{Capabilities, Supports};

/// The end of an answer for which the agent counted so many tokens.
fn ended(verdict: Verdict, status: u16, tokens: u64) -> Outcome {
    Outcome {
        usage: Usage {
            prompt_tokens: tokens,
            completion_tokens: 0,
            estimated: false,
        },
        ..Outcome::new(verdict, status, 0)
    }
}

impl Bench {
    fn ask_for_tokens(&mut self, tokens: u64) -> Result<Admission, Refusal> {
        let ask = Ask {
            model: "m",
            session: None,
            prompts: 1,
            tokens,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        self.ask_as("editor", &ask)
    }
}

#[test]
fn everything_is_counted_as_often_as_it_happens() {
    let limits = Limits {
        exchanges: 1,
        queue_length: 0,
        tokens_per_minute: 100,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    for _ in 0..2 {
        let (link, session, _) = bench.agent("gone");
        bench.hub.disconnected(bench.now, link, &mut bench.out);
        bench.pass(Duration::from_secs(300));
        assert_eq!(bench.status(&session), Status::Expired);
        let (_, session, _) = bench.agent("gone");
        bench.control("operator", &session, Action::Revoke).unwrap();
    }
    bench.agent("m");
    for (verdict, status) in [
        (Verdict::Completed, 200),
        (Verdict::Failed(Code::AgentError), 502),
        (Verdict::ClientGone, 499),
    ] {
        for _ in 0..2 {
            let ticket = bench.granted("m");
            assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::Overloaded);
            bench.conclude(Some(ticket), &ended(verdict, status, 0));
        }
    }
    for (code, status) in [(Code::InvalidKey, 401), (Code::RoleDenied, 403)] {
        for _ in 0..2 {
            bench.conclude(None, &Outcome::new(Verdict::Failed(code), status, 0));
        }
    }
    let ticket = bench.granted("m");
    bench.conclude(Some(ticket), &ended(Verdict::Completed, 200, 100));
    for _ in 0..2 {
        let refused = bench.ask_for_tokens(50).unwrap_err();
        assert_eq!(refused.exceeded().unwrap().limit, "tokens_per_minute");
    }
    bench.pass(Duration::from_secs(60));
    bench.configure(|config| config.keys[0].requests_per_minute = Some(1));
    let ticket = bench.granted("m");
    bench.settle(ticket);
    for _ in 0..2 {
        let refused = bench.ask("m", None).unwrap_err();
        assert_eq!(refused.exceeded().unwrap().limit, "requests_per_minute");
    }
    let metrics = bench.hub.metrics();
    assert_eq!(
        [metrics.admitted, metrics.settled, metrics.completed],
        [8, 8, 4]
    );
    assert_eq!([metrics.failed, metrics.cancelled], [2, 2]);
    assert_eq!(metrics.overloaded, 6);
    assert_eq!([metrics.limited_tokens, metrics.limited_requests], [2, 2]);
    assert_eq!([metrics.unauthenticated, metrics.violations], [2, 2]);
    assert_eq!(
        [
            metrics.sessions_made,
            metrics.sessions_expired,
            metrics.sessions_revoked
        ],
        [5, 2, 2]
    );
    let snapshot = bench.hub.snapshot(bench.now);
    let answers = |status| {
        let found = snapshot.requests.iter().find(|one| one.status == status);
        found.map(|one| one.count)
    };
    assert_eq!(
        [200, 401, 403, 499, 502].map(answers),
        [4, 2, 2, 2, 2].map(Some)
    );
}

#[test]
fn the_requests_of_a_session_that_are_over_its_own_rate_are_counted() {
    let mut bench = plain();
    bench.connect("bridge").unwrap();
    let registration = Registration {
        agent_id: "slow".into(),
        requests_per_minute: Some(1),
        ..Registration::default()
    };
    let caller = bench.caller("bridge");
    bench
        .hub
        .register_by_control(bench.now, &caller, registration, &mut bench.out)
        .unwrap();
    let ticket = bench.granted("slow");
    bench.settle(ticket);
    for _ in 0..2 {
        assert!(bench.ask("slow", None).is_err());
    }
    assert_eq!(bench.hub.metrics().limited_requests, 2);
}

#[test]
fn what_happened_in_the_last_five_minutes_is_told_and_nothing_older() {
    let mut bench = plain();
    let (link, ..) = bench.agent("m");
    for status in [200, 499, 500, 502] {
        bench.conclude(None, &Outcome::new(Verdict::Completed, status, 0));
    }
    let told = |bench: &Bench| {
        let snapshot = bench.hub.snapshot(bench.now);
        (snapshot.recent, snapshot.recent_span.as_secs())
    };
    let first = Tally {
        requests: 4,
        failed: 2,
        sessions_made: 1,
        sessions_expired: 0,
    };
    assert_eq!(told(&bench), (first, 0));
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    bench.pass(Duration::from_secs(289));
    bench.conclude(None, &Outcome::new(Verdict::Completed, 200, 0));
    let both = Tally {
        requests: 5,
        ..first
    };
    assert_eq!(told(&bench), (both, 289));
    bench.pass(Duration::from_secs(11));
    let later = Tally {
        requests: 1,
        sessions_expired: 1,
        ..Tally::default()
    };
    assert_eq!(told(&bench), (later, 300));
    bench.pass(Duration::from_secs(600));
    assert_eq!(told(&bench), (Tally::default(), 300));
}

#[test]
fn a_duration_is_counted_below_the_least_bound_that_it_does_not_exceed() {
    for (at, bound) in BOUNDS.iter().enumerate() {
        for (micros, bucket) in [(*bound, at), (*bound + 1, at + 1)] {
            let duration = Duration::from_micros(micros);
            let (mut histogram, mut gaps) = (Histogram::default(), Gaps::default());
            for _ in 0..2 {
                histogram.observe(duration);
                gaps.observe(duration);
            }
            let mut expected = [0; BOUNDS.len() + 1];
            expected[bucket] = 2;
            assert_eq!(histogram.buckets, expected, "{micros}");
            assert_eq!((histogram.count, histogram.sum), (2, 2 * micros));
            assert_eq!(histogram.mean(), Some(duration));
            let mut absorbed = Histogram::default();
            absorbed.absorb(&gaps);
            assert_eq!(absorbed, histogram);
            absorbed.absorb(&gaps);
            assert_eq!((absorbed.count, absorbed.buckets[bucket]), (4, 4));
        }
    }
    let mut together = Gaps::default();
    together.observe(Duration::ZERO);
    let mut histogram = Histogram::default();
    histogram.absorb(&together);
    assert_eq!((histogram.buckets[0], histogram.sum), (1, 0));
    assert_eq!(Histogram::default().mean(), None);
}

#[test]
fn a_model_is_listed_with_the_most_that_any_of_its_sessions_can() {
    let all = Capabilities {
        tools: true,
        vision: true,
        embeddings: true,
        insert: true,
        thinking: true,
        context_length: Some(9),
    };
    for turned in [false, true] {
        let mut bench = plain();
        let begun = bench.now;
        let mut kinds = [Capabilities::default(), all];
        if turned {
            kinds.reverse();
        }
        for capabilities in kinds {
            let link = bench.connect("bridge").unwrap();
            let registration = crate::link::Registration {
                agent_id: "able".into(),
                models: vec!["m".into()],
                supports: Supports::declared(Scope::Inference.into(), capabilities),
                ..Default::default()
            };
            bench.register(link, registration);
            bench.now = bench.now + Duration::from_secs(1);
        }
        let lists = bench.hub.lists();
        let model = lists.model("m").unwrap();
        assert_eq!((model.capabilities, model.created_at), (all, begun));
    }
}
