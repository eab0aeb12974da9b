//! The programs, but for their driver: from the command line to the end of serving.
//!
//! [`main`] is the whole of a program; [`start`] its beginning, up to everything that serving needs.

use crate::agents::supervisor::supervise;
use crate::agents::{AGENT_VARIABLE, Plan, loops, notices};
use crate::command_line::{Command, CommandLine, EXIT_FAILURE, EXIT_USAGE, Run, completions};
use crate::commands;
use crate::config::{Config, Environment, Loaded, LogLevel, Overrides, load};
use crate::keys::{KeyFile, StartKeys, start_keys};
use crate::logging::{self, LevelHandle};
use crate::process;
use crate::provider::Driver;
use crate::serve::serve;
use mcp_local_provider_core::config::HubConfig;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

/// A program whose provider is run by `D`. `program` is the name of the executable.
pub fn main<D: Driver>(program: &'static str, version: &'static str) -> ExitCode {
    match start(program, version) {
        Start::Done(code) => code,
        Start::Serve(prepared) => match serve::<D>(&prepared) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Where standard error is closed there is nobody to tell.
                let _ = writeln!(io::stderr(), "{program}: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// What a program does after its beginning.
#[derive(Debug)]
pub enum Start {
    /// Serve.
    Serve(Box<Prepared>),
    /// End with this code; everything is done and said.
    Done(ExitCode),
}

/// Everything that serving needs. The log runs, and what the configuration warns of is in it.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration. In a demo it writes no audit file.
    pub config: Config,
    /// Whether to run the built-in agent.
    pub demo: bool,
    /// The keys, and the texts of those that were made just now.
    pub keys: StartKeys,
    /// Changes the log's level.
    pub log: LevelHandle,
    overrides: Overrides,
}

impl Prepared {
    /// What the core needs to know.
    pub fn hub_config(&self) -> HubConfig {
        self.config.hub_config(self.keys.keys.clone())
    }

    /// Reads the configuration and the key file again, for SIGHUP. Nothing changes here: the caller takes it over.
    ///
    /// # Errors
    /// Why it cannot be used, as a sentence; the caller says so in the log and goes on with what it has.
    pub fn reload(&self) -> Result<Reloaded, String> {
        let loaded = load(&self.overrides, &Environment::of_process());
        let Loaded {
            mut config,
            warnings,
            ..
        } = loaded.map_err(|error| error.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let restart = needs_restart(&self.config, &config, self.demo);
        config.data_dir.clone_from(&self.config.data_dir);
        let keys = self.keys.again(&config, self.demo);
        let keys = keys.map_err(|error| error.to_string())?;
        Ok(Reloaded {
            level: config.log.level,
            restart,
            hub_config: config.hub_config(keys),
        })
    }
}

/// A configuration that was read again.
#[derive(Debug)]
pub struct Reloaded {
    /// What the core is to know from now on.
    pub hub_config: HubConfig,
    /// The log's level.
    pub level: LogLevel,
    /// The sections in which something has changed that holds from the next start on.
    pub restart: Vec<&'static str>,
}

fn needs_restart(now: &Config, new: &Config, demo: bool) -> Vec<&'static str> {
    [
        ("listen", now.listen != new.listen),
        ("bridges", now.bridges != new.bridges),
        ("agents", now.agents != new.agents),
        ("upstreams", now.upstreams != new.upstreams),
        ("mcpServers", now.mcp_servers != new.mcp_servers),
        ("audit", !demo && now.audit != new.audit),
        ("log.format", now.log.format != new.log.format),
        ("data_dir", now.data_dir != new.data_dir),
        ("runtime", now.runtime != new.runtime),
    ]
    .into_iter()
    .filter_map(|(section, changed)| changed.then_some(section))
    .collect()
}

/// Begins a program: reads the command line, environment and configuration, runs the commands that do not serve, and
/// prepares for serving. `program` is the name of the executable.
pub fn start(program: &'static str, version: &'static str) -> Start {
    let line = match CommandLine::parse(program, version, std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            // When standard output is closed there is nobody to tell.
            let _ = error.print();
            return Start::Done(ExitCode::from(
                u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE),
            ));
        }
    };
    if let Command::AgentProcess { remove, command } = line.command {
        // It needs no configuration, and is to be there at once.
        return Start::Done(supervise(&command, remove));
    }
    if let Command::Completions { shell } = line.command {
        // Whoever reads it may have seen enough.
        let _ = io::stdout().write_all(&completions(program, shell));
        return Start::Done(ExitCode::SUCCESS);
    }
    let environment = Environment::of_process();
    let loaded = match load(&line.overrides(), &environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            return fail(
                program,
                EXIT_USAGE,
                &format!("the configuration cannot be used:\n{error}"),
            );
        }
    };
    if let Command::Run(run) = line.command {
        return match prepare(run, line.overrides(), loaded) {
            Ok(prepared) => Start::Serve(Box::new(prepared)),
            Err(message) => fail(program, EXIT_FAILURE, &message),
        };
    }
    for warning in &loaded.warnings {
        let _ = writeln!(io::stderr(), "{program}: warning: {warning}");
    }
    match commands::run(
        &line.command,
        program,
        &loaded,
        &environment,
        &mut io::stdout(),
    ) {
        Ok(()) => Start::Done(ExitCode::SUCCESS),
        Err(failure) => fail(program, EXIT_FAILURE, &failure.0),
    }
}

/// Says one sentence on standard error and ends.
fn fail(program: &str, code: u8, message: &str) -> Start {
    let _ = writeln!(io::stderr(), "{program}: {message}");
    Start::Done(ExitCode::from(code))
}

fn prepare(run: Run, overrides: Overrides, loaded: Loaded) -> Result<Prepared, String> {
    let Loaded {
        mut config,
        file,
        warnings,
    } = loaded;
    let demo = run.demo;
    if demo {
        config.audit.file = None;
    }
    check_agents(&config, !overrides.agents.is_empty())?;
    let log = logging::start(&config.log).map_err(|error| error.to_string())?;
    if let Some(file) = &file {
        tracing::info!("the configuration is {}", file.display());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if !demo {
        let (notices, remembered) = notices::due(&config.data_dir, &config.agents);
        let _ = io::stderr().write_all(notices.as_bytes());
        if let Err(error) = remembered {
            tracing::warn!("notices about agents will be shown again: {error}");
        }
    }
    let keys = start_keys(&config, demo).map_err(|error| error.to_string())?;
    let files = process::raise_file_limit();
    if files.is_some_and(|files| files < u64::from(config.limits.connections)) {
        let files = files.unwrap_or_default();
        tracing::warn!(
            "the system lets this program open {files} files, fewer than limits.connections ({})",
            config.limits.connections
        );
    }
    if !demo && !keys.fresh.is_empty() {
        let _ = io::stderr().write_all(first_start(&keys, &config).as_bytes());
    }
    Ok(Prepared {
        config,
        demo,
        keys,
        log,
        overrides,
    })
}

/// Refuses what can never work: agents inside of an agent, and, where the command line names them, agents that are not
/// installed. Those of the configuration may be installed later.
fn check_agents(config: &Config, named: bool) -> Result<(), String> {
    if config.agents.is_empty() {
        return Ok(());
    }
    if let Some(refusal) = loops::nested(std::env::var_os(AGENT_VARIABLE).as_deref()) {
        return Err(refusal);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for agent in config.agents.iter().filter(|_| named) {
        let plan = Plan::new(agent);
        plan.find(&path)
            .map_err(|missing| format!("{}: {missing}", plan.name))?;
    }
    Ok(())
}

/// What is said once, when the keys of a first start were made.
fn first_start(keys: &StartKeys, config: &Config) -> String {
    let mut text =
        String::from("This is the first start, and keys were made. They are shown this once:\n\n");
    for key in &keys.fresh {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<10}{}", key.name, key.text);
    }
    let _ = write!(
        text,
        "\nGive `client` to your editor as its API key, and `bridge` to an agent that registers itself.\n\
         `operator` is for the command line, which finds it in {}.\n\
         Digests are kept in {}; `keys add NAME` makes more.\n\n",
        KeyFile::new(&config.data_dir)
            .operator_token_path()
            .display(),
        KeyFile::new(&config.data_dir).path().display(),
    );
    text
}
