//! Keys that may use some of the servers only.

use super::client::{
    Client, Events, KEY, NEWEST, OTHER, assert_refused, call, configure, hello, request, server,
    start, take_over, whole,
};
use super::stateless;
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

#[test]
fn what_is_open_without_a_session_ends_when_the_key_may_not_use_its_server_any_more() {
    let program = start("", &[server("one", ""), server("two", "")]);
    let text = std::fs::read_to_string(&program.config).unwrap();
    let reload = |rights: &str| {
        let text = text.replace("[models, mcp] }", &format!("{rights} }}"));
        std::fs::write(&program.config, text).unwrap();
        take_over(&program);
    };
    let at = |key, path| {
        let mut client = stateless::Client::new(&program, key, json!({}));
        client.path = path;
        client
    };
    let listen = |key, path| {
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let client = at(key, path);
        let mut events = Events::read(client.send(&client.body("subscriptions/listen", wanted, &json!({}))));
        assert_eq!(events.untagged()["method"], "notifications/subscriptions/acknowledged");
        events
    };
    let mut stays = listen(OTHER, "/servers/two/mcp");
    for (rights, held) in [("[models, mcp], servers: [one]", "this"), ("[models]", "that")] {
        let over = ["/servers/two/mcp", "/mcp"].map(|path| listen(KEY, path));
        let client = at(KEY, "/servers/two/mcp");
        let hold = json!({ "name": "hold", "arguments": { "text": held } });
        let call = client.send(&client.body("tools/call", hold, &json!({})));
        program.wait_for_log(&format!("holds {held}"));
        reload(rights);
        for mut events in over {
            let end = events.untagged();
            assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("own"), &json!("complete")), "{end}");
        }
        let answer = whole(call);
        assert!(answer.body.contains("\"server_not_found\""), "{answer:?}");
        reload("[models, mcp]");
    }
    // The key of another is nothing to it.
    at(OTHER, "/servers/two/mcp").text("change", &json!({ "text": "x" }));
    assert_eq!(stays.untagged()["method"], "notifications/tools/list_changed");
}
