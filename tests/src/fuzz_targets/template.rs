//! Templates from anybody: what a definition may hold is bounded in time and memory whatever its arguments are, and a refusal says
//! where.

use mcp_local_provider_core::time::Instant;
use mcp_local_provider_registry::{
    Anything, Exit, Kind, Limits, Need, NeedId, Out, Outcome, Registry, ToolRun,
};
use serde_json::{Value, json};

/// Bytes that one text of a template may become.
const OUTPUT: usize = 1 << 20;
/// Needs of a run that has two steps.
const NEEDS: u32 = 2;

/// A template, and behind the first line feed the arguments that it sees, which are JSON: made a text, a condition, and JSON with it.
///
/// # Panics
/// Panics when what comes of it is larger than it may be.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (template, arguments) = text.split_once('\n').unwrap_or((text, "{}"));
    let arguments: Value = match serde_json::from_str(arguments) {
        Ok(arguments @ Value::Object(_)) => arguments,
        Ok(_) | Err(_) => json!({ "a": arguments }),
    };
    let mut registry = Registry::new(Limits::default());
    let inner =
        json!({ "name": "inner", "kind": "command", "command": ["/bin/a", "{{ args | tojson }}"] });
    assert!(made(&mut registry, &inner), "a tool without faults");
    let text = json!({ "name": "text", "kind": "command", "command": ["/bin/a", template], "stdin": template });
    let tree = json!({ "name": "tree", "kind": "chain", "steps": [
        { "id": "s0", "tool": "inner", "arguments": { "a": template, "b": [{ "c": template }] } },
        { "id": "s1", "tool": "inner", "arguments": { "a": "{{ steps.s0.text }}" } },
    ] });
    let condition = json!({ "name": "condition", "kind": "chain", "steps": [
        { "id": "s0", "tool": "inner", "arguments": {}, "if": template },
    ] });
    for tool in [text, tree, condition] {
        if made(&mut registry, &tool) {
            run(
                &registry,
                tool["name"].as_str().expect("its name"),
                &arguments,
            );
        }
    }
}

fn made(registry: &mut Registry, tool: &Value) -> bool {
    let made = registry.create(Kind::Tool, tool.to_string().as_bytes(), &Anything);
    match made {
        Ok(changed) => {
            registry.durable(changed.id);
            true
        }
        Err(refused) => {
            assert!(!refused.message.is_empty() && refused.param.is_some());
            false
        }
    }
}

/// Runs a tool whose commands write what they were given.
fn run(registry: &Registry, name: &str, arguments: &Value) {
    let tools = registry.tool_set(name).expect("a tool that was made");
    let run = ToolRun::new(tools, arguments.clone(), None, 0);
    let mut run = run.expect("any object is taken");
    let mut out = Out::default();
    let mut ended = run.start(Instant::ZERO, &mut out);
    let mut needs = 0;
    while ended.is_none() {
        let (id, need): (NeedId, Need) = out.start.pop().expect("it waits for something");
        needs += 1;
        assert!(needs <= NEEDS && out.start.is_empty(), "too many needs");
        let Need::Command(command) = need else {
            panic!("it wants {need:?}");
        };
        let texts = command.argv.iter().chain(&command.stdin);
        let longest = texts.map(String::len).max().unwrap_or(0);
        assert!(longest <= OUTPUT, "a text of {longest} bytes");
        let outcome = Outcome::Exited {
            exit: Exit::Code(0),
            stdout: command.argv.concat().into_bytes(),
            stderr: Vec::new(),
        };
        ended = run.handle_outcome(Instant::ZERO, id, outcome, &mut out);
    }
}
