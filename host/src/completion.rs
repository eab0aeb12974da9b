//! Words that may stand at the end of a command line, for the scripts of the shells.

use crate::command_line::grammar;
use crate::config::{Environment, Loaded, Overrides, PRESETS, load};
use crate::control::{ControlClient, ControlError};
use crate::credentials;
use crate::keys::KeyFile;
use clap::{Arg, Command};
use serde_json::Value;

/// Returns the words that begin with `word` and may follow `words`, which begin with the program's name. What cannot be found
/// out is left out.
#[must_use]
pub fn complete(program: &'static str, words: &[String], word: &str) -> Vec<String> {
    let mut root = grammar(program);
    root.build();
    let mut command = &root;
    let mut option: Option<&Arg> = None;
    let mut position = 0;
    // Bash takes `=` for a word of its own.
    for text in words.iter().skip(1).filter(|text| *text != "=") {
        if option.take().is_some() {
            continue;
        }
        if text.starts_with('-') {
            option = valued(command, text);
        } else if let Some(subcommand) = command.find_subcommand(text) {
            command = subcommand;
            position = 0;
        } else {
            position += 1;
        }
    }
    let word = if word == "=" { "" } else { word };
    let state = State { program, words };
    let joined = word.split_once('=').and_then(|(name, _)| {
        let option = valued(command, name)?;
        let values = state.values(command, option).into_iter();
        Some(values.map(|value| format!("{name}={value}")).collect())
    });
    let mut found: Vec<String> = if let Some(option) = option {
        state.values(command, option)
    } else if let Some(joined) = joined {
        joined
    } else if word.starts_with('-') {
        let options = command.get_arguments().filter(|arg| !arg.is_hide_set());
        options
            .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
            .collect()
    } else {
        let subcommands = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let names = subcommands.map(|sub| sub.get_name().to_owned());
        let positional = command.get_positionals().nth(position);
        let values = positional.map(|arg| state.values(command, arg));
        names
            .filter(|_| position == 0)
            .chain(values.into_iter().flatten())
            .collect()
    };
    found.retain(|text| text.starts_with(word) && is_plain(text));
    found
}

/// The option of that name, where the next word is its value.
fn valued<'c>(command: &'c Command, text: &str) -> Option<&'c Arg> {
    let name = text.strip_prefix("--")?;
    let mut options = command.get_arguments();
    options.find(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())
}

/// True for text that no shell takes for more than a word: names may come from an agent.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || "-_./:@+,=".contains(c))
}

/// The line that is being typed, and what it says of the configuration.
struct State<'a> {
    program: &'static str,
    words: &'a [String],
}

impl State<'_> {
    /// Returns the values of an argument.
    fn values(&self, command: &Command, argument: &Arg) -> Vec<String> {
        match (command.get_name(), argument.get_id().as_str()) {
            (_, "agent") => {
                let loaded = self.loaded();
                let configured = loaded.iter().flat_map(|loaded| &loaded.config.agents);
                let mut names: Vec<String> = PRESETS.map(str::to_owned).to_vec();
                names.extend(configured.map(|agent| agent.known_as().into_owned()));
                names.sort_unstable();
                names.dedup();
                names
            }
            (_, "model" | "models") => {
                let client = self.asking(credentials::client);
                let names = told(client, "/api/tags", "models", "name");
                let bare = |name: &String| name.trim_end_matches(":latest").to_owned();
                names.iter().map(bare).collect()
            }
            (_, "session") => {
                let client = self.asking(credentials::operator);
                told(client, "/control/sessions", "sessions", "session_id")
            }
            ("remove", "name") => {
                let loaded = self.loaded();
                let file = loaded.map(|loaded| KeyFile::new(loaded.config.data_dir));
                let records = file.and_then(|file| file.read().ok());
                let records = records.into_iter().flatten();
                records.map(|record| record.name).collect()
            }
            (..) => {
                let values = argument.get_possible_values().into_iter();
                values.map(|value| value.get_name().to_owned()).collect()
            }
        }
    }

    fn asking<E>(
        &self,
        client: fn(&'static str, &Loaded) -> Result<ControlClient, E>,
    ) -> Option<ControlClient> {
        client(self.program, &self.loaded()?).ok()
    }

    /// Returns the configuration that the line names.
    fn loaded(&self) -> Option<Loaded> {
        let after = |option: &str| {
            let mut words = self.words.iter();
            words.find(|word| *word == option)?;
            words.next()
        };
        let overrides = Overrides {
            config: after("--config").map(Into::into),
            env_file: after("--env-file").map(Into::into),
            listen: after("--listen").cloned().into_iter().collect(),
            ..Overrides::default()
        };
        load(&overrides, &Environment::of_process()).ok()
    }
}

/// Returns a field of each entry of a list of the running program.
fn told(client: Option<ControlClient>, path: &str, list: &str, field: &str) -> Vec<String> {
    let answer: Option<Result<Value, ControlError>> = client.map(|client| client.get(path));
    let Some(Ok(answer)) = answer else {
        return Vec::new();
    };
    let entries = answer.get(list).and_then(Value::as_array).into_iter();
    entries
        .flatten()
        .filter_map(|entry| Some(entry.get(field)?.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let word = words.pop().unwrap_or_default();
        complete("mlp", &words, &word)
    }

    #[test]
    fn commands_options_and_values_are_completed() {
        assert_eq!(found("mlp st"), ["status", "stop"]);
        assert_eq!(found("mlp keys "), ["add", "list", "remove", "help"]);
        assert_eq!(
            found("mlp mcp "),
            ["serve", "list", "call", "login", "logout", "add", "help"]
        );
        assert_eq!(found("mlp mcp serve --no"), ["--no-auth"]);
        assert_eq!(found("mlp keys add a --role b"), ["bridge"]);
        assert_eq!(found("mlp keys add a --role = b"), ["bridge"]);
        assert_eq!(found("mlp keys add a --role=b"), ["--role=bridge"]);
        assert_eq!(found("mlp --agent cl"), ["claude"]);
        assert_eq!(found("mlp completions f"), ["fish"]);
        assert_eq!(found("mlp stop --l"), ["--listen"]);
        assert_eq!(found("mlp serve --demo --op"), ["--open"]);
        assert!(!found("mlp ").contains(&"child-process".to_owned()));
        assert_eq!(found("mlp --config /nowhere.yaml run "), [""; 0]);
    }

    #[test]
    fn a_name_that_a_shell_could_take_for_more_is_left_out() {
        assert!(is_plain("claude/opus-4.6:latest"));
        for name in ["a b", "$(x)", "`x`", "a;b", "a\n", "*"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
