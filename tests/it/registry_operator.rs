//! What operators and admins do with the registry: figures, export, import and new keys, by HTTP and by the command line.

use crate::program::{Folder, OPERATOR, Program, program};
use crate::registry_rest::{ADMIN, USER, ask, assert_refused, execute, made, start, start_in};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

const SECRET: &str = "sk-0123456789-abcdef";
const LISTS: &str = "commands: [/bin/echo], http: [models.example]";
const HEAD: &str = "{\"format\":\"mcp-local-provider-registry\",\"version\":1}\n";

/// An export with a tool and an integration that has a secret.
fn exported() -> String {
    let tool = json!({ "kind": "tool", "name": "say", "value": { "name": "say", "kind": "command", "command": ["/bin/echo", "hello"] } });
    let model = json!({ "provider": "openai", "model_name": "m", "base_url": "https://models.example/v1" });
    let integration = json!({ "kind": "integration", "name": "helper", "value": { "name": "helper", "model": model, "tools": ["say"] },
        "secrets": { "/model/api_key": SECRET } });
    format!("{HEAD}{tool}\n{integration}\n")
}

fn as_admin(program: &Program, method: &str, path: &str, body: &str) -> crate::program::Answer {
    program.request(method, path, Some(ADMIN), body)
}

/// Runs the command line against a program, with a key.
fn command(of: &Program, key: &str, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .args(["--listen", &of.address.to_string()])
        .arg("--config")
        .arg(&of.config)
        .current_dir(&of.folder.0)
        .env("HOME", &of.folder.0)
        .env("LOCAL_PROVIDER_KEY", key)
        .output()
        .unwrap()
}

fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn entries_go_from_one_program_to_another() {
    let program = start(LISTS);
    let imported = as_admin(&program, "POST", "/registry/import", &exported());
    assert_eq!((imported.status, imported.json()), (200, json!({ "added": 2, "replaced": 0 })), "{imported:?}");
    assert_eq!(execute(&program, "say", &json!({})).json()["content"][0]["text"], "hello\n");
    // All or nothing, and nobody but an admin.
    assert_refused(&as_admin(&program, "POST", "/registry/import", &exported()), 409, Some("conflict"), Some("line 2"));
    let replaced = as_admin(&program, "POST", "/registry/import?replace=true", &exported());
    assert_eq!((replaced.status, replaced.json()), (200, json!({ "added": 0, "replaced": 2 })));
    let wrong = exported().replace("/bin/echo", "/bin/false");
    assert_refused(&as_admin(&program, "POST", "/registry/import?replace=true", &wrong), 400, None, Some("line 2.command[0]"));
    assert_refused(&as_admin(&program, "POST", "/registry/import", "no export"), 400, None, None);
    assert_eq!(ask(&program, "GET", "/registry/export", &Value::Null).status, 403);
    assert_eq!(program.request("GET", "/registry/export", Some(OPERATOR), "").status, 403);

    let plain = as_admin(&program, "GET", "/registry/export", "");
    assert_eq!((plain.status, plain.header("content-type")), (200, Some("application/x-ndjson")));
    let text = plain.body.clone();
    assert!(text.contains("\"/model/api_key\":null") && !text.contains(SECRET), "{text}");
    let whole = as_admin(&program, "GET", "/registry/export?secrets=true", "");
    assert!(whole.body.contains(SECRET));
    let other = start(LISTS);
    let imported = as_admin(&other, "POST", "/registry/import", &whole.body);
    assert_eq!(imported.json(), json!({ "added": 2, "replaced": 0 }), "{imported:?}");
    assert_eq!(as_admin(&other, "GET", "/registry/export?secrets=true", "").body, whole.body);
    assert!(!program.log().contains(SECRET) && !other.log().contains(SECRET));
}

#[test]
fn the_command_line_asks_the_program_that_has_the_file_open() {
    let mut program = start(LISTS);
    let file = program.folder.0.join("all.jsonl");
    std::fs::write(&file, exported()).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(printed(&command(&program, ADMIN, &["registry", "import", path])), "2 entries were added, 0 replaced\n");
    let again = printed(&command(&program, ADMIN, &["registry", "import", "--replace", path]));
    assert_eq!(again, "0 entries were added, 2 replaced\n");
    let twice = command(&program, ADMIN, &["registry", "import", path]);
    let said = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(said.contains("line 2: the tool \"say\" exists already; `replace` replaces what exists"), "{said}");
    let refused = command(&program, USER, &["registry", "export", "-"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("role admin") && said.contains("LOCAL_PROVIDER_KEY"), "{said}");
    let whole = printed(&command(&program, ADMIN, &["registry", "export", "--secrets", "-"]));
    assert!(whole.contains(SECRET), "{whole}");

    // A new key while the program runs: what it stores from now on, and what is there, opens after a start.
    let key = program.folder.0.join("data/secret.key");
    let before = std::fs::read(&key).unwrap();
    assert_eq!(printed(&command(&program, ADMIN, &["registry", "rekey"])), "1 secrets are sealed with a new key (file)\n");
    assert_ne!(std::fs::read(&key).unwrap(), before);
    made(&program, "/prompts", &json!({ "name": "hi", "template": "Hello" }));
    program.signal("KILL");
    program.wait();
    let folder = Folder::new();
    copy(&program.folder.0.join("data"), &folder.0.join("data"));
    let again = start_in(folder, LISTS, "");
    let there = printed(&command(&again, ADMIN, &["registry", "export", "--secrets", "-"]));
    assert!(there.contains(SECRET) && there.lines().count() == 4, "{there}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["registry.redb", "secret.key"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn figures_say_what_there_is_and_what_was_run() {
    let program = start("commands: [/bin/echo, /bin/false]");
    made(&program, "/tools", &json!({ "name": "say", "kind": "command", "command": ["/bin/echo", "hello"] }));
    made(&program, "/tools", &json!({ "name": "fail", "kind": "command", "command": ["/bin/false"] }));
    made(&program, "/tools", &json!({ "name": "both", "kind": "chain", "steps": [{ "id": "a", "tool": "say" }] }));
    made(&program, "/resources", &json!({ "uri": "docs://a", "name": "a", "kind": "text", "text": "A" }));
    for tool in ["say", "fail", "both"] {
        assert_eq!(execute(&program, tool, &json!({})).status, 200);
    }
    assert_eq!(ask(&program, "GET", "/resources/docs%3A%2F%2Fa", &Value::Null).status, 200);
    assert_eq!(ask(&program, "GET", "/summary", &Value::Null).status, 403);
    let summary = program.request("GET", "/summary", Some(OPERATOR), "").json();
    let tools = json!({ "total": 3, "by_kind": { "command": 2, "chain": 1 }, "executions": 3, "errors": 1 });
    assert_eq!(summary["tools"], tools, "{summary}");
    assert_eq!((&summary["resources"]["total"], &summary["resources"]["hits"]), (&json!(1), &json!(1)), "{summary}");
    assert_eq!(summary["prompts"]["total"], 0);
    assert!(summary["store"]["bytes"].as_u64().unwrap() > 0, "{summary}");
    let health = program.request("GET", "/health/deep", Some(OPERATOR), "").json();
    assert_eq!(health["components"]["registry"]["status"], "healthy", "{health}");
    let metrics = program.request("GET", "/metrics", Some(OPERATOR), "").body;
    assert!(metrics.contains("mcp_local_provider_registry_executions_total{result=\"error\"} 1\n"), "{metrics}");
    assert!(metrics.contains("mcp_local_provider_registry_entries{kind=\"tool\"} 3\n"), "{metrics}");
    // One without a registry answers too.
    let off = crate::program::Program::start("registry: { enabled: false }\n");
    assert_eq!(off.request("GET", "/summary", Some(OPERATOR), "").json()["tools"]["total"], 0);
}
