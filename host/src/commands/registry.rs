//! The commands on the registry.

use super::Failure;
use crate::command_line::RegistryCommand;
use crate::config::{Loaded, RegistrySecret};
use crate::control::{ControlClient, ControlError, Sent};
use crate::credentials;
use crate::private_file;
use crate::registry::{self, RegistryError};
use mcp_local_provider_registry::Imported;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest export that is read, in bytes.
const MOST: u64 = 1 << 30;

/// Runs a command: on the registry's file, or, where a program has that open, by asking that program.
pub(super) fn run(
    command: &RegistryCommand,
    program: &'static str,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let running = |path| Running::find(path, program, loaded);
    let config = &loaded.config;
    let (data_dir, secret) = (&config.data_dir, &config.registry.secret);
    match command {
        RegistryCommand::Export { file, secrets } => {
            let text = match registry::export(data_dir, secret, *secrets) {
                Err(RegistryError::InUse(path)) => running(path)?.export(*secrets)?,
                text => text?,
            };
            write(file, &text, *secrets, out)
        }
        RegistryCommand::Import { file, replace } => {
            let text = read(file)
                .map_err(|error| Failure(format!("{} cannot be read: {error}", file.display())))?;
            let limits = registry::limits(config);
            let imported = match registry::import(data_dir, secret, limits, &text, *replace) {
                Err(RegistryError::InUse(path)) => running(path)?.import(text, *replace)?,
                imported => imported?,
            };
            let Imported { added, replaced } = imported;
            Ok(writeln!(
                out,
                "{added} entries were added, {replaced} replaced"
            )?)
        }
        RegistryCommand::Rekey { to } => {
            let target = to.as_ref().unwrap_or(secret);
            let variable = |name: &str| loaded.environment.get(name).map(str::to_owned);
            let variable = |name: &str| variable(name).map(|text| text.trim().to_owned());
            let sealed = match registry::rekey(data_dir, secret, target, &variable) {
                Err(RegistryError::InUse(path)) => running(path)?.rekey(target)?,
                sealed => sealed?,
            };
            writeln!(out, "{sealed} secrets are sealed with a new key ({target})")?;
            if target.to_string() != secret.to_string() {
                writeln!(
                    out,
                    "write `registry: {{ secret: \"{target}\" }}` into the configuration, which has `{secret}`"
                )?;
            }
            Ok(())
        }
    }
}

/// The program that has the file open.
struct Running(ControlClient);

impl Running {
    /// The one that has the file at `path` open.
    fn find(path: PathBuf, program: &'static str, loaded: &Loaded) -> Result<Self, Failure> {
        let in_use = RegistryError::InUse(path);
        match credentials::admin(program, loaded) {
            Ok(client) if client.is_listening() => Ok(Self(client)),
            Ok(client) => Err(Failure(format!(
                "{in_use}. Nothing answers at {}; --listen or --config says where it is",
                client.address()
            ))),
            Err(error) => Err(Failure(format!("{in_use}. It cannot be asked: {error}"))),
        }
    }

    /// Sends a request, and returns the whole answer.
    fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: Option<String>,
    ) -> Result<String, Failure> {
        let sent = Sent {
            method,
            path,
            accept: "application/json, application/x-ndjson",
            headers: &[],
            body,
        };
        let answer = self.0.exchange(&sent).map_err(|error| match error {
            ControlError::Refused {
                status: 403,
                message,
            } => Failure(format!(
                "the program that runs has the registry open, and wants a key of the role admin: {message}; give one in \
                 {}, or stop the program",
                credentials::KEY_VARIABLE
            )),
            error @ (ControlError::NotRunning { .. }
            | ControlError::Connection(..)
            | ControlError::Foreign(..)
            | ControlError::Unauthorized { .. }
            | ControlError::Refused { .. }) => error.into(),
        })?;
        let mut text = String::new();
        let read = answer.take(MOST).read_to_string(&mut text);
        read.map_err(|error| self.0.broken(error))?;
        Ok(text)
    }

    /// A number of the answer to a change.
    fn count(&self, answer: &str, name: &str) -> Result<usize, Failure> {
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        let count = answer.get(name).and_then(Value::as_u64);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| {
            let address = self.0.address();
            Failure(format!("what answers at {address} is no registry"))
        })
    }

    fn export(&self, secrets: bool) -> Result<String, Failure> {
        let path = format!("/registry/export?secrets={secrets}");
        self.ask("GET", &path, None)
    }

    fn import(&self, text: String, replace: bool) -> Result<Imported, Failure> {
        let path = format!("/registry/import?replace={replace}");
        let answer = self.ask("POST", &path, Some(text))?;
        Ok(Imported {
            added: self.count(&answer, "added")?,
            replaced: self.count(&answer, "replaced")?,
        })
    }

    fn rekey(&self, to: &RegistrySecret) -> Result<usize, Failure> {
        let body = json!({ "to": to.to_string() }).to_string();
        let answer = self.ask("POST", "/registry/rekey", Some(body))?;
        self.count(&answer, "secrets")
    }
}

/// Writes an export to its file.
fn write(file: &Path, text: &str, secrets: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if is_standard(file) {
        return Ok(out.write_all(text.as_bytes())?);
    }
    let written =
        std::path::absolute(file).and_then(|file| private_file::replace(&file, text.as_bytes()));
    written.map_err(|error| Failure(format!("{} cannot be written: {error}", file.display())))?;
    let count = text.lines().count().saturating_sub(1);
    let kind = if secrets { "with" } else { "without" };
    Ok(writeln!(
        out,
        "{count} entries {kind} their secrets are in {}",
        file.display()
    )?)
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = MOST.saturating_add(1);
    if is_standard(file) {
        io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        let file = std::fs::File::open(file)?;
        file.take(most).read_to_string(&mut text)?;
    }
    if text.len() as u64 > MOST {
        return Err(io::Error::other("it has more than 1 GiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, load_text};
    use crate::test_directory::Directory;

    fn said(
        command: RegistryCommand,
        directory: &Directory,
        secret: &str,
    ) -> Result<String, String> {
        let variables = [
            ("P", "some words that are long"),
            ("Q", "other words that are long"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = format!(
            "data_dir: {}/data\nregistry: {{ secret: '{secret}' }}",
            directory.0.display()
        );
        let loaded = load_text("c.yaml", &text, &Environment::new(variables)).unwrap();
        let mut out = Vec::new();
        run(&command, "mcp-local-provider", &loaded, &mut out).map_err(|failure| failure.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_registry_is_taken_elsewhere_and_sealed_anew() {
        let directory = Directory::new();
        let head = "{\"format\":\"mcp-local-provider-registry\",\"version\":1}";
        let entry = r#"{"kind":"integration","name":"i","value":{"name":"i","model":{"provider":"openai","model_name":"m"}},"secrets":{"/model/api_key":"sk-1"}}"#;
        let file = directory.file("in.jsonl", &format!("{head}\n{entry}\n"));
        let import = |replace| RegistryCommand::Import {
            file: file.clone(),
            replace,
        };
        let export = |name: &str, secrets| RegistryCommand::Export {
            file: directory.0.join(name),
            secrets,
        };
        let rekey = |to: &str| RegistryCommand::Rekey {
            to: Some(to.parse().unwrap()),
        };
        assert_eq!(
            said(import(false), &directory, "file").unwrap(),
            "1 entries were added, 0 replaced\n"
        );
        let refused = said(import(false), &directory, "file").unwrap_err();
        assert!(
            refused.contains("the integration \"i\" exists already"),
            "{refused}"
        );
        assert_eq!(
            said(import(true), &directory, "file").unwrap(),
            "0 entries were added, 1 replaced\n"
        );
        let told = said(export("out", false), &directory, "file").unwrap();
        assert_eq!(
            told,
            format!(
                "1 entries without their secrets are in {}/out\n",
                directory.0.display()
            )
        );
        let told = said(rekey("env:P"), &directory, "file").unwrap();
        assert_eq!(
            told,
            "1 secrets are sealed with a new key (env:P)\nwrite `registry: { secret: \"env:P\" }` into the configuration, which has `file`\n"
        );
        said(rekey("env:Q"), &directory, "env:P").unwrap();
        assert!(
            said(export("out", true), &directory, "env:P")
                .unwrap_err()
                .contains("is another")
        );
        said(export("out", true), &directory, "env:Q").unwrap();
        let written = std::fs::read_to_string(directory.0.join("out")).unwrap();
        assert!(written.contains("sk-1"), "{written}");
        let standard = RegistryCommand::Export {
            file: "-".into(),
            secrets: true,
        };
        assert_eq!(said(standard, &directory, "env:Q").unwrap(), written);
    }
}
