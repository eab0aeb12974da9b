//! The world as it starts: limits that are met, clients that pay, agents that will connect.

use super::{Actor, STARTED, World};
use crate::driver::Driver;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::config::{HubConfig, Key, Limits, Role, SessionPolicy, Timeouts};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

/// The key with which agents connect.
pub(super) const BRIDGE: &str = "bridge";

/// The key with which an operator changes sessions.
pub(super) const OPERATOR: &str = "operator";

/// The key of a client with a limit of its own.
pub(super) const PHONE: &str = "phone";

/// Requests a minute of that key.
const OWN_RATE: u32 = 7;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let key = |name: &str, role, requests_per_minute| Key {
        requests_per_minute,
        ..Key::new(name, digest(name.as_bytes()), role)
    };
    vec![
        key("editor", Role::Client, None),
        key(PHONE, Role::Client, Some(OWN_RATE)),
        key(BRIDGE, Role::Bridge, None),
        key(OPERATOR, Role::Operator, None),
    ]
});

/// The keys of the owner.
pub(super) fn keys() -> Vec<Key> {
    KEYS.clone()
}

/// The key or address that pays for requests, and the number that it was let through.
#[derive(Debug)]
pub(super) struct Payer {
    pub(super) key: Option<&'static str>,
    pub(super) address: IpAddr,
    burst: u64,
    per_minute: u64,
    since: Instant,
    taken: u64,
}

impl Payer {
    /// The limiter let a request pass.
    pub(super) const fn took(&mut self) {
        self.taken += 1;
    }

    /// It asks by another permission now, which has paid nothing yet.
    pub(super) fn begin_anew(&mut self, now: Instant, keyed: bool, limits: &Limits) {
        let own = (keyed && self.key == Some(PHONE)).then_some(OWN_RATE);
        self.burst = own.unwrap_or(limits.burst).into();
        self.per_minute = own.unwrap_or(limits.requests_per_minute).into();
        self.since = now;
        self.taken = 0;
    }

    /// The limiter let no request pass: a key, whose bucket nobody else draws on, has none left.
    pub(super) fn check_refused(&self, keyed: bool) {
        let used_up = self.taken >= self.burst;
        assert!(!keyed || used_up, "{self:?} is refused too early");
    }

    /// No more than burst and rate allow was ever let pass.
    pub(super) fn check(&self, now: Instant) {
        let elapsed = u64::try_from(now.since(self.since).as_micros()).unwrap();
        let back = elapsed.saturating_mul(self.per_minute) / 60_000_000;
        assert!(
            self.taken <= self.burst + back,
            "{} requests of {self:?} at {now:?}",
            self.taken
        );
    }
}

impl World {
    pub(super) fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let tight = u.int_in_range(0..=7u8)?;
        let limits = Limits {
            requests_per_minute: *u.choose(&[600, 60, 6])?,
            burst: *u.choose(&[60, 60, 3])?,
            tokens_per_minute: *u.choose(&[100_000, 100_000, 300])?,
            exchanges: *u.choose(&[2, 1024])?,
            queue_length: *u.choose(&[0, 1, 64])?,
            queue_wait: Duration::from_millis(*u.choose(&[1, 5000])?),
            agent_frame_bytes: 4096,
            mailbox_bytes: *u.choose(&[1 << 18, 1 << 18, 300, 64])?,
            answer_bytes: if tight == 0 { 200 } else { 1 << 20 },
            link_queue_bytes: *u.choose(&[1 << 20, 1 << 20, 2000])?,
            memory: *u.choose(&[1 << 28, 1 << 28, 8000])?,
            ..Limits::default()
        };
        let timeouts = if tight == 1 {
            Timeouts {
                first_event: Duration::from_millis(1),
                first_chunk: Duration::from_secs(2),
                idle: Duration::from_secs(3),
                total: Duration::from_secs(5),
                keep_alive: Duration::from_secs(1),
                ..Timeouts::default()
            }
        } else {
            Timeouts::default()
        };
        let mut link = LinkConfig::new(&limits);
        link.tombstones = *u.choose(&[1, 3, 8192])?;
        link.gap_chunks = *u.choose(&[1, 64])?;
        link.gap_bytes = *u.choose(&[80, 1 << 18])?;
        let sessions = SessionPolicy {
            manual_approval: tight == 2,
            ttl_seconds: *u.choose(&[300, 300, 300, 1])?,
            renew_while_connected: u.arbitrary()?,
            max: *u.choose(&[64, 64, 3, 1])?,
            max_requests: *u.choose(&[0, 0, 0, 2])?,
        };
        let auth_required = u.arbitrary()?;
        let config = HubConfig {
            limits,
            timeouts,
            sessions,
            keys: KEYS.clone(),
            auth_required,
            ..HubConfig::default()
        };
        let payers = payers(&config);
        let mut actors = Vec::new();
        for name in &["ada", "bob", "cyd"][..u.int_in_range(1..=3)?] {
            actors.push(Actor::new(name, *u.choose(&[None, Some(1), Some(2)])?));
        }
        let mut driver = Driver::with_link_config(config, link);
        driver.eager = false;
        let mut starting = None;
        // Where others have its model, nobody waits for it.
        let alone = actors.len() == 1;
        if u.ratio(if alone { 3 } else { 1 }, 4)? {
            let patience = Duration::from_secs(*u.choose(&[1, 60, 600])?);
            actors[0].name = STARTED;
            actors[0].of_program = true;
            driver.expect_agents(&[(STARTED.to_owned(), patience)]);
            starting = Some(driver.now() + patience);
        }
        Ok(Self {
            driver,
            actors,
            payers,
            said: HashMap::new(),
            asked: HashMap::new(),
            over_http: BTreeSet::new(),
            starting,
            awaited: BTreeSet::new(),
            began: Instant::ZERO,
            holds: false,
            told: false,
        })
    }
}

fn payers(config: &HubConfig) -> Vec<Payer> {
    let home = IpAddr::from([127, 0, 0, 1]);
    let payer = |key: Option<&'static str>, address| {
        let mut payer = Payer {
            key,
            address,
            burst: 0,
            per_minute: 0,
            since: Instant::ZERO,
            taken: 0,
        };
        payer.begin_anew(Instant::ZERO, key.is_some(), &config.limits);
        payer
    };
    let away = IpAddr::from([192, 0, 2, 7]);
    let mut payers = vec![payer(Some("editor"), home), payer(Some(PHONE), away)];
    if !config.auth_required {
        payers.push(payer(None, home));
        payers.push(payer(None, away));
    }
    payers
}
