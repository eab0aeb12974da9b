//! Routes, the checks that come before any of them, and every answer that is not an exchange.
//!
//! A driver reads a request's head, calls [`accept`], reads the body where [`Route::body`] says so, and does what the
//! [`Handler`] of the route says. A route is one row of a table and one function; the tables lie beside the functions.

mod answered;
mod browser;
mod client;
mod completions;
mod control;
mod exchanges;
mod guard;
mod health;
mod logs;
mod lookup;
pub mod metrics;
mod models;
mod near;
mod ollama;
mod openapi;
pub mod page;
mod refusals;
mod registry;
mod rest;
mod route;
pub mod status;
mod summary;
#[cfg(test)]
mod tests;

pub use answered::{Answered, Input};
pub use browser::Page;
pub use client::{Client, Forwarding};
pub use completions::CompletionTask;
pub use guard::{AGENT_HEADER, check_host, check_loop, check_origin};
pub use logs::{LogHistory, LogQuery};
pub use lookup::{Found, Parameters, Routes, query_value};
pub use refusals::{
    body_broken, body_too_large, body_too_slow, out_of_memory, over_connection_limit,
    too_many_agents,
};
pub use registry::{Registered, RegistryTask};
pub use rest::{CALL_TOOL, Listed, Rest};
pub use route::{
    Access, Change, Changed, Handler, Listener, Order, Prepare, Read, Report, Responder, Route,
    Socket,
};

use crate::config::{Area, HubConfig, Role};
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::hub::keys::{Caller, Keys};
use crate::text::split_once;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;

/// Every route.
pub static ROUTES: Routes = Routes::with(&[
    exchanges::ROUTES,
    models::ROUTES,
    ollama::ROUTES,
    health::ROUTES,
    metrics::ROUTES,
    control::ROUTES,
    openapi::ROUTES,
    rest::ROUTES,
    registry::ROUTES,
    summary::ROUTES,
    logs::ROUTES,
    completions::ROUTES,
    OF_THE_ENGINE,
]);

/// Routes that the engine answers by itself. Their tokens are checked there: an agent's by `Hub::connect`, the one for the
/// tools of a caller by the machine that serves them.
const OF_THE_ENGINE: &[Route] = &[
    Route::engine(
        "GET /agent",
        &["GET"],
        &["/agent"],
        Handler::Upgrade(Socket::Agent),
    ),
    Route::engine(
        "/agents/{agent}/mcp/{server}",
        &["POST", "GET", "DELETE"],
        &["/agents/{agent}/mcp/{server}"],
        Handler::Respond(Responder::CallerTools),
    )
    .with_body()
    .while_draining(),
    Route::engine(
        "/mcp/agent",
        &["POST", "GET", "DELETE"],
        &["/mcp/agent"],
        Handler::Respond(Responder::McpAgent),
    )
    .with_body()
    .for_roles(&[Role::Bridge])
    .in_dialect(Dialect::Mcp)
    // Answers to questions belong to open work.
    .while_draining(),
    Route::engine(
        "/mcp",
        &["POST", "GET", "DELETE"],
        &["/mcp", "/servers/{server}/mcp"],
        Handler::Respond(Responder::Mcp),
    )
    .with_body()
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp)
    // Answers to questions of a server belong to open work.
    .while_draining(),
    Route::engine(
        "GET /sse",
        &["GET"],
        &["/sse", "/servers/{server}/sse"],
        Handler::Respond(Responder::McpSse),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp),
    Route::engine(
        "POST /sse/messages",
        &["POST"],
        &["/sse/messages", "/servers/{server}/sse/messages"],
        Handler::Respond(Responder::McpMessages),
    )
    .with_body()
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp)
    .while_draining(),
    Route::engine(
        "GET /ws",
        &["GET"],
        &["/ws", "/servers/{server}/ws"],
        Handler::Upgrade(Socket::Mcp),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp),
    Route::engine(
        "GET /events/{session}",
        &["GET"],
        &["/events/{session}"],
        Handler::Respond(Responder::McpEvents),
    )
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp),
    // The page is for everyone; what it does needs the key that a person puts into it.
    Route::engine(
        "GET /static/test_client.html",
        &["GET", "HEAD"],
        &["/static/test_client.html", "/test"],
        Handler::Respond(Responder::TestPage),
    ),
    // Without the id of a session the path is that of Anthropic's API.
    Route::engine(
        "POST /messages",
        &["POST"],
        &["/messages"],
        Handler::Respond(Responder::McpMessages),
    )
    .with_query(&["session_id", "sessionId"])
    .with_body()
    .for_roles(&[Role::Client])
    .in_area(Area::Mcp)
    .in_dialect(Dialect::Mcp)
    .while_draining(),
];

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
    /// `Sec-Fetch-Site` (Fetch Metadata Request Headers), which browsers send.
    pub fetch_site: Option<&'h str>,
    /// `Authorization`.
    pub authorization: Option<&'h str>,
    /// `x-api-key` or `api-key`.
    pub api_key: Option<&'h str>,
    /// `User-Agent`.
    pub user_agent: Option<&'h str>,
    /// `Accept`.
    pub accept: Option<&'h str>,
    /// [`AGENT_HEADER`].
    pub agent: Option<&'h str>,
    /// Address of the peer: of the client, or of a proxy before it.
    pub address: IpAddr,
    /// Headers of proxies.
    pub forwarding: Forwarding<'h>,
}

impl<'h> Head<'h> {
    /// The token that the request carries: in `Authorization: Bearer`, in `x-api-key`, or in the path.
    fn token(&self, path_key: Option<Cow<'h, str>>) -> Option<Cow<'h, str>> {
        let bearer = self.authorization.and_then(|value| {
            let (scheme, token) = split_once(value, b' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        // Programs without a field for a key send a dummy one; the key in the path is then the one that was meant.
        path_key
            .or_else(|| self.api_key.or(bearer).map(Cow::Borrowed))
            .filter(|token| !token.is_empty())
    }

    /// The client: the peer, or for whom a trusted proxy asks.
    #[must_use]
    pub fn client(&self, config: &HubConfig) -> Client {
        Client::find(config, self.address, self.host, &self.forwarding)
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
#[derive(Clone)]
pub struct Accepted<'h> {
    /// Its route.
    pub route: &'static Route,
    /// Parameters of its path.
    pub parameters: Parameters<'h>,
    /// Its token, as [`crate::hub::Hello`] wants it.
    pub token: Option<Cow<'h, str>>,
    /// The sender. `None` where the route asks for no key.
    pub caller: Option<Caller>,
    /// True for a program on this machine.
    pub local: bool,
    /// `Host`.
    host: Option<&'h str>,
    /// `Accept`.
    accept: Option<&'h str>,
}

impl fmt::Debug for Accepted<'_> {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("route", &self.route.name)
            .field("parameters", &self.parameters)
            .field("token", &self.token.is_some())
            .field("caller", &self.caller)
            .field("local", &self.local)
            .field("page_at", &self.page_at())
            .finish()
    }
}

impl Accepted<'_> {
    /// `Host` of a browser that prefers a page to text.
    #[must_use]
    pub fn page_at(&self) -> Option<&str> {
        self.host.filter(|_| page::is_preferred(self.accept))
    }

    /// The same without the request's head, and so without the token.
    #[must_use]
    pub fn into_owned(self) -> Accepted<'static> {
        Accepted {
            route: self.route,
            parameters: self.parameters.into_owned(),
            token: None,
            caller: self.caller,
            local: self.local,
            host: None,
            accept: None,
        }
    }
}

/// A request that may not go on. The driver answers with the refusal in `dialect` and tells the
/// hub ([`Hub::conclude`](crate::hub::Hub::conclude)).
#[derive(Clone, Debug)]
pub struct Denied {
    /// In which form to answer.
    pub dialect: Dialect,
    /// For the audit: the route, or `unknown route`.
    pub endpoint: &'static str,
    /// For the audit: name of the key, where it is known.
    pub key: Option<Arc<str>>,
    /// The error to answer with.
    pub refusal: Refusal,
}

/// Tells who may ask without a key where programs look for an Ollama, to those who may not.
const NOT_LOCAL: &str = "at this address a program on this machine needs none if it asks for 127.0.0.1 or localhost itself, \
    not through a proxy and not as a page in a browser";

/// Routes a request that came in on `listener` and checks host, origin, key and role.
///
/// # Errors
/// 403 for a foreign host or origin or a missing role, 404 and 405 for routes, 401 for keys.
pub fn accept<'h>(
    config: &HubConfig,
    keys: &Keys,
    listener: Listener,
    head: &Head<'h>,
) -> Result<Accepted<'h>, Box<Denied>> {
    let found = ROUTES.find(head.method, head.target);
    let (dialect, endpoint) = match &found {
        Ok(found) => (found.route.dialect, found.route.name),
        Err((dialect, _)) => (*dialect, "unknown route"),
    };
    let denied = |key: Option<&Caller>, refusal| {
        Box::new(Denied {
            dialect,
            endpoint,
            key: key.map(|caller| caller.name.clone()),
            refusal,
        })
    };
    let route = found.as_ref().ok().map(|found| found.route);
    check_host(config, head.host)
        .and_then(|()| check_origin(config, head.origin))
        .and_then(|()| check_loop(route, head.agent))
        .map_err(|refusal| denied(None, refusal))?;
    let found = found.map_err(|(_, refusal)| denied(None, refusal))?;
    let token = head.token(found.path_key);
    let Client {
        address,
        is_local: local,
    } = head.client(config);
    let roles = match found.route.access {
        Access::Open => None,
        Access::RolesFromAfar(_) if local => None,
        Access::Roles(roles) | Access::RolesFromAfar(roles) => Some(roles),
    };
    let caller = match roles {
        None => None,
        Some(roles) => {
            let keyless = listener == Listener::Ollama && local && !guard::is_web(head);
            let caller = keys
                .authenticate(token.as_deref(), address)
                .or_else(|refusal| match keys.local(address) {
                    Some(caller) if keyless => Ok(caller),
                    Some(_) if listener == Listener::Ollama => Err(refusal.noting(NOT_LOCAL)),
                    Some(_) | None => Err(refusal),
                })
                .map_err(|refusal| denied(None, refusal))?;
            caller
                .require(roles)
                .and_then(|()| {
                    found
                        .route
                        .area
                        .map_or(Ok(()), |area| caller.require_area(area))
                })
                .map_err(|refusal| denied(Some(&caller), refusal))?;
            Some(caller)
        }
    };
    if !listener.serves(found.route) {
        return Err(denied(caller.as_ref(), refusals::reports_alone()));
    }
    Ok(Accepted {
        route: found.route,
        parameters: found.parameters,
        token,
        caller,
        local,
        host: head.host,
        accept: head.accept,
    })
}
