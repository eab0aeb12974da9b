//! Lists that are kept: the server is asked once, until they are too old or it tells that they have changed.

use super::client::{Client, KEY, NEWEST, OTHER, request, server, start, start_one};
use crate::program::Program;
use serde_json::{Value, json};

/// The tools of a client's first page.
fn tools(client: &Client<'_>) -> Value {
    let answer = client.post(&request(1, "tools/list", &json!({})));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["result"]["tools"].clone()
}

/// Times that the server was asked for its tools.
fn asked(client: &Client<'_>, heard: &str) -> usize {
    client.text(heard, &json!({})).matches("tools/list").count()
}

/// Requests for lists that were answered without the server.
fn kept(program: &Program) -> String {
    let metrics = program.get("/metrics").body;
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.contains("mcp_requests_total") && line.contains("outcome=\"kept\""));
    line.unwrap_or_else(|| panic!("{metrics}")).rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_list_is_asked_for_once_until_the_server_tells_of_a_change() {
    let program = start_one("");
    let client = Client::open(&program);
    let first = tools(&client);
    assert_eq!(first[0]["name"], "echo");
    assert_eq!(tools(&client), first);
    assert_eq!(asked(&client, "heard"), 1);
    assert_eq!(kept(&program), "1");
    client.call("change", &json!({}));
    assert_eq!((tools(&client), asked(&client, "heard")), (first.clone(), 2));
    // Another process is another server's state.
    let other = Client::open(&program);
    assert_eq!((tools(&other), asked(&other, "heard")), (first, 1));
}

#[test]
fn no_list_is_kept_where_the_owner_wants_none() {
    let program = start_one("gateway: { cache_ttl: 0 }\n");
    let client = Client::open(&program);
    assert_eq!(tools(&client), tools(&client));
    assert_eq!((asked(&client, "heard"), &*kept(&program)), (2, "0"));
}

#[test]
fn clients_of_a_shared_process_have_its_lists_together_and_each_its_own_view() {
    let shelf = env!("CARGO_BIN_EXE_mcp_shelf");
    let servers = [
        format!("  files: {{ command: {shelf:?}, args: [files], scope: shared, interactive: refuse, tools: {{ deny: [write] }} }}\n"),
        server("suite", ""),
    ];
    let program = start("", &servers);
    let mut own = Client::new(&program, KEY);
    own.path = "/servers/files/mcp".to_owned();
    own.initialize(NEWEST, "own");
    let mut all = Client::new(&program, OTHER);
    all.initialize(NEWEST, "all");
    let names = |tools: Value| -> Vec<String> {
        let tools = tools.as_array().unwrap().iter();
        tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let plain = names(tools(&own));
    assert!(plain.contains(&"read".to_owned()) && !plain.contains(&"write".to_owned()), "{plain:?}");
    let prefixed = names(tools(&all));
    assert!(prefixed.contains(&"files__read".to_owned()) && prefixed.contains(&"suite__echo".to_owned()), "{prefixed:?}");
    assert!(!prefixed.contains(&"files__write".to_owned()), "{prefixed:?}");
    assert_eq!(asked(&own, "heard"), 1);
    assert_eq!(asked(&all, "files__heard"), 1);
}
