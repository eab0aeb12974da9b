//! Conversion of the sections of the configuration file into the core's configuration.

use super::sections::{
    Approval, Area, Config, Limits, OllamaAuth, Renew, Role, Sessions, Timeouts,
};
use mcp_local_provider_core::config as core;

/// Converts a count. On a system with smaller addresses the largest value stands for more.
fn count(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl From<&Limits> for core::Limits {
    fn from(limits: &Limits) -> Self {
        core::Limits {
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            burst: limits.burst,
            exchanges: count(limits.exchanges),
            connections: count(limits.connections),
            queue_length: count(limits.queue.length),
            queue_wait: limits.queue.wait,
            body_bytes: limits.body_bytes,
            content_bytes: limits.content_bytes,
            messages: count(limits.messages),
            json_depth: count(limits.json_depth),
            agent_frame_bytes: limits.agent_frame_bytes,
            mailbox_bytes: limits.mailbox_bytes,
            memory: limits.memory,
            answer_bytes: limits.answer_bytes,
            link_queue_bytes: limits.link_queue_bytes,
        }
    }
}

impl From<&Timeouts> for core::Timeouts {
    fn from(timeouts: &Timeouts) -> Self {
        core::Timeouts {
            head: timeouts.head,
            body: timeouts.body,
            write: timeouts.write,
            first_event: timeouts.first_event,
            first_chunk: timeouts.first_chunk,
            idle: timeouts.idle,
            total: timeouts.total,
            drain: timeouts.drain,
            keep_alive: timeouts.keep_alive,
        }
    }
}

impl From<&Sessions> for core::SessionPolicy {
    fn from(sessions: &Sessions) -> Self {
        core::SessionPolicy {
            manual_approval: sessions.approval == Approval::Manual,
            ttl_seconds: sessions.ttl_seconds,
            renew_while_connected: sessions.renew == Renew::Connected,
            max: count(sessions.max),
            max_requests: sessions.max_requests,
        }
    }
}

impl From<Area> for core::Area {
    fn from(area: Area) -> Self {
        match area {
            Area::Models => core::Area::Models,
            Area::Mcp => core::Area::Mcp,
            Area::Registry => core::Area::Registry,
        }
    }
}

/// Returns the areas of a key; models alone where nothing is said.
pub(crate) fn areas(allow: Option<&[Area]>) -> Vec<core::Area> {
    let allow = allow.unwrap_or(&[Area::Models]);
    allow.iter().map(|area| (*area).into()).collect()
}

impl From<Role> for core::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Client => core::Role::Client,
            Role::Bridge => core::Role::Bridge,
            Role::Operator => core::Role::Operator,
            Role::Admin => core::Role::Admin,
        }
    }
}

impl Config {
    /// Returns the keys that the configuration names. A key whose secret was not looked up is left out;
    /// [`load`](super::load) looks up all.
    pub fn configured_keys(&self) -> Vec<core::Key> {
        let key = |key: &super::Key| {
            Some(core::Key {
                name: key.name.clone(),
                sha256: key.key.value()?.digest(),
                role: key.role.into(),
                requests_per_minute: key.requests_per_minute,
                tokens_per_minute: key.tokens_per_minute,
                allow: areas(key.allow.as_deref()),
                models: key.models.clone(),
                servers: key.servers.clone(),
            })
        };
        self.auth.keys.iter().filter_map(key).collect()
    }

    /// Returns the further names of agents, except those that `models.aliases` defines.
    fn agent_aliases(&self) -> impl Iterator<Item = core::Alias> {
        self.agents.iter().flat_map(move |agent| {
            let model = agent.known_as();
            agent.models.iter().filter_map(move |name| {
                let free = *name != model && !self.models.aliases.contains_key(name);
                free.then(|| core::Alias {
                    name: name.clone(),
                    model: model.clone().into_owned(),
                    context_length: None,
                    fallback: Vec::new(),
                })
            })
        })
    }

    /// Returns the core's configuration, with `keys` and the tokens of bridges as all the keys there are.
    pub fn hub_config(&self, mut keys: Vec<core::Key>) -> core::HubConfig {
        for bridge in &self.bridges {
            let token = bridge.token.as_ref().and_then(|token| token.value());
            let Some(sha256) = token.map(super::SecretValue::digest) else {
                continue;
            };
            if keys.iter().all(|key| key.sha256 != sha256) {
                keys.push(core::Key::new(&bridge.name, sha256, core::Role::Bridge));
            }
        }
        let aliases = self.models.aliases.iter().map(|(name, alias)| core::Alias {
            name: name.clone(),
            model: alias.model.clone(),
            context_length: alias.context_length.map(u64::from),
            fallback: alias.fallback.clone(),
        });
        // Without a bridge marked `default` the first one is the default.
        let bridge = self
            .bridges
            .iter()
            .find(|bridge| bridge.default)
            .or(self.bridges.first());
        let token = bridge.and_then(|bridge| bridge.token.as_ref()?.value());
        core::HubConfig {
            limits: (&self.limits).into(),
            timeouts: (&self.timeouts).into(),
            sessions: (&self.sessions).into(),
            keys,
            auth_required: self.auth.required,
            ollama_auth_required: match self.listen.ollama_auth {
                OllamaAuth::Local => false,
                OllamaAuth::Required => true,
            },
            // The check has refused what is none.
            trusted_proxies: self
                .listen
                .trusted_proxies
                .iter()
                .filter_map(|proxy| proxy.parse().ok())
                .collect(),
            exposed: None,
            allowed_hosts: self
                .auth
                .allowed_hosts
                .iter()
                .map(|host| without_port(host))
                .collect(),
            allowed_origins: self.auth.allowed_origins.clone(),
            default_model: self.models.default.clone(),
            fallbacks: self.fallbacks(),
            aliases: aliases.chain(self.agent_aliases()).collect(),
            default_bridge: token.map(super::SecretValue::digest),
        }
    }
}

fn without_port(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        // `::1` has colons and no port; `[::1]:80` ends in a port.
        Some((name, port))
            if port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_file_are_the_defaults_of_the_core() {
        let hub = Config::default().hub_config(Vec::new());
        let expected = core::HubConfig {
            auth_required: true,
            ..core::HubConfig::default()
        };
        assert_eq!(hub, expected);
    }

    #[test]
    fn a_host_is_known_without_its_port() {
        for (given, known) in [
            ("Provider.example:8788", "provider.example"),
            ("provider.example", "provider.example"),
            ("::1", "::1"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(without_port(given), known);
        }
    }
}
