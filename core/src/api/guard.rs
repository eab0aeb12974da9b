//! Checks of a request's headers: `Host` names this program, `Origin` is a page of this machine or a desktop program,
//! and no agent asks itself.

use super::Head;
use super::route::{Handler, Responder, Route};
use crate::config::HubConfig;
use crate::error::{Code, Refusal};
use crate::text::split_once;
use core::net::{IpAddr, Ipv6Addr};

/// Schemes of pages that desktop programs bring along; no web site can have them.
const DESKTOP_SCHEMES: [&str; 6] = [
    "vscode-file",
    "vscode-webview",
    "app",
    "tauri",
    "file",
    "capacitor",
];

/// Schemes of pages that extensions of browsers bring along.
const EXTENSION_SCHEMES: [&str; 2] = ["chrome-extension", "moz-extension"];

/// Refuses a host name that is not ours: a page elsewhere can point its own name at this machine (DNS rebinding).
///
/// # Errors
/// 403 for a foreign name, 400 for none.
pub fn check_host(config: &HubConfig, host: Option<&str>) -> Result<(), Refusal> {
    let Some(host) = host else {
        return Err(Refusal::invalid("the request has no Host header"));
    };
    let name = host_name(host);
    if is_ours(name)
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
    {
        return Ok(());
    }
    Err(Refusal::new(
        Code::OriginDenied,
        "this host name is not one of this program; add it to auth.allowed_hosts if it is yours",
    )
    .by_check("host"))
}

/// Refuses a page from elsewhere. No `Origin` means that no browser is involved.
///
/// # Errors
/// 403 for a foreign origin.
pub fn check_origin(config: &HubConfig, origin: Option<&str>) -> Result<(), Refusal> {
    let Some(origin) = origin else {
        return Ok(());
    };
    if config
        .allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    {
        return Ok(());
    }
    let allowed = origin.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        DESKTOP_SCHEMES.contains(&scheme)
            || EXTENSION_SCHEMES.contains(&scheme)
            || (matches!(scheme, "http" | "https") && is_loopback(host_name(host)))
    });
    if allowed {
        return Ok(());
    }
    Err(Refusal::new(
        Code::OriginDenied,
        "pages of this origin may not call this program; add it to auth.allowed_origins if it is yours",
    ))
}

/// True for what a page in a browser sends, of whichever site. The `Origin` of a desktop program is none. Images and scripts of
/// a page come without `Origin`, but with the site; `none` is a person who types the address.
pub(super) fn is_web(head: &Head<'_>) -> bool {
    match head.origin {
        Some(origin) => {
            let scheme = origin.split_once("://").map(|(scheme, _)| scheme);
            !scheme.is_some_and(|scheme| DESKTOP_SCHEMES.contains(&scheme))
        }
        None => head.fetch_site.is_some_and(|site| site != "none"),
    }
}

/// The name in `name:port` or `[v6]:port`.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(name, _)| name);
    }
    split_once(host, b':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    // Most ask for this address, which is compared sooner than read.
    name == "127.0.0.1"
        || name.eq_ignore_ascii_case("localhost")
        || name
            .len()
            .checked_sub(10)
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
        || name
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback())
}

/// True when `Host` names this machine by a loopback name or address.
pub(super) fn is_loopback_host(host: &str) -> bool {
    is_loopback(host_name(host))
}

/// An address cannot be rebound, so any literal passes.
fn is_ours(name: &str) -> bool {
    is_loopback(name) || name.parse::<IpAddr>().is_ok()
}

/// The header with which a request says that an agent of this provider sends it: agents that take headers for the
/// requests to their model are started with it.
pub const AGENT_HEADER: &str = "x-mcp-local-provider-agent";

/// Refuses an agent of this provider that asks this provider, which would ask the agent again, for ever. The tools of its
/// caller are what it may ask for.
///
/// # Errors
/// 400 that says what to do.
pub fn check_loop(route: Option<&Route>, agent: Option<&str>) -> Result<(), Refusal> {
    let tools = route
        .is_some_and(|route| matches!(route.handler, Handler::Respond(Responder::CallerTools)));
    if agent.is_none() || tools {
        return Ok(());
    }
    Err(Refusal::invalid(
        "this comes from an agent that this provider has started, so answering it would ask that agent again, for ever; give \
         the agent a model of its own in its own configuration",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agent_of_ours_may_ask_for_its_callers_tools_and_for_nothing_else() {
        let at = |method, target| super::super::ROUTES.find(method, target).unwrap().route;
        let chat = at("POST", "/v1/chat/completions");
        let tools = at("POST", "/agents/claude/mcp/0123456789abcdef");
        assert!(check_loop(Some(chat), None).is_ok());
        assert!(check_loop(Some(tools), Some("claude")).is_ok());
        let refusal = check_loop(Some(chat), Some("claude")).unwrap_err();
        assert_eq!(refusal.status(), 400);
    }

    #[test]
    fn hosts_and_origins_of_this_machine_pass_and_others_do_not() {
        let config = HubConfig {
            allowed_hosts: alloc::vec!["nas.home".into()],
            allowed_origins: alloc::vec!["https://chat.home".into()],
            ..HubConfig::default()
        };
        for (host, passes) in [
            (Some("127.0.0.1:8788"), true),
            (Some("localhost"), true),
            (Some("LOCALHOST:1"), true),
            (Some("[::1]:8788"), true),
            (Some("a.localhost:8788"), true),
            (Some("192.168.1.4:8788"), true),
            (Some("nas.home:8788"), true),
            (Some("evil.example"), false),
            (Some("localhost.evil.example"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some("evillocalhost"), false),
            (None, false),
        ] {
            assert_eq!(check_host(&config, host).is_ok(), passes, "{host:?}");
        }
        for (origin, passes) in [
            (None, true),
            (Some("vscode-file://vscode-app"), true),
            (Some("app://obsidian.md"), true),
            (Some("tauri://localhost"), true),
            (Some("http://localhost:3000"), true),
            (Some("https://[::1]:3000"), true),
            (Some("https://chat.home"), true),
            (Some("https://evil.example"), false),
            (Some("http://localhost.evil.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            assert_eq!(check_origin(&config, origin).is_ok(), passes, "{origin:?}");
        }
    }
}
