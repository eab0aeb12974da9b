//! Messages for wrong configurations, line by line.

use super::*;

/// File name, its text, variables, and the expected message.
type Case = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

#[test]
fn what_is_wrong_is_said_with_place_and_remedy() {
    let cases: &[Case] = &[
        (
            "c.yaml",
            "limits:\n  burst: 1\n  requests_per_minut: 1\n",
            &[],
            "c.yaml:3: limits.requests_per_minut: unknown key; did you mean `requests_per_minute`?",
        ),
        (
            "c.yaml",
            "sessions: { zzz: 1 }",
            &[],
            "c.yaml:1: sessions.zzz: unknown key; the keys here are `approval`, `ttl_seconds`, `renew`, `max` and `max_requests`",
        ),
        (
            "c.yaml",
            "listn: {}",
            &[],
            "c.yaml:1: listn: unknown key; did you mean `listen`?",
        ),
        (
            "c.toml",
            "[limits]\nburst = 'many'\n",
            &[],
            "c.toml:2: limits.burst: expected a whole number that is not negative, found the text `many`",
        ),
        (
            "c.yaml",
            "limits:\n  burst: -1",
            &[],
            "c.yaml:2: limits.burst: expected a whole number that is not negative, found the number -1",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n    - { name: a, key: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", role: operator, allow: [mcp] }\n",
            &[],
            "c.yaml:3: auth.keys[0].allow: keys of the role `operator` have no areas; leave it out, or make the role `client`",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n    - { name: a, key: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", servers: [files] }\n",
            &[],
            "c.yaml:3: auth.keys[0].servers: this key may use no MCP server; write `mcp` in its `allow`",
        ),
        (
            "c.yaml",
            "limits: 7",
            &[],
            "c.yaml:1: limits: expected a section, found the number 7; write `limits: { requests_per_minute: 60 }`",
        ),
        (
            "c.json",
            "{\n\"timeouts\": {\n\"idle\": \"soon\"}}",
            &[],
            "c.json:3: timeouts.idle: expected a duration such as `30s`, `5m` or `250ms` (a bare number means seconds), found the text `soon`",
        ),
        (
            "c.yaml",
            "limits:\n  body_bytes: 8 miles\n",
            &[],
            "c.yaml:2: limits.body_bytes: expected a size such as `8MiB`, `64KiB` or `4096` (bytes), found the text `8 miles`",
        ),
        (
            "c.yaml",
            "auth:\n  required: maybe\n",
            &[],
            "c.yaml:2: auth.required: expected `true` or `false`, found the text `maybe`",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - name: a\n    key: env:A\n    role: cleint\n",
            &[("A", "0123456789012345")],
            "c.yaml:5: auth.keys[0].role: expected `client`, `bridge`, `operator` or `admin`, found `cleint`; did you mean `client`?",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - name: a\n",
            &[],
            "c.yaml:3: auth.keys[0]: `key` is missing",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - { name: a, key: 'env:NOT_THERE' }\n  - { name: b, key: 'sha256:12' }\n",
            &[],
            "c.yaml:3: auth.keys[0].key: the environment variable `NOT_THERE` is not set\n\
             c.yaml:4: auth.keys[1].key: `sha256:` needs 64 hexadecimal digits (printf %s KEY | sha256sum)",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - { name: a, key: 'env:NOT_THERE' }\n  - { name: a, key: 'file:/not/there' }\n",
            &[],
            "c.yaml:3: auth.keys[0].key: the environment variable `NOT_THERE` is not set\n\
             c.yaml:4: auth.keys[1].key: the file `/not/there` cannot be read: No such file or directory (os error 2)\n\
             c.yaml:4: auth.keys[1].name: `a` is the name of another key; names must differ",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - { name: a, key: 'same-same-same-same' }\n  - { name: b, key: 'env:B' }\n",
            &[("B", "same-same-same-same")],
            "c.yaml:4: auth.keys[1].key: another entry has the same key; keys must differ",
        ),
        (
            "c.yaml",
            "listen:\n  http:\n  - 0.0.0.0:8788\n  - 127.0.0.1:8788\nauth: { required: false }\n",
            &[],
            "c.yaml:3: listen.http[0]: `0.0.0.0:8788` can be reached from other machines, and `auth.required` is false; \
             listen on 127.0.0.1 or require keys",
        ),
        (
            "c.yaml",
            "listen: { http: ['http://127.0.0.1:8788/v1'] }",
            &[],
            "c.yaml:1: listen.http[0]: expected an address such as `127.0.0.1:8788`, found `http://127.0.0.1:8788/v1`; \
             leave `http://` and any path out",
        ),
        (
            "c.yaml",
            "",
            &[("MLP_LISTEN__HTTP", ":8788")],
            "MLP_LISTEN__HTTP: listen.http[0]: expected an address such as `127.0.0.1:8788`, found `:8788`; \
             to listen on every interface write `0.0.0.0:PORT`",
        ),
        (
            "c.yaml",
            "",
            &[("MLP_LISTEN__HTTP", "127.0.0.1:70000")],
            "MLP_LISTEN__HTTP: listen.http[0]: expected an address such as `127.0.0.1:8788`, found `127.0.0.1:70000`; \
             a port is a number from 0 to 65535",
        ),
        (
            "c.yaml",
            "limits: {burst: 1}",
            &[("MLP_LIMITS__BURSTS", "5")],
            "MLP_LIMITS__BURSTS: limits.bursts: unknown key; did you mean `MLP_LIMITS__BURST`?",
        ),
        (
            "c.yaml",
            "limits: {burst: 1}",
            &[("MLP_LIMITS__BURST", "five")],
            "MLP_LIMITS__BURST: limits.burst: expected a whole number that is not negative, found the text `five`",
        ),
        (
            "c.yaml",
            "",
            &[("MLP_LIMITS____BURST", "5")],
            "MLP_LIMITS____BURST: a part of the name is empty; write MLP_SECTION__KEY, as in MLP_LIMITS__BURST",
        ),
        (
            "c.yaml",
            "limits:\n  burst: 0\n  json_depth: 500\ntimeouts:\n  idle: 0\n",
            &[("MLP_SESSIONS__TTL_SECONDS", "0")],
            "MLP_SESSIONS__TTL_SECONDS: sessions.ttl_seconds: must be from 1 to 86400, not 0\n\
             c.yaml:2: limits.burst: must be at least 1, not 0: everything would be refused; leave it out for the default\n\
             c.yaml:3: limits.json_depth: must be at most 127, not 500\n\
             c.yaml:5: timeouts.idle: must be at least 1ms; leave it out for the default",
        ),
        (
            "c.yaml",
            "models:\n  aliases:\n    gpt-4.1: gpt-4.1\n    a: gpt-4.1\n",
            &[],
            "c.yaml:3: models.aliases.gpt-4.1: an alias cannot stand for itself\n\
             c.yaml:4: models.aliases.a: `gpt-4.1` is an alias itself; name the model that it stands for",
        ),
        (
            "c.yaml",
            "bridges:\n- {name: a, url: 'http://x', default: true}\n- {name: b, url: 'ws://x', default: true, token: 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'}\n",
            &[],
            "c.yaml:2: bridges[0].url: expected an address that begins with `ws://` or `wss://`, found `http://x`\n\
             c.yaml:3: bridges[1].default: `a` is the default already; only one bridge can be\n\
             c.yaml:3: bridges[1].token: a digest cannot be sent; give the secret as `env:NAME` or `file:PATH`",
        ),
        (
            "c.yaml",
            "bridges:\n- {name: a, url: 'https://x?token=secret'}\n",
            &[],
            "c.yaml:2: bridges[0].url: expected an address that begins with `ws://` or `wss://`, found `https://x`",
        ),
        (
            "c.yaml",
            "tls:\n  ca_file: /nowhere/roots.pem\n",
            &[],
            "c.yaml:2: tls.ca_file: /nowhere/roots.pem cannot be read: No such file or directory (os error 2)",
        ),
        (
            "c.yaml",
            "tls: { ca_file: /dev/null }\n",
            &[],
            "c.yaml:1: tls.ca_file: /dev/null has no certificate in it; give a PEM file, which has lines `-----BEGIN CERTIFICATE-----`",
        ),
        (
            "c.yaml",
            "bridges:\n- name: a\n  url: 'ws://x'\n  session: {agent_id: x, capabilities: {tool: true}}\n",
            &[],
            "c.yaml:4: bridges[0].session.capabilities.tool: unknown key; did you mean `tools`?",
        ),
        (
            "c.yaml",
            "bridges:\n- {name: a, url: 'ws://x', invocations: fat}\n",
            &[],
            "c.yaml:2: bridges[0].invocations: expected `nested` or `flat`, found `fat`; did you mean `flat`?",
        ),
        (
            "c.yaml",
            "bridges:\n- name: a\n  url: 'ws://x'\n  heartbeat: 0\n  reconnect_delay: 2m\n  reconnect_max_delay: 1m\n  session: {agent_id: x, ttl_seconds: 0}\n\
             - {name: b, url: 'ws://y', session: {agent_id: x, session_id: 'a b'}}\n",
            &[],
            "c.yaml:4: bridges[0].heartbeat: must be at least 1ms; leave it out for the default\n\
             c.yaml:6: bridges[0].reconnect_max_delay: must be at least `reconnect_delay`, which is 120s\n\
             c.yaml:7: bridges[0].session.ttl_seconds: expected 1 to 86400\n\
             c.yaml:8: bridges[1].session.session_id: expected 1 to 128 characters of A-Z a-z 0-9 . _ : -",
        ),
        (
            "c.yaml",
            "agents:\n- {preset: cluade}\n- {name: x, command: [x]}\n- {}\n- {name: x, command: [/opt/x]}\n",
            &[],
            "c.yaml:2: agents[0].preset: expected `cursor`, `claude`, `codex`, `gemini`, `opencode`, `copilot` or `goose`, \
             found `cluade`; did you mean `claude`?\n\
             c.yaml:4: agents[2]: give `preset` (`cursor`, `claude`, `codex`, `gemini`, `opencode`, `copilot` or `goose`) or `command`\n\
             c.yaml:5: agents[3]: `x` is the name of another agent; names must differ",
        ),
        (
            "c.yaml",
            "agents:\n- preset: claude\n  sessions:\n    keep: 129\n    idle: 0\n    memory: 2\n",
            &[],
            "c.yaml:4: agents[0].sessions.keep: must be at most 128\n\
             c.yaml:5: agents[0].sessions.idle: must be at least 1ms; leave it out for the default\n\
             c.yaml:6: agents[0].sessions.memory: must be at least 16MiB; leave it out for the default",
        ),
        (
            "c.yaml",
            "auth:\n  allowed_hosts: ['https://x.example']\n  allowed_origins: [x.example]\n",
            &[],
            "c.yaml:2: auth.allowed_hosts[0]: `https://x.example` is no host; write it as a browser sends it, \
             such as `provider.example` or `10.0.0.5:8788`\n\
             c.yaml:3: auth.allowed_origins[0]: `x.example` is no origin; write scheme, host and port, such as `https://chat.example`",
        ),
        (
            "c.yaml",
            "limits: {}\nlog: info\nlimits: {}\n",
            &[],
            "c.yaml:3: `limits` is given twice; it was given before at c.yaml:1",
        ),
        (
            "c.yaml",
            "audit: maybe\n",
            &[],
            "c.yaml:1: audit: expected a section, found the text `maybe`; write `audit: { file: \"audit.jsonl\" }`",
        ),
        (
            "c.yaml",
            "- a\n- b\n",
            &[],
            "c.yaml:1: a configuration is a set of sections such as `listen:`, not a single value or a list",
        ),
        (
            "c.yaml",
            "a: &x [*x]",
            &[],
            "c.yaml:1: this alias refers to a value that it is itself part of",
        ),
        (
            "c.yaml",
            "a: 1\n---\nb: 2\n",
            &[],
            "c.yaml:2: a second document begins here; a configuration is one document",
        ),
        (
            "c.yaml",
            "<<: {}\n",
            &[],
            "c.yaml:1: merge keys (`<<`) are not part of YAML 1.2; write the values out or use an alias",
        ),
        (
            "c.json",
            "{\n\"log\": 'info'}",
            &[],
            "c.json:2: this is not JSON: expected value",
        ),
        (
            "c.toml",
            "[limits]\nburst = \n",
            &[],
            "c.toml:2: this is not TOML: string values must be quoted, expected literal string",
        ),
        (
            "c.toml",
            "[limits]\nburst = 1\nburst = 2\nmessages = 'many'\n[limits]\n",
            &[],
            "c.toml:3: `burst` is given twice\n\
             c.toml:4: limits.messages: expected a whole number that is not negative, found the text `many`\n\
             c.toml:5: `limits` is given twice",
        ),
        (
            "c.yaml",
            "limits:\n  burst: 5000000000\n  messages: 99999999999999999999999\n  memory: 99999999999GiB\n  body_bytes: 1e40\n  queue: {wait: 99999999999999999h}\n\
             sessions: {max_requests: 18446744073709551616}\n",
            &[],
            "c.yaml:2: limits.burst: the number 5000000000 is too large; the largest is 4294967295\n\
             c.yaml:3: limits.messages: the number 100000000000000000000000 is too large; the largest is 4294967295\n\
             c.yaml:4: limits.memory: `99999999999GiB` is too large; the largest is 1024TiB\n\
             c.yaml:5: limits.body_bytes: `10000000000000000000000000000000000000000` is too large; the largest is 1024TiB\n\
             c.yaml:6: limits.queue.wait: must be at most 7d\n\
             c.yaml:7: sessions.max_requests: the number 18446744073709552000 is too large; the largest is 18446744073709551615",
        ),
        (
            "c.yaml",
            "bridges: 7\nlisten: here\nmodels: {aliases: [x]}\nagents: {claude: {}}\nauth: {keys: {name: a}}\ntimeouts: [5s]\n",
            &[],
            "c.yaml:1: bridges[0]: expected a section, found the number 7; write `{ name: cursor, url: \"ws://127.0.0.1:8787\" }`\n\
             c.yaml:2: listen: expected a section, found the text `here`; write `listen: { http: [\"127.0.0.1:8788\"] }`\n\
             c.yaml:3: models.aliases: expected a section, found a list; write `aliases: { my-gpt-4o: { model: claude } }`\n\
             c.yaml:4: agents: expected a list, found a section; write `agents: [{ preset: claude }]`\n\
             c.yaml:5: auth.keys: expected a list, found a section; write `keys: [{ name: editor, key: \"env:EDITOR_KEY\" }]`\n\
             c.yaml:6: timeouts: expected a section, found a list; write `timeouts: { head: 5s }`",
        ),
        (
            "c.json",
            "{\"auth\": {\"keys\": {\"a\": 1}}, \n\"limits\": [], \"sessions\": {\"ttl_seconds\": 99999999999}}",
            &[],
            "c.json:1: auth.keys: expected a list, found a section; write `\"keys\": [{ \"name\": \"editor\", \"key\": \"env:EDITOR_KEY\" }]`\n\
             c.json:2: limits: expected a section, found a list; write `\"limits\": { \"requests_per_minute\": 60 }`\n\
             c.json:2: sessions.ttl_seconds: the number 99999999999 is too large; the largest is 86400",
        ),
        (
            "c.toml",
            "listen = 'here'\n",
            &[],
            "c.toml:1: listen: expected a section, found the text `here`; write `listen = { http = [\"127.0.0.1:8788\"] }`",
        ),
        (
            "c.yaml",
            "agents:\n- claud\n- \"x 'y\"\n- claude\n- {command: \"a 'b\"}\n- {name: a b, command: c, reuse: maybe}\n",
            &[],
            "c.yaml:2: agents[0]: no agent is called `claud`; did you mean `claude`?\n\
             c.yaml:3: agents[1]: a quotation mark of the command is not closed\n\
             c.yaml:5: agents[3]: a quotation mark of the command is not closed\n\
             c.yaml:6: agents[4].name: `a b` is no name here; a name is 1 to 64 letters, digits, `-`, `_` and `.`\n\
             c.yaml:6: agents[4].reuse: expected `true` or `false`, found the text `maybe`",
        ),
        (
            "c.yaml",
            "auth:\n  keys:\n  - {name: [a], key: 'env:NOT_THERE'}\n  - {name: b, key: 'env:NOT_THERE', role: king, zzz: 1}\n  - 7\n  - {key: 'env:K'}\nlog: loud\nlimits: {burst: 0}\n",
            &[
                ("MLP_LIMIT_BURST", "1"),
                ("MLP_TIMEOUTS__IDEL", "1"),
                ("MLP_TIMEOUTS__TOTAL", "long"),
                ("MLP_", "1"),
            ],
            "MLP_: a part of the name is empty; write MLP_SECTION__KEY, as in MLP_LIMITS__BURST\n\
             c.yaml:3: auth.keys[0].name: expected text, found a list\n\
             c.yaml:4: auth.keys[1].role: expected `client`, `bridge`, `operator` or `admin`, found `king`\n\
             c.yaml:4: auth.keys[1].zzz: unknown key; the keys here are `name`, `key`, `role`, `requests_per_minute`, `tokens_per_minute`, `allow`, `models` and `servers`\n\
             c.yaml:4: auth.keys[1].key: the environment variable `NOT_THERE` is not set\n\
             c.yaml:5: auth.keys[2]: expected a section, found the number 7; write `{ name: editor, key: \"env:EDITOR_KEY\" }`\n\
             c.yaml:6: auth.keys[3]: `name` is missing\n\
             c.yaml:7: log.level: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, found `loud`\n\
             c.yaml:8: limits.burst: must be at least 1, not 0: everything would be refused; leave it out for the default\n\
             MLP_LIMIT_BURST: limit_burst: unknown key; did you mean `MLP_LIMITS__BURST`?\n\
             MLP_TIMEOUTS__IDEL: timeouts.idel: unknown key; did you mean `MLP_TIMEOUTS__IDLE`?\n\
             MLP_TIMEOUTS__TOTAL: timeouts.total: expected a duration such as `30s`, `5m` or `250ms` (a bare number means seconds), found the text `long`",
        ),
        (
            "c.yaml",
            "limits: {}\nlimits: {burst: 2}\nlog: [x]\n<<: {}\nlog: info\n",
            &[],
            "c.yaml:2: `limits` is given twice; it was given before at c.yaml:1\n\
             c.yaml:3: log: expected a section, found a list; write `log: { level: info }`\n\
             c.yaml:4: merge keys (`<<`) are not part of YAML 1.2; write the values out or use an alias\n\
             c.yaml:5: `log` is given twice; it was given before at c.yaml:3",
        ),
        (
            "c.ini",
            "",
            &[],
            "c.ini: the extension says what a configuration is written in; it must be .yaml, .yml, .toml or .json",
        ),
    ];
    for (name, text, variables, expected) in cases {
        match load_text(name, text, variables) {
            Ok(_) => panic!("accepted {text:?} {variables:?}, expected: {expected}"),
            Err(error) => {
                let mut lines: Vec<&str> = error.lines().collect();
                let mut expected: Vec<&str> = expected.lines().collect();
                lines.sort_unstable();
                expected.sort_unstable();
                assert_eq!(lines, expected, "{text}");
            }
        }
    }
    assert!(
        load_text("c.yaml", "limits: {burst: 1", &[])
            .unwrap_err()
            .starts_with("c.yaml:1: this is not YAML: ")
    );
    let missing = Overrides {
        config: Some(PathBuf::from("/not/there.yaml")),
        ..Overrides::default()
    };
    let said = |overrides: &Overrides, variables: &[(&str, &str)]| {
        let loaded = load(overrides, &environment(variables));
        loaded.unwrap_err().to_string()
    };
    assert_eq!(
        said(&missing, &[]),
        "--config: /not/there.yaml is not there"
    );
    assert_eq!(
        said(
            &Overrides::default(),
            &[(CONFIG_VARIABLE, "/not/there.yaml")]
        ),
        "LOCAL_PROVIDER_CONFIG: /not/there.yaml is not there"
    );
}

#[test]
fn hostile_documents_are_refused_and_not_unfolded() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        bomb += &format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 10].join(",")
        );
    }
    assert!(
        load_text("c.yaml", &bomb, &[])
            .unwrap_err()
            .ends_with("there are more than 20000 values")
    );
    let deep = format!("MLP_{}A", "A__".repeat(40_000));
    assert!(load_text("c.yaml", "", &[(&deep, "1")]).is_err());
    for extension in ["yaml", "json", "toml"] {
        let deep = format!(
            "{}{}",
            if extension == "toml" { "a = " } else { "" },
            "[".repeat(100_000)
        );
        assert!(load_text(&format!("c.{extension}"), &deep, &[]).is_err());
    }
}

proptest::proptest! {
    /// Any file and any variable give a configuration, or an error that names its place.
    #[test]
    fn any_text_gives_a_configuration_or_words(
        format in proptest::sample::select(vec!["c.yaml", "c.toml", "c.json"]),
        at in 0..super::EXAMPLE.len(),
        length in 0..64_usize,
        insert in "(?s).{0,8}|[-:#&*!|>\\[\\]{},?'\"\n\t ]{0,8}",
        section in proptest::sample::select(vec!["LIMITS__BURST", "LISTEN__HTTP", "AUTH__KEYS", "MODELS__ALIASES__A", "AUDIT", "TIMEOUTS"]),
        value in "(?s).{0,24}",
    ) {
        let mut text = super::EXAMPLE.to_owned();
        let floor = |index: usize| (0..=index.min(super::EXAMPLE.len())).rev().find(|index| super::EXAMPLE.is_char_boundary(*index));
        text.replace_range(floor(at).unwrap()..floor(at + length).unwrap(), &insert);
        let variables: Vec<_> = super::EXAMPLE_VARIABLES.to_vec();
        for text in [text.as_str(), insert.as_str()] {
            if let Err(error) = super::load_text(format, text, &variables) {
                proptest::prop_assert!(!error.is_empty());
            }
        }
        let name = format!("MLP_{section}");
        if let Err(error) = super::load_text("c.yaml", "", &[(&name, &value)]) {
            proptest::prop_assert!(error.starts_with(&name), "{}", error);
        }
    }
}
