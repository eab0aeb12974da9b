//! Variables of MCP bridges.

use super::*;

fn config(variables: &[(&str, &str)]) -> Config {
    load_text("c.yaml", "", variables).unwrap().config
}

/// Command, arguments and environment of the one server.
fn server(variables: &[(&str, &str)]) -> (String, Vec<String>, Vec<(String, String)>) {
    let config = config(variables);
    let servers: Vec<_> = config.mcp_servers.iter().collect();
    let [("default", server)] = servers[..] else {
        panic!("{servers:?}")
    };
    let env = server.env.iter();
    let env = env.map(|(name, value)| (name.clone(), value.text().unwrap().to_owned()));
    (server.command.clone(), server.args.clone(), env.collect())
}

#[test]
fn a_server_is_given_by_path_arguments_and_environment() {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    for (path, command, arguments) in [
        ("/opt/s.py", "python3", &["/opt/s.py"][..]),
        ("/opt/s.js", "node", &["/opt/s.js"]),
        ("my_pkg.server", "python3", &["-m", "my_pkg.server"]),
        ("npx", "npx", &[]),
        ("/opt/my server", "/opt/my server", &[]),
    ] {
        let expected = (command.to_owned(), words(arguments), Vec::new());
        assert_eq!(server(&[("MCP_SERVER_PATH", path)]), expected, "{path}");
    }
    for (given, expected) in [
        ("-y 'a b'", &["/s.py", "-y", "a b"][..]),
        (r#"["-y", "a,b", "1"]"#, &["/s.py", "-y", "a,b", "1"]),
        ("  ", &["/s.py"]),
    ] {
        let variables = [("MCP_SERVER_PATH", "/s.py"), ("MCP_SERVER_ARGS", given)];
        assert_eq!(server(&variables).1, words(expected), "{given}");
    }
    let one_and_two =
        [("A", "1=x"), ("B", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    for given in ["A=1=x, B=", r#"{"A": "1=x", "B": ""}"#] {
        let variables = [("MCP_SERVER_PATH", "x"), ("MCP_SERVER_ENV", given)];
        assert_eq!(server(&variables).2, one_and_two, "{given}");
    }
}

#[test]
fn bounds_of_bridges_are_those_of_the_gateway() {
    let config = config(&[
        ("BRIDGE_HOST", "::1"),
        ("BRIDGE_PORT", "9000"),
        ("BRIDGE_MAX_PROCESSES", "4"),
        ("BRIDGE_PROCESS_IDLE_TIMEOUT", "60"),
        ("BRIDGE_PROCESS_TIMEOUT", "90"),
        ("BRIDGE_RESTART_ON_FAILURE", "no"),
        ("BRIDGE_MAX_RESTART_ATTEMPTS", "5"),
        ("BRIDGE_MAX_SESSIONS_PER_CLIENT", "6"),
        ("BRIDGE_SESSION_TIMEOUT", "30m"),
        ("BRIDGE_SESSION_CLEANUP_INTERVAL", "20"),
        ("BRIDGE_RATE_LIMIT_REQUESTS", "7"),
        ("BRIDGE_RATE_LIMIT_PERIOD", "8"),
        ("MCP_CACHE_TTL", "9"),
        ("BRIDGE_ENABLE_RATE_LIMITING", "1"),
        ("BRIDGE_REQUIRE_AUTH", "off"),
    ]);
    let second = Duration::from_secs(1);
    let gateway = &config.gateway;
    assert_eq!(config.listen.http_addresses()[0].to_string(), "[::1]:9000");
    assert_eq!(
        (gateway.processes.max, gateway.processes.idle),
        (4, 60 * second)
    );
    assert_eq!(gateway.timeouts.request, 90 * second);
    assert_eq!(
        (gateway.restart.enabled, gateway.restart.attempts),
        (false, 5)
    );
    assert_eq!(
        (gateway.sessions.per_client, gateway.sessions.idle),
        (6, 1800 * second)
    );
    assert_eq!(gateway.sessions.sweep, 20 * second);
    assert_eq!(
        (gateway.rate.requests, gateway.rate.period),
        (7, 8 * second)
    );
    assert_eq!(gateway.cache_ttl, 9 * second);
    assert!(!config.auth.required);
    let off = [
        ("BRIDGE_RATE_LIMIT_REQUESTS", "7"),
        ("BRIDGE_ENABLE_RATE_LIMITING", "No"),
    ];
    assert_eq!(self::config(&off).gateway.rate.requests, 0);
    let address = |variables| self::config(variables).listen.http_addresses()[0].to_string();
    assert_eq!(address(&[("BRIDGE_PORT", "9000")]), "127.0.0.1:9000");
    assert_eq!(address(&[("BRIDGE_HOST", "127.0.0.2")]), "127.0.0.2:8788");
}

#[test]
fn keys_origins_metrics_and_the_log_of_bridges_are_those_of_the_program() {
    let config = config(&[
        (
            "BRIDGE_API_KEYS",
            "first-key-for-tests, second-key-for-tests",
        ),
        (
            "BRIDGE_CORS_ORIGINS",
            "https://a.example,http://b.example:80",
        ),
        ("BRIDGE_METRICS_PORT", "9100"),
        ("BRIDGE_LOG_LEVEL", "CRITICAL"),
        ("MCP_LOG_LEVEL", "DEBUG"),
        ("MCP_DATA_DIR", "/srv/data"),
        ("MCP_MAX_CONNECTIONS", "77"),
        ("MCP_RATE_LIMIT", "8"),
    ]);
    let keys: Vec<_> = config
        .configured_keys()
        .into_iter()
        .map(|key| (key.name, key.allow.len(), key.sha256))
        .collect();
    let expected =
        ["first-key-for-tests", "second-key-for-tests"].map(super::super::secret::sha256);
    assert_eq!(
        keys,
        [
            ("bridge-1".to_owned(), 2, expected[0]),
            ("bridge-2".to_owned(), 2, expected[1])
        ]
    );
    assert_eq!(
        config.auth.allowed_origins,
        ["https://a.example", "http://b.example:80"]
    );
    assert_eq!(
        config.listen.metrics,
        Extra::Address("127.0.0.1:9100".parse().unwrap())
    );
    assert_eq!(config.log.level, LogLevel::Error);
    assert_eq!(config.data_dir, std::path::Path::new("/srv/data"));
    assert_eq!(config.limits.connections, 77);
    assert_eq!(config.gateway.rate.requests, 8);

    let metrics = |variables: &[(&str, &str)]| self::config(variables).listen.metrics;
    let usual = Extra::Address("127.0.0.1:9090".parse().unwrap());
    assert_eq!(metrics(&[("BRIDGE_ENABLE_METRICS", "yes")]), usual);
    let off = [
        ("BRIDGE_ENABLE_METRICS", "0"),
        ("BRIDGE_METRICS_PORT", "9100"),
    ];
    assert_eq!(metrics(&off), Extra::Off);
    let level = |variables: &[(&str, &str)]| {
        let loaded = load_text("c.yaml", "log: debug", variables).unwrap();
        loaded.config.log.level
    };
    assert_eq!(level(&[("MCP_LOG_LEVEL", "WARNING")]), LogLevel::Warn);
    assert_eq!(level(&[("BRIDGE_LOG_LEVEL", "")]), LogLevel::Debug);
    // Those of the file stay, and `BRIDGE_…` beats `MCP_…`.
    let text = "auth: { keys: [ { name: mine, key: 'my-own-key-for-tests' } ] }";
    let variables = [
        ("BRIDGE_API_KEYS", "[\"a,key-with-a-comma\"]"),
        ("BRIDGE_RATE_LIMIT_REQUESTS", "9"),
        ("MCP_RATE_LIMIT", "8"),
        ("BRIDGE_CORS_ORIGINS", "*"),
    ];
    let config = load_text("c.yaml", text, &variables).unwrap().config;
    let names: Vec<_> = config.auth.keys.iter().map(|key| &*key.name).collect();
    assert_eq!(names, ["mine", "bridge-1"]);
    assert_eq!(config.auth.keys[1].key.text(), Some("a,key-with-a-comma"));
    assert_eq!(config.gateway.rate.requests, 9);
    let keyless = [
        ("BRIDGE_CORS_ORIGINS", "*"),
        ("BRIDGE_REQUIRE_AUTH", "false"),
    ];
    let refused = load_text("c.yaml", "", &keyless).unwrap_err();
    assert!(refused.contains("it needs keys"), "{refused}");
}

#[test]
fn a_transport_that_is_switched_off_is_taken_out_of_those_that_there_are() {
    let variables = [("BRIDGE_ENABLE_WEBSOCKET", "false")];
    let config = load_text("c.yaml", "", &variables).unwrap().config;
    let left = [
        GatewayTransport::Http,
        GatewayTransport::Sse,
        GatewayTransport::Events,
        GatewayTransport::Rest,
    ];
    assert_eq!(config.gateway.transports, left);
    let variables = [
        ("BRIDGE_ENABLE_WEBSOCKET", "false"),
        ("BRIDGE_ENABLE_SSE", "off"),
        ("BRIDGE_ENABLE_HTTP", "on"),
    ];
    let text = "gateway: { transports: [http, sse, websocket, events] }";
    let config = load_text("c.yaml", text, &variables).unwrap().config;
    assert_eq!(config.gateway.transports, [GatewayTransport::Http]);
    let variables = [("BRIDGE_ENABLE_HTTP", "false")];
    let config = load_text("c.yaml", "", &variables).unwrap().config;
    let left = [
        GatewayTransport::Sse,
        GatewayTransport::WebSocket,
        GatewayTransport::Events,
    ];
    assert_eq!(config.gateway.transports, left);
}

#[test]
fn the_command_line_beats_mlp_beats_bridge_beats_the_file() {
    let directory = Directory::new();
    let text =
        "mcpServers: { default: { command: file, args: [a], env: { A: file, B: file } }, other: x }
gateway: { sessions: { per_client: 1, max: 2 }, processes: { max: 3 } }
listen: { http: ['127.0.0.1:1'] }
";
    let mut overrides = Overrides {
        config: Some(directory.file("c.yaml", text)),
        ..Overrides::default()
    };
    let variables = environment(&[
        ("BRIDGE_PORT", "2"),
        ("BRIDGE_MAX_SESSIONS_PER_CLIENT", "4"),
        ("BRIDGE_MAX_PROCESSES", "5"),
        ("MLP_GATEWAY__PROCESSES__MAX", "6"),
        ("BRIDGE_SESSION_TIMEOUT", ""),
        ("MCP_SERVER_PATH", "variable"),
        ("MCP_SERVER_ENV", "A=variable"),
        ("BRIDGE_WORKERS", "4"),
    ]);
    let loaded = load(&overrides, &variables).unwrap();
    let gateway = &loaded.config.gateway;
    assert_eq!((gateway.sessions.per_client, gateway.sessions.max), (4, 2));
    assert_eq!(gateway.processes.max, 6);
    assert_eq!(gateway.sessions.idle, Duration::from_secs(3600));
    let names: Vec<_> = loaded
        .config
        .mcp_servers
        .iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["default", "other"]);
    let (_, server) = loaded.config.mcp_servers.iter().next().unwrap();
    assert_eq!((&*server.command, server.args.len()), ("variable", 0));
    assert_eq!(server.env["A"].text(), Some("variable"));
    assert_eq!(server.env["B"].text(), Some("file"));
    assert_eq!(loaded.config.listen.http_addresses()[0].port(), 2);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["BRIDGE_WORKERS: this variable changes nothing here"]
    );
    let settings = loaded.sources.settings(&loaded.config);
    let told = settings
        .iter()
        .find(|setting| setting.path == "gateway.sessions.per_client");
    let origin = told.unwrap().origin.as_ref().unwrap().to_string();
    assert_eq!(origin, "BRIDGE_MAX_SESSIONS_PER_CLIENT");
    overrides.listen = vec!["127.0.0.1:3".to_owned()];
    let loaded = load(&overrides, &variables).unwrap();
    assert_eq!(loaded.config.listen.http_addresses()[0].port(), 3);
}

#[test]
fn a_wrong_value_is_refused_by_the_name_of_its_variable() {
    for (name, value, expected) in [
        (
            "BRIDGE_PORT",
            "http",
            "listen.http: a port is a number from 0 to 65535",
        ),
        (
            "BRIDGE_HOST",
            "my-host",
            "listen.http[0]: expected an address such as `127.0.0.1:8788`, found `my-host:8788`; a name cannot be listened on, only an address of this machine",
        ),
        (
            "BRIDGE_MAX_PROCESSES",
            "0",
            "gateway.processes.max: must be at least 1, not 0: everything would be refused; leave it out for the default",
        ),
        (
            "BRIDGE_PROCESS_TIMEOUT",
            "2h",
            "gateway.timeouts.request: must be at most `gateway.timeouts.request_max`, which is 3600s",
        ),
        (
            "BRIDGE_RESTART_ON_FAILURE",
            "maybe",
            "gateway.restart.enabled: expected `true` or `false`, found the text `maybe`",
        ),
        (
            "BRIDGE_ENABLE_RATE_LIMITING",
            "maybe",
            "gateway.rate.requests: expected `true` or `false`",
        ),
        (
            "BRIDGE_HEALTH_CHECK_INTERVAL",
            "8d",
            "gateway.health.interval: must be at most 7d",
        ),
        (
            "BRIDGE_SESSION_CLEANUP_INTERVAL",
            "soon",
            "gateway.sessions.sweep: expected a duration such as `30s`, `5m` or `250ms` (a bare number means seconds), found the text `soon`",
        ),
        (
            "BRIDGE_API_KEYS",
            "[swordfish, [a]]",
            "auth.keys: expected keys with commas between several, or a JSON array of texts",
        ),
        (
            "BRIDGE_CORS_ORIGINS",
            "https://a.example,b.example",
            "auth.allowed_origins[1]: `b.example` is no origin; write scheme, host and port, such as `https://chat.example`",
        ),
        (
            "BRIDGE_METRICS_PORT",
            "http",
            "listen.metrics: a port is a number from 0 to 65535",
        ),
        (
            "BRIDGE_ENABLE_METRICS",
            "maybe",
            "listen.metrics: expected `true` or `false`",
        ),
        (
            "BRIDGE_ENABLE_SSE",
            "maybe",
            "gateway.transports: expected `true` or `false`",
        ),
        (
            "BRIDGE_LOG_LEVEL",
            "LOUD",
            "log.level: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, found `loud`",
        ),
        (
            "MCP_LOG_LEVEL",
            "LOUD",
            "log.level: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, found `loud`",
        ),
        (
            "MCP_MAX_CONNECTIONS",
            "0",
            "limits.connections: must be at least 1, not 0: everything would be refused; leave it out for the default",
        ),
        (
            "MCP_RATE_LIMIT",
            "many",
            "gateway.rate.requests: expected a whole number that is not negative, found the text `many`",
        ),
        (
            "MCP_SERVER_PATH",
            "s.py",
            "mcpServers.default.command: `s.py` would be another file in each folder; give an absolute path",
        ),
        (
            "MCP_SERVER_PATH",
            "./s",
            "mcpServers.default.command: `./s` would be another file in each folder; give an absolute path",
        ),
        (
            "MCP_SERVER_ARGS",
            "'x",
            "mcpServers.default.args: expected words as in a shell, or a JSON array of texts",
        ),
        (
            "MCP_SERVER_ENV",
            "swordfish",
            "mcpServers.default.env: expected `NAME=VALUE` with commas between several, or a JSON object of texts",
        ),
        (
            "MCP_SERVER_ENV",
            "{swordfish",
            "mcpServers.default.env: expected `NAME=VALUE` with commas between several, or a JSON object of texts",
        ),
        (
            "MCP_SERVER_ARGS",
            "x",
            "mcpServers.default: give `command`, the program that is the server, or `url`, its address",
        ),
    ] {
        let refused = load_text("c.yaml", "", &[(name, value)]).unwrap_err();
        assert_eq!(refused, format!("{name}: {expected}"), "{value}");
    }
}
