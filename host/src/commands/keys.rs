//! The commands on keys. They change the key file; the running program takes it over.

use super::Failure;
use super::table::table;
use crate::command_line::KeysCommand;
use crate::config::{Loaded, Role};
use crate::control::{ControlClient, ControlError};
use crate::credentials;
use crate::keys::{KeyError, KeyFile, KeyRecord, Rights};
use mcp_local_provider_core::config as core;
use serde_json::json;
use std::io::{self, Write};

/// Runs a command on keys.
pub(super) fn run(
    command: &KeysCommand,
    program: &'static str,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let file = KeyFile::new(&config.data_dir);
    match command {
        KeysCommand::Add { name, rights } => {
            if config.auth.keys.iter().any(|key| key.name == *name) {
                return Err(KeyError::Exists(name.clone()).into());
            }
            let own = *name == rights.role.name();
            let kept = match rights.role {
                Role::Operator => own,
                Role::Client => own && config.auth.keep_client_key,
                Role::Bridge | Role::Admin => false,
            };
            let rights = Rights {
                kept,
                ..rights.clone()
            };
            let role = rights.role.name();
            let fresh = file.add(name, rights)?;
            writeln!(out, "{}", fresh.text)?;
            let stays = if kept {
                "also kept in the data directory, for your own commands"
            } else {
                "shown this once and kept nowhere"
            };
            writeln!(
                io::stderr(),
                "This is the key `{name}` ({role}). It is {stays}. A program that runs accepts it at once."
            )?;
            Ok(())
        }
        KeysCommand::List { json } => {
            let records = file.read()?;
            if *json {
                let list: Vec<_> = records.iter().map(without_digest).collect();
                return Ok(writeln!(out, "{:#}", json!({ "keys": list }))?);
            }
            if records.is_empty() {
                writeln!(out, "there are no keys in {}", file.path().display())?;
            }
            let rows: Vec<_> = records.iter().map(row).collect();
            let heads = [
                "NAME",
                "ROLE",
                "REQUESTS/MIN",
                "TOKENS/MIN",
                "ALLOW",
                "MODELS",
                "SERVERS",
                "CREATED",
            ];
            Ok(table(heads, &rows, out)?)
        }
        KeysCommand::Remove { name } => {
            // The file with the operator's key may go with this key.
            let client = credentials::operator(program, loaded).ok();
            file.remove(name)?;
            let told = match client {
                Some(client) => forgotten(&client),
                None => "; a program that runs forgets it with `reload`".to_owned(),
            };
            Ok(writeln!(out, "removed `{name}`{told}")?)
        }
    }
}

/// Has the running program forget what was removed, and returns what became of that, as the end of a sentence.
fn forgotten(client: &ControlClient) -> String {
    match client.post("/control/keys/reload", &json!({})) {
        Ok(_) => "; the running program has forgotten it".to_owned(),
        Err(ControlError::NotRunning { .. } | ControlError::Foreign(..)) => String::new(),
        Err(error) => format!(
            "; what runs at {} knows it until `reload` or a restart: {error}",
            client.address()
        ),
    }
}

fn row(record: &KeyRecord) -> [String; 8] {
    let number = |limit: Option<u32>| limit.map_or("-".to_owned(), |limit| limit.to_string());
    let or = |text: String, empty: &str| {
        if text.is_empty() {
            empty.to_owned()
        } else {
            text
        }
    };
    let areas = record.areas().collect::<Vec<_>>().join(",");
    let may_use_mcp = core::Key::from(record).may_use(core::Area::Mcp);
    let servers = may_use_mcp.then(|| or(record.servers.join(","), "all"));
    [
        record.name.clone(),
        record.role.name().to_owned(),
        number(record.requests_per_minute),
        number(record.tokens_per_minute),
        or(areas, "-"),
        or(record.models.join(","), "all"),
        servers.unwrap_or_else(|| "-".to_owned()),
        record.created_at.clone(),
    ]
}

fn without_digest(record: &KeyRecord) -> serde_json::Value {
    json!({
        "name": record.name,
        "role": record.role.name(),
        "requests_per_minute": record.requests_per_minute,
        "tokens_per_minute": record.tokens_per_minute,
        "allow": record.areas().collect::<Vec<_>>(),
        "models": record.models,
        "servers": record.servers,
        "created_at": record.created_at,
    })
}
