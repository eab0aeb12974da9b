//! Subscriptions to resources of the registry: as events, and in a session of MCP.

use crate::gateway::client::{Client, Events, NEWEST, server};
use crate::program::{Folder, Program};
use crate::registry_rest::{ADMIN, USER, ask, made, start, start_in};
use serde_json::{Value, json};

const NOTE: &str = "/resources/note%3A%2F%2F1";
const FILE: &str = "/registry/resources/file%3A%2F%2F%2Fa.txt";

fn note(text: &str) -> Value {
    json!({ "uri": "note://1", "name": "n", "kind": "text", "text": text })
}

fn replace(program: &Program, text: &str) {
    let replaced = program.request("PUT", NOTE, Some(ADMIN), &note(text).to_string());
    assert_eq!(replaced.status, 200, "{replaced:?}");
}

/// The events of a resource.
fn events(program: &Program, path: &str) -> Events {
    let events = Events::read(program.open("POST", &format!("{path}/subscribe"), Some(USER), ""));
    assert_eq!((events.head.status, events.head.header("content-type")), (200, Some("text/event-stream")), "{:?}", events.head);
    events
}

/// The next event, which is one of a change.
fn updated(events: &mut Events) -> Value {
    let (name, event) = events.named().unwrap();
    assert_eq!(name, "updated", "{event:?}");
    event.json()
}

fn session<'p>(program: &'p Program, key: &'p str, path: &str) -> Client<'p> {
    let mut client = Client::new(program, key);
    client.path = path.to_owned();
    client.initialize(NEWEST, "subscriptions");
    client
}

#[test]
fn a_stream_tells_of_each_change_with_the_new_etag() {
    let folder = Folder::new();
    let files = folder.0.join("files");
    std::fs::create_dir(&files).unwrap();
    let file = files.join("a.txt");
    std::fs::write(&file, "one").unwrap();
    let program = start_in(folder, &format!("files: [{files:?}]"), "");
    made(&program, "/resources", &json!([note("one"), { "uri": "file:///a.txt", "name": "a", "kind": "file", "path": file }]));
    let etag = |path: &str| ask(&program, "GET", path, &Value::Null).json()["etag"].clone();
    let mut text = events(&program, NOTE);
    replace(&program, "two");
    assert_eq!(updated(&mut text), json!({ "uri": "note://1", "etag": etag(NOTE) }));
    let before = etag(FILE);
    let mut changes = events(&program, FILE);
    std::fs::write(&file, "two").unwrap();
    let told = updated(&mut changes);
    assert_eq!(told, json!({ "uri": "file:///a.txt", "etag": etag(FILE) }));
    assert_ne!(told["etag"], before);
    let deleted = program.request("DELETE", NOTE, Some(ADMIN), "");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(updated(&mut text), json!({ "uri": "note://1", "etag": null }));
    let gone = program.request("POST", &format!("{NOTE}/subscribe"), Some(USER), "");
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("resource_not_found")), "{gone:?}");
    // The end of the program is that of the streams.
    program.signal("TERM");
    assert!(text.named().is_none() && changes.named().is_none());
}

#[test]
fn a_session_is_told_until_it_wants_no_more() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_in(Folder::new(), "enabled: true", &servers);
    made(&program, "/resources", &note("one"));
    let own = session(&program, USER, "/servers/registry/mcp");
    let all = session(&program, USER, "/mcp");
    let (mut heard, mut heard_by_all) = (own.listen(None), all.listen(None));
    let path = format!("{NOTE}/subscribe");
    for client in [&own, &all] {
        let body = json!({ "session_id": client.session });
        let done = ask(&program, "POST", &path, &body);
        assert_eq!((done.status, done.json()), (200, json!({ "uri": "note://1", "subscribed": true })));
    }
    replace(&program, "two");
    let told = |events: &mut Events| {
        let message = events.message().unwrap();
        (message["method"].as_str().unwrap().to_owned(), message["params"]["uri"].clone())
    };
    let list = ("notifications/resources/list_changed".to_owned(), Value::Null);
    let of = |uri: &str| ("notifications/resources/updated".to_owned(), json!(uri));
    assert_eq!([told(&mut heard), told(&mut heard)], [list.clone(), of("note://1")]);
    assert_eq!([told(&mut heard_by_all), told(&mut heard_by_all)], [list.clone(), of("registry+note://1")]);
    let ended = ask(&program, "DELETE", &path, &json!({ "session_id": own.session }));
    assert_eq!((ended.status, ended.json()), (200, json!({ "uri": "note://1", "subscribed": false })));
    replace(&program, "three");
    replace(&program, "four");
    assert_eq!([told(&mut heard_by_all), told(&mut heard_by_all)], [list.clone(), of("registry+note://1")]);
    assert_eq!([told(&mut heard), told(&mut heard)], [list.clone(), list]);
}

#[test]
fn a_session_has_to_be_the_keys_own_and_one_with_the_registry() {
    let servers = format!("mcpServers:\n{}", server("suite", ""));
    let program = start_in(Folder::new(), "enabled: true", &servers);
    made(&program, "/resources", &note("one"));
    let path = format!("{NOTE}/subscribe");
    let refused = |body: Value, status: u16, code: Option<&str>, param: Option<&str>| {
        let answer = ask(&program, "POST", &path, &body);
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(code.is_none_or(|code| error["code"] == code), "{error}");
        assert!(param.is_none_or(|param| error["param"] == param), "{error}");
    };
    let anothers = session(&program, ADMIN, "/servers/registry/mcp");
    refused(json!({ "session_id": anothers.session }), 404, Some("session_not_found"), None);
    let without = session(&program, USER, "/servers/suite/mcp");
    refused(json!({ "session_id": without.session }), 400, None, Some("session_id"));
    refused(json!({ "session_id": 7 }), 400, None, Some("session_id"));
    let nothing = ask(&program, "DELETE", &path, &Value::Null);
    assert_eq!((nothing.status, &nothing.json()["error"]["param"]), (400, &json!("session_id")), "{nothing:?}");
}

#[test]
fn a_change_of_a_template_is_one_of_its_resources() {
    let program = start("enabled: true");
    made(&program, "/resources", &json!({ "uri_template": "word://{word}", "name": "w", "kind": "text", "text": "one {{ args.word }}" }));
    let mut stream = events(&program, "/resources/word%3A%2F%2Fyes");
    let other = json!({ "uri_template": "word://{word}", "name": "w", "kind": "text", "text": "two {{ args.word }}" });
    let replaced = program.request("PUT", "/resources/word%3A%2F%2F%7Bword%7D", Some(ADMIN), &other.to_string());
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let etag = ask(&program, "GET", "/resources/word%3A%2F%2Fyes", &Value::Null).json()["etag"].clone();
    assert_eq!(updated(&mut stream), json!({ "uri": "word://yes", "etag": etag }));
}
