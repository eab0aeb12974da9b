//! The programs but for their driver, from the command line to the end of serving.
//!
//! [`main`] is a whole program; [`start`] is its part before serving.

use crate::agents::{AGENT_VARIABLE, Plan, loops, notices};
use crate::browser;
use crate::command_line::{
    Command, CommandLine, ConfigCommand, EXIT_FAILURE, EXIT_USAGE, McpCommand,
};
use crate::commands::{self, NotAdded};
use crate::completion::complete;
use crate::config::{
    Config, ConfigError, EXAMPLE, Environment, Loaded, NewServer, Overrides, load,
};
use crate::keys::{KeyFile, Stamp, StartKeys, start_keys};
use crate::logging::{self, RunningLog};
use crate::mode::Mode;
use crate::private_file;
use crate::process;
use crate::serve::serve;
use crate::servers::ServerPlan;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_engine::proxy::Proxies;
use mcp_local_provider_engine::{Driver, keep_for_next};
use mcp_local_provider_process::run_as_supervisor;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

/// Name of the file, in `data_dir`, with the keys of a first start that no terminal showed.
const FIRST_KEYS: &str = "first-keys.txt";

/// Runs a program whose provider is driven by `D`. `program` is the name of the executable.
pub fn main<D: Driver>(program: &'static str, version: &'static str) -> ExitCode {
    if let Some(code) = run_as_supervisor(std::env::args_os()) {
        return code;
    }
    keep_for_next();
    match start(program, version) {
        Start::Done(code) => code,
        Start::Serve(prepared) => {
            let prepared = Arc::from(prepared);
            let ended = serve::<D>(program, &prepared);
            prepared.log.finish();
            match ended {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    // When standard error is closed nobody can be told.
                    let _ = writeln!(io::stderr(), "{program}: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Result of a program's start.
#[derive(Debug)]
pub enum Start {
    /// Serve with these values.
    Serve(Box<Prepared>),
    /// End with this code; all output was written.
    Done(ExitCode),
}

/// Values that serving needs. The log runs, and the warnings of the configuration are in it.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration. Where no files are kept it names no audit file.
    pub config: Config,
    /// Things that are served.
    pub mode: Mode,
    /// All keys, and the texts of those that were made just now.
    pub keys: StartKeys,
    /// State of the key file before it was read.
    pub key_stamp: Stamp,
    /// The log.
    pub log: RunningLog,
    /// True when the page is to be opened in a browser.
    pub opens_page: bool,
    pub(crate) overrides: Overrides,
    /// Proxies of the environment.
    pub(crate) proxies: Proxies,
}

impl Prepared {
    /// Returns the options with which a command finds this program at `address`: none where the usual configuration leads there.
    pub(crate) fn finding(&self, address: SocketAddr) -> Vec<String> {
        let mut options = Vec::new();
        if let Some(file) = &self.overrides.config {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            options.extend(["--config".to_owned(), file.display().to_string()]);
        }
        let configured = self.config.listen.http_addresses().contains(&address);
        if !configured || !self.overrides.listen.is_empty() {
            options.extend(["--listen".to_owned(), address.to_string()]);
        }
        options
    }

    /// Returns the configuration of the core, with the keys.
    pub fn hub_config(&self) -> HubConfig {
        self.config.hub_config(self.keys.keys.clone())
    }
}

/// Starts a program: reads the command line, environment and configuration, runs the commands that do not serve, and
/// prepares for serving. `program` is the name of the executable.
pub fn start(program: &'static str, version: &'static str) -> Start {
    let line = match CommandLine::parse(program, version, std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            // When standard output is closed nobody can be told.
            let _ = error.print();
            return Start::Done(ExitCode::from(
                u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE),
            ));
        }
    };
    match &line.command {
        Command::OpenPage { url } => return Start::Done(browser::show(url)),
        Command::Completions { shell } => return print(&shell.script(program)),
        Command::Config(ConfigCommand::Example) => return print(EXAMPLE),
        Command::Complete { word, words } => {
            let found = complete(program, words, word).into_iter();
            let lines: String = found.map(|word| word + "\n").collect();
            return print(&lines);
        }
        // The file need not be there yet.
        Command::Mcp(McpCommand::Add { name, env, command }) => {
            let server = NewServer {
                name: name.clone(),
                command: command.clone(),
                env: env.clone(),
            };
            let environment = Environment::of_process();
            let added = commands::add_server(
                program,
                server,
                &line.overrides(),
                &environment,
                &mut io::stdout(),
            );
            return match added {
                Ok(()) => Start::Done(ExitCode::SUCCESS),
                Err(NotAdded::Configuration(error)) => unusable(program, &error),
                Err(NotAdded::Other(message)) => fail(program, EXIT_FAILURE, &message),
            };
        }
        Command::Serve
        | Command::Run { .. }
        | Command::List { .. }
        | Command::Ps { .. }
        | Command::Status { .. }
        | Command::Reload
        | Command::Stop { .. }
        | Command::Sessions { .. }
        | Command::Approve { .. }
        | Command::Revoke { .. }
        | Command::Keys(_)
        | Command::Mcp(
            McpCommand::Serve { .. }
            | McpCommand::List { .. }
            | McpCommand::Call { .. }
            | McpCommand::Login { .. }
            | McpCommand::Logout { .. },
        )
        | Command::Registry(_)
        | Command::CheckConfig
        | Command::Doctor { .. }
        | Command::Audit(_) => {}
    }
    let loaded = match load(&line.overrides(), &Environment::of_process()) {
        Ok(loaded) => loaded,
        Err(error) => {
            return unusable(program, &error);
        }
    };
    if let Some(mode) = line.mode() {
        return match prepare(&line, mode, loaded) {
            Ok(prepared) => Start::Serve(Box::new(prepared)),
            Err(message) => fail(program, EXIT_FAILURE, &message),
        };
    }
    for warning in &loaded.warnings {
        let _ = writeln!(io::stderr(), "{program}: warning: {warning}");
    }
    match commands::run(&line.command, program, &loaded, &mut io::stdout()) {
        Ok(()) => Start::Done(ExitCode::SUCCESS),
        Err(failure) => fail(program, EXIT_FAILURE, &failure.0),
    }
}

/// Writes text to standard output and ends.
fn print(text: &str) -> Start {
    // The reader may have closed the pipe.
    let _ = io::stdout().write_all(text.as_bytes());
    Start::Done(ExitCode::SUCCESS)
}

/// Writes one sentence to standard error and ends.
fn fail(program: &str, code: u8, message: &str) -> Start {
    let _ = writeln!(io::stderr(), "{program}: {message}");
    Start::Done(ExitCode::from(code))
}

/// Says what is wrong with the configuration.
fn unusable(program: &str, error: &ConfigError) -> Start {
    let message = format!("the configuration cannot be used:\n{error}");
    fail(program, EXIT_USAGE, &message)
}

fn prepare(line: &CommandLine, mode: Mode, loaded: Loaded) -> Result<Prepared, String> {
    let Loaded {
        mut config,
        file,
        warnings,
        environment,
        ..
    } = loaded;
    let overrides = line.overrides();
    if !mode.keeps_files() {
        config.audit.file = None;
    }
    process::hide_from_others();
    check_agents(&config, !overrides.agents.is_empty())?;
    if mode == Mode::OneServer {
        check_servers(&config)?;
    }
    let log = logging::start(&config.log).map_err(|error| error.to_string())?;
    if let Some(file) = &file {
        tracing::info!("the configuration is {}", file.display());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if mode.keeps_files() {
        let (notices, remembered) = notices::due(&config.data_dir, &config.agents);
        let _ = io::stderr().write_all(notices.as_bytes());
        if let Err(error) = remembered {
            tracing::warn!("notices about agents will be shown again: {error}");
        }
    }
    let key_stamp = KeyFile::new(&config.data_dir).stamp();
    let keys = start_keys(&config, mode).map_err(|error| error.to_string())?;
    let files = process::raise_file_limit();
    if files.is_some_and(|files| files < u64::from(config.limits.connections)) {
        let files = files.unwrap_or_default();
        tracing::warn!(
            "the system lets this program open {files} files, fewer than limits.connections ({})",
            config.limits.connections
        );
    }
    if mode.keeps_files() && !keys.fresh.is_empty() {
        show_first_keys(&keys, &config)?;
    }
    Ok(Prepared {
        proxies: environment.proxies(),
        config,
        mode,
        keys,
        key_stamp,
        log,
        opens_page: line.opens_page(),
        overrides,
    })
}

/// Refuses agents inside of an agent, and agents that the command line names but that are not installed. Agents of the
/// configuration may be installed later.
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

/// Refuses servers whose programs are not installed.
fn check_servers(config: &Config) -> Result<(), String> {
    let variables: Vec<_> = std::env::vars_os().collect();
    for (name, server) in config.mcp_servers.offered() {
        let plan = ServerPlan::new(name, server, config.gateway.message_bytes);
        if server.url.is_none() {
            plan.find(&variables)
                .map_err(|missing| missing.to_string())?;
        }
    }
    Ok(())
}

/// Shows the keys of a first start on a terminal. Without a terminal, standard error may be a journal that others read,
/// so the keys go to a file for the owner alone, which the log names.
fn show_first_keys(keys: &StartKeys, config: &Config) -> Result<(), String> {
    let text = first_start(keys, config);
    if io::stderr().is_terminal() {
        let _ = io::stderr().write_all(text.as_bytes());
        return Ok(());
    }
    let path = config.data_dir.join(FIRST_KEYS);
    private_file::replace(&path, text.as_bytes()).map_err(|error| {
        format!(
            "the keys of this first start cannot be written to {}: {error}",
            path.display()
        )
    })?;
    tracing::info!(
        "this is the first start: keys were made, and are in {}; delete it once you have them",
        path.display()
    );
    Ok(())
}

/// Returns the message of a first start, with the keys that it made.
fn first_start(keys: &StartKeys, config: &Config) -> String {
    let mut text =
        String::from("This is the first start, and keys were made. They are shown this once:\n\n");
    for key in &keys.fresh {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<10}{}", key.name, key.text);
    }
    if let Some(path) = &keys.client_key_file {
        let _ = writeln!(
            text,
            "\n`client` is also kept in {}, for your own commands (auth.keep_client_key).",
            path.display()
        );
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
