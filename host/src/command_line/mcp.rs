//! The commands on MCP servers, and what is right in their words.

use crate::config::is_server_name;
use clap::Subcommand;

/// Commands on MCP servers.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum McpCommand {
    /// Serve one MCP server over HTTP until stopped, without a configuration file; nothing is written
    Serve {
        /// Ask for no key; only where other machines cannot reach it
        #[arg(long)]
        no_auth: bool,
        /// The server's program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show the MCP servers of the configuration
    List {
        /// Ask each for its tools: in the running program, or, where none runs, by a short start
        #[arg(long)]
        tools: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Call a tool of an MCP server and show its result: in the running program, or, where none runs, by a short start
    Call {
        /// The server, as `mcp list` shows it
        server: String,
        /// The tool, as `mcp list --tools` shows it
        tool: String,
        /// Its arguments, as a JSON object
        #[arg(value_name = "JSON", default_value = "{}", value_parser = json_object)]
        arguments: String,
        /// The whole result, as JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Log in at an MCP server that is reached over HTTP, with a browser; its tokens are kept, and renewed while the program serves
    Login {
        /// The server, as `mcp list` shows it
        server: String,
        /// Scopes beside those that the server names, with blanks between them
        #[arg(long, value_name = "SCOPES")]
        scope: Option<String>,
        /// Open no browser: show the address alone
        #[arg(long)]
        no_browser: bool,
    },
    /// Forget the login at an MCP server, and give its tokens back
    Logout {
        /// The server, as `mcp list` shows it
        server: String,
    },
    /// Write an MCP server into the configuration file, which keeps its comments; it is made where there is none
    Add {
        /// Its name: a letter, then letters, digits, `-` and `_`, at most 32
        #[arg(value_parser = server_name)]
        name: String,
        /// A variable for its environment (may be repeated); `NAME=env:OTHER` takes the value of another one
        #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
        env: Vec<(String, String)>,
        /// The server's program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// Takes a text that is a JSON object.
fn json_object(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) => Ok(text.to_owned()),
        Ok(_) => Err("the arguments are an object, such as '{\"text\": \"hello\"}'".to_owned()),
        Err(error) => Err(format!("this is not JSON: {error}")),
    }
}

/// Takes the name of an MCP server.
fn server_name(text: &str) -> Result<String, String> {
    if is_server_name(text) {
        return Ok(text.to_owned());
    }
    let rule = "a server's name is a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`";
    Err(rule.to_owned())
}

/// Takes `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command_line::{Command, CommandLine};
    use crate::config::OneServer;
    use crate::mode::Mode;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::parse("mlp", "1.2.3", line.split_whitespace())
    }

    #[test]
    fn one_server_is_served_by_its_command_alone() {
        let line = parse("mlp mcp serve --listen a --no-auth -- npx -y --log x").unwrap();
        assert_eq!(line.mode(), Some(Mode::OneServer));
        let overrides = line.overrides();
        assert_eq!(overrides.listen, ["a"]);
        let server = OneServer {
            command: ["npx", "-y", "--log", "x"].map(str::to_owned).to_vec(),
            needs_key: false,
        };
        assert_eq!(overrides.server, Some(server));
        let error = |line: &str| parse(line).unwrap_err().to_string();
        let foreign = error("mlp mcp serve --config x -- y");
        assert!(
            foreign.contains("--config is not for `mcp serve`"),
            "{foreign}"
        );
        let help = error("mlp mcp serve --help");
        assert!(
            help.contains("--listen") && !help.contains("--config"),
            "{help}"
        );
        let help = error("mlp mcp list --help");
        assert!(
            help.contains("--config") && !help.contains("--log"),
            "{help}"
        );
        let login = parse("mlp mcp login far --scope x --no-browser --config c").unwrap();
        let expected = McpCommand::Login {
            server: "far".to_owned(),
            scope: Some("x".to_owned()),
            no_browser: true,
        };
        assert_eq!(login.command, Command::Mcp(expected));
        for line in [
            "mlp mcp login",
            "mlp mcp login far --listen a",
            "mlp mcp logout",
            "mlp mcp serve",
            "mlp mcp serve x",
            "mlp mcp serve --",
            "mlp mcp",
            "mlp mcp call s",
            "mlp mcp call s t [1]",
            "mlp mcp call s t {",
            "mlp mcp add 1 -- x",
            "mlp mcp add a",
            "mlp mcp add a --env X -- x",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        let bare = parse("mlp mcp call s t").unwrap().command;
        assert!(
            matches!(&bare, Command::Mcp(McpCommand::Call { arguments, .. }) if arguments == "{}"),
            "{bare:?}"
        );
        assert_eq!(parse("mlp mcp list").unwrap().mode(), None);
    }
}
