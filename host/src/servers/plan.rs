//! Turns an entry of `mcpServers` into the command and environment that start the server, or into the address that it has.

use super::remote::{RemoteServer, Way};
use crate::authorization::Authorization;
use crate::config::McpServer;
use crate::installed::{NotInstalled, find_program};
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_mcp::config::Wire;
use mcp_local_provider_mcp::remote::Form;
use mcp_local_provider_mcp::server::GRACE;
use mcp_local_provider_process::{Framing, Launch, Supervision, clean_environment};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are given to a process at once. The rest waits on its thread.
const INPUT_BYTES: usize = 64 << 10;
/// One server of the configuration, ready to be started.
#[derive(Debug, Clone)]
pub(crate) struct ServerPlan {
    /// Its name.
    pub(crate) name: String,
    /// Its entry in the configuration.
    server: McpServer,
    /// The longest line that is taken from it, in bytes.
    line_bytes: usize,
}

impl ServerPlan {
    /// Makes the plan of the server `name`. `line_bytes` is `gateway.message_bytes`.
    pub(crate) fn new(name: &str, server: &McpServer, line_bytes: usize) -> Self {
        Self {
            name: name.to_owned(),
            server: server.clone(),
            line_bytes,
        }
    }

    /// True when `other` starts the same program in the same way.
    pub(crate) fn starts_as(&self, other: &Self) -> bool {
        self.server == other.server
    }

    /// Returns the address of a server that is not started here, with the login there; `None` for one that is.
    pub(super) fn remote(&self, authorization: Option<Arc<Authorization>>) -> Option<RemoteServer> {
        Some(RemoteServer {
            url: self.server.url.clone()?,
            headers: self.server.sent_headers(),
            authorization,
            way: match (self.server.wire(), self.server.transport) {
                (Wire::WebSocket, _) => Way::Socket,
                (Wire::Sse, _) => Way::Http(Form::Events),
                (Wire::Http | Wire::Stdio | Wire::Internal, None) => Way::Unsaid,
                (Wire::Http | Wire::Stdio | Wire::Internal, Some(_)) => Way::Http(Form::Streamable),
            },
        })
    }

    /// Builds its environment from `variables`, those of this program.
    fn environment(&self, variables: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
        let own = self.server.env.iter();
        let own = own.filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())));
        let own: Vec<(String, String)> = own.collect();
        let passed = self.server.pass_env.iter().map(String::as_str);
        let further: Vec<&str> = ["XDG_*"].into_iter().chain(passed).collect();
        clean_environment(variables.iter().cloned(), &further, &own)
    }

    /// Finds its program as it would itself, with the `PATH` of its environment.
    ///
    /// # Errors
    /// Fails when the program is not there.
    pub(crate) fn find(&self, variables: &[(OsString, OsString)]) -> Result<PathBuf, NotInstalled> {
        let environment = self.environment(variables);
        let path = value(&environment, "PATH");
        let program = &self.server.command;
        find_program(program, path).ok_or_else(|| NotInstalled::why(program.clone(), path, None))
    }

    /// Builds the argument of [`Process::start`](mcp_local_provider_process::Process::start). `variables` is the environment
    /// of this program; for `supervisor` and `budget` see [`Launch`].
    ///
    /// # Errors
    /// Fails when the program or its working directory is not there.
    pub(crate) fn launch(
        &self,
        variables: &[(OsString, OsString)],
        supervisor: Option<&Path>,
        budget: Option<Budget>,
    ) -> io::Result<Launch> {
        let missing = |error: String| io::Error::new(io::ErrorKind::NotFound, error);
        let program = self.find(variables);
        let program = program.map_err(|error| missing(error.to_string()))?;
        let environment = self.environment(variables);
        let home = Path::new(value(&environment, "HOME"));
        let working_directory = match &self.server.cwd {
            Some(cwd) if !cwd.is_dir() => {
                let cwd = cwd.display();
                return Err(missing(format!(
                    "its working directory `{cwd}` is no directory"
                )));
            }
            Some(cwd) => cwd.clone(),
            None if home.is_absolute() && home.is_dir() => home.to_owned(),
            None => PathBuf::from("/"),
        };
        Ok(Launch {
            name: self.name.clone(),
            program,
            arguments: self.server.args.iter().map(OsString::from).collect(),
            working_directory,
            environment,
            supervisor: supervisor.map(Path::to_owned),
            supervision: Supervision {
                // When the program is gone it is the one that the gateway gives.
                grace: GRACE,
                remove: None,
            },
            output: Framing::Lines(self.line_bytes),
            input_bytes: INPUT_BYTES,
            budget,
        })
    }
}

/// Returns the value of a variable; empty without it.
fn value<'e>(environment: &'e [(OsString, OsString)], name: &str) -> &'e OsStr {
    let found = environment.iter().find(|(other, _)| other == name);
    found
        .map(|(_, value)| value.as_os_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, load_text};
    use crate::test_directory::Directory;
    use std::os::unix::fs::PermissionsExt;

    fn plan(text: &str) -> ServerPlan {
        let environment = Environment::new([("T".to_owned(), "of-the-variable".to_owned())]);
        let loaded = load_text("c.yaml", text, &environment).unwrap();
        let (name, server) = loaded.config.mcp_servers.iter().next().unwrap();
        ServerPlan::new(name, server, 4096)
    }

    #[test]
    fn a_server_sees_what_it_needs_what_is_passed_and_what_it_is_given() {
        let bin = Directory::new();
        let program = bin.file("a-server", "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = "data_dir: /d\nmcpServers: { files: { command: a-server, args: [-x, y], pass_env: [AWS_*, ONE], \
                    env: { TOKEN: 'env:T', LANG: de } } }";
        let home = bin.0.clone();
        let variables = [
            ("PATH", bin.0.to_str().unwrap()),
            ("HOME", home.to_str().unwrap()),
            ("LANG", "en"),
            ("LC_ALL", "C"),
            ("XDG_SESSION_TYPE", "tty"),
            ("AWS_REGION", "north"),
            ("ONE", "1"),
            ("TWO", "2"),
            ("MLP_AUTH__KEYS", "secret"),
            ("T", "of-the-variable"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let launch = plan(text).launch(&variables, None, None).unwrap();
        assert_eq!(launch.program, program);
        assert_eq!(launch.arguments, ["-x", "y"]);
        assert_eq!(launch.working_directory, home);
        assert_eq!(launch.output, Framing::Lines(4096));
        let names = launch
            .environment
            .iter()
            .map(|(name, value)| format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap()));
        let mut names: Vec<String> = names.collect();
        names.retain(|name| !name.starts_with("PATH=") && !name.starts_with("HOME="));
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "AWS_REGION=north",
                "LANG=de",
                "LC_ALL=C",
                "ONE=1",
                "TOKEN=of-the-variable",
                "XDG_SESSION_TYPE=tty"
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let said = |text: &str| {
            let plan = plan(&format!("data_dir: /d\nmcpServers: {{ a: {text} }}"));
            plan.launch(&[], None, None).unwrap_err().to_string()
        };
        assert_eq!(
            said("{ command: no-such-server }"),
            "`no-such-server` is not on the PATH; give its path, or install it"
        );
        assert_eq!(
            said("{ command: /bin/sh, cwd: /no/such/place }"),
            "its working directory `/no/such/place` is no directory"
        );
    }
}
