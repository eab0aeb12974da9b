//! The command `doctor`: finds obstacles to serving on this machine, and says what to do about them.

mod agents;
mod bridges;
mod registry;
mod servers;
mod trial;
mod upstreams;

use crate::config::{Config, Extra, Loaded, OLLAMA, Role};
use crate::control::{ControlClient, ControlError};
use crate::keys::{KeyFile, strange_files};
use crate::printable::printable;
use crate::private_file;
use crate::process::raise_file_limit;
use mcp_local_provider_engine::PortHolder;
use rustix::fs::statvfs;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Open files that the program needs beside its connections.
const OTHER_FILES: u64 = 64;
/// Free bytes on the disk below which an audit file draws a warning.
const AUDIT_ROOM: u64 = 100 << 20;
/// Seconds from 1970 to the beginning of 2026 and of 2100. A clock outside of them is wrong.
const CLOCK: std::ops::Range<u64> = 1_767_225_600..4_102_444_800;

/// Result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing to do.
    Ok,
    /// The program serves, but with a defect.
    Warn,
    /// The program does not serve.
    Fail,
}

/// Result of one check, with its subject and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Severity of the finding.
    pub health: Health,
    /// Subject of the check, as printed in the second column.
    pub subject: &'static str,
    /// The observation, and the remedy where one is needed.
    pub text: String,
}

/// Findings in the order in which they are printed.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, health: Health, subject: &'static str, text: String) {
        self.0.push(Finding {
            health,
            subject,
            text,
        });
    }
}

/// Inputs of the checks beside the configuration.
#[derive(Default)]
pub struct Surroundings {
    /// The environment of this program.
    pub variables: Vec<(OsString, OsString)>,
    /// The path of this program, when each agent and MCP server is to be started; it supervises them.
    pub start: Option<PathBuf>,
    /// The operator's key of a running program.
    pub operator_token: Option<String>,
}

/// Runs all checks on `loaded`. `program` is the name of the executable.
#[must_use]
pub fn examine(
    program: &'static str,
    loaded: &Loaded,
    surroundings: &Surroundings,
) -> Vec<Finding> {
    let config = &loaded.config;
    let mut findings = Findings::default();
    configuration(loaded, &mut findings);
    ports(program, loaded, surroundings, &mut findings);
    keys(config, &mut findings);
    directories(config, &mut findings);
    limits(config, &mut findings);
    clock(SystemTime::now(), &mut findings);
    bridges::examine(loaded, &mut findings);
    upstreams::examine(loaded, &mut findings);
    agents::examine(config, surroundings, &mut findings);
    servers::examine(loaded, surroundings, &mut findings);
    registry::examine(config, &mut findings);
    findings.0
}

/// Writes one line for each finding, with colour on a terminal, and a summary. Returns true when nothing fails.
///
/// # Errors
/// Fails when `out` is closed.
pub fn report(findings: &[Finding], out: &mut dyn Write) -> io::Result<bool> {
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for finding in findings {
        let (word, colour) = match finding.health {
            Health::Ok => ("ok  ", "32"),
            Health::Warn => ("warn", "33"),
            Health::Fail => ("FAIL", "31"),
        };
        if colours {
            write!(out, "\x1b[{colour}m{word}\x1b[0m")?;
        } else {
            write!(out, "{word}")?;
        }
        writeln!(out, "  {:<14}{}", finding.subject, finding.text)?;
    }
    let count = |health| {
        findings
            .iter()
            .filter(|finding| finding.health == health)
            .count()
    };
    let (failed, warned) = (count(Health::Fail), count(Health::Warn));
    match (failed, warned) {
        (0, 0) => writeln!(out, "everything is well")?,
        (0, _) => writeln!(out, "it can serve; warnings: {warned}")?,
        _ => writeln!(
            out,
            "it cannot serve as configured; failures: {failed}, warnings: {warned}"
        )?,
    }
    Ok(failed == 0)
}

fn configuration(loaded: &Loaded, findings: &mut Findings) {
    let text = match &loaded.file {
        Some(file) => format!("{} is right", file.display()),
        None => "there is no configuration file; the defaults hold".to_owned(),
    };
    findings.add(Health::Ok, "configuration", text);
    for warning in &loaded.warnings {
        findings.add(Health::Warn, "configuration", warning.to_string());
    }
}

fn ports(
    program: &'static str,
    loaded: &Loaded,
    surroundings: &Surroundings,
    findings: &mut Findings,
) {
    let listen = &loaded.config.listen;
    let mut wanted: Vec<(SocketAddr, Health)> = listen
        .http_addresses()
        .into_iter()
        .map(|address| (address, Health::Fail))
        .collect();
    for (extra, auto) in [(listen.ollama, Some(OLLAMA)), (listen.metrics, None)] {
        match (extra, auto) {
            (Extra::Address(address), _) => wanted.push((address, Health::Fail)),
            // `auto` goes without the listener when the port is taken.
            (Extra::Auto, Some(address)) => wanted.push((address, Health::Warn)),
            (Extra::Auto, None) | (Extra::Off, _) => {}
        }
    }
    for (address, health) in wanted {
        let error = match TcpListener::bind(address) {
            Ok(_) => {
                findings.add(Health::Ok, "port", format!("{address} is free"));
                continue;
            }
            Err(error) => error,
        };
        if error.kind() != io::ErrorKind::AddrInUse {
            let text =
                format!("{address} cannot be listened on: {error}; choose another with --listen");
            findings.add(health, "port", text);
        } else if serves_already(program, address) {
            let text = format!("{address} is served by a {program} that runs already");
            findings.add(Health::Ok, "port", text);
            let token = surroundings.operator_token.clone();
            running(program, token, address, findings);
        } else {
            let holder = PortHolder::find(address)
                .map_or_else(|| "another program".to_owned(), |holder| holder.to_string());
            let text = format!(
                "{address} is taken by {holder}; stop that, or choose another address with --listen"
            );
            findings.add(health, "port", text);
        }
    }
}

/// Tells what the agents of the running program wrote to their standard error.
fn running(
    program: &'static str,
    token: Option<String>,
    address: SocketAddr,
    findings: &mut Findings,
) {
    let health = match ControlClient::new(program, address, token).get("/health/deep") {
        Ok(health) => health,
        Err(error) => {
            let text = format!("the running program does not tell about its agents: {error}");
            return findings.add(Health::Warn, "agent", text);
        }
    };
    let components = health.get("components").and_then(Value::as_object);
    for (name, component) in components.into_iter().flatten() {
        let lines = component.pointer("/details/stderr");
        for line in lines.and_then(Value::as_array).into_iter().flatten() {
            let line = printable(line.as_str().unwrap_or_default());
            findings.add(Health::Ok, "agent", format!("{name} wrote: {line}"));
        }
    }
}

/// Returns true when this program, or its sibling, answers at `address`.
pub(crate) fn serves_already(program: &'static str, address: SocketAddr) -> bool {
    let answer = ControlClient::new(program, address, None).get("/health");
    match answer {
        Ok(health) => health.get("active_sessions").is_some(),
        // A program that drains answers 503.
        Err(ControlError::Refused { status, .. }) => status == 503,
        Err(_) => false,
    }
}

fn keys(config: &Config, findings: &mut Findings) {
    let file = KeyFile::new(&config.data_dir);
    let records = match file.read() {
        Ok(records) => records,
        Err(error) => return findings.add(Health::Fail, "keys", error.to_string()),
    };
    for path in file.private_files() {
        if private_file::is_exposed(&path) {
            let text = format!("{} can be read by others; chmod 600 {0}", path.display());
            findings.add(Health::Warn, "keys", text);
        }
    }
    for path in strange_files(config).unwrap_or_default() {
        let name = if path == file.operator_token_path() {
            "operator"
        } else {
            "client"
        };
        let text = format!(
            "{} holds a key that is not known here; `keys remove {name}`, if there is one, and `keys add {name} --role {name}` renew it",
            path.display()
        );
        findings.add(Health::Warn, "keys", text);
    }
    let roles: Vec<Role> = records
        .iter()
        .map(|record| record.role)
        .chain(config.auth.keys.iter().map(|key| key.role))
        .collect();
    let text = if !config.auth.required {
        "none is required: whoever reaches the port may ask".to_owned()
    } else if roles.is_empty() {
        "there are none yet; the first start makes them and shows them once".to_owned()
    } else {
        let count = |role| roles.iter().filter(|known| **known == role).count();
        let all = [Role::Client, Role::Bridge, Role::Operator, Role::Admin];
        let told = all.map(|role| (role.name(), count(role)));
        let told = told.iter().filter(|(_, count)| *count > 0);
        let told: Vec<String> = told
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        told.join(", ")
    };
    findings.add(Health::Ok, "keys", text);
    if config.auth.required && !roles.is_empty() && !roles.contains(&Role::Client) {
        let text = "no key has the role client, so no editor can ask; `keys add NAME` makes one";
        findings.add(Health::Warn, "keys", text.to_owned());
    }
    let mut operators = config.auth.keys.iter().map(|key| key.role);
    if config.auth.required
        && !roles.is_empty()
        && !file.operator_token_path().exists()
        && !operators.any(|role| matches!(role, Role::Operator | Role::Admin))
    {
        let text = "there is no operator.token, so commands such as `ps` and `stop` have no key; `keys remove operator`, if there is \
                    one, and `keys add operator --role operator` make it";
        findings.add(Health::Warn, "keys", text.to_owned());
    }
}

/// Returns the directory itself, or its nearest ancestor that exists.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute
        .ancestors()
        .find(|path| path.exists())
        .map_or(absolute.clone(), Path::to_owned)
}

/// Writes a file into a directory, or into the nearest one above it where it is not there yet, and removes the file.
fn writable(path: &Path) -> io::Result<()> {
    let file = nearest(path).join(format!(".mcp-local-provider-doctor-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)?;
    std::fs::remove_file(&file)
}

fn directories(config: &Config, findings: &mut Findings) {
    let data = &config.data_dir;
    match writable(data) {
        Ok(()) => findings.add(
            Health::Ok,
            "data_dir",
            format!("{} can be written", data.display()),
        ),
        Err(error) => findings.add(
            Health::Fail,
            "data_dir",
            format!(
                "{} cannot be written ({error}); give another `data_dir`",
                data.display()
            ),
        ),
    }
    let Some(file) = &config.audit.file else {
        return findings.add(Health::Ok, "audit", "off".to_owned());
    };
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let existing = if file.exists() {
        OpenOptions::new().append(true).open(file).map(drop)
    } else {
        writable(directory)
    };
    if let Err(error) = existing {
        let text = format!(
            "{} cannot be written ({error}): requests are served, and their records are lost; give another `audit.file`, or \
             `off`",
            file.display()
        );
        return findings.add(Health::Warn, "audit", text);
    }
    let room = statvfs(nearest(directory)).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match room {
        Ok(room) if room < AUDIT_ROOM => findings.add(
            Health::Warn,
            "audit",
            format!(
                "the disk of {} has {} MiB left; make room",
                file.display(),
                room >> 20
            ),
        ),
        _ => findings.add(
            Health::Ok,
            "audit",
            format!("{} can be written", file.display()),
        ),
    }
}

fn limits(config: &Config, findings: &mut Findings) {
    let wanted = u64::from(config.limits.connections) + OTHER_FILES;
    match raise_file_limit() {
        Some(files) if files < wanted => findings.add(
            Health::Warn,
            "open files",
            format!(
                "the system allows {files}, and limits.connections is {}; raise the limit (`ulimit -n {wanted}`, LimitNOFILE= in a \
                 unit) or lower limits.connections",
                config.limits.connections
            ),
        ),
        Some(files) => findings.add(Health::Ok, "open files", format!("{files} are allowed")),
        None => findings.add(Health::Ok, "open files", "no limit".to_owned()),
    }
}

fn clock(now: SystemTime, findings: &mut Findings) {
    let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if CLOCK.contains(&unix) {
        findings.add(
            Health::Ok,
            "clock",
            "it tells a year that can be".to_owned(),
        );
    } else {
        let text = "it is wrong, so times in answers, sessions and the audit are too, and encrypted connections fail; set it";
        findings.add(Health::Warn, "clock", text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, Listener, Overrides, load};
    use crate::test_directory::Directory;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn loaded(directory: &Directory) -> Loaded {
        let environment = Environment::new([("HOME".to_owned(), "/nowhere".to_owned())]);
        let mut loaded = load(&Overrides::default(), &environment).unwrap();
        loaded.config.data_dir = directory.0.join("data");
        loaded.config.audit.file = Some(directory.0.join("logs/audit.jsonl"));
        loaded.config.listen.http = vec![Listener("127.0.0.1:0".parse().unwrap())];
        loaded
    }

    fn of(findings: &[Finding], subject: &str) -> Vec<(Health, String)> {
        let all = findings.iter().filter(|finding| finding.subject == subject);
        all.map(|finding| (finding.health, finding.text.clone()))
            .collect()
    }

    #[test]
    fn a_taken_port_is_named_with_its_owner() {
        let directory = Directory::new();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        // A server that answers something else than our API, and ends.
        let speaker = std::thread::spawn(move || {
            let (mut socket, _) = other.accept().unwrap();
            socket.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
            other
        });
        let mut loaded = loaded(&directory);
        loaded.config.listen.http = vec![Listener(address)];
        let findings = examine("mlp", &loaded, &Surroundings::default());
        drop(speaker.join());
        let [(health, text)] = of(&findings, "port").try_into().unwrap();
        assert_eq!(health, Health::Fail);
        assert!(
            text.starts_with(&format!("{address} is taken by ")),
            "{text}"
        );
        assert!(
            text.contains(&format!("(process {})", std::process::id())),
            "{text}"
        );
        let mut out = Vec::new();
        assert!(!report(&findings, &mut out).unwrap());
        assert!(String::from_utf8(out).unwrap().contains("\nFAIL  port"));
    }

    #[test]
    fn what_others_can_read_and_what_is_not_installed_is_told_with_what_to_do() {
        let directory = Directory::new();
        let mut loaded = loaded(&directory);
        KeyFile::new(&loaded.config.data_dir)
            .add("b", Role::Bridge)
            .unwrap();
        let file = KeyFile::new(&loaded.config.data_dir).path();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        loaded.config.agents = vec![crate::config::Agent {
            preset: Some("gemini".to_owned()),
            ..Default::default()
        }];
        let findings = examine("mlp", &loaded, &Surroundings::default());
        let [(exposed, first), (_, count), (unable, third), (_, fourth)] =
            of(&findings, "keys").try_into().unwrap();
        assert!(fourth.contains("operator.token"), "{fourth}");
        assert_eq!((exposed, unable), (Health::Warn, Health::Warn));
        assert!(first.contains("chmod 600"), "{first}");
        assert_eq!(count, "1 bridge");
        assert!(third.contains("`keys add NAME`"), "{third}");
        let agents = of(&findings, "agent");
        let (health, text) = agents.first().unwrap();
        assert_eq!(*health, Health::Fail);
        assert!(text.contains("npm install -g @google/gemini-cli"), "{text}");
    }

    #[test]
    fn a_directory_counts_as_writable_when_a_file_was_written() {
        let directory = Directory::new();
        let mut loaded = loaded(&directory);
        let mut findings = Findings::default();
        directories(&loaded.config, &mut findings);
        let [(health, _)] = of(&findings.0, "data_dir").try_into().unwrap();
        assert_eq!(health, Health::Ok);
        assert_eq!(
            std::fs::read_dir(&directory.0).unwrap().count(),
            0,
            "nothing is left"
        );
        // The rights of this directory let root write; the file system does not.
        loaded.config.data_dir = "/proc/there/data".into();
        let mut findings = Findings::default();
        directories(&loaded.config, &mut findings);
        let [(health, text)] = of(&findings.0, "data_dir").try_into().unwrap();
        assert_eq!(health, Health::Fail);
        assert!(
            text.starts_with("/proc/there/data cannot be written ("),
            "{text}"
        );
    }

    #[test]
    fn a_clock_that_was_never_set_is_noticed() {
        let mut findings = Findings::default();
        clock(UNIX_EPOCH + Duration::from_secs(60), &mut findings);
        assert_eq!(findings.0.first().unwrap().health, Health::Warn);
    }
}
