//! The rates of sessions: requests and tokens that one may be given in a minute, whoever asks.

use super::Hub;
use super::admission::Costs;
use super::limiter::{Bucket, Rate};
use super::routing::Slot;
use super::sessions::Session;
use crate::error::{Code, Exceeded, Refusal};
use crate::time::Instant;
use alloc::string::String;
use core::time::Duration;

/// A session's own limits, by name, with the bucket of each and what a request takes from it.
struct Own {
    limit: &'static str,
    units: &'static str,
    value: u32,
    bucket: Bucket,
    cost: u64,
    keep: fn(&super::lists::Activity, Bucket),
}

impl Own {
    const fn rate(&self) -> Rate {
        Rate::new(self.value, self.value)
    }
}

fn own(session: &Session, costs: Costs) -> impl Iterator<Item = Own> {
    let activity = &session.activity;
    let requests = session.requests_per_minute.map(|value| Own {
        limit: "requests_per_minute",
        units: "requests",
        value,
        bucket: activity.bucket(),
        cost: costs.prompts.into(),
        keep: |activity, bucket| activity.set_bucket(bucket),
    });
    let tokens = session.tokens_per_minute.map(|value| Own {
        limit: "tokens_per_minute",
        units: "tokens",
        value,
        bucket: activity.token_bucket(),
        cost: costs.tokens,
        keep: |activity, bucket| activity.set_token_bucket(bucket),
    });
    requests.into_iter().chain(tokens)
}

impl Hub {
    /// Takes an exchange from the rates of the session that is to answer: of all or of none.
    pub(super) fn take_of_session(
        &self,
        now: Instant,
        slot: Slot,
        costs: Costs,
    ) -> Result<(), Refusal> {
        self.is_within_rate(now, slot, costs)?;
        if let Some(session) = self.sessions.get(slot) {
            for mut own in own(session, costs) {
                // It was looked at just now.
                let _ = own.bucket.take(now, own.cost, own.rate());
                (own.keep)(&session.activity, own.bucket);
            }
        }
        Ok(())
    }

    /// Looks whether the rates of a session leave room for an exchange.
    pub(super) fn is_within_rate(
        &self,
        now: Instant,
        slot: Slot,
        costs: Costs,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(slot) else {
            return Ok(());
        };
        for own in own(session, costs) {
            let mut bucket = own.bucket;
            if let Err(wait) = bucket.take(now, own.cost, own.rate()) {
                return Err(used_up(session, &own, now, wait));
            }
        }
        Ok(())
    }

    /// An exchange of a session has ended that used `used` tokens, where `reserved` were taken.
    pub(super) fn correct_session(
        &self,
        now: Instant,
        session: &Session,
        reserved: u64,
        used: u64,
    ) {
        let Some(value) = session.tokens_per_minute else {
            return;
        };
        let rate = Rate::new(value, value);
        let mut bucket = session.activity.token_bucket();
        if used > reserved {
            bucket.charge(now, used - reserved, rate);
        } else {
            bucket.give_back(reserved.min(value.into()).saturating_sub(used), rate);
        }
        session.activity.set_token_bucket(bucket);
    }
}

fn used_up(session: &Session, own: &Own, now: Instant, wait: Duration) -> Refusal {
    let (value, units, limit) = (own.value, own.units, own.limit);
    let who = match session.circuit {
        Some(_) => alloc::format!("the upstream `{}`", session.agent_id),
        None => alloc::format!("the session `{}`", session.id),
    };
    let message: String =
        alloc::format!("{who} has answered its {value} {units} a minute (its own {limit})");
    Refusal::new(Code::RateLimited, message)
        .retry_after(wait)
        .exceeding(Exceeded {
            limit,
            value: value.into(),
            current: u64::from(value).saturating_sub(own.bucket.left(now, own.rate())),
        })
}
