//! Upstreams and fallbacks: values, short forms, and errors.

use super::*;
use mcp_local_provider_core::agents::upstream::Api;
use mcp_local_provider_core::config::{CircuitLimits, Fallback};
use mcp_local_provider_engine as engine;

const VARIABLES: [(&str, &str); 2] = [
    ("OPENAI_API_KEY", "swordfish-swordfish"),
    ("BLANK", "sword fish"),
];

fn loaded(text: &str) -> Loaded {
    load_text("c.yaml", text, &VARIABLES).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Upstreams as the engine is given them.
fn upstreams(text: &str) -> Vec<engine::Upstream> {
    let config = loaded(text).config;
    config.upstreams.iter().map(Upstream::to_engine).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let warnings = loaded(text).warnings;
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_key_of_an_upstream_reaches_the_engine() {
    let text = "
upstreams:
- name: gpt
  kind: openai
  url: https://gpt.example/v1
  key: env:OPENAI_API_KEY
  models: [gpt-4o, a/b]
  models_ttl: 1m
  retries: 0
  fallback: [claude]
  concurrency: 3
  requests_per_minute: 4
  tokens_per_minute: 5
  connect_timeout: 6s
  circuit: { failures: 0, pause: 7s }
- kind: anthropic
  key: env:OPENAI_API_KEY
  concurrency: 0
";
    let all = upstreams(text);
    let [gpt, claude] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!((gpt.name.as_str(), gpt.api), ("gpt", Api::OpenAi));
    assert_eq!(gpt.url, "https://gpt.example/v1");
    assert_eq!(gpt.key.as_deref(), Some("swordfish-swordfish"));
    assert_eq!(gpt.models, ["gpt-4o", "a/b"]);
    assert_eq!(gpt.models_ttl, Duration::from_secs(60));
    assert_eq!((gpt.retries, gpt.concurrency), (0, Some(3)));
    assert_eq!(
        (gpt.requests_per_minute, gpt.tokens_per_minute),
        (Some(4), Some(5))
    );
    assert_eq!(gpt.connect_timeout, Duration::from_secs(6));
    let circuit = CircuitLimits {
        failures: 0,
        pause: Duration::from_secs(7),
    };
    assert_eq!(gpt.circuit, circuit);

    let default = engine::Upstream::new("anthropic", Api::Anthropic, "https://api.anthropic.com");
    assert_eq!(
        (&claude.name, claude.api, &claude.url),
        (&default.name, default.api, &default.url)
    );
    assert_eq!(claude.concurrency, None, "0 is no limit");
    assert_eq!(
        (claude.models_ttl, claude.retries, claude.connect_timeout),
        (default.models_ttl, default.retries, default.connect_timeout)
    );
    assert_eq!(
        (claude.requests_per_minute, claude.tokens_per_minute),
        (default.requests_per_minute, default.tokens_per_minute)
    );
    assert_eq!(claude.circuit, default.circuit);
}

#[test]
fn an_address_is_cut_to_what_its_api_begins_at() {
    for (keys, expected) in [
        ("kind: openai", "https://api.openai.com/v1"),
        ("kind: anthropic", "https://api.anthropic.com"),
        ("kind: ollama", "http://127.0.0.1:11434"),
        (
            "kind: openai, url: 'https://eu.api.openai.com/v1/'",
            "https://eu.api.openai.com/v1",
        ),
        (
            "kind: custom, url: 'http://127.0.0.1:8080/v1'",
            "http://127.0.0.1:8080/v1",
        ),
        (
            "kind: custom, url: 'http://[::1]:8080/a/openai/'",
            "http://[::1]:8080/a/openai",
        ),
        (
            "kind: custom, url: 'http://h.example:3000/api'",
            "http://h.example:3000/api",
        ),
        (
            "kind: anthropic, url: 'https://api.anthropic.com/v1'",
            "https://api.anthropic.com",
        ),
        (
            "kind: ollama, url: 'http://10.0.0.5:11434/v1/'",
            "http://10.0.0.5:11434",
        ),
        (
            "kind: ollama, url: 'http://10.0.0.5:11434/'",
            "http://10.0.0.5:11434",
        ),
        (
            "kind: ollama, url: 'http://10.0.0.5:8788/k/KEY'",
            "http://10.0.0.5:8788/k/KEY",
        ),
    ] {
        let all = upstreams(&format!("upstreams: [{{ {keys} }}]"));
        assert_eq!(all[0].url, expected, "{keys}");
    }
}

#[test]
fn a_word_stands_for_an_upstream() {
    let long = "
upstreams:
- kind: ollama
- { kind: custom, url: 'http://127.0.0.1:8080/v1' }
- { name: llama, kind: custom, url: 'http://127.0.0.1:8081/v1' }
- { kind: anthropic, url: 'https://claude.example' }
";
    let short = "upstreams: [ollama, 'http://127.0.0.1:8080/v1', 'llama=http://127.0.0.1:8081/v1', 'anthropic=https://claude.example']";
    let long = loaded(long).config.upstreams;
    assert_eq!(loaded(short).config.upstreams, long);
    let of = |variables: &[(&str, &str)], text: &str| {
        let loaded = load_text("c.yaml", text, variables).unwrap();
        loaded.config.upstreams
    };
    let words = "ollama, http://127.0.0.1:8080/v1,llama=http://127.0.0.1:8081/v1, anthropic=https://claude.example";
    assert_eq!(of(&[("MLP_UPSTREAMS", words)], ""), long);
    assert_eq!(of(&[], "upstreams: ollama"), long[..1]);
    let variables = [
        ("MLP_UPSTREAMS__0__RETRIES", "5"),
        ("MLP_UPSTREAMS__0__MODELS", "a,b"),
        ("MLP_UPSTREAMS__1", "http://127.0.0.1:8080/v1"),
        ("MLP_UPSTREAMS__1__CIRCUIT__PAUSE", "1m"),
        ("MLP_UPSTREAMS__1__KEY", "swordfish"),
    ];
    let changed = of(&variables, "upstreams: ollama");
    assert_eq!((changed[0].retries, changed[0].models.len()), (5, 2));
    assert_eq!(changed[1].circuit.pause, Duration::from_secs(60));
    let key = changed[1].key.as_ref().unwrap();
    assert_eq!(key.text(), Some("swordfish"));
}

#[test]
fn the_values_of_an_upstream_are_told_without_its_key() {
    let text = "upstreams:\n- { kind: openai, key: 'env:OPENAI_API_KEY' }\n- { kind: ollama, key: swordfish }\n";
    let loaded = loaded(text);
    let told = loaded.sources.settings(&loaded.config);
    let value = |path: &str| {
        let setting = told.iter().find(|setting| setting.path == path);
        setting.unwrap_or_else(|| panic!("no {path}")).value.clone()
    };
    assert_eq!(value("upstreams[0].name"), "openai");
    assert_eq!(value("upstreams[0].url"), "https://api.openai.com/v1");
    assert_eq!(value("upstreams[0].key"), "env:OPENAI_API_KEY");
    assert_eq!(value("upstreams[1].key"), "(hidden)");
    assert_eq!(value("upstreams[1].circuit.failures"), "5");
    assert_eq!(value("upstreams[1].models_ttl"), "600s");
    let shown = format!("{told:?} {loaded:?}");
    assert!(!shown.contains("swordfish"), "{shown}");
}

#[test]
fn fallbacks_reach_the_hub_by_the_names_of_those_that_have_them() {
    let text = "
agents: [{ preset: claude, fallback: gpt/gpt-4o }, codex]
bridges: [{ name: b, url: 'ws://b', fallback: [claude, codex] }]
upstreams: [{ kind: ollama, fallback: [claude] }, { name: gpt, kind: openai, key: 'env:OPENAI_API_KEY' }]
models: { aliases: { fast: { model: claude, fallback: [ollama/llama3] }, slow: claude } }
";
    let hub = loaded(text).config.hub_config(Vec::new());
    let fallback = |of: &str, models: &[&str]| Fallback {
        of: of.to_owned(),
        models: models.iter().map(|model| (*model).to_owned()).collect(),
    };
    assert_eq!(
        hub.fallbacks,
        [
            fallback("claude", &["gpt/gpt-4o"]),
            fallback("b", &["claude", "codex"]),
            fallback("ollama", &["claude"]),
        ]
    );
    let of = |name: &str| {
        let alias = hub.aliases.iter().find(|alias| alias.name == name);
        alias.unwrap().fallback.clone()
    };
    assert_eq!(of("fast"), ["ollama/llama3"]);
    assert_eq!(of("slow"), Vec::<String>::new());
}

#[test]
fn a_key_that_others_can_see_or_that_is_missing_is_warned_about() {
    for (keys, expected) in [
        ("kind: ollama", None),
        (
            "kind: custom, url: 'http://localhost:1/v1', key: 'env:OPENAI_API_KEY'",
            None,
        ),
        (
            "kind: custom, url: 'http://127.8.0.1:1/v1', key: 'env:OPENAI_API_KEY'",
            None,
        ),
        (
            "kind: custom, url: 'http://[::1]:1/v1', key: 'env:OPENAI_API_KEY'",
            None,
        ),
        (
            "kind: custom, url: 'https://h.example/v1', key: 'env:OPENAI_API_KEY'",
            None,
        ),
        ("kind: custom, url: 'http://h.example/v1'", None),
        ("kind: openai, url: 'https://h.example/v1'", None),
        (
            "kind: custom, url: 'http://h.example/v1', key: 'env:OPENAI_API_KEY'",
            Some(
                "upstreams[0].url: the key goes over the network without encryption; use `https://` if the server has it",
            ),
        ),
        (
            "kind: ollama, url: 'http://10.0.0.5:11434', key: 'env:OPENAI_API_KEY'",
            Some(
                "upstreams[0].url: the key goes over the network without encryption; use `https://` if the server has it",
            ),
        ),
        (
            "kind: custom, url: 'http://127.0.0.1:1/v1', key: swordfish",
            Some(
                "upstreams[0].key: the secret stands in the file itself; `env:NAME` or `file:PATH` keeps it out",
            ),
        ),
        (
            "kind: openai",
            Some(
                "upstreams[0]: there is no key, and this server wants one; write `key: \"env:OPENAI_API_KEY\"`",
            ),
        ),
        (
            "kind: anthropic, url: 'https://api.anthropic.com/v1/'",
            Some(
                "upstreams[0]: there is no key, and this server wants one; write `key: \"env:ANTHROPIC_API_KEY\"`",
            ),
        ),
        (
            "kind: custom, url: 'http://127.0.0.1:8080/'",
            Some(
                "upstreams[0].url: the address has no path; servers with this API have it at `http://127.0.0.1:8080/v1` as a rule",
            ),
        ),
    ] {
        let expected: Vec<String> = expected
            .into_iter()
            .map(|told| format!("c.yaml:1: {told}"))
            .collect();
        assert_eq!(
            warnings(&format!("upstreams: [{{ {keys} }}]")),
            expected,
            "{keys}"
        );
    }
}

#[test]
fn wrong_upstreams_are_refused_with_place_and_remedy() {
    for (keys, expected) in [
        ("name: a", "upstreams[0]: `kind` is missing"),
        (
            "kind: olama",
            "upstreams[0].kind: expected `openai`, `anthropic`, `ollama` or `custom`, found `olama`; did you mean `ollama`?",
        ),
        (
            "kind: custom",
            "upstreams[0]: `custom` needs an address; write `url: \"http://127.0.0.1:8080/v1\"`",
        ),
        (
            "kind: ollama, model: [a]",
            "upstreams[0].model: unknown key; did you mean `models`?",
        ),
        (
            "kind: ollama, name: a/b",
            "upstreams[0].name: `a/b` is no name here; a name is 1 to 64 letters, digits, `-`, `_` and `.`",
        ),
        (
            "kind: ollama, name: 'a b'",
            "upstreams[0].name: `a b` is no name here; a name is 1 to 64 letters, digits, `-`, `_` and `.`",
        ),
        (
            "kind: ollama, url: '10.0.0.5:11434'",
            "upstreams[0].url: expected an address that begins with `http://` or `https://`, such as `http://127.0.0.1:11434`",
        ),
        (
            "kind: openai, url: 'ftp://h/v1'",
            "upstreams[0].url: expected an address that begins with `http://` or `https://`, such as `https://api.openai.com/v1`",
        ),
        (
            "kind: ollama, url: ''",
            "upstreams[0].url: expected an address that begins with `http://` or `https://`, such as `http://127.0.0.1:11434`",
        ),
        (
            "kind: ollama, url: 'http://'",
            "upstreams[0].url: this is no address; write it as `http://127.0.0.1:11434`",
        ),
        (
            "kind: ollama, url: 'http://h:99999'",
            "upstreams[0].url: this is no address; write it as `http://127.0.0.1:11434`",
        ),
        (
            "kind: ollama, url: 'http://[::1]:0'",
            "upstreams[0].url: this is no address; write it as `http://127.0.0.1:11434`",
        ),
        (
            "kind: ollama, url: 'http://h:'",
            "upstreams[0].url: this is no address; write it as `http://127.0.0.1:11434`",
        ),
        (
            "kind: ollama, url: 'http://h /v1'",
            "upstreams[0].url: this is no address; write it as `http://127.0.0.1:11434`",
        ),
        (
            "kind: custom, url: 'https://me:swordfish@h/v1'",
            "upstreams[0].url: the address has a name or a password in it, which are not sent; a key belongs into `key`",
        ),
        (
            "kind: custom, url: 'https://h/v1?key=swordfish'",
            "upstreams[0].url: the address has a query in it, which is not sent; a key belongs into `key`",
        ),
        (
            "kind: custom, url: 'https://h/v1#swordfish'",
            "upstreams[0].url: the address has a fragment in it, which is not sent; remove it",
        ),
        (
            "kind: custom, url: 'https://h/v1/chat/completions'",
            "upstreams[0].url: `/chat/completions` is a single route; write the address above it, `https://h/v1`",
        ),
        (
            "kind: anthropic, url: 'https://h/v1/messages'",
            "upstreams[0].url: `/v1/messages` is a single route; write the address above it, `https://h`",
        ),
        (
            "kind: ollama, url: 'http://h:11434/api/'",
            "upstreams[0].url: `/api` is a single route; write the address above it, `http://h:11434`",
        ),
        (
            "kind: ollama, key: 'env:NOT_THERE'",
            "upstreams[0].key: the environment variable `NOT_THERE` is not set",
        ),
        (
            "kind: ollama, key: 'file:/not/there'",
            "upstreams[0].key: the file `/not/there` cannot be read: No such file or directory (os error 2)",
        ),
        (
            "kind: ollama, key: 'keyring:ollama'",
            "upstreams[0].key: `keyring:` needs a service and a user, as in `keyring:openai/me`; neither begins with `-`",
        ),
        (
            "kind: ollama, key: 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
            "upstreams[0].key: a digest cannot be sent; give the secret as `env:NAME` or `file:PATH`",
        ),
        (
            "kind: ollama, key: 'env:BLANK'",
            "upstreams[0].key: the key has blanks, control characters or letters beyond ASCII in it, which cannot be sent",
        ),
        (
            "kind: ollama, models: [a, '', a, 'b c']",
            "upstreams[0].models[1]: the name of a model is not empty and has no blanks in it\n\
             upstreams[0].models[2]: `a` is in the list already\n\
             upstreams[0].models[3]: the name of a model is not empty and has no blanks in it",
        ),
        (
            "kind: ollama, models_ttl: 0, connect_timeout: 8d, circuit: { pause: 0 }, retries: 11",
            "upstreams[0].models_ttl: must be at least 1ms; leave it out for the default\n\
             upstreams[0].connect_timeout: must be at most 7d\n\
             upstreams[0].circuit.pause: must be at least 1ms; leave it out for the default\n\
             upstreams[0].retries: must be at most 10, not 11",
        ),
        (
            "kind: ollama, retries: 99999999999, concurrency: many, circuit: 5",
            "upstreams[0].retries: the number 99999999999 is too large; the largest is 10\n\
             upstreams[0].concurrency: expected a whole number that is not negative, found the text `many`\n\
             upstreams[0].circuit: expected a section, found the number 5; write `circuit: { failures: 5 }`",
        ),
    ] {
        refused(&format!("upstreams: [{{ {keys} }}]"), expected);
    }
}

/// Asserts the problems of a configuration of one line, and that none of them shows a key.
fn refused(text: &str, expected: &str) {
    let Err(error) = load_text("c.yaml", text, &VARIABLES) else {
        panic!("accepted {text}, expected {expected}");
    };
    assert!(!error.contains("swordfish"), "{error}");
    let mut lines: Vec<&str> = error
        .lines()
        .map(|line| line.strip_prefix("c.yaml:1: ").unwrap_or(line))
        .collect();
    let mut expected: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn sections_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "upstreams: [olama, swordfish, 7]",
            "upstreams[0]: no kind of upstream is called so; did you mean `ollama`?\n\
             upstreams[1]: expected `openai`, `anthropic`, `ollama` or `custom`, an address, or `NAME=ADDRESS` such as `llama=http://127.0.0.1:8080/v1`\n\
             upstreams[2]: expected `openai`, `anthropic`, `ollama` or `custom`, an address, or `NAME=ADDRESS` such as `llama=http://127.0.0.1:8080/v1`",
        ),
        (
            "upstreams: { gpt: { kind: openai } }",
            "upstreams: expected a list, found a section; write `upstreams: [{ name: gpt, kind: openai }]`",
        ),
        (
            "upstreams: ['a=http://h/v1', 'a=http://i/v1', ollama, ollama]",
            "upstreams[1].name: `a` is the name of another upstream; give this one another `name`\n\
             upstreams[3]: `ollama` is the name of another upstream; give this one another `name`",
        ),
        (
            "{ agents: [claude], bridges: [{ name: b, url: 'ws://b' }], upstreams: ['claude=http://h/v1', 'b=http://h/v1'] }",
            "upstreams[0].name: `claude` is the name of an agent; give this one another `name`\n\
             upstreams[1].name: `b` is the name of a bridge; give this one another `name`",
        ),
        (
            "{ agents: [{ preset: claude, models: [sonnet], fallback: [claude, claude/opus, claudette, sonnet, fast, x, x, ''] }], models: { aliases: { fast: claude/haiku } } }",
            "agents[0].fallback[0]: `claude` is answered by `claude` itself; name a model of another\n\
             agents[0].fallback[1]: `claude/opus` is answered by `claude` itself; name a model of another\n\
             agents[0].fallback[3]: `sonnet` is answered by `claude` itself; name a model of another\n\
             agents[0].fallback[4]: `fast` is answered by `claude` itself; name a model of another\n\
             agents[0].fallback[6]: `x` is in the list already\n\
             agents[0].fallback[7]: the name is empty",
        ),
        (
            "upstreams: [{ kind: ollama, models: [llama3], fallback: [ollama/qwen, llama3] }]",
            "upstreams[0].fallback[0]: `ollama/qwen` is answered by `ollama` itself; name a model of another\n\
             upstreams[0].fallback[1]: `llama3` is answered by `ollama` itself; name a model of another",
        ),
        (
            "bridges: [{ name: b, url: 'ws://b', fallback: [b] }]",
            "bridges[0].fallback[0]: `b` is answered by `b` itself; name a model of another",
        ),
        (
            "{ agents: [{ preset: claude, fallback: [x] }], bridges: [{ name: claude, url: 'ws://b', fallback: [y] }] }",
            "bridges[0].fallback: another `claude` has fallbacks too; give one of the two another `name`",
        ),
        (
            "models: { aliases: { a: { model: m, fallback: [a, m, b, n] }, b: m } }",
            "models.aliases.a.fallback[0]: `a` is the model of `a` itself; name another one\n\
             models.aliases.a.fallback[1]: `m` is the model of `a` itself; name another one\n\
             models.aliases.a.fallback[2]: `b` is the model of `a` itself; name another one",
        ),
    ] {
        refused(text, expected);
    }
}

#[test]
fn an_upstream_that_is_this_program_ends_the_start() {
    let told = |listen: &str, url: &str| {
        let text = format!("listen: {{ {listen} }}\nupstreams: ['a={url}']\n");
        load_text("c.yaml", &text, &[]).err()
    };
    for (listen, url, own) in [
        ("", "http://127.0.0.1:8788/v1", "listen.http[0]"),
        ("", "http://localhost:8788/v1", "listen.http[0]"),
        ("", "http://LOCALHOST.:8788/v1", "listen.http[0]"),
        ("", "http://me.localhost:8788/v1", "listen.http[0]"),
        ("", "http://0.0.0.0:8788/v1", "listen.http[0]"),
        ("", "http://[::]:8788/v1", "listen.http[0]"),
        ("", "http://[::ffff:127.0.0.1]:8788/v1", "listen.http[0]"),
        (
            "http: ['0.0.0.0:80']",
            "http://127.0.0.1/v1",
            "listen.http[0]",
        ),
        (
            "http: ['127.0.0.1:1', '[::]:443']",
            "https://127.0.0.1/v1",
            "listen.http[1]",
        ),
        (
            "http: ['192.168.1.4:8788']",
            "http://192.168.1.4:8788/v1",
            "listen.http[0]",
        ),
        ("ollama: auto", "http://127.0.0.1:11434/v1", "listen.ollama"),
        (
            "ollama: '127.0.0.1:11500'",
            "http://localhost:11500/v1",
            "listen.ollama",
        ),
        (
            "metrics: '127.0.0.1:9090'",
            "http://localhost:9090/v1",
            "listen.metrics",
        ),
    ] {
        let error = told(listen, url).unwrap_or_else(|| panic!("accepted {listen} {url}"));
        assert!(
            error.starts_with("c.yaml:2: upstreams[0].url: ")
                && error.contains(" leads back to this program"),
            "{error}"
        );
        assert!(error.contains(&format!("(`{own}`)")), "{error}");
    }
    for (listen, url) in [
        ("", "http://127.0.0.1:8789/v1"),
        ("", "http://192.168.1.5:8788/v1"),
        ("", "http://other.example:8788/v1"),
        ("", "http://127.0.0.1:11434/v1"),
        ("http: ['127.0.0.1:0']", "http://127.0.0.1:8788/v1"),
        ("http: ['127.0.0.2:8788']", "http://127.0.0.1:8788/v1"),
    ] {
        assert_eq!(told(listen, url), None, "{listen} {url}");
    }
    let short = "listen: { ollama: auto }\nupstreams: [ollama]\n";
    assert_eq!(
        load_text("c.yaml", short, &[]).unwrap_err(),
        "c.yaml:2: upstreams[0]: 127.0.0.1:11434 leads back to this program, which listens at 127.0.0.1:11434 (`listen.ollama`); change one of them"
    );
}
