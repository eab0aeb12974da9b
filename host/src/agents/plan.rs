//! Turns the configuration of an agent into the command, environment and files that start it.

use super::directory::AgentDirectory;
use super::environment::agent_environment;
use super::presets::{FILES, Preset};
use crate::config;
use crate::installed::{NotInstalled, find_program};
use mcp_local_provider_core::api::AGENT_HEADER;
use mcp_local_provider_process::{Framing, Launch, Supervision};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that are given to a process at once. The rest waits in the machine, where it counts against the agent's limit.
const INPUT_BYTES: usize = 64 << 10;

/// One agent of the configuration, and the preset that it names.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name: its own, its preset's or its program's.
    pub name: String,
    /// The preset that the entry names, if any.
    pub preset: Option<&'static Preset>,
    /// Its entry in the configuration.
    pub agent: config::Agent,
}

impl Plan {
    /// Takes an entry of the configuration and finds its preset.
    #[must_use]
    pub fn new(agent: &config::Agent) -> Self {
        Self {
            name: agent.known_as().into_owned(),
            preset: agent.known_preset().and_then(Preset::named),
            agent: agent.clone(),
        }
    }

    /// Finds the agent's program in the directories of `path`, in the form of the variable `PATH`.
    ///
    /// # Errors
    /// Fails when it is not there; the error says how to install it.
    pub fn find(&self, path: &OsStr) -> Result<PathBuf, NotInstalled> {
        let found = match (self.agent.command.first(), self.preset) {
            (Some(program), _) => find_program(program, path),
            (None, Some(preset)) => preset.find(path),
            (None, None) => None,
        };
        found.ok_or_else(|| {
            let program = match (self.agent.command.first(), self.preset) {
                (Some(program), _) => program.clone(),
                (None, preset) => preset
                    .and_then(|preset| preset.programs.first())
                    .map_or_else(|| self.name.clone(), |program| (*program).to_owned()),
            };
            NotInstalled::why(program, path, self.preset.map(|preset| preset.install))
        })
    }

    /// Builds the argument of [`Process::start`](mcp_local_provider_process::Process::start), and writes the preset's files into
    /// `directory`. `variables` is the environment of this program; for `supervisor` and `line_bytes` see [`Launch`].
    ///
    /// # Errors
    /// Fails when the program is not there or a file cannot be written.
    pub(crate) fn launch(
        &self,
        variables: &[(OsString, OsString)],
        directory: &AgentDirectory,
        supervisor: Option<&Path>,
        line_bytes: usize,
    ) -> io::Result<Launch> {
        let path = variables.iter().find(|(name, _)| name == "PATH");
        let path = path.map(|(_, path)| path.as_os_str()).unwrap_or_default();
        let program = self
            .find(path)
            .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        directory.make()?;
        let directory = directory.private();
        let mut environment = Vec::new();
        let own = self.agent.command.get(1..).unwrap_or_default();
        let mut arguments: Vec<OsString> = own.iter().map(OsString::from).collect();
        if let Some(preset) = self.preset {
            for (name, content) in preset.files {
                directory.write(name, content)?;
            }
            let files = directory.path().display().to_string();
            let fill = |text: &&str| text.replace(FILES, &files);
            // A command may give them itself: `opencode acp`.
            let missing = preset.arguments.iter().map(fill);
            arguments.extend(
                missing
                    .filter(|text| !own.contains(text))
                    .map(OsString::from),
            );
            environment.extend(
                preset
                    .environment
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), fill(value))),
            );
        }
        // The person's own values win over the preset's.
        for (name, value) in &self.agent.env {
            environment.retain(|(other, _)| other != name);
            environment.push((name.clone(), value.clone()));
        }
        if let Some((name, between)) = self.preset.and_then(|preset| preset.headers) {
            let own = environment.iter().find(|(other, _)| other == name);
            let own = own.map(|(_, value)| value.clone()).or_else(|| {
                let inherited = variables.iter().find(|(other, _)| other == name);
                inherited.and_then(|(_, value)| value.clone().into_string().ok())
            });
            let mark = format!("{AGENT_HEADER}: {}", self.name);
            let headers = own.map_or(mark.clone(), |own| own + between + &mark);
            environment.retain(|(other, _)| other != name);
            environment.push((name.to_owned(), headers));
        }
        let passes = self.preset.map_or(&[][..], |preset| preset.passes);
        Ok(Launch {
            name: self.name.clone(),
            program,
            arguments,
            environment: agent_environment(
                variables.iter().cloned(),
                &self.name,
                passes,
                environment,
            ),
            working_directory: self
                .agent
                .cwd
                .clone()
                .unwrap_or_else(|| directory.working_directory()),
            supervisor: supervisor.map(Path::to_owned),
            supervision: Supervision {
                remove: Some(directory.path().to_owned()),
                ..Supervision::default()
            },
            output: Framing::Lines(line_bytes),
            input_bytes: INPUT_BYTES,
            budget: None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_preset_is_started_with_its_files_and_what_it_may_see() {
        let bin = Directory::new();
        let program = bin.file("gemini", "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let agent = config::Agent {
            preset: Some("gemini".to_owned()),
            env: [("GEMINI_API_KEY".to_owned(), "mine".to_owned())].into(),
            ..config::Agent::default()
        };
        let plan = Plan::new(&agent);
        let directory = AgentDirectory::new().unwrap();
        let variables = [
            ("PATH".into(), bin.0.clone().into()),
            ("GEMINI_API_KEY".into(), "theirs".into()),
            ("GOOGLE_CLOUD_PROJECT".into(), "p".into()),
            ("MLP_AUTH__KEYS".into(), "secret".into()),
        ];
        let launch = plan.launch(&variables, &directory, None, 1).unwrap();
        assert_eq!(launch.program, program);
        assert_eq!(launch.arguments, ["--acp", "--skip-trust"]);
        assert_eq!(
            launch.working_directory,
            directory.private().working_directory()
        );
        let value = |name: &str| {
            let mut found = launch.environment.iter().filter(|(other, _)| other == name);
            let value = found.next().map(|(_, value)| value.to_str().unwrap());
            assert!(found.next().is_none(), "{name} is given once");
            value
        };
        assert_eq!(value("GEMINI_API_KEY"), Some("mine"));
        assert_eq!(value("GOOGLE_CLOUD_PROJECT"), Some("p"));
        assert_eq!(value("MLP_AUTH__KEYS"), None);
        let system = value("GEMINI_SYSTEM_MD").unwrap();
        assert!(
            std::fs::read_to_string(system)
                .unwrap()
                .contains("language model")
        );
    }

    #[test]
    fn an_agent_that_is_started_by_a_command_keeps_what_its_preset_knows() {
        let bin = Directory::new();
        let program = bin.file("npx", "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let command = ["npx", "-y", "@google/gemini-cli", "--acp"];
        let plan = Plan::new(&config::Agent {
            command: command.map(str::to_owned).into(),
            ..config::Agent::default()
        });
        let preset = plan.preset.map(|preset| preset.name);
        assert_eq!((&*plan.name, preset), ("gemini", Some("gemini")));
        let variables = [
            ("PATH".into(), bin.0.clone().into()),
            ("GEMINI_API_KEY".into(), "theirs".into()),
        ];
        let directory = AgentDirectory::new().unwrap();
        let launch = plan.launch(&variables, &directory, None, 1).unwrap();
        assert_eq!(launch.program, program);
        assert_eq!(
            launch.arguments,
            ["-y", "@google/gemini-cli", "--acp", "--skip-trust"]
        );
        for name in ["GEMINI_API_KEY", "GEMINI_SYSTEM_MD"] {
            assert!(
                launch.environment.iter().any(|(other, _)| other == name),
                "{name}"
            );
        }
    }

    #[test]
    fn an_agent_marks_its_requests_beside_the_headers_of_its_person() {
        let bin = Directory::new();
        let program = bin.file("claude-agent-acp", "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let plan = Plan::new(&config::Agent {
            preset: Some("claude".to_owned()),
            ..config::Agent::default()
        });
        let directory = AgentDirectory::new().unwrap();
        for (own, expected) in [
            (None, "x-mcp-local-provider-agent: claude"),
            (
                Some("x-team: a"),
                "x-team: a\nx-mcp-local-provider-agent: claude",
            ),
        ] {
            let path = ("PATH".into(), bin.0.clone().into());
            let own = own.map(|own| ("ANTHROPIC_CUSTOM_HEADERS".into(), own.into()));
            let variables: Vec<_> = [path].into_iter().chain(own).collect();
            let launch = plan.launch(&variables, &directory, None, 1).unwrap();
            let mut headers = launch.environment.iter();
            let headers = headers.find(|(name, _)| name == "ANTHROPIC_CUSTOM_HEADERS");
            assert_eq!(headers.unwrap().1, expected);
        }
    }

    #[test]
    fn what_is_not_installed_is_told_with_how_to_install_it() {
        let plan = |preset: Option<&str>, command: &[&str]| {
            Plan::new(&config::Agent {
                preset: preset.map(str::to_owned),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                ..config::Agent::default()
            })
        };
        let nowhere = OsStr::new("/nowhere");
        let said = |plan: Plan| plan.find(nowhere).unwrap_err().to_string();
        assert_eq!(
            said(plan(Some("codex"), &[])),
            "`codex-acp` is not on the PATH; install it with: npm install -g @agentclientprotocol/codex-acp"
        );
        assert_eq!(
            said(plan(None, &["./mine", "--acp"])),
            "`./mine` is not there; give its path, or install it"
        );
    }
}
