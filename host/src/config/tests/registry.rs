//! The section `registry`.

use super::*;

fn refused(section: &str) -> String {
    load_text("c.yaml", &format!("registry:\n{section}"), &[]).unwrap_err()
}

#[test]
fn its_values_are_read_from_the_file_and_the_environment() {
    let text = "data_dir: /d\nregistry: { enabled: true, secret: 'env:PHRASE', http: ['api.example.com:8443', '::1'], commands: [/bin/date],\n\
                files: /srv, tools: 5, resource_bytes: 1KiB, cache: { ttl: 0 } }";
    let variables = [
        ("PHRASE", "a passphrase of some length"),
        ("MLP_REGISTRY__PROMPTS", "7"),
        ("MLP_REGISTRY__CACHE__BYTES", "1MiB"),
        ("MLP_REGISTRY__HTTP", "a.example,b.example:81"),
    ];
    let loaded = load_text("c.yaml", text, &variables).unwrap();
    assert_eq!(loaded.warnings, []);
    let registry = &loaded.config.registry;
    assert_eq!(registry.enabled, GatewaySwitch::Yes);
    assert_eq!(registry.secret.to_string(), "env:PHRASE");
    assert_eq!(registry.http, ["a.example", "b.example:81"]);
    assert!(
        registry
            .permits()
            .http("http", "b.example", Some(81))
            .is_ok()
    );
    assert!(registry.permits().http("http", "b.example", None).is_err());
    assert_eq!(registry.commands, [PathBuf::from("/bin/date")]);
    assert_eq!(registry.files, [PathBuf::from("/srv")]);
    assert_eq!(
        (registry.tools, registry.prompts, registry.executions),
        (5, 7, 100)
    );
    assert_eq!(
        (registry.resource_bytes, registry.cache.bytes),
        (1024, 1 << 20)
    );
    assert!(registry.cache.ttl.is_zero());
    assert!(!format!("{loaded:?}").contains("of some length"));
    let shown = loaded.sources.settings(&loaded.config);
    let shown: Vec<String> = shown
        .into_iter()
        .filter(|setting| {
            setting.path.starts_with("registry.s") || setting.path.starts_with("registry.h")
        })
        .map(|setting| {
            format!(
                "{}: {} ({})",
                setting.path,
                setting.value,
                setting.origin.unwrap()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "registry.http[0]: a.example (MLP_REGISTRY__HTTP)",
            "registry.http[1]: b.example:81 (MLP_REGISTRY__HTTP)",
            "registry.secret: env:PHRASE (c.yaml:2)",
        ]
    );
}

#[test]
fn what_cannot_be_is_named_with_its_line() {
    for (section, expected) in [
        (
            "  enabled: perhaps",
            "c.yaml:2: registry.enabled: expected `auto`, `true` or `false`",
        ),
        (
            "  tools: 0",
            "c.yaml:2: registry.tools: must be at least 1, not 0",
        ),
        (
            "  executions: 20000",
            "c.yaml:2: registry.executions: must be at most 10000, not 20000",
        ),
        (
            "  resource_bytes: 1GiB",
            "c.yaml:2: registry.resource_bytes: must be at most `limits.memory`, which is 256MiB",
        ),
        (
            "  cache: { ttl: 8d }",
            "c.yaml:2: registry.cache.ttl: must be at most 7d",
        ),
        ("  cache: { tll: 8d }", "unknown key; did you mean `ttl`?"),
        (
            "  secret: my-own-passphrase-1",
            "c.yaml:2: registry.secret: it must be `file`, or `env:NAME` for a passphrase in a variable",
        ),
        (
            "  secret: env:PHRASE",
            "c.yaml:2: registry.secret: the environment variable `PHRASE` is not set",
        ),
        (
            "  secret: 'env:a b'",
            "c.yaml:2: registry.secret: it must be `file`",
        ),
        (
            "  http:\n  - a.example\n  - https://b.example/",
            "c.yaml:4: registry.http[1]: `https://b.example/` is no host; it is a name or an address alone, without `https://` and without a path. Write `api.example.com`",
        ),
        (
            "  http: ['*.example']",
            "`*.example` is no host; there are no patterns; list each host",
        ),
        (
            "  http: ['10.0.0.0/8']",
            "registry.http[0]: `10.0.0.0/8` is no host",
        ),
        (
            "  commands: [date]",
            "c.yaml:2: registry.commands[0]: `date` is no path of a program; write it whole, such as `/usr/bin/date`",
        ),
        (
            "  files: ['']",
            "c.yaml:2: registry.files[0]: the path is empty",
        ),
        (
            "  files: [/home/ada/.local/share/mcp-local-provider/x]",
            "is in `data_dir`, whose files hold keys and are never read",
        ),
    ] {
        let error = refused(section);
        assert!(error.contains(expected), "{section}: {error}");
        assert!(!error.contains("my-own"), "{error}");
    }
    let short = load_text(
        "c.yaml",
        "data_dir: /d\nregistry: { secret: 'env:PHRASE' }",
        &[("PHRASE", "short")],
    )
    .unwrap();
    assert!(
        short.warnings[0].to_string().contains("can be guessed"),
        "{:?}",
        short.warnings
    );
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let directory = Directory::new();
    let file = directory.file(
        "c.yaml",
        "registry: { commands: [./tools/one], files: [docs, '~/notes'] }",
    );
    let overrides = Overrides {
        config: Some(file),
        ..Overrides::default()
    };
    let registry = load(&overrides, &environment(&[])).unwrap().config.registry;
    assert_eq!(registry.commands, [directory.0.join("tools/one")]);
    assert_eq!(
        registry.files,
        [directory.0.join("docs"), PathBuf::from("/home/ada/notes")]
    );
}
