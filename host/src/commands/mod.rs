//! The commands that do not serve: those on files and keys, and those that ask the running program.

mod chat;
mod keys;
mod mcp;
mod mcp_add;
mod mcp_call;
mod mcp_login;
mod registry;
mod running;
mod table;

use crate::audit::tail;
use crate::command_line::{AuditCommand, Command, McpCommand};
use crate::config::Loaded;
use crate::credentials;
use crate::doctor::{self, Surroundings};
use crate::keys::KeyFile;
use crate::printable::printable;
use crate::process::own_program;
pub(crate) use mcp_add::{NotAdded, add_server};
use std::io::{self, Write};
use table::table;

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
        Command::Serve
        | Command::Mcp(McpCommand::Serve { .. } | McpCommand::Add { .. })
        | Command::OpenPage { .. }
        | Command::Complete { .. }
        | Command::Config(_)
        | Command::Completions { .. } => Ok(()),
        Command::Run { model, prompt } => {
            let client = credentials::client(program, loaded)?;
            chat::run(&client, model.as_deref().unwrap_or_default(), prompt, out)
        }
        Command::List { prefix, json } => {
            let client = credentials::client(program, loaded)?;
            running::list(&client, prefix.as_deref(), *json, out)
        }
        Command::Ps { json } => {
            running::processes(&credentials::operator(program, loaded)?, *json, out)
        }
        Command::Status { json } => running::status(
            program,
            &credentials::operator(program, loaded)?,
            *json,
            out,
        ),
        Command::Reload => running::reload(&credentials::operator(program, loaded)?, out),
        Command::Stop { model: Some(model) } => Err(Failure(format!(
            "`{}` stays, as agents are not unloaded: `stop` alone ends the program, `revoke SESSION` an agent's session",
            printable(model)
        ))),
        Command::Stop { model: None } => {
            running::stop(&credentials::operator(program, loaded)?, out)
        }
        Command::Doctor { start_agents } => {
            let surroundings = Surroundings {
                variables: std::env::vars_os().collect(),
                start: start_agents.then(own_program).transpose()?,
                // Without it a running program does not tell about its agents, which is a finding.
                operator_token: credentials::operator_token(loaded).ok().flatten(),
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
        Command::Mcp(McpCommand::List { tools, json }) => {
            mcp::list(program, loaded, *tools, *json, out)
        }
        Command::Mcp(McpCommand::Call {
            server,
            tool,
            arguments,
            json,
        }) => mcp_call::call(program, loaded, server, tool, arguments, *json, out),
        Command::Mcp(McpCommand::Login {
            server,
            scope,
            no_browser,
        }) => mcp_login::login(loaded, server, scope.as_deref(), !no_browser, out),
        Command::Mcp(McpCommand::Logout { server }) => mcp_login::logout(loaded, server, out),
        Command::Registry(command) => registry::run(command, program, loaded, out),
        Command::CheckConfig => check_config(loaded, out),
        Command::Keys(command) => keys::run(command, program, loaded, out),
        Command::Sessions { json } => {
            running::sessions(&credentials::operator(program, loaded)?, *json, out)
        }
        Command::Approve { session } => {
            let client = credentials::operator(program, loaded)?;
            running::change_session(&client, "approve", session, out)
        }
        Command::Revoke { session } => {
            let client = credentials::operator(program, loaded)?;
            running::change_session(&client, "revoke", session, out)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command_line::KeysCommand;
    use crate::config::{Environment, Listener, Overrides, Role, load};
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
            rights: Role::Client.into(),
        });
        let list = Command::Keys(KeysCommand::List { json: false });
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
            listed.starts_with("NAME    ROLE    REQUESTS/MIN  TOKENS/MIN  ALLOW   MODELS  SERVERS  CREATED\neditor  client  -             -           models  all     -        20"),
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
    fn an_open_port_needs_the_address_of_the_ready_line() {
        let error = said(&Command::Sessions { json: false }, &Directory::new()).unwrap_err();
        assert_eq!(
            error,
            "the configuration leaves the port open; give the address of the `ready` line with --listen"
        );
    }
}
