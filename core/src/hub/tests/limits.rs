//! Limits of keys and addresses, and what they get back.

use super::*;
use crate::hub::limiter::Payer;
use crate::invocation::Needs;
use core::net::Ipv4Addr;

const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

#[test]
fn a_session_has_a_rate_of_its_own() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    let caller = bench.caller("bridge");
    let registration = Registration {
        agent_id: "slow".into(),
        requests_per_minute: Some(2),
        ..Registration::default()
    };
    let (now, out) = (bench.now, &mut bench.out);
    bench
        .hub
        .register_by_control(now, &caller, registration, out)
        .unwrap();
    for _ in 0..2 {
        let ticket = bench.granted("slow");
        assert_eq!(ticket.link, link);
        bench.settle(ticket);
    }
    let left = |bench: &mut Bench| {
        let payer = Payer::new(bench.caller("editor").authority, HOME);
        bench
            .hub
            .limiter
            .standing(bench.now, payer)
            .remaining_tokens
    };
    let before = left(&mut bench);
    let refused = bench.ask("slow", None).unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert_eq!(refused.retry_after_seconds(), Some(30));
    assert!(
        refused.message().contains("2 requests a minute"),
        "{refused}"
    );
    assert_eq!(refused.exceeded().map(|one| one.current), Some(2));
    assert_eq!(left(&mut bench), before, "what was reserved is given back");
    bench.now = bench.now + Duration::from_secs(30);
    let ticket = bench.granted("slow");
    bench.settle(ticket);
}

impl Bench {
    /// Asks from anywhere, with a key or without.
    fn ask_from(
        &mut self,
        key: Option<&str>,
        address: IpAddr,
        tokens: u64,
    ) -> Result<Admission, Refusal> {
        let caller = self.hub.keys().authenticate(key, address).unwrap();
        let ask = Ask {
            model: "m",
            session: None,
            prompts: 1,
            tokens,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        self.hub.admit(self.now, &caller, &ask)
    }

    fn run_from(&mut self, key: Option<&str>, address: IpAddr, tokens: u64) -> Result<(), Refusal> {
        match self.ask_from(key, address, tokens)? {
            Admission::Granted(ticket) => {
                self.settle(ticket);
                Ok(())
            }
            Admission::Queued(wait) => panic!("{wait:?}"),
        }
    }

    fn tokens_left(&mut self, key: &str) -> u64 {
        let caller = self.caller(key);
        let payer = super::super::limiter::Payer::new(caller.authority, HOME);
        self.hub.limiter.standing(self.now, payer).remaining_tokens
    }
}

/// The key `editor` may ask `own` times a minute, everybody else twice.
fn limited(own: Option<u32>) -> Bench {
    let mut bench = plain();
    bench.agent("m");
    let mut config = bench.hub.config().clone();
    config.limits.requests_per_minute = 2;
    config.limits.burst = 2;
    config.auth_required = false;
    config.keys[0].requests_per_minute = own;
    bench.hub.reload(bench.now, config, &mut bench.out);
    bench
}

#[test]
fn a_keys_own_limit_holds_wherever_it_asks_from() {
    for address in [HOME, FAR] {
        let mut bench = limited(Some(5));
        for _ in 0..5 {
            bench.run_from(Some("editor"), address, 1).unwrap();
        }
        let refusal = bench.run_from(Some("editor"), address, 1).unwrap_err();
        assert_eq!(refusal.code(), Code::RateLimited);
        // Those without a key who share its address have lost nothing.
        bench.run_from(None, address, 1).unwrap();
    }
}

#[test]
fn a_429_describes_the_bucket_that_refused() {
    for (own, key, said, limit, wait) in [
        (
            Some(5),
            Some("editor"),
            "`editor` has used its 5 requests a minute (its own",
            5,
            12,
        ),
        (
            None,
            Some("editor"),
            "`editor` has used its 2 requests a minute (limits.",
            2,
            30,
        ),
        (
            Some(5),
            None,
            "address 192.0.2.7, without a key, has used its 2 requests",
            2,
            30,
        ),
    ] {
        let mut bench = limited(own);
        for _ in 0..limit {
            bench.run_from(key, FAR, 1).unwrap();
        }
        let refusal = bench.run_from(key, FAR, 1).unwrap_err();
        assert_eq!(refusal.status(), 429, "{said}");
        assert!(refusal.message().contains(said), "{refusal}");
        assert_eq!(refusal.retry_after_seconds(), Some(wait), "{said}");
        let left = refusal.left().unwrap();
        assert_eq!((left.limit_requests, left.remaining_requests), (limit, 0));
    }
}

#[test]
fn under_other_limits_nobody_waits_for_longer_than_an_empty_bucket_takes() {
    for key in [Some("editor"), None] {
        let mut bench = limited(None);
        for _ in 0..2 {
            bench.run_from(key, FAR, 1).unwrap();
        }
        bench.configure(|config| {
            config.limits.requests_per_minute = 60;
            config.limits.burst = 1;
        });
        let refusal = bench.run_from(key, FAR, 1).unwrap_err();
        assert_eq!(refusal.retry_after_seconds(), Some(1), "{key:?}");
    }
}

#[test]
fn tokens_of_a_wait_that_came_to_nothing_come_back() {
    let limits = Limits {
        exchanges: 1,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("m");
    let first = bench.granted("m");
    let before = bench.tokens_left("editor");
    let wait = |bench: &mut Bench| match bench.ask_from(Some("editor"), HOME, 700) {
        Ok(Admission::Queued(wait)) => wait,
        other => panic!("{other:?}"),
    };
    let (refused, left) = (wait(&mut bench), wait(&mut bench));
    assert_eq!(bench.tokens_left("editor"), before - 1400);
    assert!(bench.hub.leave(bench.now, left).is_none());
    assert_eq!(bench.tokens_left("editor"), before - 700, "it left");
    // Refused without that any time passes.
    bench.hub.drain(bench.now, &mut bench.out);
    assert!(matches!(bench.claim(refused), Claim::Refused(_)));
    assert_eq!(bench.tokens_left("editor"), before, "it was refused");
    bench.settle(first);
}

#[test]
fn whoever_tries_keys_is_limited_by_address_and_forgotten_once_it_has_stopped() {
    let mut bench = limited(None);
    let far: IpAddr = [192, 0, 2, 1].into();
    assert!(bench.hub.poll_timeout().is_none());
    for allowed in [true, true, false, false] {
        let refused = bench.hub.refused_for_its_key(bench.now, far);
        assert_eq!(refused.is_ok(), allowed, "{refused:?}");
    }
    assert!(bench.hub.poll_timeout().is_some(), "its bucket fills up");
    for _ in 0..10 {
        bench.pass(Duration::from_secs(60));
    }
    assert!(bench.hub.poll_timeout().is_none(), "nothing is kept of it");
    assert!(bench.hub.refused_for_its_key(bench.now, far).is_ok());
}
