//! The commands on MCP servers that do not serve.

use super::Failure;
use super::table::table;
use crate::config::Config;
use crate::printable::printable;
use crate::servers::ServerPlan;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;

/// Shows the servers of the configuration. None is started: a state is what is known without that. `variables` is the environment
/// of this program.
pub(super) fn list(
    config: &Config,
    variables: &[(OsString, OsString)],
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut servers: Vec<Value> = Vec::new();
    let mut rows = Vec::new();
    for (name, server) in config.mcp_servers.iter() {
        let plan = ServerPlan::new(name, server, config.gateway.message_bytes);
        let missing = plan
            .find(variables)
            .err()
            .map(|missing| missing.to_string());
        let state = match &missing {
            _ if server.disabled => "disabled",
            Some(_) => "missing",
            None => "installed",
        };
        let command = [&server.command].into_iter().chain(&server.args);
        let command: Vec<&str> = command.map(String::as_str).collect();
        let why = missing.filter(|_| state == "missing").unwrap_or_default();
        rows.push([
            printable(name),
            state.to_owned(),
            printable(&command.join(" ")),
            printable(&why),
        ]);
        servers.push(json!({ "name": name, "state": state, "command": command, "error": why }));
    }
    if as_json {
        return Ok(writeln!(out, "{:#}", json!({ "servers": servers }))?);
    }
    if rows.is_empty() {
        writeln!(
            out,
            "the configuration names no MCP servers; `config example` shows the section `mcpServers`"
        )?;
    }
    Ok(table(["NAME", "STATE", "COMMAND", ""], &rows, out)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::config::{Environment, load_text};

    fn listed(text: &str, as_json: bool) -> String {
        let text = format!("data_dir: /d\n{text}");
        let loaded = load_text("c.yaml", &text, &Environment::new([])).unwrap();
        let mut out = Vec::new();
        list(&loaded.config, &[], as_json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn servers_are_listed_without_being_started() {
        let text = "mcpServers: { zoo: { command: /bin/sh, args: [-c, 'exit 1'] }, off: { command: x, disabled: true }, no: x }";
        assert_eq!(
            listed(text, false),
            "NAME  STATE      COMMAND
zoo   installed  /bin/sh -c exit 1
off   disabled   x
no    missing    x                  `x` is not on the PATH; give its path, or install it
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
