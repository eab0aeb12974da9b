//! Configuration: defaults, below a file, below the environment, below the command line.
//!
//! A file is YAML, TOML or JSON. All sources are merged as a tree whose values remember where they were written; the
//! tree is read into [`Config`] and then checked, so that every complaint names the line, variable or flag.

mod address;
mod check;
mod decode;
mod environment;
mod error;
mod into_core;
mod parse;
mod secret;
mod sections;
mod shorthand;
mod tree;
mod units;

pub use address::{Extra, Listener, parse_address};
pub use environment::Environment;
pub use error::{ConfigError, Problem};
pub(crate) use secret::parse_hex;
pub use secret::{Secret, SecretValue};
pub use sections::{
    Agent, Alias, Approval, Audit, Auth, Bridge, Config, Key, Limits, Listen, Log, LogFormat,
    LogLevel, McpServer, Models, PRESETS, Queue, Renew, Role, Runtime, Sessions, Timeouts,
    Upstream, UpstreamKind,
};
pub use tree::Origin;

use parse::Format;
use std::path::{Path, PathBuf};
use tree::{Form, Node, Value};

/// The variable that names the configuration file when `--config` does not.
pub const CONFIG_VARIABLE: &str = "LOCAL_PROVIDER_CONFIG";
/// The directory of our own below the XDG base directories.
const DIRECTORY: &str = "mcp-local-provider";
const EXTENSIONS: [&str; 4] = ["yaml", "yml", "toml", "json"];

/// What the command line says about the configuration; it wins over everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--listen ADDR`, as often as it was given; replaces `listen.http`.
    pub listen: Vec<String>,
    /// `--ollama`: `listen.ollama: auto`.
    pub ollama: bool,
    /// `--log LEVEL`.
    pub log: Option<String>,
    /// `--agent NAME|COMMAND`, as often as it was given; replaces `agents`. A name is that of an agent of the
    /// configuration or of a preset; anything else is a command.
    pub agents: Vec<String>,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that they came from, when there was one.
    pub file: Option<PathBuf>,
    /// What deserves a look but stops nothing.
    pub warnings: Vec<Problem>,
}

/// Finds, reads and checks the configuration. Called again, it reads everything again.
///
/// # Errors
/// Every problem that was found, each with its place; see [`ConfigError`].
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded, ConfigError> {
    let file = find_file(overrides, environment)?;
    let root = match &file {
        Some(path) => read_file(path)?,
        None => Node::map(Origin::Flag("the defaults")),
    };
    Ok(Loaded {
        file,
        ..complete(root, overrides, environment)?
    })
}

/// Reads and checks a configuration that is at hand as text. The extension of `name` says what it is written in.
///
/// # Errors
/// As [`load`].
pub fn load_text(name: &str, text: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
    let root = parse::parse(name, text, format_of(name)?)?;
    complete(root, &Overrides::default(), environment)
}

/// Puts environment and command line over the file, gives everything its type, and checks it.
fn complete(
    mut root: Node,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Loaded, ConfigError> {
    environment.override_tree(&mut root)?;
    override_by_flags(&mut root, overrides)?;
    let mut config: Config = decode::decode(&root)?;
    let mut report = check::Report::new(&root);
    report.warnings.extend_from_slice(environment.warnings());
    check::secrets(&mut config, environment, &mut report);
    check::check(&config, &mut report);
    expand_paths(&mut config, environment, &mut report);
    if report.problems.is_empty() {
        Ok(Loaded {
            config,
            file: None,
            warnings: report.warnings,
        })
    } else {
        Err(ConfigError {
            problems: report.problems,
        })
    }
}

/// The file that `--config`, the variable or the XDG Base Directory specification names; `None` when there is none.
fn find_file(
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = &overrides.config {
        return Ok(Some(path.clone()));
    }
    if let Some(path) = environment.get_nonempty(CONFIG_VARIABLE) {
        return Ok(Some(PathBuf::from(path)));
    }
    let base = match (
        environment.get_nonempty("XDG_CONFIG_HOME"),
        environment.get_nonempty("HOME"),
    ) {
        (Some(base), _) if Path::new(base).is_absolute() => PathBuf::from(base),
        (_, Some(home)) => Path::new(home).join(".config"),
        _ => return Ok(None),
    };
    let candidates = EXTENSIONS.map(|extension| {
        base.join(DIRECTORY)
            .join("config")
            .with_extension(extension)
    });
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
    Ok(first)
}

fn read_file(path: &Path) -> Result<Node, ConfigError> {
    let name = path.display().to_string();
    let refuse = |message: String| ConfigError::one(None, "", format!("{name}: {message}"));
    let format = format_of(&name)?;
    let bytes = std::fs::read(path)
        .map_err(|error| refuse(format!("the configuration cannot be read: {error}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refuse("the configuration is not UTF-8 text".to_owned()))?;
    parse::parse(&name, &text, format)
}

fn format_of(name: &str) -> Result<Format, ConfigError> {
    Format::of(Path::new(name)).ok_or_else(|| {
        let message = "the extension says what a configuration is written in; it must be .yaml, .yml, .toml or .json";
        ConfigError::one(None, "", format!("{name}: {message}"))
    })
}

fn override_by_flags(root: &mut Node, overrides: &Overrides) -> Result<(), ConfigError> {
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
    if !overrides.agents.is_empty() {
        let origin = Origin::Flag("--agent");
        let agents = chosen_agents(root, &overrides.agents, &origin)?;
        root.set(
            &["agents".to_owned()],
            Node {
                value: Value::List(agents),
                origin,
            },
        );
    }
    let mut set = |path: [&str; 2], node: Node| root.set(&path.map(str::to_owned), node);
    if let Some(level) = &overrides.log {
        // `log: debug` in a file is a section with a level like any other; a flag changes the level alone.
        set(
            ["log", "level"],
            Node::scalar(level, Form::Loose, Origin::Flag("--log")),
        );
    }
    Ok(())
}

/// The entries of `agents` that `words` stand for.
fn chosen_agents(root: &Node, words: &[String], origin: &Origin) -> Result<Vec<Node>, ConfigError> {
    let text = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
    let entry = |fields: Vec<(&str, Node)>| {
        let fields = fields.into_iter().map(|(key, node)| tree::Entry {
            key: key.to_owned(),
            origin: origin.clone(),
            node,
        });
        Node {
            value: Value::Map(fields.collect()),
            origin: origin.clone(),
        }
    };
    let choose = |word: &String| {
        let configured = root.get("agents").map(Node::items).unwrap_or_default();
        let mut named = configured.iter().filter(|agent| {
            let name = agent.get("name").or_else(|| agent.get("preset"));
            name.and_then(Node::text) == Some(word)
        });
        if let Some(agent) = named.next() {
            return Ok(agent.clone());
        }
        if PRESETS.contains(&word.as_str()) {
            return Ok(entry(vec![("preset", text(word))]));
        }
        let refuse = |message: &str| ConfigError::one(Some(origin.clone()), "", message);
        let command = shlex::split(word)
            .ok_or_else(|| refuse("a quotation mark of the command is not closed"))?;
        let program = command
            .first()
            .ok_or_else(|| refuse("the command is empty"))?;
        let one_word = command.len() == 1 && !program.contains('/');
        if let Some(name) = error::nearest(program, &PRESETS).filter(|_| one_word) {
            return Err(refuse(&format!(
                "no agent is called `{program}`; did you mean `{name}`?"
            )));
        }
        let name = sections::name_of_program(program);
        let words = command.iter().map(|word| text(word)).collect();
        let command = Node {
            value: Value::List(words),
            origin: origin.clone(),
        };
        Ok(entry(vec![("name", text(&name)), ("command", command)]))
    };
    words.iter().map(choose).collect()
}

/// `~` at the beginning of a path is the home directory of this process's person.
pub(crate) fn expand_home(path: &Path) -> Result<PathBuf, String> {
    expand(path, std::env::var("HOME").ok().as_deref())
}

fn expand(path: &Path, home: Option<&str>) -> Result<PathBuf, String> {
    match (path.strip_prefix("~"), home) {
        (Err(_), _) => Ok(path.to_owned()),
        (Ok(rest), Some(home)) if !home.is_empty() => Ok(Path::new(home).join(rest)),
        (Ok(_), _) => {
            Err("`~` means nothing because HOME is not set; give a path without it".to_owned())
        }
    }
}

fn expand_paths(config: &mut Config, environment: &Environment, report: &mut check::Report<'_>) {
    let home = environment.get("HOME");
    let default = Config::default().data_dir;
    if config.data_dir == default {
        // The default is the place of the XDG Base Directory specification.
        if let Some(base) = environment
            .get_nonempty("XDG_DATA_HOME")
            .filter(|base| Path::new(base).is_absolute())
        {
            config.data_dir = Path::new(base).join(DIRECTORY);
        }
    }
    let mut expand_in_place = |name: &str, path: &mut PathBuf| match expand(path, home) {
        Ok(expanded) => *path = expanded,
        Err(message) => report.problem(name, message),
    };
    expand_in_place("data_dir", &mut config.data_dir);
    if let Some(file) = &mut config.audit.file {
        expand_in_place("audit.file", file);
    }
    for (index, agent) in config.agents.iter_mut().enumerate() {
        if let Some(cwd) = &mut agent.cwd {
            expand_in_place(&format!("agents[{index}].cwd"), cwd);
        }
    }
    for (name, server) in &mut config.mcp_servers {
        if let Some(cwd) = &mut server.cwd {
            expand_in_place(&format!("mcpServers.{name}.cwd"), cwd);
        }
    }
}

#[cfg(test)]
mod tests;
