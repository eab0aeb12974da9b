//! `mcp list`, and where the commands on MCP servers ask one.

use super::Failure;
use super::table::table;
use crate::config::Loaded;
use crate::control::ControlClient;
use crate::credentials::{self, CredentialError};
use crate::doctor::serves_already;
use crate::mcp_client::{NoResult, RunningServer, Server, StartedServer, tools};
use crate::printable::printable;
use crate::process::own_program;
use crate::servers::ServerPlan;
use mcp_local_provider_core::config::REGISTRY_SERVER;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// Place where servers are asked.
pub(super) enum Asked {
    /// The running program.
    Running(ControlClient),
    /// This process. It starts each server for that.
    Started {
        variables: Vec<(OsString, OsString)>,
        supervisor: PathBuf,
    },
}

/// Finds the running program; where there is none, servers are started here.
pub(super) fn find(program: &'static str, loaded: &Loaded) -> Result<Asked, Failure> {
    let client = match credentials::client(program, loaded) {
        Ok(client) => Some(client).filter(|client| serves_already(program, client.address())),
        Err(CredentialError::OpenPort) => None,
        Err(error @ CredentialError::Key(_)) => return Err(error.into()),
    };
    Ok(match client {
        Some(client) => Asked::Running(client),
        None => Asked::Started {
            variables: std::env::vars_os().collect(),
            supervisor: own_program()?,
        },
    })
}

impl Asked {
    /// Asks the server `name`.
    pub(super) fn with<T>(
        &self,
        loaded: &Loaded,
        name: &str,
        ask: impl FnOnce(&mut dyn Server) -> Result<T, NoResult>,
    ) -> Result<T, NoResult> {
        let config = &loaded.config;
        let unknown = || {
            let name = printable(name);
            let message = format!(
                "there is no MCP server `{name}`; `mcp list` shows those of the configuration"
            );
            NoResult::NoAnswer(message)
        };
        match self {
            Self::Running(client) if crate::config::is_server_name(name) => {
                ask(&mut RunningServer::open(client, name)?)
            }
            Self::Running(_) => Err(unknown()),
            Self::Started {
                variables,
                supervisor,
            } => {
                let mut offered = config.mcp_servers.offered();
                let (name, server) = offered.find(|(own, _)| *own == name).ok_or_else(unknown)?;
                let plan = ServerPlan::new(name, server, config.gateway.message_bytes);
                if server.url.is_some() {
                    let message = format!(
                        "the MCP server `{name}` is reached over HTTP by the running program alone, and none runs; `serve` starts one"
                    );
                    return Err(NoResult::NoAnswer(message));
                }
                let gateway = config.gateway().unwrap_or_default();
                let mut started =
                    StartedServer::start(&plan, variables, Some(supervisor), &gateway)?;
                let asked = ask(&mut started);
                started.end();
                asked
            }
        }
    }
}

/// The servers as the running program tells an operator, or else a client. `None` where none runs, or it does not tell.
fn running(program: &'static str, loaded: &Loaded) -> Option<Vec<Value>> {
    [credentials::operator, credentials::client]
        .into_iter()
        .find_map(|credential| {
            let client = credential(program, loaded).ok()?;
            if !serves_already(program, client.address()) {
                return None;
            }
            let told = client.get("/servers").ok()?;
            told.get("servers")?.as_array().cloned()
        })
}

/// State of a server, and why it is in that.
fn state_in(running: &[Value], name: &str) -> (String, String) {
    let mut named = running.iter();
    let named = named.find(|one| one.get("name").and_then(Value::as_str) == Some(name));
    let Some(server) = named else {
        let why = "the running program does not have it; `reload` gives it this configuration";
        return ("not loaded".to_owned(), why.to_owned());
    };
    let text = |member: &str| {
        let text = server.get(member).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    (text("state"), text("last_error"))
}

/// The registry of the running program, where it is one of its servers: a row, and the same as JSON.
fn registry(
    loaded: &Loaded,
    running: Option<&[Value]>,
    asked: Option<&Asked>,
) -> Option<([String; 4], Value)> {
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(REGISTRY_SERVER);
    let told = running?.iter().find(named)?;
    let (mut state, mut why) = state_in(std::slice::from_ref(told), REGISTRY_SERVER);
    let mut found = None;
    let mut names = String::new();
    if let Some(asked) = asked {
        match asked.with(loaded, REGISTRY_SERVER, tools) {
            Ok(tools) => {
                let all = tools.iter().filter_map(|tool| tool.get("name")?.as_str());
                names = all.collect::<Vec<_>>().join(", ");
                found = Some(tools);
                state = "answers".to_owned();
            }
            Err(error) => (state, why) = ("fails".to_owned(), error.to_string()),
        }
    }
    let mut entry = json!({ "name": REGISTRY_SERVER, "state": state, "command": [], "error": why, "running": told });
    if let (Some(found), Some(entry)) = (found, entry.as_object_mut()) {
        entry.insert("tools".to_owned(), found.into());
    }
    let what = "the program itself".to_owned();
    let shown = if why.is_empty() { &names } else { &why };
    let row = [
        REGISTRY_SERVER.to_owned(),
        printable(&state),
        what,
        printable(shown),
    ];
    Some((row, entry))
}

/// Shows the servers of the configuration, with the states that they have in the running program, and on request their tools.
/// Without that none is started: where no program runs, a state is what is known without a start.
pub(super) fn list(
    program: &'static str,
    loaded: &Loaded,
    with_tools: bool,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let variables: Vec<_> = std::env::vars_os().collect();
    let asked = with_tools.then(|| find(program, loaded)).transpose()?;
    let running = running(program, loaded);
    let mut servers: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for (name, server) in config.mcp_servers.iter() {
        let plan = ServerPlan::new(name, server, config.gateway.message_bytes);
        // The query may hold a token.
        let address = server
            .url
            .as_deref()
            .map(|url| url.split(['?', '#']).next());
        let address = address.flatten();
        let missing = match address {
            Some(_) => None,
            None => plan.find(&variables).err(),
        };
        let missing = missing.map(|missing| missing.to_string());
        let mut found = Vec::new();
        let said = |state: &str, why: String| (state.to_owned(), why);
        // The running program may have another PATH.
        let (state, why) = match (missing, &asked, &running) {
            _ if server.disabled => said("disabled", String::new()),
            (_, None, Some(running)) => state_in(running, name),
            (Some(missing), None, None) | (Some(missing), Some(Asked::Started { .. }), _) => {
                said("missing", missing)
            }
            (None, None, None) if address.is_some() => said("remote", String::new()),
            (None, None, None) => said("installed", String::new()),
            (_, Some(asked), _) => match asked.with(loaded, name, tools) {
                Ok(tools) => {
                    found = tools;
                    said("answers", String::new())
                }
                Err(error) => said("fails", error.to_string()),
            },
        };
        let command = [&server.command].into_iter().chain(&server.args);
        let command: Vec<&str> = match address {
            Some(_) => Vec::new(),
            None => command.map(String::as_str).collect(),
        };
        let names = found.iter().filter_map(|tool| tool.get("name")?.as_str());
        let names: Vec<&str> = names.collect();
        let told = match why.as_str() {
            "" => printable(&names.join(", ")),
            why => printable(why),
        };
        rows.push([
            printable(name),
            printable(&state),
            printable(address.unwrap_or(&command.join(" "))),
            told,
        ]);
        let mut told = running.iter().flatten();
        let told = told.find(|one| one.get("name").and_then(Value::as_str) == Some(name));
        let mut entry = json!({ "name": name, "state": state, "command": command, "error": why, "running": told });
        if let (Some(address), Some(entry)) = (address, entry.as_object_mut()) {
            entry.insert("url".to_owned(), address.into());
        }
        if with_tools && let Some(entry) = entry.as_object_mut() {
            entry.insert("tools".to_owned(), found.into());
        }
        servers.push(entry);
    }
    if let Some((row, entry)) = registry(loaded, running.as_deref(), asked.as_ref()) {
        rows.push(row);
        servers.push(entry);
    }
    if as_json {
        return Ok(writeln!(out, "{:#}", json!({ "servers": servers }))?);
    }
    if rows.is_empty() {
        writeln!(
            out,
            "the configuration names no MCP servers; `mcp add NAME -- COMMAND` adds one"
        )?;
    }
    let last = if with_tools { "TOOLS" } else { "" };
    Ok(table(["NAME", "STATE", "COMMAND", last], &rows, out)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Environment, load_text};

    fn listed(text: &str, as_json: bool) -> String {
        // Nothing can be asked at a port of the system's choice.
        let text = format!("data_dir: /d\nlisten: {{ http: [\"127.0.0.1:0\"] }}\n{text}");
        let loaded = load_text("c.yaml", &text, &Environment::new([])).unwrap();
        let mut out = Vec::new();
        list("mlp", &loaded, false, as_json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn servers_are_listed_without_being_started() {
        let text = "mcpServers: { zoo: { command: /bin/sh, args: [-c, 'exit 1'] }, off: { command: x, disabled: true }, no: no-such-server, \
                    far: 'http://far.example/mcp?key=secret' }";
        assert_eq!(
            listed(text, false),
            "NAME  STATE      COMMAND
zoo   installed  /bin/sh -c exit 1
off   disabled   x
no    missing    no-such-server          `no-such-server` is not on the PATH; give its path, or install it
far   remote     http://far.example/mcp
"
        );
        let json: Value = serde_json::from_str(&listed(text, true)).unwrap();
        assert_eq!(json["servers"][1]["state"], "disabled");
        assert_eq!(
            json["servers"][0]["command"],
            json!(["/bin/sh", "-c", "exit 1"])
        );
        assert!(listed("", false).contains("no MCP servers"));
    }
}
