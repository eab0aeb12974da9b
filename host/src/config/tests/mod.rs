//! Values and errors of configurations, as a person sees them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod bridge_environment;
mod example;
mod gateway;
mod mcp_address;
mod paths;
mod registry;
mod short;
mod upstream;
mod wrong;

use super::*;
use crate::test_directory::Directory;
use std::path::PathBuf;
use std::time::Duration;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let home = [("HOME", "/home/ada")];
    Environment::new(
        home.iter()
            .chain(variables)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn load_text(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    super::load_text(name, text, &environment(variables)).map_err(|error| error.to_string())
}

/// The example of the documentation, which is the contract.
const EXAMPLE: &str = r#"
listen:
  http: ["127.0.0.1:8788"]        # port 0 picks one; the address is printed and is in the ready line
  ollama: off                     # auto: 127.0.0.1:11434 when it is free | an address
  metrics: off                    # or an address
  trusted_proxies: []             # addresses and networks
auth:
  required: true
  keys:
    - { name: editor, key: "env:EDITOR_KEY", role: client }
    - { name: bridge, key: "env:BRIDGE_KEY", role: bridge }
    - { name: me, key: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", role: operator }
  allowed_hosts: []               # beyond loopback names
  allowed_origins: []             # beyond loopback and desktop schemes
limits:
  requests_per_minute: 60
  tokens_per_minute: 100000
  burst: 60
  exchanges: 1024
  connections: 16384
  queue: { length: 64, wait: 5s }
  memory: 256MiB
  body_bytes: 32MiB
  content_bytes: 16MiB
  messages: 1000
  json_depth: 64
  agent_frame_bytes: 32MiB
  mailbox_bytes: 16MiB
timeouts: { head: 5s, body: 30s, write: 30s, first_chunk: 60s, idle: 60s, total: 600s, drain: 30s, keep_alive: 15s }
sessions: { approval: automatic, ttl_seconds: 300, renew: connected, max: 64, max_requests: 0 }
models:
  default: cursor-agent
  aliases:
    my-gpt-4o: { model: cursor-agent, context_length: 128000 }
bridges:
  - { name: cursor, url: "ws://127.0.0.1:8787", token: "env:BRIDGE_TOKEN", default: true }
agents:
  - { preset: claude, sessions: { keep: 4, idle: 5m, memory: 2GiB } }
  - { name: mine, command: ["my-agent", "--acp"], models: [mine] }
audit: { file: audit.jsonl, max_bytes: 64MiB, keep: 5 }      # in data_dir; off to write none
log: { level: info, format: auto }
data_dir: ~/.local/share/mcp-local-provider
"#;

const EXAMPLE_VARIABLES: [(&str, &str); 3] = [
    ("EDITOR_KEY", "editor-key-0123456789"),
    ("BRIDGE_KEY", "bridge-key-0123456789"),
    ("BRIDGE_TOKEN", "token"),
];

#[test]
fn the_documented_example_gives_the_documented_defaults() {
    let loaded = load_text("config.yaml", EXAMPLE, &EXAMPLE_VARIABLES).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(
        config.auth.keys[0].key.text(),
        Some("editor-key-0123456789")
    );
    assert_eq!(config.auth.keys[2].role, Role::Operator);
    assert_eq!(
        config.auth.keys[2].key.value().unwrap().digest(),
        super::secret::sha256("test")
    );
    assert_eq!(
        config.bridges[0].token.as_ref().unwrap().text(),
        Some("token")
    );
    assert_eq!(
        config.models.aliases["my-gpt-4o"].context_length,
        Some(128_000)
    );
    assert_eq!(
        config.data_dir,
        Path::new("/home/ada/.local/share/mcp-local-provider")
    );

    let defaults = load(&Overrides::default(), &environment(&[])).unwrap();
    assert_eq!(defaults.file, None);
    let defaults = defaults.config;
    assert_eq!(config.listen, defaults.listen);
    assert_eq!(config.limits, defaults.limits);
    assert_eq!(config.timeouts, defaults.timeouts);
    assert_eq!(config.sessions, defaults.sessions);
    assert_eq!(config.audit, defaults.audit);
    assert_eq!(config.log, defaults.log);
    assert_eq!(config.data_dir, defaults.data_dir);
    assert_eq!(config.runtime, defaults.runtime);
}

#[test]
fn yaml_toml_and_json_say_the_same() {
    let yaml = "
limits: { burst: 7, body_bytes: 2MiB, queue: { wait: 250ms } }
timeouts:
  idle: 90
models:
  aliases: { fast: &m mine, slow: *m }
audit: off
auth: { allowed_hosts: [provider.example] }
listen: { ollama: auto, http: ['localhost:0', '[::1]:9'] }
log: debug
";
    let toml = "
audit = 'off'
log.level = 'debug'
[limits]
burst = 0x7
body_bytes = 2_097_152
queue.wait = '250ms'
[timeouts]
idle = 90.0
[models.aliases]
fast = 'mine'
slow.model = 'mine'
[auth]
allowed_hosts = ['provider.example']
[listen]
ollama = 'auto'
http = ['127.0.0.1:0', '[::1]:9']
";
    let json = r#"{
\t"limits": {"burst": 7, "body_bytes": "2 MiB", "queue": {"wait": 0.25}},
\t"timeouts": {"idle": "1.5m"},
\t"models": {"aliases": {"fast": "mi\u006ee", "slow": {"model": "mine", "context_length": null}}},
\t"audit": false, "auth": {"allowed_hosts": ["provider.example"]},
\t"listen": {"ollama": "auto", "http": [0, "[::1]:9"]}, "log": {"level": "debug"}
}"#
    .replace("\\t", "\t");
    let yaml = load_text("config.yml", yaml, &[]).unwrap().config;
    assert_eq!(yaml.limits.burst, 7);
    assert_eq!(yaml.limits.body_bytes, 2 << 20);
    assert_eq!(
        yaml.limits.queue,
        Queue {
            length: 64,
            wait: Duration::from_millis(250)
        }
    );
    assert_eq!(yaml.timeouts.idle, Duration::from_secs(90));
    assert_eq!(yaml.audit.file, None);
    assert_eq!(yaml.listen.ollama, Extra::Auto);
    assert_eq!(yaml.listen.http_addresses()[0].to_string(), "127.0.0.1:0");
    assert_eq!(yaml.log.level, LogLevel::Debug);
    assert_eq!(load_text("config.toml", toml, &[]).unwrap().config, yaml);
    assert_eq!(load_text("config.json", &json, &[]).unwrap().config, yaml);
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let directory = Directory::new();
    let path = directory.file(
        "c.yaml",
        "listen: {http: ['127.0.0.1:1']}\nlimits: {burst: 1, messages: 1}\nlog: warn\n",
    );
    let environment = environment(&[
        ("MLP_LISTEN__HTTP", "127.0.0.1:2, 127.0.0.1:3"),
        ("MLP_LIMITS__BURST", "2"),
        ("MLP_LIMITS__REQUESTS_PER_MINUTE", "120"),
        ("MLP_TIMEOUTS__FIRST_CHUNK", "2m"),
        ("MLP_LOG__LEVEL", "error"),
        ("MLP_AUDIT", "off"),
        ("MLP_SESSIONS__APPROVAL", "manual"),
        ("MLP_AUTH__KEYS__0__NAME", "12"),
        ("MLP_AUTH__KEYS__0__KEY", "0123456789012345678901234"),
        ("MLP_MODELS__ALIASES__gpt-4O", "mine"),
        (
            "MLP_AGENTS",
            "[{\"name\": \"a\", \"command\": [\"x\", \"7\"]}]",
        ),
        ("MLP_AGENTS__0__CWD", "/tmp"),
        ("UNRELATED", "1"),
    ]);
    let mut overrides = Overrides {
        config: Some(path),
        ..Overrides::default()
    };
    let config = load(&overrides, &environment).unwrap().config;
    assert_eq!(config.listen.http_addresses().len(), 2);
    assert_eq!(
        (
            config.limits.burst,
            config.limits.messages,
            config.limits.requests_per_minute
        ),
        (2, 1, 120)
    );
    assert_eq!(config.timeouts.first_chunk, Duration::from_secs(120));
    assert_eq!(config.log.level, LogLevel::Error);
    assert_eq!(config.audit.file, None);
    assert_eq!(config.sessions.approval, Approval::Manual);
    assert_eq!(
        (config.auth.keys[0].name.as_str(), config.auth.keys[0].role),
        ("12", Role::Client)
    );
    assert_eq!(config.models.aliases["gpt-4O"].model, "mine");
    assert_eq!(config.agents[0].command, ["x", "7"]);
    assert_eq!(config.agents[0].cwd.as_deref(), Some(Path::new("/tmp")));

    overrides.listen = vec!["127.0.0.1:4".to_owned()];
    overrides.ollama = true;
    overrides.log = Some("trace".to_owned());
    let config = load(&overrides, &environment).unwrap().config;
    assert_eq!(config.listen.http_addresses()[0].port(), 4);
    assert_eq!(config.listen.ollama, Extra::Auto);
    assert_eq!(config.log.level, LogLevel::Trace);
}

#[test]
fn agents_of_the_command_line_stand_for_those_of_the_file() {
    let directory = Directory::new();
    let path = directory.file(
        "c.yaml",
        "agents: [{preset: claude, models: [sonnet]}, {name: mine, command: [my-agent]}]",
    );
    let agents = |words: &[&str]| {
        let overrides = Overrides {
            config: Some(path.clone()),
            agents: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Overrides::default()
        };
        let loaded = load(&overrides, &environment(&[]));
        loaded.map(|loaded| loaded.config.agents)
    };
    assert_eq!(agents(&[]).unwrap().len(), 2);
    let chosen = agents(&["claude", "codex", "mine", "/opt/my\\ agent --acp 'a b'"]).unwrap();
    assert_eq!(chosen[0].models, ["sonnet"], "as it is configured");
    assert_eq!(chosen[1].preset.as_deref(), Some("codex"));
    assert_eq!(chosen[2].command, ["my-agent"]);
    assert_eq!(chosen[3].command, ["/opt/my agent", "--acp", "a b"]);
    assert_eq!(chosen[3].known_as(), "my-agent");
    let words = [
        "codex",
        "npx -y @agentclientprotocol/codex-acp",
        "second=mine --x",
        "claude=npx -y y",
        "codex",
    ];
    let chosen = agents(&words).unwrap();
    let known = chosen
        .iter()
        .map(|agent| (agent.known_as().into_owned(), agent.known_preset()));
    assert_eq!(
        known.collect::<Vec<_>>(),
        [
            ("codex".to_owned(), Some("codex")),
            ("codex-2".to_owned(), Some("codex")),
            ("second".to_owned(), None),
            ("claude".to_owned(), Some("claude")),
            ("codex-3".to_owned(), Some("codex")),
        ]
    );
    assert_eq!(chosen[3].command, ["npx", "-y", "y"]);
    for (words, said) in [
        (
            &["claud"][..],
            "--agent: no agent is called `claud`; did you mean `claude`?",
        ),
        (
            &["x 'y"],
            "--agent: a quotation mark of the command is not closed",
        ),
        (&[""], "--agent: the command is empty"),
    ] {
        assert_eq!(agents(words).unwrap_err().to_string(), said);
    }
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_xdg() {
    let directory = Directory::new();
    let flag = directory.file("flag.toml", "limits.burst = 1");
    let variable = directory.file("variable.json", r#"{"limits": {"burst": 2}}"#);
    let xdg = directory.file("xdg/mcp-local-provider/config.yml", "limits: { burst: 3 }");
    directory.file(
        "home/.config/mcp-local-provider/config.yaml",
        "limits: { burst: 4 }",
    );
    let home = directory.0.join("home").display().to_string();
    let base = directory.0.join("xdg").display().to_string();
    let variable = variable.display().to_string();
    let burst = |overrides: &Overrides, variables: &[(&str, &str)]| {
        load(overrides, &environment(variables))
            .unwrap()
            .config
            .limits
            .burst
    };
    let none = Overrides::default();
    let all = [
        ("HOME", home.as_str()),
        ("XDG_CONFIG_HOME", &base),
        ("LOCAL_PROVIDER_CONFIG", &variable),
    ];
    assert_eq!(
        burst(
            &Overrides {
                config: Some(flag),
                ..Overrides::default()
            },
            &all
        ),
        1
    );
    assert_eq!(burst(&none, &all), 2);
    assert_eq!(burst(&none, &all[..2]), 3);
    assert_eq!(burst(&none, &all[..1]), 4);
    assert_eq!(burst(&none, &[]), 60);

    let second = directory.file("xdg/mcp-local-provider/config.toml", "");
    let error = load(&none, &environment(&all[..2]))
        .unwrap_err()
        .to_string();
    let expected = format!(
        "both {} and {} are there; remove one or choose with --config",
        xdg.display(),
        second.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn secrets_are_never_shown_and_literals_are_warned_about() {
    let text = "auth:\n  keys:\n  - { name: a, key: hunter2 }\n";
    let loaded = load_text(
        "config.yaml",
        text,
        &[(
            "MLP_BRIDGES",
            "[{name: b, url: 'ws://b', token: swordfish}]",
        )],
    )
    .unwrap();
    let shown = format!("{loaded:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("swordfish"),
        "{shown}"
    );
    let warnings: Vec<String> = loaded
        .warnings
        .iter()
        .map(|warning| warning.message.clone())
        .collect();
    assert_eq!(
        warnings,
        [
            "the secret stands in the file itself; `env:NAME` or `file:PATH` keeps it out",
            "the key is shorter than 16 characters and can be guessed",
        ]
    );
    assert_eq!(
        loaded.config.bridges[0].token.as_ref().unwrap().text(),
        Some("swordfish")
    );
}
