//! The sections `mcpServers` and `gateway`.

use super::*;
use mcp_local_provider_mcp::config as machine;

fn server<'c>(config: &'c Config, name: &str) -> &'c McpServer {
    let mut servers = config.mcp_servers.iter();
    servers.find(|(other, _)| *other == name).unwrap().1
}

#[test]
fn the_defaults_of_the_gateway_are_those_of_its_machines() {
    let config = load_text("c.yaml", "mcpServers: { a: x }", &[])
        .unwrap()
        .config;
    let expected = machine::Gateway {
        servers: vec![machine::Server::named("a")],
        ..machine::Gateway::default()
    };
    assert_eq!(config.gateway(), Some(expected));
}

#[test]
fn a_server_is_shared_as_it_says_itself_or_the_gateway_does() {
    let text = "mcpServers: { a: x, b: { command: x, scope: session, interactive: lease } }\ngateway: { scope: shared, interactive: refuse }";
    let config = load_text("c.yaml", text, &[]).unwrap().config;
    let servers = config.gateway().unwrap().servers;
    let of = |server: &machine::Server| (server.scope, server.interactive);
    assert_eq!(
        servers.iter().map(of).collect::<Vec<_>>(),
        [
            (machine::Scope::Shared, machine::Interactive::Refuse),
            (machine::Scope::Session, machine::Interactive::Lease),
        ]
    );
    let refused = load_text("c.yaml", "gateway: { scope: mine }", &[]).unwrap_err();
    assert!(refused.contains("c.yaml:1: gateway.scope"), "{refused}");
}

#[test]
fn the_gateway_is_there_when_a_server_is_or_as_it_is_told() {
    let is_there = |text: &str| {
        let config = load_text("c.yaml", text, &[]).unwrap().config;
        config.gateway().map(|gateway| gateway.servers.len())
    };
    assert_eq!(is_there(""), None);
    assert_eq!(is_there("gateway: { enabled: true }"), Some(0));
    assert_eq!(is_there("mcpServers: { a: x }"), Some(1));
    assert_eq!(
        is_there("mcpServers: { a: { command: x, disabled: true } }"),
        None
    );
    assert_eq!(
        is_there("mcpServers: { a: x }\ngateway: { enabled: auto }"),
        Some(1)
    );
    assert_eq!(
        is_there("mcpServers: { a: x }\ngateway: { enabled: no }"),
        None
    );
}

#[test]
fn servers_keep_their_order_and_every_language_says_the_same() {
    let yaml = "
mcpServers:
  zoo: { command: npx, args: [-y, a-server], env: { A: '', PORT: 8080 }, pass_env: [AWS_*], cwd: /srv }
  files: { command: uvx, disabled: true }
  short: \"npx -y 'a server'\"
  list: { command: [npx, -y, x] }
  space: { command: '/opt/my server', args: [] }
gateway:
  sessions: { per_client: 7, idle: 90 }
  rate: { requests: 0 }
  resume: { bytes: 2MiB }
";
    let toml = "
[mcp_servers.zoo]
command = 'npx'
args = ['-y', 'a-server']
env = { A = '', PORT = '8080' }
pass_env = ['AWS_*']
cwd = '/srv'
[mcp_servers.files]
command = 'uvx'
disabled = true
[mcp_servers.short]
command = \"npx -y 'a server'\"
[mcp_servers.list]
command = ['npx', '-y', 'x']
[mcp_servers.space]
command = '/opt/my server'
args = []
[gateway]
sessions = { per_client = 7, idle = '1.5m' }
rate.requests = 0
resume.bytes = 2_097_152
";
    let json = r#"{
"mcpServers": {
  "zoo": {"command": "npx", "args": ["-y", "a-server"], "env": {"A": "", "PORT": "8080"}, "pass_env": ["AWS_*"], "cwd": "/srv"},
  "files": {"command": "uvx", "disabled": true},
  "short": {"command": "npx", "args": ["-y", "a server"]},
  "list": {"command": "npx -y x"},
  "space": {"command": "/opt/my server", "args": []}
},
"gateway": {"sessions": {"per_client": 7, "idle": 90}, "rate": {"requests": 0}, "resume": {"bytes": "2MiB"}}
}"#;
    let loaded = load_text("c.yaml", yaml, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    let names: Vec<&str> = config.mcp_servers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["zoo", "files", "short", "list", "space"]);
    assert_eq!(server(&config, "short").args, ["-y", "a server"]);
    assert_eq!(server(&config, "list").command, "npx");
    assert_eq!(server(&config, "list").args, ["-y", "x"]);
    assert_eq!(server(&config, "space").command, "/opt/my server");
    assert_eq!(server(&config, "zoo").env["PORT"].text(), Some("8080"));
    assert_eq!(server(&config, "zoo").env["A"].text(), Some(""));
    let gateway = config.gateway().unwrap();
    assert_eq!(gateway.sessions.per_client, 7);
    assert_eq!(gateway.sessions.idle, Duration::from_secs(90));
    assert_eq!((gateway.rate.requests, gateway.resume.bytes), (0, 2 << 20));
    let offered: Vec<&str> = gateway.servers.iter().map(|server| &*server.name).collect();
    assert_eq!(offered, ["zoo", "short", "list", "space"]);
    assert_eq!(
        load_text("c.toml", toml, &[]).unwrap().config.gateway(),
        Some(gateway)
    );
    assert_eq!(load_text("c.json", json, &[]).unwrap().config, config);
}

#[test]
fn what_other_programs_write_can_be_pasted() {
    let pasted = r#"{
"mcpServers": {
  "files": {
    "type": "stdio", "command": "npx", "args": ["-y", "a-server"], "env": {"TOKEN": "literal"},
    "alwaysAllow": ["read"], "autoApprove": [], "timeout": 60, "description": "Files", "icon": "x.png",
    "envFile": "${workspaceFolder}/.env", "scope": "session"
  }
}}"#;
    let loaded = load_text("c.json", pasted, &[]).unwrap();
    let files = server(&loaded.config, "files");
    assert_eq!((&*files.command, files.args.len()), ("npx", 2));
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        (5, "alwaysAllow"),
        (5, "autoApprove"),
        (5, "timeout"),
        (5, "description"),
        (5, "icon"),
        (6, "envFile"),
    ]
    .map(|(line, key)| {
        format!(
            "c.json:{line}: mcpServers.files.{key}: this key of other programs does nothing here"
        )
    });
    assert_eq!(warnings, expected);
    let left = r#"{"mcpServers": {"a": {"command": "x", "env": {"T": "${input:token}"}}}}"#;
    let loaded = load_text("c.json", left, &[]).unwrap();
    let warning = loaded.warnings[0].to_string();
    assert!(
        warning.contains("mcpServers.a.env.T: `${…}` stays as it is"),
        "{warning}"
    );
    assert!(!warning.contains("input:token"), "{warning}");
}

#[test]
fn variables_of_servers_are_secrets_and_shown_nowhere() {
    let directory = Directory::new();
    directory.file("t.token", "of-the-file\n");
    let text = "
mcpServers:
  a: { command: ./bin/x, env: { ONE: swordfish, TWO: 'env:T', THREE: 'file:t.token' }, cwd: work }
  off: { command: x, disabled: true, env: { T: 'env:NOT_THERE' } }
  b: { command: python3, args: [-u, s.py, s.py], env: { FOUR: $x } }
";
    directory.file("s.py", "");
    let overrides = Overrides {
        config: Some(directory.file("c.yaml", text)),
        ..Overrides::default()
    };
    let variables = environment(&[
        ("T", "of-the-variable"),
        ("MLP_MCP_SERVERS__A__ENV__ONE", "swordfish-2"),
    ]);
    let loaded = load(&overrides, &variables).unwrap();
    assert_eq!(loaded.warnings, []);
    let a = server(&loaded.config, "a");
    let value = |name: &str| a.env[name].text().unwrap();
    assert_eq!(value("ONE"), "swordfish-2");
    assert_eq!(value("TWO"), "of-the-variable");
    assert_eq!(value("THREE"), "of-the-file");
    let place = |name: &str| directory.0.join(name).display().to_string();
    assert_eq!(a.command, place("bin/x"));
    assert_eq!(a.cwd, Some(directory.0.join("work")));
    let b = server(&loaded.config, "b");
    assert_eq!(b.args, ["-u".to_owned(), place("s.py"), "s.py".to_owned()]);
    let settings = loaded.sources.settings(&loaded.config);
    let told = settings
        .iter()
        .map(|setting| format!("{} = {}", setting.path, setting.value));
    let told: Vec<String> = told.collect();
    for expected in [
        "mcpServers.a.env.ONE = (hidden)",
        "mcpServers.a.env.TWO = env:T",
        "mcpServers.b.command = python3",
        "gateway.enabled = auto",
        "gateway.timeouts.request = 300s",
    ] {
        assert!(
            told.iter().any(|line| line == expected),
            "{expected}: {told:?}"
        );
    }
    let shown = format!("{loaded:?}{told:?}");
    for secret in ["swordfish", "of-the-variable", "of-the-file"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn variables_of_the_program_make_and_change_servers() {
    let variables = [
        ("MLP_MCPSERVERS__FILES__COMMAND", "npx -y a-server"),
        ("MLP_MCP_SERVERS__OTHER__COMMAND", "x"),
        ("MLP_MCP_SERVERS__OTHER__ARGS", "-a,b"),
        ("MLP_GATEWAY__ENABLED", "1"),
        ("MLP_GATEWAY__SESSIONS__MAX", "9"),
    ];
    let config = load_text("c.yaml", "mcpServers: { z: y }", &variables)
        .unwrap()
        .config;
    assert_eq!(server(&config, "files").args, ["-y", "a-server"]);
    assert_eq!(server(&config, "other").args, ["-a", "b"]);
    assert_eq!(server(&config, "z").command, "y");
    assert_eq!(config.gateway.enabled, GatewaySwitch::Yes);
    assert_eq!(config.gateway.sessions.max, 9);
}

#[test]
fn a_transport_that_is_none_is_refused_by_name() {
    let refused = load_text("c.yaml", "gateway: { transports: [http, carrier] }", &[]).unwrap_err();
    assert!(
        refused.contains("gateway.transports[1]") && refused.contains("`carrier`"),
        "{refused}"
    );
}

#[test]
fn wrong_servers_and_bounds_are_refused_with_place_and_remedy() {
    for (text, expected) in [
        (
            "mcpServers: { 1x: y, a__b: y, 'a.b': y }",
            "c.yaml:1: mcpServers.1x: `1x` is no name here; a server's name is a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`
c.yaml:1: mcpServers.a__b: `a__b` is no name here; a server's name is a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`
c.yaml:1: mcpServers.a.b: `a.b` is no name here; a server's name is a letter, then letters, digits, `-` and `_`, at most 32 in all and without `__`",
        ),
        (
            "mcpServers:\n  a: { args: [x] }\n",
            "c.yaml:2: mcpServers.a: give `command`, the program that is the server, or `url`, its address",
        ),
        (
            "mcpServers:\n  a: { comand: x, command: y }\n",
            "c.yaml:2: mcpServers.a.comand: unknown key; did you mean `command`?",
        ),
        (
            "mcpServers:\n  a: \"x 'y\"\n",
            "c.yaml:2: mcpServers.a.command: a quotation mark of the command is not closed",
        ),
        (
            "mcpServers: [a]",
            "c.yaml:1: mcpServers: expected a section, found a list; write `mcpServers: { files: { command: npx } }`",
        ),
        (
            "mcpServers: { a: x }\nmcp_servers: { b: x }",
            "c.yaml:2: `mcp_servers` is `mcpServers`, which is given twice; it was given before at c.yaml:1",
        ),
        (
            "mcpServers:\n  a:\n    command: x\n    env: { A: 'env:NOT_THERE', B: 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', 'C=D': e }\n    pass_env: ['', A=B]\n",
            "c.yaml:4: mcpServers.a.env.A: the environment variable `NOT_THERE` is not set
c.yaml:4: mcpServers.a.env.B: a digest is no value; give the value, `env:NAME` or `file:PATH`
c.yaml:4: mcpServers.a.env.C=D: `C=D` is no name of a variable
c.yaml:5: mcpServers.a.pass_env[0]: `` is no name of a variable; write `NAME`, or `PREFIX*` for all that begin so
c.yaml:5: mcpServers.a.pass_env[1]: `A=B` is no name of a variable; write `NAME`, or `PREFIX*` for all that begin so",
        ),
        (
            "gateway:\n  enabled: maybe\n  sessions: { per_client: 0, max: 0 }\n  restart: { attempts: 0 }\n  timeouts: { request: 2h, heartbeat: 0 }\n  resume: { keep: 8d, bytes: 1 }\n  message_bytes: 1GiB\n",
            "c.yaml:2: gateway.enabled: expected `auto`, `true` or `false`, found the text `maybe`
c.yaml:3: gateway.sessions.max: must be at least 1, not 0: everything would be refused; leave it out for the default
c.yaml:3: gateway.sessions.per_client: must be at least 1, not 0: everything would be refused; leave it out for the default
c.yaml:4: gateway.restart.attempts: must be at least 1, not 0: `restart: { enabled: false }` starts none again
c.yaml:5: gateway.timeouts.heartbeat: must be at least 1ms; leave it out for the default
c.yaml:5: gateway.timeouts.request: must be at most `gateway.timeouts.request_max`, which is 3600s
c.yaml:6: gateway.resume.bytes: must be at least 4096, not 1: no answer would fit
c.yaml:6: gateway.resume.keep: must be at most 7d
c.yaml:7: gateway.message_bytes: must be at most `limits.memory`, which is 256MiB",
        ),
    ] {
        let refused = load_text("c.yaml", text, &[]).unwrap_err();
        let (mut refused, mut expected): (Vec<&str>, Vec<&str>) =
            (refused.lines().collect(), expected.lines().collect());
        refused.sort_unstable();
        expected.sort_unstable();
        assert_eq!(refused, expected, "{text}");
    }
}

#[test]
fn the_server_of_a_command_line_is_the_only_one_and_no_file_is_read() {
    let directory = Directory::new();
    let overrides = |command: &str| Overrides {
        config: Some(directory.file("c.yaml", "nonsense: true")),
        server: Some(OneServer {
            command: command.split(' ').map(str::to_owned).collect(),
            needs_key: true,
        }),
        ..Overrides::default()
    };
    let variables = environment(&[("MLP_AGENTS", "claude"), ("MLP_GATEWAY__ENABLED", "false")]);
    for (command, name) in [
        ("npx -y @scope/server-files@1.2", "server-files"),
        ("uvx my.server__x", "my-server-x"),
        ("/opt/9lives", "lives"),
        ("./42", "default"),
        ("python3 -m a", "a"),
        (
            "x-0123456789-0123456789-0123456789",
            "x-0123456789-0123456789-01234567",
        ),
    ] {
        let loaded = load(&overrides(command), &variables).unwrap();
        let servers: Vec<_> = loaded.config.mcp_servers.iter().collect();
        let [(found, server)] = servers[..] else {
            panic!("{servers:?}")
        };
        assert_eq!(found, name, "{command}");
        assert_eq!(server.args.len(), command.split(' ').count() - 1);
        assert_eq!(server.cwd, std::env::current_dir().ok());
        assert_eq!((loaded.file, loaded.config.agents), (None, Vec::new()));
        assert_eq!(loaded.config.gateway.enabled, GatewaySwitch::Yes);
        assert!(loaded.config.auth.required);
    }
}

#[test]
fn names_of_tools_and_servers_are_told_to_the_gateway() {
    let text = "
mcpServers:
  my_files: { command: x, prefix: f, tools: { allow: [read, 'list_*'], deny: [list_all] } }
  web: x
gateway: { prefix: always }
";
    let loaded = load_text("c.yaml", text, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let gateway = loaded.config.gateway().unwrap();
    assert_eq!(gateway.prefix, machine::Prefix::Always);
    let [files, web] = &*gateway.servers else {
        panic!("{gateway:?}");
    };
    assert_eq!(files.prefix.as_deref(), Some("f"));
    let known = ["read", "list_some", "list_all", "write"].map(|tool| files.tools.allows(tool));
    assert_eq!(known, [true, true, false, false]);
    assert_eq!(*web, machine::Server::named("web"));
}

#[test]
fn servers_that_cannot_be_told_apart_are_refused() {
    let text = "
mcpServers:
  a_b: x
  A-b: x
  off: { command: x, prefix: a-b, disabled: true }
  c: { command: x, prefix: a__b }
  d: { command: x, tools: { deny: [''] } }
gateway: { prefix: sometimes }
";
    let refused = load_text("c.yaml", text, &[]).unwrap_err().to_string();
    for expected in [
        "c.yaml:4: mcpServers.A-b: it cannot be told from `a_b` in URIs",
        "c.yaml:6: mcpServers.c.prefix: `a__b` is no prefix",
        "c.yaml:7: mcpServers.d.tools.deny: a tool's name is empty",
        "c.yaml:8: gateway.prefix: ",
    ] {
        assert!(refused.contains(expected), "{expected} in {refused}");
    }
    assert!(!refused.contains("mcpServers.off"), "{refused}");
}
