//! Serving, as both programs do it: from a configuration to a provider, signals, and the line that says it is ready.

use crate::agents::{Local, Plan};
use crate::audit::AuditWriter;
use crate::banner::{Demo, demo_banner, ready_line};
use crate::config::{Extra, Role};
use crate::demo;
use crate::process::notify_service_manager;
use crate::program::{Prepared, Reloaded};
use crate::provider::{Bridge, Config, Driver, Handle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::error::Error;
use std::io::{self, Write, stderr, stdout};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

/// Where editors look for an Ollama unasked.
const OLLAMA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 11434);

/// How long the last audit records have to reach the disk.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
///
/// # Errors
/// When it cannot start; the text is one sentence.
pub fn serve<D: Driver>(prepared: &Prepared) -> Result<(), Box<dyn Error>> {
    // A file that may not grow is an error like a full disk, and no reason to die.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGXFSZ])?;
    let (audit, audit_writer) = AuditWriter::start(&prepared.config.audit)?;
    let mut config = provider_config(prepared)?;
    config.audit = audit;
    let provider = D::start(config)?;
    let handle = provider.handle();
    let ear = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| obey(signals, &handle, prepared));
        announce(prepared, provider.addresses());
        provider.join();
        ear.close();
    });
    audit_writer.finish(AUDIT_PATIENCE);
    Ok(())
}

fn provider_config(prepared: &Prepared) -> Result<Config, Box<dyn Error>> {
    let listen = &prepared.config.listen;
    let mut config = Config::new(prepared.hub_config());
    config.listening = handed_over()?;
    // Sockets that a service manager opened stand in for those of the configuration.
    config.listen = if config.listening.is_empty() {
        listen.http_addresses()
    } else {
        Vec::new()
    };
    match listen.ollama {
        Extra::Off => {}
        Extra::Auto => config.listen_if_free.push(OLLAMA),
        Extra::Address(address) => config.listen.push(address),
    }
    if let Extra::Address(address) = listen.metrics {
        config.listen_metrics = Some(address);
    }
    config.threads = usize::try_from(prepared.config.runtime.threads)?;
    if prepared.demo {
        config.demo = prepared.keys.fresh_text(Role::Bridge).map(str::to_owned);
    }
    for bridge in &prepared.config.bridges {
        config.bridges.push(Bridge {
            name: bridge.name.clone(),
            url: bridge.url.clone(),
            token: bridge
                .token
                .as_ref()
                .and_then(|token| token.text())
                .map(str::to_owned),
            reconnect_attempts: bridge.reconnect_attempts,
        });
    }
    for agent in &prepared.config.agents {
        config.agents.push(Local {
            plan: Plan::new(agent),
            supervisor: Some(own_program()?),
        });
    }
    Ok(config)
}

/// This program, to be run again.
fn own_program() -> io::Result<PathBuf> {
    // What runs now is found there even when its file was replaced meanwhile, by an update say.
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        Ok(running)
    } else {
        std::env::current_exe()
    }
}

/// The sockets that a service manager has opened for us (systemd's `sd_listen_fds`).
fn handed_over() -> io::Result<Vec<TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    (0..handed.len())
        .filter_map(|at| handed.take_tcp_listener(at).transpose())
        .collect()
}

/// The first signal drains, the second one stops at once. SIGHUP reads the configuration again.
fn obey(mut signals: Signals, handle: &Handle, prepared: &Prepared) {
    let mut draining = false;
    for signal in signals.forever() {
        match signal {
            SIGXFSZ => {}
            SIGHUP => reload(handle, prepared),
            _ if draining => {
                handle.stop();
                return;
            }
            _ => {
                draining = true;
                // Without a service manager nobody listens.
                let _ = notify_service_manager("STOPPING=1");
                tracing::info!("shutting down; a second signal stops at once");
                handle.shutdown();
            }
        }
    }
}

/// Takes over from the configuration what can change while it serves, and names in the log what cannot.
fn reload(handle: &Handle, prepared: &Prepared) {
    match prepared.reload() {
        Ok(Reloaded {
            hub_config,
            level,
            restart,
        }) => {
            let keys = hub_config.keys.len();
            handle.reload(hub_config);
            prepared.log.set(level);
            tracing::info!(
                keys,
                "took the configuration over: auth, limits, timeouts, sessions, models and the log's level"
            );
            if !restart.is_empty() {
                tracing::warn!(
                    "what has changed of {} holds from the next start on",
                    restart.join(", ")
                );
            }
        }
        Err(error) => tracing::error!("the configuration stays as it was: {error}"),
    }
}

/// Says that it is ready: to scripts, to the service manager, and in a demo to the person.
fn announce(prepared: &Prepared, addresses: &[SocketAddr]) {
    // When standard output is closed nobody waits for the line.
    let _ = writeln!(stdout(), "{}", ready_line(addresses));
    let _ = stdout().flush();
    if let Err(error) = notify_service_manager("READY=1") {
        tracing::warn!(%error, "the service manager cannot be told that this is ready");
    }
    if prepared.demo
        && let Some(address) = addresses.first()
    {
        let banner = demo_banner(&Demo {
            address: *address,
            key: prepared.keys.fresh_text(Role::Client),
            model: demo::MODEL,
        });
        let _ = stderr().write_all(banner.as_bytes());
    }
}
