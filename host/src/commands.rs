//! The commands that do not serve: those on files and keys, and those that ask the running program.

use crate::audit::tail;
use crate::command_line::{AuditCommand, Command, KeysCommand};
use crate::config::{Loaded, Role};
use crate::control_client::{ControlClient, printable};
use crate::doctor::{self, Surroundings};
use crate::keys::KeyFile;
use crate::serve::own_program;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Name of the variable that gives an operator's key to the command line.
pub const KEY_VARIABLE: &str = "LOCAL_PROVIDER_KEY";

/// The reason for which a command failed, as a sentence for the person.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}

/// Runs a command and writes its output to `out`. Commands that [`start`](crate::program::start) carries out itself do
/// nothing here.
///
/// # Errors
/// Returns a sentence that says what went wrong and what to do.
pub fn run(
    command: &Command,
    program: &'static str,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = &loaded.config;
    match command {
        Command::Run(_)
        | Command::AgentProcess { .. }
        | Command::Completions { .. }
        | Command::Config(_) => Ok(()),
        Command::Doctor { start_agents } => {
            let surroundings = Surroundings {
                variables: std::env::vars_os().collect(),
                start: start_agents.then(own_program).transpose()?,
                // Without it a running program does not tell about its agents, which is a finding.
                operator_token: operator_token(loaded).ok().flatten(),
            };
            let findings = doctor::examine(program, loaded, &surroundings);
            if doctor::report(&findings, out)? {
                Ok(())
            } else {
                Err(Failure("the lines marked FAIL say what to do".to_owned()))
            }
        }
        Command::Audit(AuditCommand::Tail {
            lines,
            follow,
            json,
        }) => {
            let Some(file) = &config.audit.file else {
                let message = "the configuration writes no audit file (`audit: off`)";
                return Err(Failure(message.to_owned()));
            };
            match tail(file, *lines, *follow, *json, out) {
                // The reader has closed the pipe, which ends the command in order.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure(format!(
                    "there is no {} yet; it is made with the first record, or --config names another",
                    file.display()
                ))),
                other => Ok(other?),
            }
        }
        Command::CheckConfig => check_config(loaded, out),
        Command::Keys(keys_command) => keys(keys_command, &KeyFile::new(&config.data_dir), out),
        Command::Sessions { json } => {
            let answer = client(program, loaded)?.get("/control/sessions")?;
            if *json {
                Ok(writeln!(out, "{answer:#}")?)
            } else {
                Ok(sessions_table(&answer, out)?)
            }
        }
        Command::Approve { session } => {
            change_session(&client(program, loaded)?, "approve", session, out)
        }
        Command::Revoke { session } => {
            change_session(&client(program, loaded)?, "revoke", session, out)
        }
    }
}

fn check_config(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Failure> {
    match &loaded.file {
        Some(file) => writeln!(out, "{} is right", file.display())?,
        None => writeln!(out, "there is no configuration file; the defaults hold")?,
    }
    let settings = loaded.sources.settings(&loaded.config);
    let rows = settings.into_iter().map(|setting| {
        let origin = setting.origin.map(|origin| origin.to_string());
        let origin = origin.unwrap_or_else(|| "default".to_owned());
        [printable(&setting.path), printable(&setting.value), origin]
    });
    let rows: Vec<[String; 3]> = rows.collect();
    table(["KEY", "VALUE", "FROM"], &rows, out)?;
    let path = KeyFile::new(&loaded.config.data_dir).client_key_path();
    if path.exists() {
        writeln!(out, "client key in {}", path.display())?;
    }
    Ok(())
}

fn keys(command: &KeysCommand, file: &KeyFile, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        KeysCommand::Add { name, role } => {
            let fresh = file.add(name, *role)?;
            writeln!(out, "{}", fresh.text)?;
            writeln!(
                io::stderr(),
                "This is the key `{name}` ({}). It is shown this once and kept nowhere. A program that runs takes it \
                 over on SIGHUP.",
                role.name()
            )?;
        }
        KeysCommand::List => {
            let records = file.read()?;
            if records.is_empty() {
                writeln!(out, "there are no keys in {}", file.path().display())?;
            }
            let mut rows = Vec::new();
            for record in records {
                rows.push([
                    record.name.clone(),
                    record.role.name().to_owned(),
                    record.created_at.clone(),
                ]);
            }
            table(["NAME", "ROLE", "CREATED"], &rows, out)?;
        }
        KeysCommand::Remove { name } => {
            file.remove(name)?;
            writeln!(
                out,
                "removed `{name}`; a program that runs forgets it on SIGHUP"
            )?;
        }
    }
    Ok(())
}

/// Makes a client of the program that runs with this configuration. Its operator key is from [`KEY_VARIABLE`], else
/// from `operator.token`, else from the configuration.
fn client(program: &'static str, loaded: &Loaded) -> Result<ControlClient, Failure> {
    let config = &loaded.config;
    let addresses = config.listen.http_addresses();
    let Some(address) = addresses.into_iter().find(|address| address.port() != 0) else {
        let message = "the configuration leaves the port open; give the address of the `ready` line with --listen";
        return Err(Failure(message.to_owned()));
    };
    let token = operator_token(loaded)?;
    Ok(ControlClient::new(program, address, token))
}

/// Finds the operator's key, see [`client`].
fn operator_token(loaded: &Loaded) -> Result<Option<String>, Failure> {
    let config = &loaded.config;
    let given = loaded.environment.get_nonempty(KEY_VARIABLE);
    let token = match given {
        Some(token) => Some(token.to_owned()),
        None => KeyFile::new(&config.data_dir).operator_token()?,
    };
    let configured = || {
        let mut operators = config
            .auth
            .keys
            .iter()
            .filter(|key| matches!(key.role, Role::Operator | Role::Admin));
        operators.find_map(|key| key.key.text()).map(str::to_owned)
    };
    Ok(token.or_else(configured))
}

fn change_session(
    client: &ControlClient,
    verb: &str,
    session: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.post(
        &format!("/control/{verb}"),
        &json!({ "session_id": session }),
    )?;
    let status = text(&answer, "status");
    writeln!(
        out,
        "{session} {}",
        if status == "-" { "done" } else { &status }
    )?;
    Ok(())
}

/// Returns a field of an answer as one printable word; `-` when the field is missing.
fn text(value: &Value, field: &str) -> String {
    let text = match value.get(field) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items
                .iter()
                .filter_map(Value::as_str)
                .map(printable)
                .collect();
            items.join(",")
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => printable(&other.to_string()),
    };
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn sessions_table(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    let sessions = answer
        .get("sessions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if sessions.is_empty() {
        return writeln!(out, "no agent has registered");
    }
    let fields = [
        "session_id",
        "status",
        "agent_id",
        "label",
        "models",
        "in_flight",
        "request_count",
        "expires_at",
    ];
    let rows: Vec<[String; 8]> = sessions
        .iter()
        .map(|session| fields.map(|field| text(session, field)))
        .collect();
    table(
        [
            "SESSION", "STATUS", "AGENT", "LABEL", "MODELS", "OPEN", "REQUESTS", "EXPIRES",
        ],
        &rows,
        out,
    )
}

fn table<const N: usize>(
    heads: [&str; N],
    rows: &[[String; N]],
    out: &mut dyn Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = heads.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut write_row = |cells: &[String; N]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())
    };
    write_row(&heads.map(str::to_owned))?;
    rows.iter().try_for_each(write_row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, Listener, Overrides, load};
    use crate::test_directory::Directory;

    fn said(command: &Command, directory: &Directory) -> Result<String, String> {
        let environment = Environment::new([("HOME".to_owned(), "/nowhere".to_owned())]);
        let mut loaded = load(&Overrides::default(), &environment).unwrap();
        loaded.config.data_dir = directory.0.clone();
        loaded.config.listen.http = vec![Listener("127.0.0.1:0".parse().unwrap())];
        let mut out = Vec::new();
        run(command, "mlp", &loaded, &mut out).map_err(|failure| failure.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn keys_are_made_listed_and_removed() {
        let directory = Directory::new();
        let add = Command::Keys(KeysCommand::Add {
            name: "editor".to_owned(),
            role: Role::Client,
        });
        let list = Command::Keys(KeysCommand::List);
        let remove = Command::Keys(KeysCommand::Remove {
            name: "editor".to_owned(),
        });
        let path = KeyFile::new(&directory.0).path();
        assert_eq!(
            said(&list, &directory).unwrap(),
            format!("there are no keys in {}\n", path.display())
        );
        let key = said(&add, &directory).unwrap();
        assert!(key.starts_with("mlp-"));
        let listed = said(&list, &directory).unwrap();
        assert!(
            listed.starts_with("NAME    ROLE    CREATED\neditor  client  20"),
            "{listed}"
        );
        assert!(!listed.contains(key.trim()));
        said(&remove, &directory).unwrap();
        assert_eq!(
            said(&remove, &directory).unwrap_err(),
            "there is no key named `editor` in the key file; `keys list` shows those that are"
        );
    }

    #[test]
    fn sessions_are_a_table_that_no_agent_can_paint_over() {
        let answer = json!({"sessions": [
            {"session_id": "s-1", "status": "active", "agent_id": "a", "label": "An\u{1b}[2J agent", "models": ["m", "n"],
             "in_flight": 2, "request_count": 7, "expires_at": "2026-01-01T00:05:00Z"},
            {"session_id": "s-22", "status": "pending", "agent_id": "b", "label": "", "models": [], "in_flight": 0,
             "request_count": 0},
        ]});
        let mut out = Vec::new();
        sessions_table(&answer, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SESSION  STATUS   AGENT  LABEL         MODELS  OPEN  REQUESTS  EXPIRES\n\
             s-1      active   a      An [2J agent  m,n     2     7         2026-01-01T00:05:00Z\n\
             s-22     pending  b      -             -       0     0         -\n"
        );
        let mut out = Vec::new();
        sessions_table(&json!({}), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "no agent has registered\n");
    }

    #[test]
    fn an_open_port_needs_the_address_of_the_ready_line() {
        let error = said(&Command::Sessions { json: false }, &Directory::new()).unwrap_err();
        assert_eq!(
            error,
            "the configuration leaves the port open; give the address of the `ready` line with --listen"
        );
    }
}
