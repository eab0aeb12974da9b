//! Tools of a server as routes, as mcpo has them, with the OpenAPI document and the page that describe them.

use super::client::{KEY, server, start, start_one};
use crate::program::{Answer, CLIENT, Program};
use serde_json::{Value, json};

fn call(program: &Program, tool: &str, arguments: &Value) -> Answer {
    let body = if arguments.is_null() { String::new() } else { arguments.to_string() };
    let path = format!("/servers/suite/tools/{tool}");
    program.request("POST", &path, Some(KEY), &body)
}

/// Checks an error.
fn refused(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let answer = answer.json();
    assert!(!answer["detail"]["message"].as_str().unwrap().is_empty(), "{answer}");
    answer["detail"].clone()
}

#[test]
fn a_tool_is_a_route_that_answers_with_its_result_alone() {
    let program = start_one("");
    let told = |tool: &str, arguments: &Value| {
        let answer = call(&program, tool, arguments);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    assert_eq!(told("echo", &json!({ "text": "für" })), "für");
    assert_eq!(told("echo", &json!({ "text": "{\"n\":1}" })), json!({ "n": 1 }));
    let pid = told("pid", &Value::Null);
    assert!(pid.is_number(), "{pid}");
    assert_eq!(told("pid", &json!({})), pid, "the process is kept");
    let image = json!({ "type": "image", "data": "AA==", "mimeType": "image/png" });
    let text = json!({ "type": "text", "text": "a" });
    let both = json!({ "result": { "content": [image, text] } });
    assert_eq!(told("shape", &both), json!(["data:image/png;base64,AA==", "a"]));
    let structured = json!({ "result": { "content": [text], "structuredContent": { "x": 2 } } });
    assert_eq!(told("shape", &structured), json!({ "x": 2 }));

    let failed = json!({ "result": { "content": [text], "isError": true } });
    assert_eq!(refused(&call(&program, "shape", &failed), 500), json!({ "message": "a" }));
    let unknown = refused(&call(&program, "none", &json!({})), 404);
    assert_eq!(unknown["data"], json!({ "reason": "tool_not_found", "server": "suite" }));
    let own = refused(&call(&program, "tree", &json!({})), 422);
    assert_eq!(own, json!({ "message": "no tool tree" }), "the server lists it: its own error");
    refused(&call(&program, "echo", &json!([1])), 400);
    let exited = refused(&call(&program, "exit", &json!({ "code": 3 })), 502);
    assert_eq!(exited["data"]["exit"], json!({ "code": 3 }));
    refused(&program.request("POST", "/servers/none/tools/echo", Some(KEY), "{}"), 404);
    refused(&program.request("POST", "/servers/suite/tools/echo", Some(CLIENT), "{}"), 403);
    refused(&program.request("POST", "/servers/suite/tools/echo", None, "{}"), 401);
}

#[test]
fn a_server_describes_its_tools_to_programs_and_to_people() {
    let program = start("", &[server("suite", ""), server("other", "")]);
    let get = |path: &str| program.request("GET", path, Some(KEY), "");
    let document = get("/servers/suite/openapi.json");
    assert_eq!(document.status, 200, "{document:?}");
    assert_eq!(document.header("content-type"), Some("application/json"));
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let names: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["/tools/echo", "/tools/shape", "/tools/tree"]);
    let body = &document["paths"]["/tools/tree"]["post"]["requestBody"];
    let schema = &body["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/tree_input");
    let schemas = &document["components"]["schemas"];
    let node = json!({ "$ref": "#/components/schemas/tree_input_Node" });
    assert_eq!(schemas["tree_input"]["properties"]["root"], node);
    assert_eq!(schemas["tree_input_Node"]["properties"]["next"], node);

    let page = get("/servers/suite/docs");
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("default-src 'none'"), "{page:?}");
    assert!(page.body.contains("A &lt;tool&gt;"), "{page:?}");
    for path in ["/servers/none/openapi.json", "/servers/none/docs"] {
        let unknown = get(path);
        assert_eq!(unknown.status, 404, "{unknown:?}");
        assert_eq!(unknown.json()["error"]["code"], "server_not_found");
    }
}
