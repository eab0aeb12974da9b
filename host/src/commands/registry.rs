//! The commands on the registry's file, which no program may have open.

use super::Failure;
use crate::command_line::RegistryCommand;
use crate::config::Loaded;
use crate::private_file;
use crate::registry;
use mcp_local_provider_registry::Record;
use std::io::{self, Read, Write};
use std::path::Path;

/// Largest export that is read, in bytes.
const MOST: u64 = 1 << 30;

/// Runs a command on the registry's file.
pub(super) fn run(
    command: &RegistryCommand,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let data_dir = &loaded.config.data_dir;
    let secret = &loaded.config.registry.secret;
    match command {
        RegistryCommand::Export { file, secrets } => {
            let text = registry::export(data_dir, secret, *secrets)?;
            if is_standard(file) {
                return Ok(out.write_all(text.as_bytes())?);
            }
            let written = std::path::absolute(file)
                .and_then(|file| private_file::replace(&file, text.as_bytes()));
            written.map_err(|error| {
                Failure(format!("{} cannot be written: {error}", file.display()))
            })?;
            let count = text.lines().count().saturating_sub(1);
            let kind = if *secrets { "with" } else { "without" };
            writeln!(
                out,
                "{count} entries {kind} their secrets are in {}",
                file.display()
            )?;
        }
        RegistryCommand::Import { file, replace } => {
            let text = read(file)
                .map_err(|error| Failure(format!("{} cannot be read: {error}", file.display())))?;
            // What is wrong with a definition the program says that opens the registry.
            let any = |_: &Record| Ok(());
            let imported = registry::import(data_dir, secret, &text, *replace, &any)?;
            writeln!(
                out,
                "{} entries were added, {} replaced",
                imported.added, imported.replaced
            )?;
        }
        RegistryCommand::Rekey { to } => {
            let target = to.as_ref().unwrap_or(secret);
            let variable = |name: &str| loaded.environment.get(name).map(str::to_owned);
            let variable = |name: &str| variable(name).map(|text| text.trim().to_owned());
            let sealed = registry::rekey(data_dir, secret, target, &variable)?;
            writeln!(out, "{sealed} secrets are sealed with a new key ({target})")?;
            if target.to_string() != secret.to_string() {
                writeln!(
                    out,
                    "write `registry: {{ secret: \"{target}\" }}` into the configuration, which has `{secret}`"
                )?;
            }
        }
    }
    Ok(())
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
        run(&command, &loaded, &mut out).map_err(|failure| failure.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_registry_is_taken_elsewhere_and_sealed_anew() {
        let directory = Directory::new();
        let head = "{\"format\":\"mcp-local-provider-registry\",\"version\":1}";
        let entry = "{\"kind\":\"integration\",\"name\":\"i\",\"value\":{},\"secrets\":{\"/model/api_key\":\"sk-1\"}}";
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
            refused.contains("integration `i` exists already"),
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
