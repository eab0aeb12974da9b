//! Keys that may use some of the servers only.

use super::client::{Client, KEY, NEWEST, OTHER, assert_refused, call, configure, hello, request, server};
use crate::child_process::ends;
use crate::program::{Folder, Program, program};
use serde_json::json;
use std::process::Command;

#[test]
fn servers_that_a_key_does_not_name_do_not_exist_for_it() {
    let folder = Folder::new();
    let config = configure(&folder, "", &[server("one", ""), server("two", "")]);
    let text = std::fs::read_to_string(&config).unwrap();
    let limited_to = |name: &str| text.replace("[models, mcp] }", &format!("[models, mcp], servers: [{name}] }}"));
    std::fs::write(&config, limited_to("one")).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let program = Program::spawn(command, folder, config);
    let at = |key, path: &str| {
        let mut client = Client::new(&program, key);
        path.clone_into(&mut client.path);
        client
    };
    let asked = |path: &str| at(KEY, path).post(&request(0, "initialize", &hello(NEWEST, "suite")));
    let hidden = asked("/servers/two/mcp");
    assert_refused(&hidden, 404, -32602, "server_not_found");
    assert_eq!(hidden.body, asked("/servers/none/mcp").body, "it is as one that is not there");

    // It is the only one for this key, and one of two for the other.
    let mut client = at(KEY, "/mcp");
    client.initialize(NEWEST, "suite");
    let pid = client.pid();
    let opened = at(OTHER, "/mcp").initialize(NEWEST, "suite");
    assert!(opened.body.contains("mcp-local-provider"), "{opened:?}");
    let mut other = at(OTHER, "/servers/two/mcp");
    other.initialize(NEWEST, "suite");
    let stays = other.pid();

    // A session of a server that the key may not use any more ends.
    let mut named = client.clone();
    "/servers/one/mcp".clone_into(&mut named.path);
    std::fs::write(&program.config, limited_to("two")).unwrap();
    program.signal("HUP");
    assert!(ends(&pid), "the process lives on");
    assert_refused(&client.post(&call(1, "echo", &json!({}))), 404, -31404, "session_not_found");
    assert_refused(&named.post(&call(1, "echo", &json!({}))), 404, -32602, "server_not_found");
    assert_eq!(other.pid(), stays);
    at(KEY, "/mcp").initialize(NEWEST, "suite");
}
