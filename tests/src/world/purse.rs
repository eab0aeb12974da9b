//! Limits of requests and tokens as the world keeps them: what each key and each address has used, and what it may use still.

use super::setup::{self, PHONE};
use super::{Asked, World};
use crate::client::Client;
use crate::response::Head;
use mcp_local_provider_core::config::Limits;
use mcp_local_provider_core::id::{Authority, ExchangeId, KeyId};
use mcp_local_provider_core::time::Instant;
use std::net::IpAddr;

/// The party that pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payer {
    /// A key, wherever it is used.
    Key(KeyId),
    /// All who ask from there without a key.
    Address(IpAddr),
}

/// The earliest and the latest time at which the hub may have acted: a thread may bring an old time along.
pub(super) type Moment = [Instant; 2];

/// A bucket, kept as the nanosecond at which all that was taken from it is back: at the earliest and at the latest.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Nanoseconds in which one unit comes back.
    period: u64,
    burst: u64,
    full: [u64; 2],
}

impl Bucket {
    fn new(per_minute: u32, burst: u32) -> Self {
        let period = 60_000_000_000 / u64::from(per_minute);
        assert_eq!(period * u64::from(per_minute), 60_000_000_000, "inexact");
        Self {
            period,
            burst: burst.into(),
            full: [0; 2],
        }
    }

    /// Nanoseconds until so many units are there, at least and at most; one request takes no more than the whole bucket.
    fn wait(&self, moment: Moment, units: u64) -> [u64; 2] {
        let [earliest, latest] = moment.map(nanos);
        let [least, most] = self.full;
        let free = (self.burst - units.min(self.burst)) * self.period;
        [(least, latest), (most, earliest)].map(|(full, now)| full.saturating_sub(now + free))
    }

    fn take(&mut self, moment: Moment, units: u64) {
        let time = units.min(self.burst) * self.period;
        for (full, now) in self.full.iter_mut().zip(moment.map(nanos)) {
            *full = (*full).max(now) + time;
        }
    }

    fn give_back(&mut self, units: u64) {
        let time = units.min(self.burst) * self.period;
        self.full = self.full.map(|full| full.saturating_sub(time));
    }

    /// It is no emptier than empty.
    fn cap(&mut self, now: Instant) {
        let empty = nanos(now) + self.burst * self.period;
        self.full = self.full.map(|full| full.min(empty));
    }
}

fn nanos(at: Instant) -> u64 {
    at.as_micros() * 1000
}

/// Both buckets of a payer.
#[derive(Clone, Debug)]
pub(super) struct Purse {
    /// It has limits of its own.
    own: bool,
    requests: Bucket,
    tokens: Bucket,
}

impl Purse {
    fn new(own: bool, limits: &Limits) -> Self {
        let (requests, burst, tokens) = if own {
            (setup::OWN_REQUESTS, setup::OWN_REQUESTS, setup::OWN_TOKENS)
        } else {
            let requests = limits.requests_per_minute;
            (requests, limits.burst, limits.tokens_per_minute)
        };
        Self {
            own,
            requests: Bucket::new(requests, burst),
            tokens: Bucket::new(tokens, tokens),
        }
    }
}

/// The payment of a request: by whom, and the tokens that it has reserved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payment {
    payer: Payer,
    reserved: u64,
}

impl World {
    /// The earliest and the latest time that the hub may take for now.
    pub(super) fn moment(&self) -> Moment {
        [self.now(), self.now().max(self.began)]
    }

    fn purse(&mut self, payer: Payer, name: Option<&str>) -> &mut Purse {
        let own = matches!(payer, Payer::Key(_)) && name == Some(PHONE);
        let limits = &self.driver.config.limits;
        let new = || Purse::new(own, limits);
        self.purses.entry(payer).or_insert_with(new)
    }

    fn payer_of(&self, asked: &Asked) -> Option<Payer> {
        let address = self.callers[asked.caller].address;
        Some(match asked.authority? {
            Authority::Key(id) => Payer::Key(id),
            Authority::Anyone | Authority::Local | Authority::Configuration => {
                Payer::Address(address)
            }
        })
    }

    /// The limits let a request pass.
    pub(super) fn pays(&mut self, id: ExchangeId) {
        let (moment, asked) = (self.moment(), &self.asked[&id]);
        let Some(payer) = self.payer_of(asked) else {
            panic!("{id} is let in, and nobody pays for it");
        };
        let (name, reserved) = (self.callers[asked.caller].key, asked.tokens);
        let purse = self.purse(payer, name);
        for (bucket, units) in [(&mut purse.requests, 1), (&mut purse.tokens, reserved)] {
            let [wait, _] = bucket.wait(moment, units);
            assert_eq!(wait, 0, "{id} is let in with {units} of {bucket:?}");
            bucket.take(moment, units);
        }
        self.payments.insert(id, Payment { payer, reserved });
    }

    /// The limits let a request not pass, and told why.
    pub(super) fn check_limited(&mut self, id: ExchangeId, head: &Head, client: &Client) {
        let said = client.error.as_deref().unwrap_or_default();
        if head.status() != 429 || !said.contains(" a minute (") {
            return;
        }
        let (moment, asked) = (self.moment(), &self.asked[&id]);
        // Nobody knows who it is: the address pays for the attempt.
        let Some(payer) = self.payer_of(asked) else {
            return;
        };
        let (name, reserved) = (self.callers[asked.caller].key, asked.tokens);
        let limits = self.driver.config.limits.clone();
        let Purse {
            own,
            requests,
            tokens,
        } = self.purse(payer, name).clone();
        let by_tokens = said.contains("tokens a minute");
        let (bucket, units, what, general) = if by_tokens {
            (tokens, reserved, "tokens", limits.tokens_per_minute)
        } else {
            (requests, 1, "requests", limits.requests_per_minute)
        };
        *self.limited.entry(what).or_default() += 1;
        let whose = match payer {
            Payer::Key(_) => format!("the key `{}` has", name.unwrap_or_default()),
            Payer::Address(address) => format!("the address {address}, without a key, has"),
        };
        let value = if own { bucket.burst } else { general.into() };
        let from = if own { "its own " } else { "limits." };
        let told = format!("{whose} used its {value} {what} a minute ({from}{what}_per_minute)");
        assert!(said.contains(&told), "{id} is told {said:?}, not {told:?}");
        // Whoever shows a wrong key draws on the requests of the address too.
        if by_tokens || matches!(payer, Payer::Key(_)) {
            let [least, most] = bucket.wait(moment, units);
            assert_ne!(most, 0, "{id} is refused {units} of {bucket:?}");
            let seconds = |nanos: u64| nanos.div_ceil(1_000_000_000).max(1);
            let wait = head_number(head, "retry-after");
            let right = seconds(least)..=seconds(most);
            assert!(right.contains(&wait), "{id} is to wait for {wait} s");
            let limit = head_number(head, &format!("x-ratelimit-limit-{what}"));
            assert_eq!(limit, bucket.burst, "{id} is told of another limit");
        }
    }

    /// Requests have ended: what they have reserved is exchanged for what they have used.
    pub(super) fn settle_payments(&mut self) {
        for line in self.driver.audited().skip(self.settled) {
            self.settled += 1;
            let estimate = self.asked.get(&line.id).map(|asked| asked.tokens);
            if let Some(reserved) = line.estimated_tokens {
                assert_eq!(Some(reserved), estimate, "the estimate of {}", line.id);
            }
            let Some(Payment { payer, reserved }) = self.payments.remove(&line.id) else {
                continue;
            };
            let bucket = &mut self.purses.get_mut(&payer).expect("it has paid").tokens;
            let used = line.used_tokens.unwrap_or_default();
            if used > reserved {
                bucket.take([line.at; 2], used - reserved);
            } else {
                bucket.give_back(reserved.min(bucket.burst).saturating_sub(used));
            }
            if used == 0 {
                *self.limited.entry("given back").or_default() += 1;
            }
        }
    }

    /// Another configuration lets no key wait for longer than an empty bucket takes.
    pub(super) fn cap_purses(&mut self) {
        let now = self.now();
        for (payer, purse) in &mut self.purses {
            if let Payer::Key(_) = payer {
                purse.requests.cap(now);
                purse.tokens.cap(now);
            }
        }
    }
}

fn head_number(head: &Head, name: &str) -> u64 {
    let mut number = None;
    head.headers(|given, value| {
        if given == name {
            number = std::str::from_utf8(value).unwrap().parse().ok();
        }
    });
    number.unwrap_or_else(|| panic!("a 429 without {name}"))
}
