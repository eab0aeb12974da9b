//! The world as it starts: limits that are met, clients that pay, agents that will connect.

use super::{Actor, STARTED, World};
use crate::driver::Driver;
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::config::{HubConfig, Key, Limits, Role, SessionPolicy, Timeouts};
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::link::LinkConfig;
use mcp_local_provider_core::time::Instant;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

/// The key with which agents connect.
pub(super) const BRIDGE: &str = "bridge";

/// The key with which an operator changes sessions.
pub(super) const OPERATOR: &str = "operator";

/// The key of a client with limits of its own.
pub(super) const PHONE: &str = "phone";

/// A socket that other machines reach, as a service manager hands it over.
const EXPOSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8788);

/// Requests a minute of that key.
pub(super) const OWN_REQUESTS: u32 = 5;

/// Tokens a minute of that key.
pub(super) const OWN_TOKENS: u32 = 100;

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let key = |name: &str, role| Key::new(name, digest(name.as_bytes()), role);
    let phone = Key {
        requests_per_minute: Some(OWN_REQUESTS),
        tokens_per_minute: Some(OWN_TOKENS),
        ..key(PHONE, Role::Client)
    };
    vec![
        key("editor", Role::Client),
        phone,
        key(BRIDGE, Role::Bridge),
        key(OPERATOR, Role::Operator),
    ]
});

/// The keys of the owner.
pub(super) fn keys() -> Vec<Key> {
    KEYS.clone()
}

/// True while a key has the role of the start, with which alone anybody asks or connects.
pub(super) fn has_own_role(key: &Key) -> bool {
    let mut own = KEYS.iter();
    own.any(|own| own.name == key.name && own.role == key.role)
}

/// Somebody who asks: the key that is shown, the address of the machine, and the socket that is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) key: Option<&'static str>,
    pub(super) address: IpAddr,
    pub(super) listener: Listener,
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
        // Without keys the program starts only where nobody else can reach it.
        let is_exposed = u.ratio(1, 4)?;
        let auth_required = is_exposed || u.arbitrary()?;
        let config = HubConfig {
            limits,
            timeouts,
            sessions,
            keys: KEYS.clone(),
            auth_required,
            ollama_auth_required: u.arbitrary()?,
            exposed: is_exposed.then_some(EXPOSED),
            ..HubConfig::default()
        };
        let mut actors = Vec::new();
        for name in &["ada", "bob", "cyd"][..u.int_in_range(1..=3)?] {
            let key = u.ratio(3, 4)?.then_some(BRIDGE);
            let mut actor = Actor::new(name, key, *u.choose(&[None, Some(1), Some(2)])?);
            actor.is_wordy = u.ratio(1, 3)?;
            actors.push(actor);
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
        let often = u.arbitrary::<bool>()?.then(|| u.arbitrary()).transpose()?;
        Ok(Self {
            driver,
            actors,
            callers: callers(),
            is_exposed,
            came_by: BTreeMap::new(),
            registered_by: BTreeMap::new(),
            purses: BTreeMap::new(),
            payments: HashMap::new(),
            settled: 0,
            limited: BTreeMap::new(),
            said: HashMap::new(),
            asked: HashMap::new(),
            over_http: BTreeSet::new(),
            starting,
            barred: BTreeSet::new(),
            awaited: BTreeSet::new(),
            began: Instant::ZERO,
            holds: false,
            often,
            told: false,
        })
    }
}

fn callers() -> Vec<Caller> {
    let home = IpAddr::from([127, 0, 0, 1]);
    let away = IpAddr::from([192, 0, 2, 7]);
    let callers = [
        (Some("editor"), home, Listener::All),
        (Some(PHONE), away, Listener::All),
        (None, home, Listener::All),
        (None, away, Listener::All),
        (Some("editor"), home, Listener::Ollama),
        (None, home, Listener::Ollama),
        (None, away, Listener::Ollama),
    ];
    let callers = callers.into_iter();
    callers
        .map(|(key, address, listener)| Caller {
            key,
            address,
            listener,
        })
        .collect()
}
