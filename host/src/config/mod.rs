//! Configuration: the command line overrides the environment, which overrides the file, which overrides the defaults. Of the
//! environment `MLP_…` overrides `BRIDGE_…` and `MCP_…`.
//!
//! A file is YAML, TOML or JSON. All sources are merged into one tree whose values keep their origins. The tree is
//! decoded into [`Config`] and then checked, so that every error names the line, variable or flag.

mod address;
mod agent;
mod agent_command;
mod agent_list;
mod bridge;
mod bridge_environment;
mod check;
mod decode;
mod dot_env;
mod edit;
mod environment;
mod error;
mod example;
mod fallback;
mod gateway;
mod into_core;
mod keyring;
mod mcp_address;
mod mcp_oauth;
mod mcp_server;
mod parse;
mod paths;
mod registry;
mod secret;
mod sections;
mod settings;
mod shorthand;
mod tls;
mod tree;
mod units;
mod upstream;

pub use address::{Extra, Listener, OLLAMA, parse_address};
pub use agent::{Agent, AgentSessions};
pub use bridge::{Bridge, BridgeSession, Invocations};
pub(crate) use edit::{NewServer, with_server};
pub use environment::Environment;
pub use error::{ConfigError, Problem};
pub use example::EXAMPLE;
pub use gateway::{
    Gateway, GatewayProcesses, GatewayRate, GatewayRestart, GatewayResume, GatewaySessions,
    GatewaySwitch, GatewayTimeouts, GatewayTransport,
};
pub(crate) use into_core::areas;
pub use mcp_address::McpTransport;
pub use mcp_oauth::McpOauth;
pub use mcp_server::{McpServer, McpServers, is_server_name};
pub use registry::{IS_BUILT_IN as REGISTRY_IS_BUILT_IN, Registry, RegistryCache, RegistrySecret};
pub(crate) use secret::parse_hex;
pub use secret::{Secret, SecretValue};
pub use sections::{
    Alias, Approval, Area, Audit, Auth, Authentication, Config, Key, Limits, Listen, Log,
    LogFormat, LogLevel, Models, OllamaAuth, PRESETS, Queue, Renew, Role, Runtime, Sessions,
    Timeouts,
};
pub use settings::{Setting, Sources};
pub use tls::Tls;
pub use tree::Origin;
pub use upstream::{Circuit, Upstream, UpstreamKind};

pub(crate) use parse::Format;
use paths::Folders;
use std::path::{Path, PathBuf};
use tree::{Form, Node, Value};

/// Name of the variable that names the configuration file when `--config` does not.
pub const CONFIG_VARIABLE: &str = "LOCAL_PROVIDER_CONFIG";
/// Name of the program's directory below the XDG base directories.
const DIRECTORY: &str = "mcp-local-provider";
/// Name of the file of variables beside the configuration file.
const DOT_ENV: &str = ".env";
const EXTENSIONS: [&str; 4] = ["yaml", "yml", "toml", "json"];

/// Options of the command line that override all other sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--env-file FILE`; replaces the `.env` beside the configuration file.
    pub env_file: Option<PathBuf>,
    /// `--listen ADDR`, as often as it was given; replaces `listen.http`.
    pub listen: Vec<String>,
    /// `--ollama`: `listen.ollama: auto`.
    pub ollama: bool,
    /// `--log LEVEL`.
    pub log: Option<String>,
    /// `--agent NAME|[NAME=]COMMAND`, as often as it was given; replaces `agents`. A name is that of an agent of the
    /// configuration or of a preset; anything else is a command.
    pub agents: Vec<String>,
    /// Server of `mcp serve`, which stands for the whole configuration file: none is read.
    pub server: Option<OneServer>,
}

/// The one MCP server of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneServer {
    /// Its program and arguments.
    pub command: Vec<String>,
    /// False: callers need no key (`auth.required: false`).
    pub needs_key: bool,
}

/// A configuration that was read and checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The configuration file, when there was one.
    pub file: Option<PathBuf>,
    /// The variables of the process and, with lower precedence, of the `.env` file.
    pub environment: Environment,
    /// Problems that do not keep the program from starting.
    pub warnings: Vec<Problem>,
    /// The places of the values.
    pub sources: Sources,
}

/// Finds, reads and checks the configuration and the `.env` file: the one that `--env-file` names, or the one beside
/// the configuration file where there is one. Each call reads the files again; `environment` is that of the process.
///
/// # Errors
/// Returns every problem that was found, each with its place; see [`ConfigError`].
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded, ConfigError> {
    let (file, origin) = match overrides.server {
        Some(_) => (None, None),
        None => find_file(overrides, environment)?,
    };
    let environment = with_env_file(overrides, file.as_deref(), environment.clone())?;
    let mut problems = Vec::new();
    let root = match &file {
        Some(path) => read_file(path, origin, &mut problems)?,
        None => Node::map(Origin::Flag("the defaults")),
    };
    complete(root, problems, file, overrides, environment)
}

/// Finds the file that a change of the configuration belongs into, which need not be there yet.
///
/// # Errors
/// Fails when nothing names a file, and there is no home directory for the usual one.
pub(crate) fn file_to_change(
    overrides: &Overrides,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    let (file, _) = find_file(overrides, environment)?;
    let usual = || Some(usual_folder(environment)?.join("config.yaml"));
    file.or_else(usual).ok_or_else(|| {
        let message = "there is no home directory; name the file with --config";
        ConfigError::one(None, "", message)
    })
}

/// Reads and checks `text` as if it stood in the file at `path`.
///
/// # Errors
/// Returns the same errors as [`load`].
pub(crate) fn load_as(
    path: &Path,
    text: &str,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Loaded, ConfigError> {
    let environment = with_env_file(overrides, Some(path), environment.clone())?;
    let name = path.display().to_string();
    let mut problems = Vec::new();
    let root = parse::parse(&name, text, format_of(&name)?, &mut problems)?;
    complete(
        root,
        problems,
        Some(path.to_owned()),
        overrides,
        environment,
    )
}

/// Reads and checks a configuration from `text`. The extension of `name` gives its format. No `.env` file is read, and
/// relative paths are refused, because the text is in no folder.
///
/// # Errors
/// Returns the same errors as [`load`].
pub fn load_text(name: &str, text: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let root = parse::parse(name, text, format_of(name)?, &mut problems)?;
    let environment = environment.clone();
    complete(root, problems, None, &Overrides::default(), environment)
}

/// Applies environment and command line to the tree of the file, decodes it, and checks the values. `problems` are those
/// of the file so far.
fn complete(
    mut root: Node,
    mut problems: Vec<Problem>,
    file: Option<PathBuf>,
    overrides: &Overrides,
    environment: Environment,
) -> Result<Loaded, ConfigError> {
    shorthand::expand(&mut root, &mut problems);
    let mut passed_over = Vec::new();
    bridge_environment::override_tree(&environment, &mut root, &mut problems, &mut passed_over);
    environment.override_tree(&mut root, &mut problems);
    override_by_flags(&mut root, overrides, &mut problems);
    agent_list::number(&mut root);
    paths::set_data_dir(&mut root, &environment);
    mcp_server::pass_over(&mut root, &mut passed_over);
    let mut config: Config = decode::decode(&mut root, &mut problems);
    let mut report = check::Report::new(&root);
    report.warnings.extend_from_slice(environment.warnings());
    report.warnings.append(&mut passed_over);
    let folders = Folders::new(file.as_deref(), &environment);
    check::secrets(&mut config, &environment, &folders, &mut report);
    check::check(&config, &mut report);
    paths::resolve(&mut config, &folders, &mut report);
    registry::check_paths(&config.registry, &config.data_dir, &mut report);
    tls::check(&config.tls, &mut report);
    upstream::set_defaults(&mut config.upstreams);
    problems.append(&mut report.problems);
    let warnings = report.warnings;
    if problems.is_empty() {
        Ok(Loaded {
            config,
            file,
            environment,
            warnings,
            sources: Sources(root),
        })
    } else {
        // A person goes through the file from above.
        problems.sort_by_key(|problem| match problem.origin {
            Some(Origin::File { line, .. }) => line,
            Some(Origin::Variable(_) | Origin::DotEnv { .. } | Origin::Flag(_)) | None => {
                usize::MAX
            }
        });
        Err(ConfigError { problems })
    }
}

/// Returns the file that `--config`, the variable or the XDG Base Directory specification names, and what names it; `None`
/// when there is none.
fn find_file(
    overrides: &Overrides,
    environment: &Environment,
) -> Result<(Option<PathBuf>, Option<Origin>), ConfigError> {
    if let Some(path) = &overrides.config {
        return Ok((Some(path.clone()), Some(Origin::Flag("--config"))));
    }
    if let Some(path) = environment.get_nonempty(CONFIG_VARIABLE) {
        let path = PathBuf::from(path);
        let origin = Origin::Variable(CONFIG_VARIABLE.into());
        if path.is_relative() {
            let message = paths::depends_on_the_folder(&path);
            return Err(ConfigError::one(Some(origin), "", message));
        }
        return Ok((Some(path), Some(origin)));
    }
    let Some(folder) = usual_folder(environment) else {
        return Ok((None, None));
    };
    let candidates = EXTENSIONS.map(|extension| folder.join("config").with_extension(extension));
    let mut there = candidates.into_iter().filter(|path| path.is_file());
    let first = there.next();
    if let (Some(first), Some(second)) = (&first, there.next()) {
        let message = format!(
            "both {} and {} are there; remove one or choose with --config",
            first.display(),
            second.display()
        );
        return Err(ConfigError::one(None, "", message));
    }
    Ok((first, None))
}

/// Returns the folder of the configuration by the XDG Base Directory specification; `None` where neither it nor a home directory
/// is known.
fn usual_folder(environment: &Environment) -> Option<PathBuf> {
    let named = environment.get_nonempty("XDG_CONFIG_HOME").map(Path::new);
    let base = match (named, paths::home(environment)) {
        (Some(base), _) if base.is_absolute() => base.to_owned(),
        (_, Some(home)) => home.join(".config"),
        _ => return None,
    };
    Some(base.join(DIRECTORY))
}

/// Adds the variables of the `.env` file that `--env-file` names, or else of the one beside the configuration file,
/// which is optional.
fn with_env_file(
    overrides: &Overrides,
    configuration: Option<&Path>,
    mut environment: Environment,
) -> Result<Environment, ConfigError> {
    if let Some(path) = &overrides.env_file {
        environment.add_file(path).map_err(|error| {
            let message = format!("{} cannot be read: {error}", path.display());
            ConfigError::one(Some(Origin::Flag("--env-file")), "", message)
        })?;
    } else if let Some(path) = configuration.map(|file| file.with_file_name(DOT_ENV))
        && let Err(error) = environment.add_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        environment.warn(format!("{} was not read: {error}", path.display()));
    }
    Ok(environment)
}

/// Reads the file at `path`, which `origin` names.
fn read_file(
    path: &Path,
    origin: Option<Origin>,
    problems: &mut Vec<Problem>,
) -> Result<Node, ConfigError> {
    let name = path.display().to_string();
    let refuse = |message: String| ConfigError::one(origin.clone(), "", format!("{name}{message}"));
    let bytes = std::fs::read(path).map_err(|error| {
        refuse(if error.kind() == std::io::ErrorKind::NotFound {
            " is not there".to_owned()
        } else {
            format!(": the configuration cannot be read: {error}")
        })
    })?;
    let format = format_of(&name)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refuse(": the configuration is not UTF-8 text".to_owned()))?;
    parse::parse(&name, &text, format, problems)
}

fn format_of(name: &str) -> Result<Format, ConfigError> {
    Format::of(Path::new(name)).ok_or_else(|| {
        let message = "the extension says what a configuration is written in; it must be .yaml, .yml, .toml or .json";
        ConfigError::one(None, "", format!("{name}: {message}"))
    })
}

fn override_by_flags(root: &mut Node, overrides: &Overrides, problems: &mut Vec<Problem>) {
    let mut set = |path: [&str; 2], node: Node| root.set(&path.map(str::to_owned), node);
    if !overrides.listen.is_empty() {
        let origin = Origin::Flag("--listen");
        let items = overrides
            .listen
            .iter()
            .map(|address| Node::scalar(address, Form::Loose, origin.clone()));
        set(
            ["listen", "http"],
            Node {
                value: Value::List(items.collect()),
                origin: origin.clone(),
            },
        );
    }
    if overrides.ollama {
        set(
            ["listen", "ollama"],
            Node::scalar("auto", Form::Loose, Origin::Flag("--ollama")),
        );
    }
    if let Some(level) = &overrides.log {
        set(
            ["log", "level"],
            Node::scalar(level, Form::Loose, Origin::Flag("--log")),
        );
    }
    if let Some(server) = &overrides.server {
        mcp_server::set_only(root, server, &Origin::Flag("mcp serve"));
    }
    if !overrides.agents.is_empty() {
        match agent_list::chosen(root, &overrides.agents, &Origin::Flag("--agent")) {
            Ok(agents) => root.set(&["agents".to_owned()], agents),
            Err(error) => problems.extend(error.problems),
        }
    }
}

#[cfg(test)]
mod tests;
