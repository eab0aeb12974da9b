//! Exchanges admitted and settled by the hub.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mcp_local_provider_core::config::{HubConfig, Key, Role};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::{Caller, digest};
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut, Outcome, Verdict};
use mcp_local_provider_core::id::{Authority, Ids};
use mcp_local_provider_core::invocation::{Needs, Usage};
use mcp_local_provider_core::link::{Notice, Registration};
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;

use super::CHUNKS;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A hub with sessions, each with a model of its own, and a client with a key.
#[derive(Debug)]
pub struct Admissions {
    hub: Hub,
    out: HubOut,
    ids: Ids,
    caller: Caller,
}

impl Admissions {
    /// A hub with `sessions` active sessions on one link.
    ///
    /// # Panics
    /// Panics when the hub refuses one of them.
    #[must_use]
    pub fn new(sessions: usize) -> Self {
        let key = |name: &str, role| Key::new(name, digest(name.as_bytes()), role);
        let mut config = HubConfig {
            keys: vec![key("client", Role::Client), key("bridge", Role::Bridge)],
            auth_required: true,
            ..HubConfig::default()
        };
        config.sessions.max = sessions;
        config.limits.requests_per_minute = u32::MAX;
        config.limits.tokens_per_minute = u32::MAX;
        config.limits.burst = u32::MAX;
        let now = Instant::from_micros(1);
        let mut hub = Hub::new(config, [7; 32], now, Duration::from_secs(1_790_000_000));
        let mut out = HubOut::default();
        let hello = Hello {
            token: Some("bridge"),
            dialled: None,
        };
        if let Ok(link) = hub.connect(now, hello, &mut out) {
            for number in 0..sessions {
                let registration = Registration {
                    agent_id: format!("agent-{number}"),
                    models: vec![format!("model-{number}")],
                    ..Registration::default()
                };
                hub.handle_notice(now, link, Notice::Register(registration), &mut out);
            }
        }
        out.commands.clear();
        let caller = hub.keys().authenticate(Some("client"), ADDRESS);
        let mut admissions = Self {
            caller: caller.unwrap_or(Caller {
                authority: Authority::Anyone,
                name: Arc::from("nobody"),
                role: Role::Client,
                rights: None,
                credential: None,
                address: ADDRESS,
            }),
            hub,
            out,
            ids: Ids::new(7),
        };
        // The limiter keeps a bucket for a caller from the first request on.
        admissions.once();
        admissions
    }

    /// Admits and settles one exchange after the other.
    ///
    /// # Panics
    /// Panics when one is refused.
    pub fn run(&mut self) {
        for _ in 0..CHUNKS {
            self.once();
        }
    }

    fn once(&mut self) {
        let now = Instant::from_micros(2);
        let info = Box::new(RequestInfo {
            key: Some(self.caller.name.clone()),
            bytes_in: 450,
            ..RequestInfo::new(self.ids.next(), now, ADDRESS, "POST /v1/chat/completions")
        });
        let ask = Ask {
            model: "model-5",
            session: None,
            prompts: 1,
            tokens: 100,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        let admission = self.hub.admit(now, &self.caller, black_box(&ask));
        assert!(
            matches!(admission, Ok(Admission::Granted(_))),
            "{admission:?}"
        );
        if let Ok(Admission::Granted(ticket)) = admission {
            let outcome = Outcome {
                verdict: Verdict::Completed,
                status: 200,
                usage: Usage {
                    prompt_tokens: 100,
                    completion_tokens: 64,
                    estimated: false,
                },
                bytes_out: 550,
                first_chunk: Some(now),
                gaps: None,
            };
            self.hub
                .conclude(now, info, Some(ticket), &outcome, &mut self.out);
        }
        // As the driver does: the audit is written by somebody else.
        self.out.records.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exchange_is_admitted_and_settled() {
        for sessions in [10, 10_000] {
            let mut admissions = Admissions::new(sessions);
            admissions.run();
            let metrics = admissions.hub.metrics();
            assert_eq!(metrics.open, 0);
            assert_eq!(metrics.unsettled, 0);
        }
    }
}
