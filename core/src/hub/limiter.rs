//! Token buckets for requests and tokens, for each key and each client address.
//!
//! A bucket is kept as the time at which it will be full again (the generic cell rate algorithm): one number, no refill
//! work, and `Retry-After` falls out of it.

use super::keys::Authority;
use crate::config::{Key, Limits};
use crate::error::Standing;
use crate::id::KeyId;
use crate::time::Instant;
use alloc::collections::BTreeSet;
use core::net::IpAddr;
use core::time::Duration;
use hashbrown::HashMap;

/// Client addresses that are told apart; more share one bucket.
const ADDRESSES: usize = 10_000;

/// A rate: units per minute, and units at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one unit takes to come back, rounded up.
    period: u64,
    /// Units that a full bucket holds.
    burst: u64,
}

impl Rate {
    /// So many units in each period, and at once. Zero is taken for one.
    #[must_use]
    pub fn in_period(units: u32, period: Duration) -> Self {
        let units = u64::from(units.max(1));
        let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self {
            period: nanoseconds.div_ceil(units).max(1),
            burst: units,
        }
    }

    /// Zero of either is taken for one.
    #[must_use]
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        let per_minute = if per_minute == 0 { 1 } else { per_minute };
        let burst = if burst == 0 { 1 } else { burst };
        Self {
            period: 60_000_000_000u64.div_ceil(per_minute as u64),
            burst: burst as u64,
        }
    }
}

/// One bucket: the nanosecond at which it is full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: u64,
}

fn nanos(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1000)
}

impl Bucket {
    /// The bucket that is full again at a nanosecond.
    pub(super) const fn full_at(nanosecond: u64) -> Self {
        Self {
            full_at: nanosecond,
        }
    }

    /// The nanosecond at which it is full again.
    pub(super) const fn nanosecond(self) -> u64 {
        self.full_at
    }

    /// Takes `cost` units, at most a full bucket's. `Err` is how long to wait until they are there.
    ///
    /// # Errors
    /// The wait, when fewer units are left.
    pub fn take(&mut self, now: Instant, cost: u64, rate: Rate) -> Result<(), Duration> {
        let now = nanos(now);
        let after = self
            .full_at
            .max(now)
            .saturating_add(cost.min(rate.burst).saturating_mul(rate.period));
        let limit = now.saturating_add(rate.burst.saturating_mul(rate.period));
        if after > limit {
            return Err(Duration::from_nanos(after - limit));
        }
        self.full_at = after;
        Ok(())
    }

    /// Gives `units` back.
    pub fn give_back(&mut self, units: u64, rate: Rate) {
        self.full_at = self
            .full_at
            .saturating_sub(units.min(rate.burst).saturating_mul(rate.period));
    }

    /// Takes `units` that have been used already, even when they are not there.
    pub fn charge(&mut self, now: Instant, units: u64, rate: Rate) {
        self.full_at = self
            .full_at
            .max(nanos(now))
            .saturating_add(units.min(rate.burst).saturating_mul(rate.period));
    }

    /// Returns the time until it is full again.
    #[must_use]
    pub fn refill(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.full_at.saturating_sub(nanos(now)))
    }

    /// Whole units that are left.
    #[must_use]
    pub fn left(&self, now: Instant, rate: Rate) -> u64 {
        let missing = self
            .full_at
            .saturating_sub(nanos(now))
            .div_ceil(rate.period);
        rate.burst.saturating_sub(missing)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    requests: Bucket,
    tokens: Bucket,
}

/// The buckets of one payer.
struct Account<'a> {
    pair: &'a mut Pair,
    requests: Rate,
    tokens: Rate,
}

/// The limit that refused, with the time until it has enough units again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// `limits.requests_per_minute`.
    Requests(Duration),
    /// `limits.tokens_per_minute`.
    Tokens(Duration),
}

/// The party whose buckets a request draws on: the key that was shown, else the address that the request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A key, wherever it is used.
    Key(KeyId),
    /// A client address, of requests without a key.
    Address(IpAddr),
    /// The same, of a program on this machine that may ask without a key where programs look for an Ollama.
    Local(IpAddr),
}

impl Payer {
    /// The payer of a request.
    #[must_use]
    pub const fn new(authority: Authority, address: IpAddr) -> Self {
        match authority {
            Authority::Key(id) => Self::Key(id),
            Authority::Local => Self::Local(address),
            Authority::Anyone | Authority::Configuration => Self::Address(address),
        }
    }

    /// The permission with which it asks.
    pub(super) const fn authority(self) -> Authority {
        match self {
            Self::Key(id) => Authority::Key(id),
            Self::Address(_) => Authority::Anyone,
            Self::Local(_) => Authority::Local,
        }
    }
}

/// All buckets.
#[derive(Debug)]
pub struct Limiter {
    requests: Rate,
    tokens: Rate,
    keys: HashMap<KeyId, (Pair, Rate, Rate)>,
    addresses: HashMap<IpAddr, Pair>,
    /// Each address at a time in nanoseconds at which its buckets may be full. It is looked at then, and put behind when
    /// they are not, so that a look costs no more than the requests that made it necessary.
    due: BTreeSet<(u64, IpAddr)>,
    others: Pair,
}

impl Limiter {
    /// Default rates for keys without their own, and for addresses.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            requests: Rate::new(limits.requests_per_minute, limits.burst),
            tokens: Rate::new(limits.tokens_per_minute, limits.tokens_per_minute),
            keys: HashMap::new(),
            addresses: HashMap::new(),
            due: BTreeSet::new(),
            others: Pair::default(),
        }
    }

    /// Takes other limits over. A key that stays, and an address, keep what they have used, but never wait longer than a
    /// full bucket of now takes to fill; what is left of keys that are gone is forgotten.
    pub fn configure<'k>(
        &mut self,
        now: Instant,
        limits: &Limits,
        keys: impl Iterator<Item = (KeyId, &'k Key)>,
    ) {
        let Self {
            requests,
            tokens,
            keys: old,
            mut addresses,
            due,
            mut others,
        } = core::mem::replace(self, Self::new(limits));
        for (id, key) in keys {
            let own =
                |rate: Option<u32>, general| rate.map_or(general, |rate| Rate::new(rate, rate));
            let requests = own(key.requests_per_minute, self.requests);
            let tokens = own(key.tokens_per_minute, self.tokens);
            let mut pair = old.get(&id).map(|(pair, ..)| *pair).unwrap_or_default();
            pair.cap(now, requests, tokens);
            self.keys.insert(id, (pair, requests, tokens));
        }
        if (requests, tokens) != (self.requests, self.tokens) {
            for pair in addresses.values_mut().chain([&mut others]) {
                pair.cap(now, self.requests, self.tokens);
            }
        }
        self.addresses = addresses;
        self.due = due;
        self.others = others;
    }

    /// Takes `requests` and `tokens` from the payer's buckets, or nothing at all.
    ///
    /// # Errors
    /// The bucket that refused.
    pub fn take(
        &mut self,
        now: Instant,
        payer: Payer,
        requests: u64,
        tokens: u64,
    ) -> Result<(), Limited> {
        let Some(account) = self.account(now, payer) else {
            return Ok(());
        };
        let rates = (account.requests, account.tokens);
        *account.pair = account.pair.take(now, (requests, tokens), rates)?;
        Ok(())
    }

    /// Corrects an estimate of `reserved` tokens by what was really `used`.
    pub fn correct(&mut self, now: Instant, payer: Payer, reserved: u64, used: u64) {
        let Some(account) = self.account(now, payer) else {
            return;
        };
        let (bucket, rate) = (&mut account.pair.tokens, account.tokens);
        if used > reserved {
            bucket.charge(now, used - reserved, rate);
        } else {
            bucket.give_back(reserved.min(rate.burst).saturating_sub(used), rate);
        }
    }

    /// Returns the payer's remaining limits.
    pub fn standing(&mut self, now: Instant, payer: Payer) -> Standing {
        let Some(account) = self.account(now, payer) else {
            return Standing::default();
        };
        let (requests, tokens) = (account.requests, account.tokens);
        Standing {
            limit_requests: requests.burst,
            remaining_requests: account.pair.requests.left(now, requests),
            limit_tokens: tokens.burst,
            remaining_tokens: account.pair.tokens.left(now, tokens),
            reset_requests: account.pair.requests.refill(now),
            reset_tokens: account.pair.tokens.refill(now),
        }
    }

    /// The buckets of a payer, with their rates; `None` for a key that is gone.
    fn account(&mut self, now: Instant, payer: Payer) -> Option<Account<'_>> {
        match payer {
            Payer::Key(key) => {
                let (pair, requests, tokens) = self.keys.get_mut(&key)?;
                let (requests, tokens) = (*requests, *tokens);
                Some(Account {
                    pair,
                    requests,
                    tokens,
                })
            }
            Payer::Address(address) | Payer::Local(address) => {
                let (requests, tokens) = (self.requests, self.tokens);
                Some(Account {
                    pair: self.address(now, address),
                    requests,
                    tokens,
                })
            }
        }
    }

    /// Forgets addresses whose buckets are full. Called by a timer.
    pub fn sweep(&mut self, now: Instant) {
        let now = nanos(now);
        while let Some((_, address)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            match self.addresses.get(&address).map(Pair::full_at) {
                Some(full_at) if full_at > now => drop(self.due.insert((full_at, address))),
                Some(_) | None => drop(self.addresses.remove(&address)),
            }
        }
    }

    /// True when there is something to sweep.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.addresses.is_empty()
    }

    fn address(&mut self, now: Instant, address: IpAddr) -> &mut Pair {
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&address) {
            self.sweep(now);
            if self.addresses.len() >= ADDRESSES {
                return &mut self.others;
            }
        }
        let due = &mut self.due;
        self.addresses.entry(address).or_insert_with(|| {
            due.insert((nanos(now), address));
            Pair::default()
        })
    }
}

impl Pair {
    /// The nanosecond at which both are full again.
    fn full_at(&self) -> u64 {
        self.requests.full_at.max(self.tokens.full_at)
    }

    /// Lets neither bucket be emptier than empty at these rates.
    fn cap(&mut self, now: Instant, requests: Rate, tokens: Rate) {
        for (bucket, rate) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            let empty = nanos(now).saturating_add(rate.burst.saturating_mul(rate.period));
            bucket.full_at = bucket.full_at.min(empty);
        }
    }

    /// The pair after the request, leaving `self` as it is.
    fn take(
        &self,
        now: Instant,
        (requests, tokens): (u64, u64),
        (request_rate, token_rate): (Rate, Rate),
    ) -> Result<Self, Limited> {
        let mut after = *self;
        after
            .requests
            .take(now, requests, request_rate)
            .map_err(Limited::Requests)?;
        after
            .tokens
            .take(now, tokens, token_rate)
            .map_err(Limited::Tokens)?;
        Ok(after)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use core::net::Ipv4Addr;
    use core::num::NonZeroU32;
    use proptest::prelude::*;

    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn limits(requests: u32, tokens: u32) -> Limits {
        Limits {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            burst: requests,
            ..Limits::default()
        }
    }

    /// A limiter that knows one key.
    fn limiter(limits: &Limits) -> (Limiter, Payer) {
        let mut limiter = Limiter::new(limits);
        let key = Key::new("editor", [0; 32], crate::config::Role::Client);
        limiter.configure(
            Instant::ZERO,
            limits,
            [(KeyId(NonZeroU32::MIN), &key)].into_iter(),
        );
        (
            limiter,
            Payer::new(Authority::Key(KeyId(NonZeroU32::MIN)), FAR),
        )
    }

    #[test]
    fn the_sixty_first_of_sixty_is_told_the_true_wait() {
        let (mut limiter, payer) = limiter(&limits(60, 1_000_000));
        let now = Instant::from_micros(5);
        for _ in 0..60 {
            limiter.take(now, payer, 1, 10).unwrap();
        }
        assert_eq!(
            limiter.take(now, payer, 1, 10),
            Err(Limited::Requests(Duration::from_secs(1)))
        );
        let later = now + Duration::from_secs(1);
        limiter.take(later, payer, 1, 10).unwrap();
        assert!(limiter.take(later, payer, 1, 10).is_err());
    }

    #[test]
    fn a_refused_request_takes_nothing_from_any_bucket() {
        let (mut limiter, payer) = limiter(&limits(60, 100));
        limiter.take(Instant::ZERO, payer, 1, 90).unwrap();
        let before = limiter.standing(Instant::ZERO, payer);
        assert!(matches!(
            limiter.take(Instant::ZERO, payer, 1, 20),
            Err(Limited::Tokens(_))
        ));
        assert_eq!(limiter.standing(Instant::ZERO, payer), before);
        assert_eq!(
            (before.remaining_requests, before.remaining_tokens),
            (59, 10)
        );
        assert_eq!(
            (before.reset_requests, before.reset_tokens),
            (Duration::from_secs(1), Duration::from_secs(54))
        );
    }

    #[test]
    fn estimates_are_corrected_by_real_usage() {
        let (mut limiter, payer) = limiter(&limits(60, 1000));
        limiter.take(Instant::ZERO, payer, 1, 5000).unwrap();
        assert_eq!(limiter.standing(Instant::ZERO, payer).remaining_tokens, 0);
        limiter.correct(Instant::ZERO, payer, 5000, 100);
        assert_eq!(limiter.standing(Instant::ZERO, payer).remaining_tokens, 900);
        limiter.correct(Instant::ZERO, payer, 0, 200);
        assert_eq!(limiter.standing(Instant::ZERO, payer).remaining_tokens, 700);
    }

    #[test]
    fn an_address_is_forgotten_when_its_buckets_are_full_and_not_before() {
        let mut limiter = Limiter::new(&limits(60, 100_000));
        let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let payer = |last| Payer::new(Authority::Anyone, address(last));
        let second = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        limiter.take(second(0), payer(1), 1, 1).unwrap();
        for _ in 0..10 {
            limiter.take(second(0), payer(2), 1, 1).unwrap();
        }
        limiter.sweep(second(0));
        assert_eq!(limiter.addresses.len(), 2);
        limiter.sweep(second(1));
        assert!(!limiter.addresses.contains_key(&address(1)));
        // It goes on asking: the time at which it was to be looked at is too early now.
        limiter.take(second(2), payer(2), 1, 1).unwrap();
        limiter.sweep(second(10));
        assert_eq!(
            limiter.standing(second(10), payer(2)).remaining_requests,
            59
        );
        limiter.sweep(second(11));
        assert!(limiter.is_idle() && limiter.due.is_empty());
    }

    #[test]
    fn each_address_is_looked_at_once_for_each_of_its_requests_at_most() {
        let mut limiter = Limiter::new(&limits(60, 100_000));
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        for number in 0..u32::try_from(ADDRESSES).unwrap() {
            let payer = Payer::new(
                Authority::Anyone,
                IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
            );
            for _ in 0..30 {
                limiter.take(at(0), payer, 1, 1).unwrap();
            }
        }
        limiter.sweep(at(1));
        assert_eq!(limiter.due.len(), ADDRESSES);
        let due = limiter.due.clone();
        // The table is full and none may go: further addresses share a bucket, and nothing is looked at for them.
        limiter
            .take(at(2), Payer::new(Authority::Anyone, FAR), 1, 1)
            .unwrap();
        assert_eq!(limiter.due, due);
        limiter.sweep(at(30));
        assert!(limiter.is_idle() && limiter.due.is_empty());
    }

    proptest! {
        #[test]
        fn no_more_than_burst_and_rate_allow_is_ever_admitted(
            rate in 1u32..5000, burst in 1u32..100, steps in proptest::collection::vec(0u64..200_000, 1..200)
        ) {
            let rate_of = Rate::new(rate, burst);
            let mut bucket = Bucket::default();
            let (mut now, mut admitted) = (0u64, 0u64);
            for step in steps {
                now += step;
                if bucket.take(Instant::from_micros(now), 1, rate_of).is_ok() {
                    admitted += 1;
                }
                let allowed = u64::from(burst) + now * u64::from(rate) / 60_000_000;
                prop_assert!(admitted <= allowed, "{admitted} of {allowed} at {now}");
            }
        }

        #[test]
        fn the_wait_that_is_told_is_enough_and_not_more(cost in 1u64..50, rate in 1u32..6000) {
            let rate = Rate::new(rate, 50);
            let mut bucket = Bucket::default();
            let now = Instant::from_micros(7);
            bucket.take(now, 50, rate).unwrap();
            let wait = bucket.take(now, cost, rate).unwrap_err();
            let micros = u64::try_from(wait.as_nanos()).unwrap().div_ceil(1000);
            let mut early = bucket;
            prop_assert!(early.take(Instant::from_micros(7 + micros.saturating_sub(1)), cost, rate).is_err());
            prop_assert!(bucket.take(Instant::from_micros(7 + micros), cost, rate).is_ok());
        }
    }
}
