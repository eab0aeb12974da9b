//! The command line: options, commands and help.

mod mcp;
mod registry;

pub use mcp::McpCommand;
pub use registry::RegistryCommand;

use crate::config::{Area, OneServer, Overrides, Role};
use crate::keys::Rights;
use crate::mode::Mode;
use crate::shell::Shell;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Exit code of success.
pub const EXIT_SUCCESS: u8 = 0;
/// Exit code of a command that failed: a port is taken, no program answers, a file cannot be written.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a wrong command line or configuration.
pub const EXIT_USAGE: u8 = 2;

/// Options that say where the configuration is.
const PLACES: &[&str] = &["config", "env_file"];
/// Options that say where the running program is.
const ADDRESS: &[&str] = &["config", "env_file", "listen"];
/// Options that the configuration is checked with.
const SETTINGS: &[&str] = &["config", "env_file", "listen", "ollama", "agent", "log"];
/// Options of serving.
const SERVING: &[&str] = &[
    "config", "env_file", "listen", "ollama", "agent", "log", "demo", "open",
];

/// Options that each command takes and its help shows. A command of a command that is not here takes those of the first one;
/// any other takes none.
const OPTIONS: [(&str, &[&str]); 21] = [
    ("serve", SERVING),
    ("run", ADDRESS),
    ("list", ADDRESS),
    ("ps", ADDRESS),
    ("status", ADDRESS),
    ("reload", ADDRESS),
    ("stop", ADDRESS),
    ("sessions", ADDRESS),
    ("approve", ADDRESS),
    ("revoke", ADDRESS),
    ("keys", ADDRESS),
    ("mcp serve", &["listen", "log"]),
    ("mcp list", ADDRESS),
    ("mcp call", ADDRESS),
    ("mcp login", PLACES),
    ("mcp logout", PLACES),
    ("mcp add", PLACES),
    ("registry", ADDRESS),
    ("check-config", SETTINGS),
    ("doctor", SETTINGS),
    ("audit", PLACES),
];

#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    about = "Your own AI agent as a local model: OpenAI and Ollama APIs in front of the agent you already have."
)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Options {
    /// Configuration file (.yaml, .toml or .json); otherwise $LOCAL_PROVIDER_CONFIG, then the XDG place
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Variables to read (NAME=VALUE lines), instead of the .env beside the configuration file
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Address to listen on, or where the program runs, such as 127.0.0.1:8788 (may be repeated; port 0 picks a free one)
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Vec<String>,
    /// Answer as an Ollama at 127.0.0.1:11434 too, when that port is free, without a key for programs on this machine
    #[arg(long, global = true)]
    ollama: bool,
    /// Start this agent: cursor, claude, codex, gemini, opencode, copilot, goose, one of the configuration, or a command
    /// that speaks ACP in quotes, `NAME=` before it if you like (may be repeated; replaces `agents` of the configuration)
    #[arg(long, global = true, value_name = "AGENT|[NAME=]COMMAND")]
    agent: Vec<String>,
    /// Lowest level that is logged: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// Serve a built-in agent with keys made for this run, on a free port if the usual one is taken; nothing is written
    #[arg(long, global = true)]
    demo: bool,
    /// Open the page with the base URLs in a browser
    #[arg(long, global = true)]
    open: bool,
}

/// Commands of the program.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve until stopped (the default)
    Serve,
    /// Ask a model, or chat with it; without a model: serve
    Run {
        /// The model, as `list` shows it
        model: Option<String>,
        /// The prompt; standard input comes before it where that is no terminal. Without one: a chat
        prompt: Vec<String>,
    },
    /// Show the models of the running program
    #[command(alias = "ls")]
    List {
        /// Beginning of the names to show
        prefix: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the agents of the running program and their open answers
    Ps {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether the program runs, and how it does
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the running program read its configuration again
    Reload,
    /// End the running program; open answers have timeouts.drain, a second `stop` ends them at once
    Stop {
        /// Nothing: an agent is not unloaded as a model is
        #[arg(hide = true)]
        model: Option<String>,
    },
    /// Show the agents that have registered with the running program
    Sessions {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a pending session answer
    Approve {
        /// The session's id, as `sessions` shows it
        #[arg(value_name = "ID")]
        session: String,
    },
    /// End a session for good
    Revoke {
        /// The session's id, as `sessions` shows it
        #[arg(value_name = "ID")]
        session: String,
    },
    /// Make, show and remove API keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Put MCP servers on the web
    #[command(subcommand)]
    Mcp(McpCommand),
    /// Take what is registered elsewhere, and seal its secrets anew, while no program runs
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Read the configuration, and show every value that holds and where it was written
    CheckConfig,
    /// Show how a configuration is written
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for what stands in the way of serving on this machine, and say what to do
    Doctor {
        /// Start each agent, without a prompt, and each MCP server too, and say whether it can be asked
        #[arg(long = "try")]
        start_agents: bool,
    },
    /// Read the audit file
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print a script that completes the command line in a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print what may stand at the end of a command line, for the scripts of `completions`
    #[command(hide = true)]
    Complete {
        /// The word that is being typed
        #[arg(long, default_value = "")]
        word: String,
        /// The words before it, the program's name among them
        #[arg(last = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Open a page in a browser, and wait until that ends
    #[command(hide = true)]
    OpenPage {
        /// The page's address
        url: String,
    },
}

/// Commands on how a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file with every key, its default and a comment
    Example,
}

/// Commands on the audit file.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AuditCommand {
    /// Show the latest records
    Tail {
        /// Number of records
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: usize,
        /// Go on with the records that come
        #[arg(short, long)]
        follow: bool,
        /// As JSON lines, as they are in the file
        #[arg(long)]
        json: bool,
    },
}

/// Commands on keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// Make a key; it is shown this once
    Add {
        /// A name for it: letters, digits, `-`, `_` and `.`
        name: String,
        /// Its rights and limits.
        #[command(flatten)]
        rights: Rights,
    },
    /// Show the keys of the key file, without the keys themselves
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a key
    Remove {
        /// Its name
        name: String,
    },
}

/// Returns the grammar of the command line of `program`. The help of a command shows the options that it takes.
pub(crate) fn grammar(program: &'static str) -> clap::Command {
    let command = <Arguments as CommandFactory>::command()
        .name(program)
        .bin_name(program);
    let options: Vec<clap::Arg> = command.get_arguments().cloned().collect();
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        with_options(subcommand, &name, &options)
    })
}

/// Gives a command and its commands all options, of which each shows those that it takes. `path` is its name behind those of the
/// commands above it.
fn with_options(command: clap::Command, path: &str, options: &[clap::Arg]) -> clap::Command {
    let taken = taken_by(path);
    let own = options.iter().enumerate().map(|(at, option)| {
        let is_taken = taken.contains(&option.get_id().as_str());
        // The command's own come first.
        option.clone().hide(!is_taken).display_order(100 + at)
    });
    let command = command.args(own.collect::<Vec<_>>());
    command.mut_subcommands(|subcommand| {
        let path = format!("{path} {}", subcommand.get_name());
        with_options(subcommand, &path, options)
    })
}

/// Returns the options that a command takes. `path` is its name behind those of the commands above it.
fn taken_by(path: &str) -> &'static [&'static str] {
    let first = path.split(' ').next().unwrap_or_default();
    let of = |path: &str| OPTIONS.iter().find(|(name, _)| *name == path);
    of(path)
        .or_else(|| of(first))
        .map_or(&[], |(_, options)| options)
}

impl ValueEnum for Area {
    fn value_variants<'a>() -> &'a [Self] {
        &[Area::Models, Area::Mcp, Area::Registry]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let area = mcp_local_provider_core::config::Area::from(*self);
        Some(clap::builder::PossibleValue::new(area.as_str()))
    }
}

impl ValueEnum for Role {
    fn value_variants<'a>() -> &'a [Self] {
        &[Role::Client, Role::Bridge, Role::Operator, Role::Admin]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

/// A command line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The command; [`Command::Serve`] when none was given, and for [`Command::Run`] without a model.
    pub command: Command,
    options: Options,
}

impl CommandLine {
    /// Reads a command line, skipping its first word. `program` is the name that the help shows.
    ///
    /// # Errors
    /// Returns the error, help or version to print instead of going on; it knows its exit code.
    pub fn parse<I, T>(
        program: &'static str,
        version: &'static str,
        words: I,
    ) -> Result<CommandLine, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let mut command = grammar(program)
            .version(version)
            .after_help(after_help(program));
        let mut matches = command.try_get_matches_from_mut(words)?;
        let options: Vec<_> = command
            .get_arguments()
            .map(|arg| arg.get_id().clone())
            .collect();
        let given = options.iter().map(clap::Id::as_str).filter(|id| {
            matches!(matches.try_contains_id(id), Ok(true))
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        });
        let given: Vec<String> = given.map(str::to_owned).collect();
        let mut name = matches.subcommand_name().unwrap_or("serve").to_owned();
        let below = matches
            .subcommand()
            .and_then(|(_, below)| below.subcommand_name());
        if let Some(below) = below {
            name = format!("{name} {below}");
        }
        let Arguments {
            options,
            command: chosen,
        } = Arguments::from_arg_matches_mut(&mut matches)
            .map_err(|error| error.format(&mut command))?;
        let chosen = match chosen {
            None | Some(Command::Run { model: None, .. }) => Command::Serve,
            Some(other) => other,
        };
        let taken = if chosen == Command::Serve {
            SERVING
        } else {
            taken_by(&name)
        };
        if let Some(other) = given.iter().find(|id| !taken.contains(&id.as_str())) {
            let message = format!("--{} is not for `{name}`", other.replace('_', "-"));
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(CommandLine {
            command: chosen,
            options,
        })
    }

    /// Returns what is to be served; `None` for a command that does not serve.
    pub const fn mode(&self) -> Option<Mode> {
        match self.command {
            Command::Serve if self.options.demo => Some(Mode::Demo),
            Command::Serve => Some(Mode::Configured),
            Command::Mcp(McpCommand::Serve { .. }) => Some(Mode::OneServer),
            Command::Run { .. }
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
                McpCommand::List { .. }
                | McpCommand::Call { .. }
                | McpCommand::Login { .. }
                | McpCommand::Logout { .. }
                | McpCommand::Add { .. },
            )
            | Command::Registry(_)
            | Command::CheckConfig
            | Command::Config(_)
            | Command::Doctor { .. }
            | Command::Audit(_)
            | Command::Completions { .. }
            | Command::Complete { .. }
            | Command::OpenPage { .. } => None,
        }
    }

    /// Returns true when the page is to be opened in a browser.
    pub const fn opens_page(&self) -> bool {
        self.options.open
    }

    /// Returns the options that override the configuration.
    pub fn overrides(&self) -> Overrides {
        let mut server = None;
        if let Command::Mcp(McpCommand::Serve { no_auth, command }) = &self.command {
            server = Some(OneServer {
                command: command.clone(),
                needs_key: !no_auth,
            });
        }
        Overrides {
            config: self.options.config.clone(),
            env_file: self.options.env_file.clone(),
            listen: self.options.listen.clone(),
            ollama: self.options.ollama,
            log: self.options.log.clone(),
            agents: self.options.agent.clone(),
            server,
        }
    }
}

fn after_help(program: &str) -> String {
    format!(
        "\
Examples:
  {program} --demo                      try it: an agent that is built in, and lines to paste
  {program} --agent claude              your own agent as the model (doctor says which are installed)
  {program} --agent \"my-agent --acp\"    any command that speaks the Agent Client Protocol
  {program}                             serve at http://127.0.0.1:8788 (OpenAI below /v1, Ollama below /api)
  {program} --ollama                    the same, also where editors look for Ollama
  {program} --listen 127.0.0.1:0        on a free port; the line `ready http://...` says which
  {program} run claude                  chat with a model; with a prompt behind it: one answer
  {program} list                        the models; ps shows the agents, status the program
  {program} reload                      take a changed configuration over; stop ends the program
  {program} keys add editor             a key for an editor
  {program} keys add agent --role bridge
  {program} mcp serve -- npx -y a-server
                                        one MCP server at http://127.0.0.1:8788/mcp
  {program} mcp add files -- npx -y a-server
                                        one more in the configuration; mcp list --tools shows what they can do
  {program} mcp call files read '{{\"path\": \"a\"}}'
  {program} sessions
  {program} approve SESSION-ID
  {program} config example              a configuration file with every key and its default
  {program} check-config                every value that holds, and where it was written
  {program} doctor --try                what stands in the way, and what to do; starts each agent
  {program} audit tail --follow
  {program} completions bash            a script to source

Any value of the configuration can be given by environment too: MLP_LIMITS__REQUESTS_PER_MINUTE=120.

Exit codes: 0 success; 1 failure; 2 wrong command line or configuration."
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::parse("mlp", "1.2.3", line.split_whitespace())
    }

    #[test]
    fn commands_and_options_may_stand_in_any_order() {
        for line in [
            "mlp --demo --listen a --listen b --config c --ollama --log debug --env-file e",
            "mlp run --listen a --env-file e --ollama --demo --log debug --listen b --config c",
        ] {
            let line = format!("{line} --agent x --agent");
            let words = line.split_whitespace().chain(["y --acp"]);
            let arguments = CommandLine::parse("mlp", "1.2.3", words).unwrap();
            assert_eq!(arguments.command, Command::Serve, "{line}");
            assert_eq!(arguments.mode(), Some(Mode::Demo), "{line}");
            let expected = Overrides {
                config: Some("c".into()),
                env_file: Some("e".into()),
                listen: vec!["a".to_owned(), "b".to_owned()],
                ollama: true,
                log: Some("debug".to_owned()),
                agents: vec!["x".to_owned(), "y --acp".to_owned()],
                server: None,
            };
            assert_eq!(arguments.overrides(), expected, "{line}");
        }
        assert_eq!(parse("mlp").unwrap().overrides(), Overrides::default());
        let add = |role| {
            Command::Keys(KeysCommand::Add {
                name: "a".to_owned(),
                rights: Rights::from(role),
            })
        };
        assert_eq!(parse("mlp keys add a").unwrap().command, add(Role::Client));
        assert_eq!(
            parse("mlp keys add a --role bridge").unwrap().command,
            add(Role::Bridge)
        );
        assert_eq!(
            parse("mlp sessions --json").unwrap().command,
            Command::Sessions { json: true }
        );
        assert_eq!(
            parse("mlp --config x approve s").unwrap().command,
            Command::Approve {
                session: "s".to_owned()
            }
        );
    }

    #[test]
    fn a_command_takes_and_shows_its_own_options_alone() {
        let help = |line: &str| parse(line).unwrap_err().to_string();
        let keys = help("mlp keys add --help");
        assert!(
            keys.contains("--models") && keys.contains("--config"),
            "{keys}"
        );
        for foreign in ["--agent", "--ollama", "--demo", "--log", "--open"] {
            assert!(!keys.contains(foreign), "{keys}");
            assert!(help("mlp serve --help").contains(foreign));
        }
        assert!(!help("mlp run --help").contains("--agent"));
        let error = help("mlp stop --agent x");
        assert!(error.contains("--agent is not for `stop`"), "{error}");
        assert_eq!(parse("mlp run --agent x").unwrap().command, Command::Serve);
        assert_eq!(parse("mlp run m --agent x").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_key_is_given_its_limits_models_and_areas() {
        let line = "mlp keys add a --requests-per-minute 5 --tokens-per-minute 9 --models x,y --allow models,mcp --servers s,t";
        let rights = Rights {
            requests_per_minute: Some(5),
            tokens_per_minute: Some(9),
            models: vec!["x".to_owned(), "y".to_owned()],
            allow: Some(vec![Area::Models, Area::Mcp]),
            servers: vec!["s".to_owned(), "t".to_owned()],
            ..Rights::default()
        };
        let name = "a".to_owned();
        let add = Command::Keys(KeysCommand::Add { name, rights });
        assert_eq!(parse(line).unwrap().command, add);
    }

    #[test]
    fn a_wrong_line_exits_with_two_and_help_with_zero() {
        for line in [
            "mlp --nonsense",
            "mlp approve",
            "mlp keys",
            "mlp keys add a --role king",
            "mlp --demo sessions",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert!(
            parse("mlp sesions")
                .unwrap_err()
                .to_string()
                .contains("'sessions'")
        );
        let help = parse("mlp --help").unwrap_err();
        assert_eq!(help.exit_code(), 0);
        let help = help.to_string();
        assert!(
            help.contains("mlp keys add editor") && help.contains("Exit codes: 0 success"),
            "{help}"
        );
        assert_eq!(
            parse("mlp --version").unwrap_err().to_string(),
            "mlp 1.2.3\n"
        );
    }
}
