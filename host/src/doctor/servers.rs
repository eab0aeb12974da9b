//! Checks of the MCP servers of the configuration: their programs, and a start; a connection to those that are reached over HTTP.

use super::{Findings, Health, Surroundings, bridges};
use crate::authorization::KeptLogin;
use crate::config::{Config, GatewaySwitch, Loaded};
use crate::mcp_client::{NoResult, StartedServer, tools};
use crate::printable::printable;
use crate::servers::ServerPlan;
use mcp_local_provider_engine::tls::Trust;
use serde_json::Value;
use std::path::Path;

/// Subject of the findings.
const SUBJECT: &str = "mcp server";

/// Checks the servers that are offered. With [`Surroundings::start`] it starts each that is a program.
pub(super) fn examine(loaded: &Loaded, surroundings: &Surroundings, findings: &mut Findings) {
    let config = &loaded.config;
    let trust = Trust::new(config.tls.ca_file.clone());
    if config.gateway.enabled == GatewaySwitch::No && config.mcp_servers.offered().count() > 0 {
        let text = "`gateway.enabled` is false: no MCP server is offered";
        findings.add(Health::Warn, SUBJECT, text.to_owned());
    }
    for (name, server) in config.mcp_servers.offered() {
        if let Some(url) = &server.url {
            let after = "it is asked again when a client needs it";
            let proxies = loaded.environment.proxies();
            let (health, text) = match bridges::connect_to(url, &proxies, &trust, after) {
                Ok(text) => (Health::Ok, text),
                Err(text) => (Health::Warn, text),
            };
            findings.add(health, SUBJECT, format!("{name} {text}"));
            if server.takes_logins()
                && let Some((health, text)) = login(&config.data_dir, name, url)
            {
                findings.add(health, SUBJECT, format!("{name} {text}"));
            }
            continue;
        }
        let plan = ServerPlan::new(name, server, config.gateway.message_bytes);
        match plan.find(&surroundings.variables) {
            Err(missing) => findings.add(Health::Fail, SUBJECT, format!("{name}: {missing}")),
            Ok(program) => {
                let text = format!("{name} is {}", program.display());
                findings.add(Health::Ok, SUBJECT, text);
                if let Some(supervisor) = surroundings.start.as_deref() {
                    let (health, text) = try_server(&plan, config, surroundings, Some(supervisor));
                    findings.add(health, SUBJECT, text);
                }
            }
        }
    }
}

/// Tells of the login that is kept for a server; `None` without one.
fn login(data_dir: &Path, name: &str, url: &str) -> Option<(Health, String)> {
    let kept = KeptLogin::new(data_dir, name);
    let path = kept.path().display();
    let again = format!("`mcp login {name}` makes another one");
    Some(match kept.read() {
        Ok(kept) => {
            let kept = kept?;
            if kept.server != url {
                let server = printable(&kept.server);
                let text = format!("has a login for another address, {server}; {again}");
                return Some((Health::Warn, text));
            }
            let issuer = printable(&kept.issuer);
            let end = match kept.tokens.refresh {
                Some(_) => "its tokens renew themselves".to_owned(),
                None => format!("its token cannot be renewed; when it has ended, {again}"),
            };
            (Health::Ok, format!("is logged in at {issuer}; {end}"))
        }
        Err(error) => {
            let text = format!("has a login in {path} that cannot be read: {error}; {again}");
            (Health::Warn, text)
        }
    })
}

/// Starts a server, and ends it again.
fn try_server(
    plan: &ServerPlan,
    config: &Config,
    surroundings: &Surroundings,
    supervisor: Option<&Path>,
) -> (Health, String) {
    let gateway = config.gateway().unwrap_or_default();
    let variables = &surroundings.variables;
    let started = StartedServer::start(plan, variables, supervisor, &gateway);
    let found = started.map_err(NoResult::from).and_then(|mut server| {
        let greeting = server.greet();
        let found = greeting.and_then(|greeting| Ok((greeting, tools(&mut server)?)));
        server.end();
        found
    });
    let name = &plan.name;
    match found {
        Ok((greeting, tools)) => {
            let greeting: Value = serde_json::from_str(&greeting).unwrap_or_default();
            let text = |pointer: &str| {
                let text = greeting.pointer(pointer).and_then(Value::as_str);
                printable(text.unwrap_or("?"))
            };
            let text = format!(
                "{name} starts, says that it is {} {}, and speaks revision {}; tools: {}",
                text("/serverInfo/name"),
                text("/serverInfo/version"),
                text("/protocolVersion"),
                tools.len()
            );
            (Health::Ok, text)
        }
        Err(NoResult::Refused { code: -32601, .. }) => {
            (Health::Ok, format!("{name} starts, and has no tools"))
        }
        Err(error) => (
            Health::Fail,
            format!("{name} was started, and cannot be used: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, load_text};

    const SERVER: &str = r#"while read -r line; do
      id=${line#*'"id":'}; id=${id%%,*}
      case "$line" in
        *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"2"}}' ;;
        *'"cursor":"b"'*) result='{"tools":[{"name":"b"}]}' ;;
        *'"tools/list"'*) result='{"tools":[{"name":"a"}],"nextCursor":"b"}' ;;
        *) continue ;;
      esac
      echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
    done"#;

    fn tried(script: &str) -> (Health, String) {
        let text = serde_json::json!({
            "data_dir": "/d",
            "gateway": { "processes": { "start": "2s" } },
            "mcpServers": { "zoo": { "command": "/bin/sh", "args": ["-c", script] } },
        });
        let loaded = load_text("c.json", &text.to_string(), &Environment::new([])).unwrap();
        let config = &loaded.config;
        let (name, server) = config.mcp_servers.iter().next().unwrap();
        let plan = ServerPlan::new(name, server, 1 << 20);
        try_server(&plan, config, &Surroundings::default(), None)
    }

    #[test]
    fn a_start_tells_what_keeps_a_server_from_being_used() {
        assert_eq!(
            tried(SERVER),
            (
                Health::Ok,
                "zoo starts, says that it is s 2, and speaks revision 2025-06-18; tools: 2"
                    .to_owned()
            )
        );
        let (health, text) = tried("echo no licence >&2; exit 3");
        assert_eq!(health, Health::Fail);
        assert_eq!(
            text,
            "zoo was started, and cannot be used: the MCP server `zoo` is not available: it ended with exit code 3; its last words: no licence"
        );
        let (health, text) = tried("read -r line; sleep 60");
        assert_eq!(health, Health::Fail);
        assert!(
            text.contains("did not answer `initialize` in time"),
            "{text}"
        );
    }
}
