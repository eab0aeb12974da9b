//! Tests of several servers under one address: what goes where, and what clients see.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use alloc::vec;
use mcp_local_provider_core::rpc::Message;

fn ready(catalogue: &mut Catalogue) {
    let result = r#"{"capabilities":{"tools":{},"prompts":{},"resources":{},"tasks":{}}}"#;
    for at in 0..catalogue.len() {
        catalogue.handle_ready(at, JsonValue::read(result).unwrap());
    }
}

fn two(prefix: Prefix) -> Catalogue {
    let (files, web) = (Server::named("my_files"), Server::named("web"));
    let mut catalogue = Catalogue::of_all(prefix, &[&files, &web]);
    ready(&mut catalogue);
    catalogue
}

fn list(catalogue: &mut Catalogue, at: usize, kind: Kind, result: &str) -> String {
    let value = JsonValue::read(result).unwrap();
    catalogue.page(at, kind, value, true).elements
}

/// The place to which a request goes, and its text there.
fn sent(catalogue: &Catalogue, text: &str) -> (usize, String) {
    let Ok(Message::Request { call, .. }) = Message::read(text) else {
        panic!("{text}");
    };
    match catalogue.route(&call) {
        Ok(Route::To(at, edits)) => (at, edits.applied(text)),
        other => panic!("{other:?}"),
    }
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn route(catalogue: &Catalogue, method: &str, params: &str) -> Result<String, Refusal> {
    let text = request(method, params);
    let Ok(Message::Request { call, .. }) = Message::read(&text) else {
        panic!("{text}");
    };
    catalogue.route(&call).map(|route| format!("{route:?}"))
}

fn refused(catalogue: &Catalogue, method: &str, params: &str) -> Reason {
    route(catalogue, method, params).unwrap_err().reason
}

fn answered(catalogue: &mut Catalogue, at: usize, asked: Asked, result: &str) -> String {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,{result}}}"#);
    let Ok(Message::Response { outcome, .. }) = Message::read(&text) else {
        panic!("{text}");
    };
    let mut edits = Edits::default();
    catalogue.answer(at, asked, &outcome, &mut edits);
    let text = edits.applied(&text);
    assert!(Message::read(&text).is_ok(), "{text}");
    text[r#"{"jsonrpc":"2.0","id":1,"#.len()..text.len() - 1].into()
}

#[test]
fn tools_are_listed_under_their_server_and_called_by_that_name() {
    let mut catalogue = two(Prefix::Auto);
    let elements = list(
        &mut catalogue,
        0,
        Kind::Tools,
        r#"{"tools":[ {"name":"re\u0061d","x":1.50,"_meta":{"ui":{"resourceUri":"ui://v"}}} , {"name":"b"}]}"#,
    );
    assert_eq!(
        elements,
        r#"{"name":"my_files__read","x":1.50,"_meta":{"ui":{"resourceUri":"ui://my-files+v"}}},{"name":"my_files__b"}"#
    );
    list(
        &mut catalogue,
        1,
        Kind::Tools,
        r#"{"tools":[{"name":"read"}]}"#,
    );
    let call = |name: &str| {
        request(
            "tools/call",
            &format!(r#"{{"arguments":{{"name":1}},"name":"{name}" }}"#),
        )
    };
    assert_eq!(sent(&catalogue, &call("my_files__read")), (0, call("read")));
    assert_eq!(sent(&catalogue, &call("web__read")), (1, call("read")));
    assert_eq!(
        refused(&catalogue, "tools/call", r#"{"name":"read"}"#),
        Reason::ToolNotFound
    );
    assert_eq!(refused(&catalogue, "tools/call", "{}"), Reason::BadParams);
    // When a list has changed it is read before a name is unknown.
    catalogue.handle_changed(1, Kind::Tools);
    let learn = route(&catalogue, "tools/call", r#"{"name":"web__new"}"#).unwrap();
    assert_eq!(learn, "Learn(Tools, [1])");
    let page = JsonValue::read(r#"{"tools":[{"name":"new"}],"nextCursor":"c"}"#).unwrap();
    assert_eq!(
        catalogue.learn(1, Kind::Tools, page, true).as_deref(),
        Some("\"c\"")
    );
    assert_eq!(sent(&catalogue, &call("web__new")), (1, call("new")));
    catalogue.learned(1, Kind::Tools);
    assert_eq!(
        refused(&catalogue, "tools/call", r#"{"name":"web__read"}"#),
        Reason::ToolNotFound
    );
}

#[test]
fn uris_stand_under_their_server_wherever_they_stand() {
    let mut catalogue = two(Prefix::Auto);
    let catalogue = &mut catalogue;
    for (kind, result, expected) in [
        (
            Kind::Resources,
            r#"{"resources":[{"uri":"file:///a","name":"n"}]}"#,
            r#"{"uri":"my-files+file:///a","name":"n"}"#,
        ),
        (
            Kind::Templates,
            r#"{"resourceTemplates":[{"uriTemplate":"x://{id}"}]}"#,
            r#"{"uriTemplate":"my-files+x://{id}"}"#,
        ),
        (
            Kind::Tasks,
            r#"{"tasks":[{"taskId":"7"}]}"#,
            r#"{"taskId":"my-files+7"}"#,
        ),
        (
            Kind::Prompts,
            r#"{"prompts":[{"name":"p"}]}"#,
            r#"{"name":"my_files__p"}"#,
        ),
    ] {
        assert_eq!(list(catalogue, 0, kind, result), expected);
    }
    for (asked, result, expected) in [
        (
            Asked::Tool,
            r#""result":{"content":[{"type":"text","text":"file:///a"},{"type":"resource_link","uri":"file:///a"},{"type":"resource","resource":{"text":"x","uri":"file:///b"}}],"structuredContent":{"uri":"u"}}"#,
            r#""result":{"content":[{"type":"text","text":"file:///a"},{"type":"resource_link","uri":"web+file:///a"},{"type":"resource","resource":{"text":"x","uri":"web+file:///b"}}],"structuredContent":{"uri":"u"}}"#,
        ),
        (
            Asked::Tool,
            r#""result":{"task":{"taskId":"7"},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"8"}}}"#,
            r#""result":{"task":{"taskId":"web+7"},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"web+8"}}}"#,
        ),
        (
            Asked::Prompt,
            r#""result":{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:b"}}},{"content":[{"type":"resource_link","uri":"a:c"}]}]}"#,
            r#""result":{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"web+a:b"}}},{"content":[{"type":"resource_link","uri":"web+a:c"}]}]}"#,
        ),
        (
            Asked::Resource,
            r#""result":{"contents":[{"uri":"a:b","text":"a:b"}]}"#,
            r#""result":{"contents":[{"uri":"web+a:b","text":"a:b"}]}"#,
        ),
        (
            Asked::Resource,
            r#""error":{"code":-32002,"message":"no","data":{"uri":"a:b"}}"#,
            r#""error":{"code":-32002,"message":"no","data":{"uri":"web+a:b"}}"#,
        ),
        (
            Asked::Task,
            r#""result":{"taskId":"7"}"#,
            r#""result":{"taskId":"web+7"}"#,
        ),
        (
            Asked::Other,
            r#""result":{"uri":"7"}"#,
            r#""result":{"uri":"7"}"#,
        ),
    ] {
        assert_eq!(answered(catalogue, 1, asked, result), expected);
    }
    for method in [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        let text = request(method, r#"{"uri":"web+a:b"}"#);
        assert_eq!(
            sent(catalogue, &text),
            (1, request(method, r#"{"uri":"a:b"}"#))
        );
        assert_eq!(
            refused(catalogue, method, r#"{"uri":"a:b"}"#),
            Reason::ResourceNotFound
        );
    }
    let complete = request(
        "completion/complete",
        r#"{"ref":{"type":"ref/resource","uri":"my-files+x://{id}"}}"#,
    );
    assert_eq!(
        sent(catalogue, &complete),
        (
            0,
            request(
                "completion/complete",
                r#"{"ref":{"type":"ref/resource","uri":"x://{id}"}}"#
            )
        )
    );
    let complete = request(
        "completion/complete",
        r#"{"ref":{"type":"ref/prompt","name":"my_files__p"}}"#,
    );
    assert_eq!(
        sent(catalogue, &complete),
        (
            0,
            request(
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"p"}}"#
            )
        )
    );
    let task = request("tasks/cancel", r#"{"taskId":"web+7"}"#);
    assert_eq!(
        sent(catalogue, &task),
        (1, request("tasks/cancel", r#"{"taskId":"7"}"#))
    );
    let updated = r#"{"uri":"a:b"}"#;
    let mut edits = Edits::default();
    let params = JsonValue::read(updated).unwrap();
    catalogue.from_server(0, "notifications/resources/updated", params, &mut edits);
    assert_eq!(edits.applied(updated), r#"{"uri":"my-files+a:b"}"#);
    let reply = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"web+8"}}}"#;
    let mut edits = Edits::default();
    catalogue.reply(1, JsonValue::read(reply).unwrap(), &mut edits);
    assert_eq!(
        edits.applied(reply),
        r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"8"}}}"#
    );
}

#[test]
fn a_list_goes_to_those_that_have_one_and_goes_on_where_its_cursor_says() {
    let (a, b, c) = (Server::named("a"), Server::named("b"), Server::named("c"));
    let mut catalogue = Catalogue::of_all(Prefix::Auto, &[&a, &b, &c]);
    // One is down, and one has no tools.
    for (at, capabilities) in [(0, "tools"), (1, "resources")] {
        let result = format!(r#"{{"capabilities":{{"{capabilities}":{{}}}}}}"#);
        catalogue.handle_ready(at, JsonValue::read(&result).unwrap());
    }
    let asked = |catalogue: &Catalogue, params| route(catalogue, "tools/list", params).unwrap();
    assert_eq!(asked(&catalogue, "{}"), "List(Tools, [(0, None)])");
    let result = r#"{"capabilities":{"tools":{},"logging":{}}}"#;
    catalogue.handle_ready(2, JsonValue::read(result).unwrap());
    assert_eq!(
        asked(&catalogue, "{}"),
        "List(Tools, [(0, None), (2, None)])"
    );
    let result = JsonValue::read(r#"{"tools":[],"nextCursor":"p:2"}"#).unwrap();
    let next = catalogue.page(0, Kind::Tools, result, true).next.unwrap();
    assert_eq!(
        asked(&catalogue, &format!(r#"{{"cursor":{next}}}"#)),
        r#"List(Tools, [(0, Some("\"p:2\"")), (2, None)])"#
    );
    assert_eq!(
        refused(&catalogue, "tools/list", r#"{"cursor":"other:x"}"#),
        Reason::BadParams
    );
    assert_eq!(
        route(&catalogue, "logging/setLevel", "{}").unwrap(),
        "Each([2])"
    );
    assert_eq!(refused(&catalogue, "x/y", "{}"), Reason::MethodNotFound);
}

#[test]
fn names_that_stand_may_not_be_the_same() {
    let mut catalogue = two(Prefix::Never);
    assert_eq!(
        list(
            &mut catalogue,
            0,
            Kind::Tools,
            r#"{"tools":[{"name":"read"}]}"#
        ),
        r#"{"name":"read"}"#
    );
    list(
        &mut catalogue,
        1,
        Kind::Tools,
        r#"{"tools":[{"name":"search"}]}"#,
    );
    assert_eq!(catalogue.clash(Kind::Tools), None);
    let call = request("tools/call", r#"{"name":"search"}"#);
    assert_eq!(sent(&catalogue, &call), (1, call.clone()));
    list(
        &mut catalogue,
        1,
        Kind::Tools,
        r#"{"tools":[{"name":"search"},{"name":"read"}]}"#,
    );
    let refusal = catalogue.clash(Kind::Tools).unwrap();
    assert!(
        refusal
            .message
            .contains("`my_files` and `web` both have `read`"),
        "{}",
        refusal.message
    );
    assert_eq!(
        refused(&catalogue, "tools/call", r#"{"name":"read"}"#),
        Reason::NameClash
    );
}

#[test]
fn one_server_passes_as_it_is_but_for_the_tools_that_are_left_out() {
    let mut server = Server::named("files");
    let catalogue = Catalogue::of_all(Prefix::Auto, &[&server]);
    assert!(catalogue.is_plain(0));
    for (method, params) in [
        ("tools/call", r#"{"name":"x"}"#),
        ("resources/read", "{}"),
        ("x/y", "{}"),
        ("tools/list", "{}"),
    ] {
        let text = request(method, params);
        assert_eq!(sent(&catalogue, &text), (0, text.clone()));
    }
    server.tools.deny = vec!["write".into()];
    let mut catalogue = Catalogue::of_one(&server);
    assert!(!catalogue.is_plain(0));
    assert_eq!(
        answered(
            &mut catalogue,
            0,
            Asked::List(Kind::Tools),
            r#""result":{"tools":[{"name":"write"},{"name":"read","_meta":{"ui":{"resourceUri":"ui://v"}}}],"nextCursor":"c","x":1}"#
        ),
        r#""result":{"tools":[{"name":"read","_meta":{"ui":{"resourceUri":"ui://v"}}}],"nextCursor":"c","x":1}"#
    );
    assert_eq!(
        refused(&catalogue, "tools/call", r#"{"name":"write"}"#),
        Reason::ToolNotFound
    );
    let text = request("tools/call", r#"{"name":"read"}"#);
    assert_eq!(sent(&catalogue, &text), (0, text.clone()));
}

#[test]
fn a_prefix_may_be_text_of_its_own() {
    let mut server = Server::named("files");
    server.prefix = Some("f".into());
    let mut catalogue = Catalogue::of_all(Prefix::Always, &[&server]);
    ready(&mut catalogue);
    let result = r#""result":{"tools":[{"name":"read"}]}"#;
    assert_eq!(
        answered(&mut catalogue, 0, Asked::List(Kind::Tools), result),
        r#""result":{"tools":[{"name":"f__read"}]}"#
    );
    let text = request("tools/call", r#"{"name":"f__read"}"#);
    assert_eq!(
        sent(&catalogue, &text),
        (0, request("tools/call", r#"{"name":"read"}"#))
    );
    let text = request("resources/read", r#"{"uri":"f+a:b"}"#);
    assert_eq!(
        sent(&catalogue, &text),
        (0, request("resources/read", r#"{"uri":"a:b"}"#))
    );
}
