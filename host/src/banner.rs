//! Texts that a program prints when it is ready.

use crate::printable::printable;
use mcp_local_provider_core::api::page::{Setup, TOOLS_ALIAS};
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Returns the line on standard output that scripts wait for, without its line end: `ready http://127.0.0.1:8788`, with
/// every address.
pub fn ready_line(addresses: &[SocketAddr]) -> String {
    let mut line = String::from("ready");
    for address in addresses {
        // Writing to a String cannot fail.
        let _ = write!(line, " http://{address}");
    }
    line
}

/// Values of the demo's text.
#[derive(Clone, Copy)]
pub struct Demo<'a> {
    /// Name of the executable.
    pub program: &'static str,
    /// Address of the API.
    pub address: SocketAddr,
    /// The client key; `None` when no key is needed.
    pub key: Option<&'a str>,
    /// The demo agent's model.
    pub model: &'a str,
}

impl fmt::Debug for Demo<'_> {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Demo({}, {})", self.address, self.model)
    }
}

/// The key that the lines of a start show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownKey<'a> {
    /// The file that keeps a client key.
    File(&'a Path),
    /// A key of the person's, which is not known here.
    Own,
    /// None is needed.
    NotNeeded,
}

/// Returns the text of a start for a terminal: base URLs, models, where the key is, commands to paste, which work at every
/// start as they read the key from its file, and a line for each known editor.
///
/// With `options` the commands of `program` find it.
pub fn start_banner(
    program: &str,
    options: &[&str],
    setup: &Setup<'_>,
    key: ShownKey<'_>,
) -> String {
    let url = &setup.url;
    let (told, header) = match key {
        ShownKey::File(path) => {
            let quoted = quoted(&path.to_string_lossy());
            (
                format!("in {} (KEY below)", path.display()),
                format!(" -H \"Authorization: Bearer $(cat {quoted})\""),
            )
        }
        ShownKey::Own => (
            "one of yours, in place of KEY (`keys add NAME` makes one)".to_owned(),
            " -H \"Authorization: Bearer KEY\"".to_owned(),
        ),
        ShownKey::NotNeeded => ("none is needed".to_owned(), String::new()),
    };
    let mut text = String::from("\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<15}{value}");
    };
    for (name, url) in setup.base_urls() {
        line(name, &url);
    }
    line("API key", &told);
    let models = setup.models.iter().map(|name| printable(name));
    let models = models.collect::<Vec<_>>().join(", ");
    line(
        "models",
        if models.is_empty() {
            "those of the agents that connect; --agent NAME starts one, and `doctor` says which are installed"
        } else {
            &models
        },
    );
    line("page", &format!("{url}/"));
    text.push('\n');
    for (name, settings) in setup.editors() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<15}{}", printable(&settings));
    }
    let options: String = options
        .iter()
        .map(|word| format!(" {}", quoted(word)))
        .collect();
    let (model, body) = match setup.models.first() {
        Some(model) => (
            printable(model),
            format!("\"model\":\"{}\",", printable(model)),
        ),
        None => ("MODEL".to_owned(), String::new()),
    };
    if setup.lacks_tools().is_some() {
        let _ = writeln!(
            text,
            "\n  Void and Continue send no tools to a model of this name. The configuration can add one to which they do:\n    \
             models: {{ aliases: {{ {TOOLS_ALIAS}: {{ model: {model}, context_length: 128000 }} }} }}"
        );
    }
    let _ = writeln!(
        text,
        "\n  curl -N {url}/v1/chat/completions{header} -d '{{{body}\"stream\":true,{MESSAGE}}}'\n  \
         {program} run {model} \"Hello, who are you?\"{options}\n"
    );
    text
}

/// Returns text as a word of a shell.
fn quoted(text: &str) -> String {
    // The one error is a text with a NUL, which no path and no argument has.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), Into::into)
}

/// The message that the lines of a banner send.
const MESSAGE: &str = r#""messages":[{"role":"user","content":"Hello, who are you?"}]"#;

/// Returns the demo's text for standard error: address and model, and three commands to paste into another terminal.
pub fn demo_banner(demo: &Demo<'_>) -> String {
    let url = base_url(demo.address);
    let model = demo.model;
    let key = demo.key.unwrap_or("none");
    let program = demo.program;
    let address = reachable(demo.address);
    let header = demo
        .key
        .map(|key| format!(" -H 'Authorization: Bearer {key}'"))
        .unwrap_or_default();
    format!(
        "\
MCP Local Provider demo: a built-in agent answers as the model `{model}`. Keys live until it stops; nothing is written.

  base URL  {url}/v1
  API key   {key}

Paste one of these into another terminal.

OpenAI API:
  curl -N {url}/v1/chat/completions{header} -H 'Content-Type: application/json' -d '{{\"model\":\"{model}\",\"stream\":true,{MESSAGE}}}'

Ollama API:
  curl -N {url}/api/chat{header} -d '{{\"model\":\"{model}\",{MESSAGE}}}'

Python (pip install openai):
  python3 -c 'from openai import OpenAI; [print(c.choices[0].delta.content or \"\", end=\"\", flush=True) for c in OpenAI(base_url=\"{url}/v1\", api_key=\"{key}\").chat.completions.create(model=\"{model}\", stream=True, messages=[{{\"role\":\"user\",\"content\":\"Hello, who are you?\"}}])]; print()'

This program:
  LOCAL_PROVIDER_KEY={key} {program} run {model} --listen {address} 'Hello, who are you?'

Ctrl-C stops it.
"
    )
}

/// Values of the text of `mcp serve`.
#[derive(Clone, Copy)]
pub struct ServedServer<'a> {
    /// Address of the API.
    pub address: SocketAddr,
    /// Name of the server.
    pub name: &'a str,
    /// The key of this run; `None` when no key is needed.
    pub key: Option<&'a str>,
}

impl fmt::Debug for ServedServer<'_> {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServedServer({}, {})", self.address, self.name)
    }
}

/// Returns the text of `mcp serve` for standard error: addresses, the key, and lines to paste into a client.
pub fn server_banner(server: &ServedServer<'_>) -> String {
    let ServedServer { name, key, .. } = server;
    let url = base_url(server.address);
    let (told, header, headers) = match key {
        Some(key) => (
            (*key).to_owned(),
            format!(" --header 'Authorization: Bearer {key}'"),
            format!(",\"headers\":{{\"Authorization\":\"Bearer {key}\"}}"),
        ),
        None => ("none is needed".to_owned(), String::new(), String::new()),
    };
    format!(
        "\
MCP server `{name}` is on the web until this program stops. Nothing is written, and the key ends with it.

  MCP       {url}/mcp
            {url}/servers/{name}/mcp
  API key   {told}

Claude Code:
  claude mcp add --transport http {name} {url}/mcp{header}

Files of MCP servers (Cursor, VS Code and others):
  {{\"mcpServers\":{{\"{name}\":{{\"type\":\"http\",\"url\":\"{url}/mcp\"{headers}}}}}}}

Ctrl-C stops it.
"
    )
}

/// Returns the address by which a client on this machine reaches a listener: loopback for a wildcard address.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

fn base_url(address: SocketAddr) -> String {
    format!("http://{}", reachable(address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_mcp_serve_prints_can_be_pasted() {
        let address = "0.0.0.0:8788".parse().unwrap();
        let name = "files";
        let text = |key| server_banner(&ServedServer { address, name, key });
        let banner = text(Some("mlp-k"));
        for line in [
            "  MCP       http://127.0.0.1:8788/mcp",
            "            http://127.0.0.1:8788/servers/files/mcp",
            "  API key   mlp-k",
            "  claude mcp add --transport http files http://127.0.0.1:8788/mcp --header 'Authorization: Bearer mlp-k'",
        ] {
            assert!(
                banner.lines().any(|other| other == line),
                "{line}: {banner}"
            );
        }
        let json = banner.lines().find(|line| line.starts_with("  {"));
        let json: serde_json::Value = serde_json::from_str(json.unwrap()).unwrap();
        assert_eq!(
            json["mcpServers"]["files"],
            serde_json::json!({ "type": "http", "url": "http://127.0.0.1:8788/mcp", "headers": { "Authorization": "Bearer mlp-k" } })
        );
        let open = text(None);
        assert!(
            !open.contains("Authorization") && open.contains("none is needed"),
            "{open}"
        );
    }

    fn setup(models: &[&'static str]) -> Setup<'static> {
        Setup {
            url: "http://127.0.0.1:8788".to_owned(),
            models: models.to_vec(),
        }
    }

    #[test]
    fn the_ready_line_has_every_address() {
        let addresses = [
            "127.0.0.1:8788".parse().unwrap(),
            "[::1]:9".parse().unwrap(),
        ];
        assert_eq!(ready_line(&addresses[..1]), "ready http://127.0.0.1:8788");
        assert_eq!(
            ready_line(&addresses),
            "ready http://127.0.0.1:8788 http://[::1]:9"
        );
    }

    #[test]
    fn the_line_of_a_start_reads_the_key_from_its_file() {
        let line = |key| {
            let banner = start_banner("mlp", &[], &setup(&[]), key);
            let line = banner.lines().find(|line| line.contains("curl")).unwrap();
            line.trim().to_owned()
        };
        let body =
            r#"-d '{"stream":true,"messages":[{"role":"user","content":"Hello, who are you?"}]}'"#;
        let url = "curl -N http://127.0.0.1:8788/v1/chat/completions";
        for (path, word) in [
            ("/data/client.key", "/data/client.key"),
            ("/my data/client.key", "'/my data/client.key'"),
        ] {
            assert_eq!(
                line(ShownKey::File(Path::new(path))),
                format!("{url} -H \"Authorization: Bearer $(cat {word})\" {body}")
            );
        }
        assert_eq!(line(ShownKey::NotNeeded), format!("{url} {body}"));
        assert!(line(ShownKey::Own).contains("Bearer KEY\""));
    }

    #[test]
    fn a_start_shows_urls_models_editors_and_what_a_name_lacks() {
        let options = ["--config", "my file"];
        let banner =
            |models: &[&'static str]| start_banner("mlp", &options, &setup(models), ShownKey::Own);
        let one = banner(&["claude", "my\u{1b}model"]);
        for line in [
            "  OpenAI API     http://127.0.0.1:8788/v1",
            "  Anthropic API  http://127.0.0.1:8788",
            "  models         claude, my model",
            "  page           http://127.0.0.1:8788/",
            "  Void           OpenAI-Compatible: base URL http://127.0.0.1:8788/v1, model claude",
            "  mlp run claude \"Hello, who are you?\" --config 'my file'",
            "    models: { aliases: { gpt-4o-agent: { model: claude, context_length: 128000 } } }",
        ] {
            assert!(
                one.lines().any(|shown| shown == line),
                "{line} is not in {one}"
            );
        }
        assert!(
            one.contains(r#"-d '{"model":"claude","stream":true"#),
            "{one}"
        );
        for editor in ["Zed", "Continue", "Cline", "Open WebUI", "aider"] {
            assert!(one.contains(&format!("\n  {editor:<15}")), "{one}");
        }
        assert!(!banner(&["claude", "gpt-4o-mine"]).contains("aliases"));
        assert!(banner(&[]).contains("--agent NAME starts one"));
    }

    #[test]
    fn the_lines_of_the_demo_can_be_pasted() {
        let address = "0.0.0.0:8788".parse().unwrap();
        let banner = demo_banner(&Demo {
            program: "mlp",
            address,
            key: Some("mlp-k"),
            model: "demo",
        });
        let lines: Vec<&str> = banner
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .collect();
        assert_eq!(
            lines,
            [
                "base URL  http://127.0.0.1:8788/v1",
                "API key   mlp-k",
                "curl -N http://127.0.0.1:8788/v1/chat/completions -H 'Authorization: Bearer mlp-k' -H 'Content-Type: application/json' \
                 -d '{\"model\":\"demo\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello, who are you?\"}]}'",
                "curl -N http://127.0.0.1:8788/api/chat -H 'Authorization: Bearer mlp-k' \
                 -d '{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello, who are you?\"}]}'",
                "python3 -c 'from openai import OpenAI; [print(c.choices[0].delta.content or \"\", end=\"\", flush=True) \
                 for c in OpenAI(base_url=\"http://127.0.0.1:8788/v1\", api_key=\"mlp-k\").chat.completions.create(model=\"demo\", \
                 stream=True, messages=[{\"role\":\"user\",\"content\":\"Hello, who are you?\"}])]; print()'",
                "LOCAL_PROVIDER_KEY=mlp-k mlp run demo --listen 127.0.0.1:8788 'Hello, who are you?'",
            ]
        );
        let open = demo_banner(&Demo {
            program: "mlp",
            address,
            key: None,
            model: "demo",
        });
        assert!(!open.contains("Authorization"));
    }
}
