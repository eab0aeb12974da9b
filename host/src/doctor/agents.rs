//! Checks of the agents that the program starts: their programs, the addresses of their models, and a start.

use super::trial::try_agent;
use super::{Findings, Health, Surroundings};
use crate::agents::presets::{self, Preset};
use crate::agents::{AGENT_VARIABLE, AgentDirectory, Plan, loops};
use crate::config::{self, Config};
use crate::connected::CONNECT;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;

/// Endings of the names of variables that hold the address of a model, or of the proxy before it.
const ADDRESSES: [&str; 4] = ["_URL", "_HOST", "_ENDPOINT", "_PROXY"];

/// Checks the agents of the configuration, and names the presets that are installed. With [`Surroundings::start`] it
/// starts each: the agents of the configuration, or where there are none the presets.
pub(super) fn examine(config: &Config, surroundings: &Surroundings, findings: &mut Findings) {
    let variables = &surroundings.variables;
    let start = surroundings.start.as_deref();
    let path = variables.iter().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, path)| path.as_os_str()).unwrap_or_default();
    let nested = loops::nested(std::env::var_os(AGENT_VARIABLE).as_deref());
    if let (Some(_), Some(refusal)) = (start, &nested) {
        findings.add(Health::Fail, "agent", refusal.clone());
    }
    let start = start.filter(|_| nested.is_none());
    for agent in &config.agents {
        one(&Plan::new(agent), path, variables, start, findings);
    }
    let others = presets::ALL.iter().filter(|preset| {
        let same = |agent: &config::Agent| agent.known_preset() == Some(preset.name);
        !config.agents.iter().any(same)
    });
    let (there, missing): (Vec<&Preset>, Vec<&Preset>) =
        others.partition(|preset| preset.find(path).is_some());
    for preset in &there {
        let text = format!(
            "{} is installed: `--agent {}` answers with it",
            preset.title, preset.name
        );
        findings.add(Health::Ok, "agent", text);
        if config.agents.is_empty() && start.is_some() {
            let agent = config::Agent {
                preset: Some(preset.name.to_owned()),
                ..config::Agent::default()
            };
            one(&Plan::new(&agent), path, variables, start, findings);
        }
    }
    if config.agents.is_empty() && there.is_empty() {
        let known: Vec<&str> = missing.iter().map(|preset| preset.name).collect();
        let text = format!(
            "none of {} is installed, and none is configured: an agent has to connect by itself, or install one, such as `{}`",
            known.join(", "),
            Preset::named("claude").map_or("", |preset| preset.install)
        );
        findings.add(Health::Warn, "agent", text);
    }
}

fn one(
    plan: &Plan,
    path: &OsStr,
    variables: &[(OsString, OsString)],
    start: Option<&Path>,
    findings: &mut Findings,
) {
    let program = match plan.find(path) {
        Ok(program) => program,
        Err(missing) => {
            return findings.add(Health::Fail, "agent", format!("{}: {missing}", plan.name));
        }
    };
    let mut text = format!("{} is {}", plan.name, program.display());
    if let Some(preset) = plan.preset {
        text.push_str("; to log in, ");
        text.push_str(preset.login);
    }
    findings.add(Health::Ok, "agent", text);
    models(plan, variables, findings);
    if let Some(supervisor) = start {
        let (health, text) = try_agent(plan, variables, Some(supervisor));
        findings.add(health, "agent", text);
    }
}

/// Warns of addresses in the agent's environment at which nothing accepts connections.
fn models(plan: &Plan, variables: &[(OsString, OsString)], findings: &mut Findings) {
    let launch =
        AgentDirectory::new().and_then(|directory| plan.launch(variables, &directory, None, 0));
    // Its start tells if something keeps it from being launched.
    let environment = launch.map(|launch| launch.environment).unwrap_or_default();
    let named = |name: &str| {
        ADDRESSES
            .iter()
            .any(|end| name.to_ascii_uppercase().ends_with(end))
    };
    let given = environment.iter().filter_map(|(name, value)| {
        let name = name.to_str().filter(|name| named(name))?;
        Some((name, address(value.to_str()?)?))
    });
    let given: Vec<(&str, String)> = given.collect();
    let is_proxy = |name: &str| name.to_ascii_uppercase().ends_with("_PROXY");
    let proxied = given.iter().any(|(name, _)| is_proxy(name));
    for (name, address) in &given {
        // Behind a proxy only it knows whether the others can be reached.
        if proxied && !is_proxy(name) {
            continue;
        }
        if let Err(error) = connect(address) {
            let text = format!(
                "{}: {name} names {address}, which accepts no connection ({error}); start what answers there, or change {name}",
                plan.name
            );
            findings.add(Health::Warn, "model", text);
        }
    }
}

/// Returns the host and port of a web address, without anything secret that may be in it.
fn address(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match host {
        "" => None,
        _ if has_port => Some(host.to_owned()),
        _ => Some(format!("{host}:{port}")),
    }
}

/// Connects to `HOST:PORT`, and closes the connection.
///
/// # Errors
/// Fails when the host is not known, or nothing accepts within 2 s.
pub(super) fn connect(address: &str) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    fn agent(command: &[&str], env: &[(&str, &str)]) -> config::Agent {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        config::Agent {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: env.iter().map(pair).collect(),
            ..config::Agent::default()
        }
    }

    fn found(agent: &config::Agent, start: bool) -> Vec<(Health, String)> {
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let mut findings = Findings::default();
        let plan = Plan::new(agent);
        let paths = OsStr::new("/usr/bin:/bin");
        if start {
            let (health, text) = try_agent(&plan, &[path], None);
            return vec![(health, text)];
        }
        one(&plan, paths, &[path], None, &mut findings);
        let all = findings.0.into_iter();
        all.map(|finding| (finding.health, finding.text)).collect()
    }

    #[test]
    fn a_file_that_cannot_be_run_is_told_from_one_that_is_not_there() {
        let directory = Directory::new();
        let file = directory.file("mine", "#!/bin/sh\n");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let file = file.to_str().unwrap();
        let [(health, text)] = found(&agent(&[file], &[]), false).try_into().unwrap();
        assert_eq!(health, Health::Fail);
        assert_eq!(
            text,
            format!("mine: `{file}` is not executable; run `chmod +x {file}`")
        );
        let [(_, text)] = found(&agent(&["/nowhere/x"], &[]), false)
            .try_into()
            .unwrap();
        assert_eq!(
            text,
            "x: `/nowhere/x` is not there; give its path, or install it"
        );
    }

    #[test]
    fn an_address_at_which_no_model_answers_is_named_without_its_secrets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A connection's own port belongs to it, and accepts none, whatever other tests do.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mine = |address: &str| {
            let url = format!("http://ada:secret@{address}/v1?key=secret");
            agent(&["/bin/sh"], &[("OPENAI_BASE_URL", &url), ("OTHER", &url)])
        };
        let there = listener.local_addr().unwrap().to_string();
        assert_eq!(found(&mine(&there), false).len(), 1);
        let address = client.local_addr().unwrap().to_string();
        let [_, (health, text)] = found(&mine(&address), false).try_into().unwrap();
        assert_eq!(health, Health::Warn);
        let said = format!("sh: OPENAI_BASE_URL names {address}, which accepts no connection (");
        assert!(
            text.starts_with(&said) && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn a_start_tells_what_keeps_an_agent_from_being_asked() {
        let said = |script: &str| {
            let [found] = found(&agent(&["/bin/sh", "-c", script], &[]), true)
                .try_into()
                .unwrap();
            found
        };
        let initialized = r#"read x; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"agentInfo":{"name":"X","version":"1"}}}'; read x; "#;
        let session = r#"echo '{"jsonrpc":"2.0","id":2,"result":{"sessionId":"s"}}'; read x"#;
        let refused = r#"echo '{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"no disk"}}'; read x"#;
        let login =
            r#"echo '{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"log in"}}'; read x"#;
        let cases = [
            (
                format!("{initialized}{session}"),
                Health::Ok,
                "sh starts, says that it is X 1, and can be asked; models: 1",
            ),
            (
                format!("{initialized}{refused}"),
                Health::Fail,
                "sh starts, and makes no session: no disk",
            ),
            (
                format!("{initialized}{login}"),
                Health::Fail,
                "sh starts, and wants a login: log in with the agent's own program, then try again",
            ),
            (
                "echo Welcome; echo more; exit 3".to_owned(),
                Health::Fail,
                "sh was started: it ended with exit code 3; it printed `Welcome`, which is not ACP",
            ),
            (
                "echo 'no key' >&2; exit 3".to_owned(),
                Health::Fail,
                "sh was started: it ended with exit code 3; its last words: no key",
            ),
            (
                "printf 'Password: '; read x; read x".to_owned(),
                Health::Fail,
                "`sh` printed `Password:`, which is not ACP; give the program or the arguments that speak the Agent Client \
                 Protocol",
            ),
            (
                "echo Welcome to X; read x; read x".to_owned(),
                Health::Fail,
                "`sh` printed `Welcome to X`, which is not ACP; give the program or the arguments that speak the Agent Client \
                 Protocol",
            ),
        ];
        // At once, because some are given 5 s.
        std::thread::scope(|scope| {
            for (script, health, text) in &cases {
                scope.spawn(move || assert_eq!(said(script), (*health, (*text).to_owned())));
            }
        });
    }
}
