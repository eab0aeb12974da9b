//! Bodies, errors and answers of REST, without a server.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::greeting::Greeting;
use crate::refusal::{Exit, Reason, Refusal};
use alloc::string::String;
use core::time::Duration;
use mcp_local_provider_core::error::Code;
use mcp_local_provider_core::rpc::Message;

fn text(write: impl FnOnce(&mut alloc::vec::Vec<u8>)) -> String {
    let mut out = alloc::vec::Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn told(answer: &str) -> Failure {
    let Ok(Message::Response {
        outcome: Err(error),
        ..
    }) = Message::read(answer)
    else {
        panic!("{answer} is no error")
    };
    Failure::told(&error)
}

fn body(text: &str) -> Body<'_> {
    Body::read(text.as_bytes()).unwrap()
}

fn done(work: &mut Work, answer: &str) -> Option<String> {
    let done = work.take(answer).unwrap()?;
    Some(String::from_utf8(done.body).unwrap())
}

#[test]
fn a_servers_error_keeps_its_message_and_its_data_and_its_number_decides_the_status() {
    for (number, status) in [
        (-32700, 400),
        (-32600, 400),
        (-32601, 404),
        (-32002, 404),
        (-32602, 422),
        (-32603, 500),
        (-31502, 500),
        (7, 500),
    ] {
        let failure = told(&alloc::format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{number},"message":"a \"b\"","data":{{"x":1.0}}}}}}"#
        ));
        assert_eq!(failure.status, status, "{number}");
        let kind = failure.code.kind();
        assert_eq!(
            text(|out| failure.write(out)),
            alloc::format!(
                r#"{{"error":{{"message":"a \"b\"","type":"{kind}","param":null,"code":"server_error","data":{{"x":1.0}}}}}}"#
            )
        );
        assert_eq!(
            text(|out| failure.write_detail(out)),
            r#"{"detail":{"message":"a \"b\"","data":{"x":1.0}}}"#
        );
    }
}

#[test]
fn the_gateways_own_errors_have_their_reason_before_and_in_an_answer() {
    let mut refusal = Refusal::new(Reason::ServerExited, "it ended").about(&"files".into());
    refusal.exit = Some(Exit::Code(3));
    let expected = r#"{"error":{"message":"it ended","type":"server_error","param":null,"code":"server_exited","data":{"reason":"server_exited","server":"files","exit":{"code":3}}}}"#;
    for failure in [told(&refusal.answer("1")), Failure::from(refusal)] {
        assert_eq!(failure.status, 502);
        assert_eq!(text(|out| failure.write(out)), expected);
    }
    let full = Refusal::new(Reason::SessionsFull, "x").retry_after(Duration::from_secs(5));
    let full = Failure::from(full);
    assert_eq!((full.status, full.retry_after), (429, Some(5)));
    assert_eq!(
        text(|out| full.write(out)),
        r#"{"error":{"message":"x","type":"rate_limit_error","param":null,"code":"sessions_full"}}"#
    );
    let late = Refusal::new(Reason::ServerUnavailable, "x").retry_after(Duration::from_secs(60));
    assert_eq!(told(&late.answer("1")).retry_after, Some(60));
}

#[test]
fn a_body_names_the_field_that_is_missing_or_wrong() {
    let error = |result: Result<Work, Failure>| {
        let failure = result.unwrap_err();
        assert_eq!(failure.status, 400);
        let text = text(|out| failure.write(out));
        let param = text.split("\"param\":").nth(1).unwrap();
        String::from(param.split(',').next().unwrap())
    };
    for (text, param) in [
        ("{}", "\"session_id\""),
        (r#"{"session_id":null}"#, "\"session_id\""),
        (r#"{"session_id":1}"#, "\"session_id\""),
        (r#"{"session_id":"a","server":"b"}"#, "\"server\""),
        (r#"{"session_id":"a"}"#, "\"tool\""),
        (r#"{"server":"a","tool":[]}"#, "\"tool\""),
        (r#"{"server":"a","tool":"t","params":[]}"#, "\"params\""),
    ] {
        assert_eq!(error(Work::call_tool(body(text), 1000)), param, "{text}");
    }
    let of_server = body(r#"{"server":"a","uri":"u"}"#);
    assert_eq!(error(Work::subscribe(of_server, true)), "\"session_id\"");
    for wrong in [&b""[..], b"{", b"[]", b"7", b"\xff"] {
        assert_eq!(Body::read(wrong).unwrap_err().status, 400);
    }
    let opening = |text: &str| body(text).opening().map(|opening| opening.hello);
    for wrong in [
        "{}",
        r#"{"client_id":""}"#,
        r#"{"client_id":"c","metadata":1}"#,
        r#"{"client_id":"c","capabilities":[]}"#,
        r#"{"client_id":"c","client_info":{"name":"c"}}"#,
    ] {
        assert_eq!(opening(wrong).unwrap_err().status, 400, "{wrong}");
    }
    assert_eq!(
        opening(r#"{"client_id":"c","capabilities":{"roots":{ }},"client_info":{"name":"n","version":"2","x":1.0}}"#).unwrap(),
        r#"{"protocolVersion":"2025-11-25","capabilities":{"roots":{ }},"clientInfo":{"name":"n","version":"2","x":1.0}}"#
    );
    assert_eq!(
        opening(r#"{"client_id":"c\u0022"}"#).unwrap(),
        r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c\"","version":"unknown"}}"#
    );
}

#[test]
fn a_result_comes_as_the_server_wrote_it() {
    let mut work = Work::call_tool(
        body(r#"{"session_id":"s","tool":"t","params":{"n":1.0}}"#),
        1000,
    );
    let work = work.as_mut().unwrap();
    assert_eq!(
        work.request("\"r\""),
        r#"{"jsonrpc":"2.0","id":"r","method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#
    );
    let answer = r#"{"id":"r","result":{"isError":true, "content":[] ,"y":1e2},"jsonrpc":"2.0"}"#;
    assert_eq!(
        done(work, answer).unwrap(),
        r#"{"session_id":"s","tool":"t","result":{"isError":true, "content":[] ,"y":1e2}}"#
    );
    let mut work = Work::get_prompt(body(r#"{"server":"files","prompt":"p"}"#), 1000).unwrap();
    assert_eq!(
        work.request("1"),
        r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}"#
    );
    assert_eq!(
        done(&mut work, r#"{"id":1,"result":{}}"#).unwrap(),
        r#"{"server":"files","prompt":"p","result":{}}"#
    );
    let mut work = Work::subscribe(body(r#"{"session_id":"s","uri":"a:b"}"#), false).unwrap();
    assert_eq!(
        done(&mut work, r#"{"id":1,"result":{}}"#).unwrap(),
        r#"{"session_id":"s","uri":"a:b","subscribed":false}"#
    );
    assert_eq!(work.take("{\"id\":1}").unwrap_err().status, 502);
}

#[test]
fn a_list_is_followed_over_all_its_pages() {
    let mut work = Work::resources(body(r#"{"session_id":"s"}"#), 1000).unwrap();
    assert!(
        work.request("1")
            .contains("\"resources/list\",\"params\":{}")
    );
    let page = r#"{"id":1,"result":{"resources":[{"a":1.0}],"nextCursor":"c\u0031"}}"#;
    assert_eq!(done(&mut work, page), None);
    assert!(
        work.request("1")
            .contains(r#""params":{"cursor":"c\u0031"}"#)
    );
    let page = r#"{"id":1,"result":{"resources":[{"b":2}, 3]}}"#;
    assert_eq!(done(&mut work, page), None);
    assert!(
        work.request("1")
            .contains("\"resources/templates/list\",\"params\":{}")
    );
    // A server without templates does not know the method.
    let lacks = r#"{"id":1,"error":{"code":-32601,"message":"no"}}"#;
    assert_eq!(
        done(&mut work, lacks).unwrap(),
        r#"{"session_id":"s","resources":[{"a":1.0},{"b":2},3],"resource_templates":[],"count":3}"#
    );

    let prompts = || Work::prompts(body(r#"{"session_id":"s"}"#), 100).unwrap();
    assert_eq!(prompts().take(lacks).unwrap_err().status, 404);
    let mut circle = prompts();
    let page = r#"{"id":1,"result":{"prompts":[],"nextCursor":"c"}}"#;
    assert_eq!(done(&mut circle, page), None);
    assert_eq!(circle.take(page).unwrap_err().status, 502);
    let long = alloc::format!(
        r#"{{"id":1,"result":{{"prompts":["{}"]}}}}"#,
        "x".repeat(200)
    );
    assert_eq!(prompts().take(&long).unwrap_err().status, 502);
    assert_eq!(
        prompts()
            .take(r#"{"id":1,"result":{}}"#)
            .unwrap_err()
            .status,
        502
    );
}

#[test]
fn a_name_that_no_list_of_the_server_has_is_not_found() {
    let wrong = r#"{"id":1,"error":{"code":-32602,"message":"wrong","data":1}}"#;
    let of_server = || Work::tool("files", "t\"", b"", 100).unwrap();
    let mut work = of_server();
    assert_eq!(done(&mut work, wrong), None);
    assert!(
        work.request("2")
            .contains(r#""id":2,"method":"tools/list","params":{}"#)
    );
    let page = r#"{"id":2,"result":{"tools":[{"name":"a"}],"nextCursor":"c"}}"#;
    assert_eq!(done(&mut work, page), None);
    assert!(work.request("3").contains(r#""params":{"cursor":"c"}"#));
    let last = r#"{"id":3,"result":{"tools":[{"name":"b"}]}}"#;
    let missing = work.take(last).unwrap_err();
    assert_eq!((missing.status, missing.code), (404, Code::NotFound));
    assert_eq!(
        text(|out| missing.write_detail(out)),
        r#"{"detail":{"message":"the MCP server `files` has no tool `t\"`","data":{"reason":"tool_not_found","server":"files"}}}"#
    );
    let prompt = body(r#"{"session_id":"s","prompt":"p"}"#);
    let mut work = Work::get_prompt(prompt, 100).unwrap();
    assert_eq!(done(&mut work, wrong), None);
    let lacks = r#"{"id":1,"error":{"code":-32601,"message":"no"}}"#;
    let missing = text(|out| work.take(lacks).unwrap_err().write(out));
    assert_eq!(
        missing,
        r#"{"error":{"message":"the session has no prompt `p`","type":"invalid_request_error","param":null,"code":"prompt_not_found"}}"#
    );
    // It has one, or does not say: the server's own error counts, and so does every other one.
    for page in [
        r#"{"id":2,"result":{"tools":[{"name":"t\u0022"}],"nextCursor":"c"}}"#,
        r#"{"id":2,"error":{"code":-32603,"message":"no"}}"#,
        r#"{"id":2,"result":{}}"#,
    ] {
        let mut work = of_server();
        assert_eq!(done(&mut work, wrong), None);
        let own = work.take(page).unwrap_err();
        assert_eq!(own.status, 422, "{page}");
        assert_eq!(
            text(|out| own.write_detail(out)),
            r#"{"detail":{"message":"wrong","data":1}}"#
        );
    }
    assert_eq!(of_server().take(lacks).unwrap_err().status, 404);
    // Of several servers the gateway knows itself which names there are.
    let own = Refusal::new(Reason::ToolNotFound, "there is no such tool here");
    let failure = of_server().take(&own.answer("1")).unwrap_err();
    assert_eq!(failure.status, 404);
    assert!(text(|out| failure.write(out)).contains(r#""code":"tool_not_found""#));
}

#[test]
fn a_server_is_listed_with_the_state_that_says_most_of_it() {
    use crate::config::{Scope, Wire};
    use crate::server::Known;
    let mut listed = Listed {
        wire: Wire::Stdio,
        name: "files".into(),
        scope: Scope::Session,
        states: alloc::vec![],
        known: Known::default(),
        protocol_version: None,
        processes: 0,
        sessions: 0,
        tools: None,
        restarts: 0,
        last_error: None,
    };
    assert_eq!(
        servers(&[listed.clone()]),
        r#"{"servers":[{"name":"files","transport":"stdio","scope":"session","state":"stopped","era":null,"protocol_version":null,"processes":0,"sessions":0,"tools":null,"restarts":0}]}"#
    );
    listed.states = alloc::vec!["stopped", "failed", "ready", "backoff"];
    listed.known.sessions = Some(true);
    listed.protocol_version = Some("\"2025-11-25\"".into());
    listed.tools = Some(3);
    listed.last_error = Some(LastError(Some("it \"ended\"".into())));
    let told = servers(&[listed]);
    assert!(
        told.ends_with(r#""state":"ready","era":"2025","protocol_version":"2025-11-25","processes":0,"sessions":0,"tools":3,"restarts":0,"last_error":"it \"ended\""}]}"#),
        "{told}"
    );
}

#[test]
fn a_session_is_described_with_what_its_server_said() {
    let greeting = Greeting::read(
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"f"}}"#,
    );
    let mut described = Described {
        id: "0a",
        client: "ed\"itor",
        server: Some("files"),
        is_active: false,
        created: "2026-01-01T00:00:00Z".into(),
        expires: "2026-01-01T01:00:00Z".into(),
        greeting: Some(&greeting),
        metadata: Some(r#"{"x": 1}"#),
        activity: None,
    };
    let start = r#"{"session_id":"0a","client_id":"ed\"itor","server":"files","status":"detached","created_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T01:00:00Z","protocol_version":"2025-11-25","capabilities":{"tools":{}},"server_info":{"name":"f"},"metadata":{"x": 1}"#;
    assert_eq!(described.json(), alloc::format!("{start}}}"));
    described.activity = Some(Activity {
        last: "2026-01-01T00:00:01Z".into(),
        requests: 2,
        in_flight: 1,
        processes: alloc::vec![Process {
            server: "files".into(),
            state: "ready",
        }],
    });
    let end = r#","last_activity":"2026-01-01T00:00:01Z","request_count":2,"in_flight":1,"processes":[{"server":"files","state":"ready"}]}"#;
    assert_eq!(described.json(), alloc::format!("{start}{end}"));
}

fn of_tool(result: &str) -> Result<String, Failure> {
    let mut work = Work::tool("files", "t", b" ", 1000).unwrap();
    assert!(work.request("1").contains(r#"{"name":"t","arguments":{}}"#));
    let answer = alloc::format!(r#"{{"id":1,"result":{result}}}"#);
    let done = work.take(&answer)?.unwrap();
    Ok(String::from_utf8(done.body).unwrap())
}

#[test]
fn a_tool_as_a_route_answers_with_as_little_as_there_is() {
    for (result, told) in [
        (r#"{"content":[{"type":"text","text":"a"}]}"#, r#""a""#),
        (
            r#"{"content":[{"type":"text","text":"{\"n\": 1.0}"}]}"#,
            r#"{"n": 1.0}"#,
        ),
        (
            r#"{"content":[{"type":"text","text":"7"},{"type":"text","text":"b"}]}"#,
            r#"[7,"b"]"#,
        ),
        (
            r#"{"content":[],"structuredContent":{"x":1e1}}"#,
            r#"{"x":1e1}"#,
        ),
        (r#"{"content":[],"structuredContent":null}"#, "[]"),
        (
            r#"{"content":[{"type":"image","data":"AA==","mimeType":"image/png"}]}"#,
            r#""data:image/png;base64,AA==""#,
        ),
        (
            r#"{"content":[{"type":"resource","resource":{"uri":"u","text":"[1]"}}]}"#,
            "[1]",
        ),
        (
            r#"{"content":[{"type":"resource","resource":{"uri":"u","blob":"AA=="}}]}"#,
            r#""data:application/octet-stream;base64,AA==""#,
        ),
        (
            r#"{"content":[{"type":"resource_link","uri":"u"}]}"#,
            r#"{"type":"resource_link","uri":"u"}"#,
        ),
        ("{}", "[]"),
    ] {
        assert_eq!(of_tool(result).unwrap(), told, "{result}");
    }
    let failed = of_tool(
        r#"{"isError":true,"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
    );
    let failed = failed.unwrap_err();
    assert_eq!(failed.status, 500);
    assert_eq!(
        text(|out| failed.write_detail(out)),
        r#"{"detail":{"message":"a\nb"}}"#
    );
    assert_eq!(
        Work::tool("files", "t", b"[]", 1000).unwrap_err().status,
        400
    );
}

/// The document of a server whose only list of tools is this.
fn described(tools: &str) -> String {
    let mut work = Work::description("files", 100_000);
    let answer = alloc::format!(r#"{{"id":1,"result":{{"tools":{tools}}}}}"#);
    done(&mut work, &answer).unwrap()
}

/// A part of a document.
fn part(document: &str, names: &[&str]) -> String {
    use mcp_local_provider_core::text::JsonValue;
    let part = JsonValue::read(document).unwrap().path(names);
    part.unwrap_or_else(|| panic!("{names:?} of {document}"))
        .get()
        .into()
}

#[test]
fn definitions_become_components_and_references_lead_to_them() {
    let tree = r##"{"name":"tree","title":"A tree","inputSchema":{"$schema":"x","type":"object","required":["root"],
        "properties":{"root":{"$ref":"#/$defs/Node~1s"},"self":{"$ref":"#"},"own":{"$ref":"#/properties/root"},"$ref":{"type":"string"},
        "by":{"anyOf":[{"$ref":"#leaf"},{"$ref":"#/%24defs/Leaf/properties/v"}]},"far":{"$ref":"https://a/b"}},
        "default":{"$ref":"#/$defs/Leaf"},
        "$defs":{"Node/s":{"properties":{"next":{"$ref":"#/$defs/Node~1s"},"leaf":{"$ref":"#/definitions/Old"}}},
        "Leaf":{"$anchor":"leaf","properties":{"v":{"const":1.0}}}},"definitions":{"Old":true}}}"##;
    let tree = tree.replace("\n        ", "");
    let other = r##"{"name":"tree_input","inputSchema":{"$defs":{"Leaf":{}},"$ref":"#/$defs/Leaf"},"outputSchema":{"$anchor":"leaf"}}"##;
    let text = described(&alloc::format!("[{tree},{other},{tree}]"));
    let schema = |name: &str| part(&text, &["components", "schemas", name]);
    let input = r##"{"type":"object","required":["root"],"properties":{"root":{"$ref":"#/components/schemas/tree_input_Node_s"},"self":{"$ref":"#/components/schemas/tree_input"},"own":{"$ref":"#/components/schemas/tree_input/properties/root"},"$ref":{"type":"string"},"by":{"anyOf":[{"$ref":"#/components/schemas/tree_input_Leaf"},{"$ref":"#/components/schemas/tree_input_Leaf/properties/v"}]},"far":{"$ref":"https://a/b"}},"default":{"$ref":"#/$defs/Leaf"}}"##;
    assert_eq!(schema("tree_input"), input);
    assert_eq!(
        schema("tree_input_Node_s"),
        r##"{"properties":{"next":{"$ref":"#/components/schemas/tree_input_Node_s"},"leaf":{"$ref":"#/components/schemas/tree_input_Old"}}}"##
    );
    assert_eq!(
        schema("tree_input_Leaf"),
        r#"{"properties":{"v":{"const":1.0}}}"#
    );
    assert_eq!(schema("tree_input_Old"), "true");
    // Names of several tools do not meet.
    let reference = r##"{"$ref":"#/components/schemas/tree_input_input_Leaf"}"##;
    assert_eq!(schema("tree_input_input"), reference);
    assert_eq!(schema("tree_input_output"), "{}");
    let of_tree = |names: &[&str]| {
        let path = [&["paths", "/tools/tree", "post"], names].concat();
        part(&text, &path)
    };
    assert_eq!(of_tree(&["summary"]), r#""A tree""#);
    assert_eq!(of_tree(&["requestBody", "required"]), "true");
    assert_eq!(
        text.matches("\"operationId\"").count(),
        2,
        "a name that comes twice is one tool"
    );
    assert_eq!(part(&text, &["servers"]), r#"[{"url":"../files"}]"#);
}

#[test]
fn a_server_without_tools_has_an_empty_document_and_text_of_tools_stays_text() {
    assert_eq!(part(&described("[]"), &["paths"]), "{}");
    let mut work = Work::description("files", 100);
    let lacks = r#"{"id":1,"error":{"code":-32601,"message":"no"}}"#;
    let empty = done(&mut work, lacks).unwrap();
    assert_eq!(part(&empty, &["paths"]), "{}");
    let tool = r#"[{"name":"a {b}/<i>","description":"<script>"},{"title":"no name"}]"#;
    assert_eq!(
        part(
            &described(tool),
            &[
                "paths",
                "/tools/a%20%7Bb%7D%2F%3Ci%3E",
                "post",
                "operationId"
            ]
        ),
        r#""a {b}/<i>""#
    );
    let mut work = Work::page("files", 100_000);
    let answer = alloc::format!(r#"{{"id":1,"result":{{"tools":{tool}}}}}"#);
    let page = work.take(&answer).unwrap().unwrap();
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("default-src 'none'"), "{page}");
    assert!(
        page.contains("a {b}/&lt;i&gt;") && page.contains("&lt;script&gt;"),
        "{page}"
    );
    assert!(!page.contains("<script") && !page.contains("<i>"), "{page}");
}
