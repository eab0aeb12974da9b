//! Short forms of sections and lists, names of agents, and the sources of values.

use super::*;

#[test]
fn a_short_form_is_the_same_as_the_long_one() {
    let long = "
listen: { http: ['127.0.0.1:1'] }
auth: { allowed_hosts: [provider.example] }
models: { aliases: { fast: { model: claude } } }
agents:
- { preset: claude }
- { command: [my-agent, --acp, 'a b'], models: [mine] }
- { name: other, command: [/opt/x] }
- { preset: codex, command: [npx, -y, y] }
audit: { file: off }
log: { level: debug }
";
    let short = "
listen: { http: '127.0.0.1:1' }
auth: { allowed_hosts: provider.example }
models: { aliases: { fast: claude } }
agents: [claude, { command: \"my-agent --acp 'a b'\", models: mine }, other=/opt/x, codex=npx -y y]
audit: off
log: debug
";
    let long = load_text("c.yaml", long, &[]).unwrap().config;
    assert_eq!(load_text("c.yaml", short, &[]).unwrap().config, long);
    let agents = |text: &str, variables: &[(&str, &str)]| {
        load_text("c.yaml", text, variables).unwrap().config.agents
    };
    let one = agents("agents: [claude]", &[]);
    assert_eq!(agents("agents: claude", &[]), one);
    assert_eq!(agents("", &[("MLP_AGENTS", "claude")]), one);
    let two = agents("", &[("MLP_AGENTS", "claude, my-agent --acp")]);
    assert_eq!(two[1].command, ["my-agent", "--acp"]);
    let own = [("MLP_AGENTS__0__CONCURRENCY", "2"), ("MLP_AGENTS__1", "x")];
    let changed = agents("agents: claude", &own);
    assert_eq!(
        (changed[0].concurrency, changed[1].known_as()),
        (2, "x".into())
    );
    let variables = [("MLP_LOG", "warn"), ("MLP_LOG__FORMAT", "json")];
    let log = load_text("c.yaml", "log: debug", &variables)
        .unwrap()
        .config
        .log;
    assert_eq!((log.level, log.format), (LogLevel::Warn, LogFormat::Json));
    let log = load_text("c.yaml", "log: debug", &variables[1..]);
    assert_eq!(log.unwrap().config.log.level, LogLevel::Debug);
}

#[test]
fn agents_of_one_kind_are_numbered_and_names_of_their_own_stay() {
    let text = "agents: [claude, claude, {name: claude-2, command: x}, ./a/b.py, python3 /c/b.py, {preset: claude}]";
    let directory = Directory::new();
    let path = directory.file("c.yaml", text);
    let overrides = Overrides {
        config: Some(path.clone()),
        ..Overrides::default()
    };
    let names = |overrides: &Overrides| {
        let config = load(overrides, &environment(&[])).unwrap().config;
        let names = config
            .agents
            .iter()
            .map(|agent| agent.known_as().into_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        names(&overrides),
        ["claude", "claude-3", "claude-2", "b.py", "b", "claude-4"]
    );
    let variables = [("MLP_AGENTS__0", "codex"), ("MLP_AGENTS__1", "codex")];
    let config = load_text("c.yaml", "", &variables).unwrap().config;
    assert_eq!(config.agents[1].known_as(), "codex-2");
    let chosen = Overrides {
        agents: vec!["claude-2".to_owned(), "claude".to_owned()],
        ..overrides
    };
    assert_eq!(names(&chosen), ["claude-2", "claude"]);
}

#[test]
fn every_value_that_holds_is_told_with_its_source_and_no_secret() {
    let text = "limits:\n  burst: 7\nauth:\n  keys:\n  - { name: a, key: 'env:A' }\n  - { name: b, key: hunter2 }\n\
                bridges:\n- { name: b, url: 'ws://b/x?token=swordfish' }\nagents:\n- claude\n- { preset: claude, env: { K: swordfish } }\n";
    let variables = [
        ("A", "swordfish-swordfish"),
        ("MLP_TIMEOUTS__IDLE", "90"),
        ("MLP_LISTEN__HTTP", "127.0.0.1:1,127.0.0.1:2"),
        ("XDG_DATA_HOME", "/data"),
    ];
    let loaded = load_text("c.yaml", text, &variables).unwrap();
    let settings = loaded.sources.settings(&loaded.config);
    let told = |path: &str| {
        let setting = settings.iter().find(|setting| setting.path == path);
        let setting = setting.unwrap_or_else(|| panic!("no {path} in {settings:?}"));
        let origin = setting.origin.as_ref().map(ToString::to_string);
        format!("{} ({})", setting.value, origin.unwrap_or_default())
    };
    for (path, expected) in [
        ("limits.burst", "7 (c.yaml:2)"),
        ("limits.messages", "1000 ()"),
        ("limits.memory", "256MiB ()"),
        ("timeouts.idle", "90s (MLP_TIMEOUTS__IDLE)"),
        ("listen.http[1]", "127.0.0.1:2 (MLP_LISTEN__HTTP)"),
        ("listen.ollama", "off ()"),
        ("auth.keys[0].key", "env:A (c.yaml:5)"),
        ("auth.keys[1].key", "(hidden) (c.yaml:6)"),
        ("auth.keys[1].role", "client ()"),
        ("bridges[0].url", "ws://b/x?(hidden) (c.yaml:8)"),
        ("bridges[0].heartbeat", "30s ()"),
        ("agents[0].preset", "claude (c.yaml:10)"),
        ("agents[1].name", "claude-2 (c.yaml:11)"),
        ("agents[1].env.K", "(hidden) (c.yaml:11)"),
        ("models.default", "not set ()"),
        ("models.aliases", "none ()"),
        ("data_dir", "/data/mcp-local-provider (XDG_DATA_HOME)"),
        ("audit.file", "/data/mcp-local-provider/audit.jsonl ()"),
    ] {
        assert_eq!(told(path), expected, "{path}");
    }
    let all = format!("{settings:?}");
    assert!(
        !all.contains("swordfish") && !all.contains("hunter2"),
        "{all}"
    );
}
