//! Finds in the command of an agent what it starts, so that an agent with a preset is known however it is started.

use super::sections::{is_of_a_name, name_of_program};

/// Programs and packages that are an agent with a preset, without the scope of a package. Cursor's program has another
/// name too, `agent`, which may be anybody's.
const KNOWN: [(&str, &[&str]); 7] = [
    ("cursor", &["cursor-agent"]),
    ("claude", &["claude-agent-acp", "claude-code-acp"]),
    ("codex", &["codex-acp"]),
    ("gemini", &["gemini", "gemini-cli"]),
    ("opencode", &["opencode", "opencode-ai"]),
    ("copilot", &["copilot"]),
    ("goose", &["goose"]),
];

/// Programs that start what a later word names, and options of theirs that are followed by a value.
const RUNNERS: [(&str, &[&str]); 13] = [
    ("env", &["-u", "-C", "--unset", "--chdir"]),
    ("npx", &["-p", "--package", "-w", "--workspace"]),
    ("npm", &["-p", "--package", "-w", "--workspace"]),
    ("pnpm", &["--package"]),
    ("pnpx", &["--package"]),
    ("yarn", &["-p", "--package"]),
    ("bun", &["-p", "--package"]),
    ("bunx", &["-p", "--package"]),
    ("uvx", &["--from", "--with", "-p", "--python"]),
    ("uv", &["--from", "--with", "-p", "--python"]),
    ("node", &["-r", "--require", "--import"]),
    ("python", &["-X", "-W"]),
    ("deno", &[]),
];

/// Words between a runner and what it starts: `npm exec`, `pnpm dlx`, `uv tool run`.
const VERBS: [&str; 5] = ["exec", "x", "dlx", "tool", "run"];

/// Returns the word of `command` that names what it starts, and its place: `x.py` of `env A=1 python3 -u x.py --acp`.
fn started(command: &[String]) -> Option<(usize, &str)> {
    let mut runner: Option<&[&str]> = None;
    let mut words = command.iter().map(String::as_str).enumerate();
    while let Some((at, word)) = words.next() {
        if let Some(values) = runner {
            if word.starts_with('-') {
                if values.contains(&word) {
                    words.next();
                }
                continue;
            }
            let is_assignment = word
                .split_once('=')
                .is_some_and(|(name, _)| !name.is_empty() && !name.contains(['/', '@']));
            if VERBS.contains(&word) || is_assignment {
                continue;
            }
        }
        let name = word.rsplit('/').next().unwrap_or_default();
        // `python3.12` is `python`.
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        match RUNNERS.iter().find(|(known, _)| *known == name) {
            Some((_, values)) => runner = Some(values),
            None => return Some((at, word)),
        }
    }
    None
}

/// Returns the place of the word of `command` that may be the path of a script which another program runs.
pub(crate) fn script(command: &[String]) -> Option<usize> {
    let (at, word) = started(command)?;
    let is_path = word.contains('/') || SCRIPTS.iter().any(|suffix| word.ends_with(suffix));
    (at > 0 && is_path).then_some(at)
}

/// Endings of the names of scripts.
const SCRIPTS: [&str; 5] = [".js", ".mjs", ".cjs", ".ts", ".py"];

/// Returns the name of a program, script or package without directories, scope, version and the suffix of a script:
/// `@scope/name@1.2` and `/opt/name.py` are `name`.
fn bare(word: &str) -> &str {
    let name = word.rsplit('/').next().unwrap_or_default();
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    SCRIPTS
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name)
}

/// Returns the preset of the agent that `command` starts.
pub(crate) fn preset_of(command: &[String]) -> Option<&'static str> {
    let (_, word) = started(command)?;
    let name = bare(word);
    let (preset, _) = KNOWN.iter().find(|(_, names)| names.contains(&name))?;
    Some(preset)
}

/// Makes a name for the agent that `command` starts: its preset's, or its program's. `None` for an empty command.
pub(crate) fn name_of(command: &[String]) -> Option<String> {
    let first = command.first()?;
    if let Some(preset) = preset_of(command) {
        return Some(preset.to_owned());
    }
    Some(match started(command) {
        Some((at, word)) if at > 0 => name_of_program(bare(word)),
        _ => name_of_program(first),
    })
}

/// Takes `NAME=COMMAND` apart. `None` where the text before the first `=` is no name.
pub(crate) fn named(word: &str) -> Option<(&str, &str)> {
    let (name, command) = word.split_once('=')?;
    (!name.is_empty() && name.chars().all(is_of_a_name)).then_some((name, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        command.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_agent_with_a_preset_is_known_however_it_is_started() {
        for (command, preset) in [
            ("/opt/node_modules/.bin/claude-agent-acp", Some("claude")),
            (
                "npx -y @agentclientprotocol/claude-agent-acp",
                Some("claude"),
            ),
            (
                "npx -y @zed-industries/claude-code-acp@0.16.2",
                Some("claude"),
            ),
            (
                "npx --package x -y @google/gemini-cli --acp",
                Some("gemini"),
            ),
            ("npm exec -- opencode-ai acp", Some("opencode")),
            (
                "pnpm dlx @agentclientprotocol/codex-acp@latest",
                Some("codex"),
            ),
            ("env A=1 B=/c -u D /usr/bin/goose acp", Some("goose")),
            (
                "/usr/bin/env node --import x /lib/copilot.js",
                Some("copilot"),
            ),
            ("cursor-agent acp", Some("cursor")),
            ("uvx --from git+x goose", Some("goose")),
            ("uv tool run goose", Some("goose")),
            ("./agent acp", None),
            ("mine --agent claude-agent-acp", None),
            ("npx -y", None),
            ("python3", None),
        ] {
            assert_eq!(preset_of(&words(command)), preset, "{command}");
        }
    }

    #[test]
    fn an_agent_without_a_preset_is_called_as_what_is_started() {
        for (command, name) in [
            ("python3.12 -u ./x.py --acp", "x"),
            ("uvx fast-agent@1.2", "fast-agent"),
            ("env A=1 /opt/mine", "mine"),
            ("/opt/mine.sh", "mine.sh"),
            ("npx -y @google/gemini-cli", "gemini"),
            ("python3", "python3"),
        ] {
            assert_eq!(name_of(&words(command)).as_deref(), Some(name), "{command}");
        }
        assert_eq!(name_of(&[]), None);
    }

    #[test]
    fn a_name_may_stand_before_a_command() {
        assert_eq!(named("claude=npx -y x"), Some(("claude", "npx -y x")));
        assert_eq!(named("mine=x=y"), Some(("mine", "x=y")));
        for none in ["mine --a=b", "=x", "./a=b", "mine"] {
            assert_eq!(named(none), None, "{none}");
        }
    }
}
