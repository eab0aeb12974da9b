//! Routes, the checks that come before any of them, and every answer that is not an exchange.
//!
//! A driver reads a request's head, calls [`accept`], reads the body where [`Endpoint::takes_body`] says so, and then either
//! runs an exchange ([`Endpoint::is_inference`]), upgrades ([`Endpoint::Agent`]), or calls [`report`] ([`Endpoint::is_report`]) or
//! [`answer`].

mod answers;
mod guard;
mod health;
pub mod metrics;
mod report;
mod route;
pub mod status;

pub use answers::answer;
pub use guard::{
    AGENT_HEADER, ALLOWED_METHODS, check_host, check_loop, check_origin, preflight_headers,
};
pub use report::report;
pub use route::{Endpoint, Route, route};

use crate::config::{HubConfig, Role};
use crate::dialect::Dialect;
use crate::error::{Code, Refusal};
use crate::hub::keys::{Caller, Keys};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::IpAddr;

/// The parts of a request's head that decide what happens with it.
#[derive(Clone, Copy)]
pub struct Head<'h> {
    /// Upper case.
    pub method: &'h str,
    /// Path and query as they came.
    pub target: &'h str,
    /// `Host`.
    pub host: Option<&'h str>,
    /// `Origin`.
    pub origin: Option<&'h str>,
    /// `Authorization`.
    pub authorization: Option<&'h str>,
    /// `x-api-key` or `api-key`.
    pub api_key: Option<&'h str>,
    /// `User-Agent`.
    pub user_agent: Option<&'h str>,
    /// [`AGENT_HEADER`].
    pub agent: Option<&'h str>,
    /// Where the connection comes from.
    pub address: IpAddr,
}

impl<'h> Head<'h> {
    /// The token that the request carries: in `Authorization: Bearer`, in `x-api-key`, or in the path.
    fn token(&self, path_key: Option<&'h str>) -> Option<&'h str> {
        let bearer = self.authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        // Programs without a field for a key send a dummy one; the key in the path is then the one that was meant.
        path_key
            .or(self.api_key)
            .or(bearer)
            .filter(|token| !token.is_empty())
    }

    /// The token as [`crate::hub::Hello`] wants it.
    #[must_use]
    pub fn bearer(&self) -> Option<&'h str> {
        let path_key = route(self.method, self.target)
            .ok()
            .and_then(|route| route.path_key);
        self.token(path_key)
    }

    /// The client's name for itself, cut to a bounded length.
    #[must_use]
    pub fn short_user_agent(&self) -> Option<Box<str>> {
        let text = self.user_agent?;
        let mut end = text.len().min(200);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).map(Box::from)
    }
}

/// A request that may go on.
#[derive(Clone, Debug)]
pub struct Accepted<'h> {
    /// Where it goes.
    pub route: Route<'h>,
    /// Who sent it. For [`Endpoint::Agent`] the token is checked by `Hub::connect`, and this is `None`.
    pub caller: Option<Caller>,
}

/// A request that may not. The driver answers with the refusal in `dialect` and tells the hub (`Hub::note_refusal`).
#[derive(Clone, Debug)]
pub struct Denied {
    /// In which form to answer.
    pub dialect: Dialect,
    /// For the audit: the route, or `unknown route`.
    pub endpoint: &'static str,
    /// For the audit: name of the key, where it is known.
    pub key: Option<Arc<str>>,
    /// What to answer.
    pub refusal: Refusal,
}

/// Routes a request and checks host, origin, key and role.
///
/// # Errors
/// 403 for a foreign host or origin or a missing role, 404 and 405 for routes, 401 for keys.
pub fn accept<'h>(
    config: &HubConfig,
    keys: &Keys,
    head: &Head<'h>,
) -> Result<Accepted<'h>, Box<Denied>> {
    let denied = |dialect, endpoint, refusal| {
        Box::new(Denied {
            dialect,
            endpoint,
            key: None,
            refusal,
        })
    };
    let routed = route(head.method, head.target);
    let (dialect, name) = match &routed {
        Ok(route) => (route.endpoint.dialect(), route.endpoint.name()),
        Err((dialect, _)) => (*dialect, "unknown route"),
    };
    check_host(config, head.host)
        .and_then(|()| check_origin(config, head.origin))
        .and_then(|()| check_loop(routed.as_ref().ok(), head.agent))
        .map_err(|refusal| denied(dialect, name, refusal))?;
    let route = routed.map_err(|(_, refusal)| denied(dialect, name, refusal))?;
    let caller = match route.endpoint {
        // The tools of a caller have a token of their own, which the machine that serves them checks.
        Endpoint::Root
        | Endpoint::Health
        | Endpoint::Preflight
        | Endpoint::Agent
        | Endpoint::CallerTools => None,
        // Scrapers of this machine need no key.
        Endpoint::Metrics | Endpoint::MetricsJson if head.address.is_loopback() => None,
        endpoint => {
            let caller = keys
                .authenticate(head.token(route.path_key), head.address)
                .map_err(|refusal| denied(dialect, name, refusal))?;
            if let Err(refusal) = caller.require(endpoint.roles()) {
                return Err(Box::new(Denied {
                    key: Some(caller.name),
                    ..*denied(dialect, name, refusal)
                }));
            }
            Some(caller)
        }
    };
    Ok(Accepted { route, caller })
}

/// Roles that may use the lists: everyone who has a key.
const ANYONE: &[Role] = &[Role::Client, Role::Bridge, Role::Operator];

impl Endpoint {
    /// The roles that may use it; `Admin` always may.
    #[must_use]
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Register => &[Role::Bridge],
            Self::Metrics | Self::MetricsJson | Self::HealthDeep => &[Role::Operator],
            Self::Control(_) | Self::Sessions | Self::Session => &[Role::Bridge, Role::Operator],
            _ if self.is_inference() => &[Role::Client],
            _ => ANYONE,
        }
    }
}

/// 413 for a body over the limit.
#[must_use]
pub fn body_too_large(config: &HubConfig) -> Refusal {
    Refusal::new(
        Code::TooLarge,
        alloc::format!(
            "the body is larger than {} bytes (limits.body_bytes)",
            config.limits.body_bytes
        ),
    )
}
