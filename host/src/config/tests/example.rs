//! The example of `config example`: it has no effect, every key is in it, and each default in it is the real one.

use super::super::example::{EXAMPLE, uncommented};
use super::super::parse;
use super::*;
use serde_json::{Value as Json, json};

const VARIABLES: [(&str, &str); 7] = [
    ("EDITOR_KEY", "editor-key-0123456789"),
    ("BRIDGE_TOKEN", "bridge-token-0123456789"),
    ("SESSION_TOKEN", "session-token-0123456789"),
    ("FILES_TOKEN", "files-token-0123456789"),
    ("OPENAI_API_KEY", "openai-key-0123456789"),
    ("FAR_KEY", "far-key-0123456789"),
    ("FAR_SECRET", "far-secret-0123456789"),
];

fn object(value: &Json) -> Vec<(String, Json)> {
    let entries = value.as_object().cloned().unwrap_or_default();
    entries.into_iter().collect()
}

/// Asserts that the tree of the example has every key of `value`.
fn holds(node: &Node, path: &str, value: &Json) {
    for (key, value) in object(value) {
        let child = node.get(&key);
        let child = child.unwrap_or_else(|| panic!("the example has no {path}.{key}"));
        holds(child, &format!("{path}.{key}"), &value);
    }
    for (item, node) in value.as_array().into_iter().flatten().zip(node.items()) {
        holds(node, &format!("{path}[]"), item);
    }
}

/// Asserts that `example` differs from `default` only where there is no default.
fn differs_where_nothing_holds(example: &Json, default: &Json, path: &str) {
    for (key, default) in object(default) {
        let path = format!("{path}.{key}");
        let example = example.get(&key).unwrap_or(&Json::Null);
        let nothing = default.is_null() || default == json!([]) || default == json!({});
        if default.is_object() && !nothing {
            differs_where_nothing_holds(example, &default, &path);
        } else if default.get(0).is_some_and(Json::is_object) {
            differs_where_nothing_holds(&example[0], &default[0], &path);
        } else {
            assert!(
                nothing || *example == default,
                "{path}: {example} {default}"
            );
        }
    }
}

fn values(config: &Config) -> Json {
    serde_json::to_value(config).unwrap()
}

#[test]
fn the_example_has_no_effect() {
    let loaded = load_text("c.yaml", EXAMPLE, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let nothing = load_text("c.yaml", "", &[]).unwrap();
    assert_eq!(loaded.config, nothing.config);
    for line in EXAMPLE.lines().filter(|line| !line.trim().is_empty()) {
        assert!(line.len() <= 140, "{line}");
    }
}

#[test]
fn the_example_has_every_key_and_its_real_default() {
    // Of the files that it names, this one alone has to be there.
    let roots = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/root.pem");
    let text = uncommented().replace("company-roots.pem", roots);
    let loaded = load_text("c.yaml", &text, &VARIABLES).unwrap();
    assert_eq!(loaded.warnings, []);
    let tree = parse::parse("c.yaml", &text, Format::Yaml, &mut Vec::new()).unwrap();
    let example = values(&loaded.config);
    for section in ["agents", "bridges", "upstreams"] {
        assert_eq!(example[section].as_array().unwrap().len(), 1, "{section}");
    }
    for required in [
        &example["auth"]["keys"][0],
        &example["bridges"][0]["session"],
        &example["mcpServers"]["files"],
        &example["mcpServers"]["far"],
    ] {
        assert!(required.is_object());
    }
    // A server has a command or an address: each key is at one of the two.
    let servers = tree.get("mcpServers").unwrap();
    let mut written = example.clone();
    for (name, server) in object(&example["mcpServers"]) {
        for (key, _) in object(&server) {
            let has = |name: &str| servers.get(name).unwrap().get(&key).is_some();
            assert!(has("files") || has("far"), "the example has no {key}");
            if !has(&name) {
                let server = written["mcpServers"][&name].as_object_mut();
                server.unwrap().remove(&key);
            }
        }
    }
    holds(&tree, "", &written);

    // Items with what they cannot do without.
    let least = "
auth: { keys: [{ name: editor, key: 'env:EDITOR_KEY' }] }
models: { aliases: { my-gpt-4o: { model: claude } } }
agents: [{ preset: claude }]
upstreams: [{ name: gpt, kind: openai, key: 'env:OPENAI_API_KEY' }]
mcpServers: { files: { command: npx }, far: { url: 'https://far.example/mcp' } }
bridges: [{ name: cursor, url: 'ws://127.0.0.1:8787', session: { agent_id: cursor-1 } }]
";
    let least = values(&load_text("c.yaml", least, &VARIABLES).unwrap().config);
    differs_where_nothing_holds(&example, &least, "");
}
