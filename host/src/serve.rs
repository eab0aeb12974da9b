//! Serving, as both programs do it: start of the provider, its agents and its MCP servers, signals, and readiness.

use crate::agents::{Agents, Local, Plan};
use crate::audit::AuditWriter;
use crate::banner::{
    Demo, ServedServer, ShownKey, demo_banner, ready_line, server_banner, start_banner,
};
use crate::browser;
use crate::config::{Extra, OLLAMA, Role, Upstream};
use crate::demo;
use crate::doctor::serves_already;
use crate::mode::Mode;
use crate::owner::ProgramOwner;
use crate::process::own_program;
use crate::program::Prepared;
use crate::registry::Serving;
use crate::servers::Servers;
use mcp_local_provider_core::api::page::Setup;
use mcp_local_provider_engine::listen::{self, reachable};
use mcp_local_provider_engine::{Bridge, Config, Driver, Handle, ListenOllama, Owner, StartError};
use mcp_local_provider_process::adopt_orphans;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::error::Error;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Time that the last audit records have to reach the disk.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
///
/// # Errors
/// Fails when serving cannot start; the text is one sentence.
pub fn serve<D: Driver>(
    program: &'static str,
    prepared: &Arc<Prepared>,
) -> Result<(), Box<dyn Error>> {
    // Signals are handled from the next line on, whatever was ignored before.
    let hang_up = HangUp::at_start();
    // The default action of SIGXFSZ ends the process. Caught, a write beyond the file limit is an error like a full
    // disk.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGXFSZ])?;
    if let Err(error) = adopt_orphans() {
        tracing::debug!("orphans of agents will not be adopted: {error}");
    }
    let mut config = provider_config(prepared)?;
    let audit_writer = AuditWriter::start(&prepared.config.audit, &config.audit.feed)?;
    config.audit.file = audit_writer.file();
    config.audit.log = prepared.log.latest();
    let provider = D::start(config).map_err(|error| explained(program, error))?;
    let addresses = provider.addresses();
    let metrics = matches!(prepared.config.listen.metrics, Extra::Address(_));
    let serving = serving(addresses, metrics);
    let locals = local_agents(prepared)?;
    let mut agents = Agents::start(provider.engine(), locals, addresses, serving)?;
    if prepared.mode == Mode::Demo
        && let Some(key) = prepared.keys.fresh_text(Role::Bridge)
        // tiny_http, which takes no agents, may serve the first one.
        && let Some(address) = serving.last()
    {
        demo::connection::start(provider.engine(), key, reachable(*address))?;
    }
    // The gateway has it among its servers.
    let registry = Serving::open(provider.engine(), &prepared.config)?.map(Arc::new);
    let servers = Servers::open(provider.engine(), &prepared.config)?;
    let handle = provider.handle();
    let owner = ProgramOwner::new(
        prepared.clone(),
        handle.clone(),
        servers.clone(),
        registry.clone(),
    );
    let owner = Arc::new(owner);
    provider.engine().set_owner(owner.clone());
    let ear = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| obey(signals, &handle, &*owner, hang_up));
        announce(program, prepared, provider.addresses());
        provider.join();
        ear.close();
    });
    agents.join();
    servers.join();
    registry.iter().for_each(|registry| registry.close());
    audit_writer.finish(AUDIT_PATIENCE);
    Ok(())
}

fn provider_config(prepared: &Prepared) -> Result<Config, Box<dyn Error>> {
    let listen = &prepared.config.listen;
    let mut config = Config::new(prepared.hub_config());
    config.listening = handed_over()?;
    // Sockets of a service manager replace the addresses of the configuration.
    config.listen = if config.listening.is_empty() {
        listen.http_addresses()
    } else {
        Vec::new()
    };
    if prepared.mode == Mode::Demo {
        for address in std::mem::take(&mut config.listen) {
            config.listening.push(listen_somewhere(address)?);
        }
    }
    config.listen_ollama = match listen.ollama {
        Extra::Off => ListenOllama::Off,
        Extra::Auto => ListenOllama::IfFree(OLLAMA),
        Extra::Address(address) => ListenOllama::At(address),
    };
    if let Extra::Address(address) = listen.metrics {
        config.listen_metrics = Some(address);
    }
    config.threads = usize::try_from(prepared.config.runtime.threads)?;
    let agents = prepared.config.agents.iter();
    let expected = agents.map(|agent| (agent.known_as().into_owned(), agent.start_timeout));
    config.agents = expected.collect();
    config.ca_file.clone_from(&prepared.config.tls.ca_file);
    config.proxies.clone_from(&prepared.proxies);
    for bridge in &prepared.config.bridges {
        config.bridges.push(Bridge {
            name: bridge.name.clone(),
            url: bridge.url.clone(),
            token: bridge
                .token
                .as_ref()
                .and_then(|token| token.text())
                .map(str::to_owned),
            times: bridge.times(),
            form: bridge.form(),
            session: bridge.session.as_ref().map(Into::into),
        });
    }
    let upstreams = prepared.config.upstreams.iter();
    config.upstreams = upstreams.map(Upstream::to_engine).collect();
    Ok(config)
}

/// Listens on `address`, or on a free port where that one is taken.
fn listen_somewhere(address: SocketAddr) -> Result<TcpListener, listen::ListenError> {
    listen::bind(address).or_else(|error| {
        if error.taken().is_none() {
            return Err(error);
        }
        tracing::warn!("{error}; the demo takes a free one");
        listen::bind(SocketAddr::new(address.ip(), 0))
    })
}

/// Returns an error of the start, or what is to be said instead where this program holds the port itself.
fn explained(program: &'static str, error: StartError) -> Box<dyn Error> {
    if let StartError::Listen(error) = &error
        && let Some(address) = error.taken()
        && serves_already(program, address)
    {
        let address = reachable(address);
        return format!(
            "MCP Local Provider runs already at http://{address}: `{program} status` tells about it, `{program} stop` ends it, and \
             --listen gives another address to a second one (port 0 picks a free one)"
        )
        .into();
    }
    error.into()
}

/// Returns the addresses that serve every route: the one for metrics comes after all others.
fn serving(addresses: &[SocketAddr], metrics: bool) -> &[SocketAddr] {
    match addresses.split_last() {
        Some((_, others)) if metrics => others,
        _ => addresses,
    }
}

fn local_agents(prepared: &Prepared) -> io::Result<Vec<Local>> {
    let agents = prepared.config.agents.iter().map(|agent| {
        Ok(Local {
            plan: Plan::new(agent),
            supervisor: Some(own_program()?),
        })
    });
    agents.collect()
}

/// Returns the sockets that a service manager opened for this program (`sd_listen_fds(3)`).
fn handed_over() -> io::Result<Vec<TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    (0..handed.len())
        .filter_map(|at| handed.take_tcp_listener(at).transpose())
        .collect()
}

/// Meaning of SIGHUP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HangUp {
    /// Somebody wants the configuration to be read again.
    Reload,
    /// The terminal is gone: nobody would end the program and its agents any more.
    End,
}

impl HangUp {
    /// Decides by whether the program was started on a terminal, and not behind `nohup`.
    fn at_start() -> Self {
        let on_terminal =
            io::stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
        // `SigIgn` is a mask in hexadecimal digits, in which SIGHUP has the lowest bit (proc_pid_status(5)).
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let ignored = ignored.is_some_and(|mask| mask & 1 == 1);
        if on_terminal && !ignored {
            Self::End
        } else {
            Self::Reload
        }
    }
}

/// Handles signals: the first SIGTERM or SIGINT drains, the second one stops at once; for SIGHUP see [`HangUp`].
fn obey(mut signals: Signals, handle: &Handle, owner: &dyn Owner, hang_up: HangUp) {
    let mut draining = false;
    for signal in signals.forever() {
        match signal {
            SIGXFSZ => {}
            SIGHUP if hang_up == HangUp::Reload => {
                if let Err(error) = owner.reload() {
                    tracing::error!("the configuration stays as it was: {error}");
                }
            }
            // The shell sends a second one.
            SIGHUP if draining => {}
            _ if draining => {
                handle.stop();
                return;
            }
            _ => {
                draining = true;
                // A manager that cannot be told was named in the log at the start.
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
                let (open, drain) = (handle.open_requests(), handle.drain_time());
                if open == 0 {
                    tracing::info!("shutting down");
                } else {
                    tracing::info!(
                        "shutting down: {open} open requests have {} s to end (timeouts.drain); a second Ctrl-C or SIGTERM ends them at once",
                        drain.as_secs()
                    );
                }
                handle.shutdown();
            }
        }
    }
}

/// Returns the names that clients may ask for by the configuration: of agents, of upstreams whose models it names, then of
/// aliases.
fn model_names(config: &crate::config::Config) -> Vec<String> {
    let agents = config
        .agents
        .iter()
        .map(|agent| agent.known_as().into_owned());
    let aliases = config.models.aliases.keys().filter(|name| *name != "*");
    let upstreams = config.upstreams.iter().flat_map(|upstream| {
        let name = upstream.known_as();
        let models = upstream.models.iter();
        models.map(move |model| format!("{name}/{model}"))
    });
    agents.chain(upstreams).chain(aliases.cloned()).collect()
}

/// Reports readiness to scripts, to the service manager, and in a demo to the person.
fn announce(program: &'static str, prepared: &Prepared, addresses: &[SocketAddr]) {
    prepared.log.flush();
    // When standard output is closed nobody waits for the line.
    let _ = writeln!(stdout(), "{}", ready_line(addresses));
    let _ = stdout().flush();
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager cannot be told that this is ready");
    }
    let Some(address) = addresses.first() else {
        return;
    };
    let url = format!("http://{}", reachable(*address));
    let banner = match prepared.mode {
        Mode::Demo => Some(demo_banner(&Demo {
            program,
            address: *address,
            key: prepared.keys.fresh_text(Role::Client),
            model: demo::MODEL,
        })),
        Mode::OneServer => Some(server_banner(&ServedServer {
            address: *address,
            name: only_server(prepared),
            key: prepared.keys.fresh_text(Role::Client),
        })),
        Mode::Configured if stderr().is_terminal() => {
            Some(configured_banner(program, prepared, *address))
        }
        Mode::Configured => None,
    };
    let _ = stderr().write_all(banner.unwrap_or_default().as_bytes());
    if prepared.opens_page {
        let page = format!("{url}/");
        if let Err(error) = own_program().and_then(|program| browser::open(&program, &page)) {
            tracing::warn!("{page} cannot be opened in a browser: {error}");
        }
    }
}

/// Returns the name of the one server that is served.
fn only_server(prepared: &Prepared) -> &str {
    let mut servers = prepared.config.mcp_servers.offered();
    servers.next().map(|(name, _)| name).unwrap_or_default()
}

/// Returns the text of a start by the configuration.
fn configured_banner(program: &'static str, prepared: &Prepared, address: SocketAddr) -> String {
    let key = match &prepared.keys.client_key_file {
        _ if !prepared.config.auth.required => ShownKey::NotNeeded,
        Some(path) => ShownKey::File(path),
        None => ShownKey::Own,
    };
    let models = model_names(&prepared.config);
    let setup = Setup {
        url: format!("http://{}", reachable(address)),
        models: models.iter().map(|name| &**name).collect(),
    };
    let options = prepared.finding(address);
    let options: Vec<&str> = options.iter().map(|word| &**word).collect();
    start_banner(program, &options, &setup, key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_models_that_the_configuration_names_are_shown() {
        let text = "{ data_dir: /d, agents: [claude], upstreams: [{ kind: ollama, models: [a, b] }], models: { aliases: { x: claude, '*': claude } } }";
        let environment = crate::config::Environment::new([]);
        let config = crate::config::load_text("c.yaml", text, &environment)
            .unwrap()
            .config;
        assert_eq!(
            model_names(&config),
            ["claude", "ollama/a", "ollama/b", "x"]
        );
    }

    #[test]
    fn the_listener_for_metrics_serves_no_agent() {
        let all = ["192.168.1.4:8788", "127.0.0.1:9090"].map(|address| address.parse().unwrap());
        assert_eq!(serving(&all, true), &all[..1]);
        assert_eq!(serving(&all, false), all);
    }
}
