//! Another configuration while the program serves.

use crate::agent::{Agent, dial};
use crate::program::{BRIDGE, CLIENT, Folder, OPERATOR, Program, program, write_config};
use serde_json::json;
use std::process::Command;

#[test]
fn sighup_takes_keys_limits_and_aliases_over_and_ends_what_lost_its_key() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    assert_eq!(program.get("/v1/models").status, 200);

    write_config(
        &program.folder.0,
        "127.0.0.1:1",
        "models: { aliases: { mine: { model: m } } }\nlimits: { messages: 1 }\n",
    );
    let text = std::fs::read_to_string(&program.config).unwrap();
    let text = text
        .replace(BRIDGE, "another-bridge-key")
        .replace(CLIENT, "another-client-key");
    std::fs::write(&program.config, text).unwrap();
    program.signal("HUP");
    // The agent is told by the close code that its key is not valid any more; by then all the rest holds too.
    assert_eq!(agent.closed(), 1008);
    assert_eq!(dial(&program, Some(BRIDGE)).unwrap_err().0, 401);
    assert!(dial(&program, Some("another-bridge-key")).is_ok());
    assert_eq!(program.get("/v1/models").status, 401);
    let key = Some("another-client-key");
    let models = program.request("GET", "/v1/models", key, "");
    assert_eq!(models.json()["data"][0]["id"], "mine", "{}", models.body);
    let two =
        r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#;
    let refused = program.request("POST", "/v1/chat/completions", key, two);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("limits.messages"), "{}", refused.body);
    assert_eq!(
        program
            .request("GET", "/control/sessions", Some(OPERATOR), "")
            .status,
        200,
        "it still listens where it did"
    );
    program.wait_for_log("what has changed of listen holds from the next start on");
}

#[test]
fn keys_stay_required_on_a_socket_that_other_machines_can_reach() {
    let folder = Folder::new();
    let config = write_config(&folder.0, "0.0.0.0:0", "");
    let mut command = Command::new(program());
    command.arg("--config").arg(&config);
    let program = Program::spawn(command, folder, config);
    let mut agent = Agent::connect(&program);
    let asks = |key| program.request("GET", "/v1/models", key, "").status;
    assert_eq!((asks(None), asks(Some(CLIENT))), (401, 200));

    write_config(&program.folder.0, "127.0.0.1:0", "");
    let text = std::fs::read_to_string(&program.config).unwrap();
    let text = text
        .replace(BRIDGE, "another-bridge-key")
        .replace("auth:\n", "auth:\n  required: false\n");
    std::fs::write(&program.config, text).unwrap();
    program.signal("HUP");
    // The agent's key is gone: the reload has been done.
    assert_eq!(agent.closed(), 1008);
    assert_eq!((asks(None), asks(Some(CLIENT))), (401, 200));
    assert_eq!(dial(&program, Some("nobody's key")).unwrap_err().0, 401);
    program.wait_for_log("`auth.required: false` is not taken over");
}

#[test]
fn agents_and_sessions_that_showed_no_key_end_when_one_is_required() {
    let program = Program::start("");
    let rewrite = |required: bool| {
        write_config(&program.folder.0, "127.0.0.1:0", "");
        let text = std::fs::read_to_string(&program.config).unwrap();
        let auth = format!("auth:\n  required: {required}\n");
        std::fs::write(&program.config, text.replace("auth:\n", &auth)).unwrap();
        program.signal("HUP");
    };
    rewrite(false);
    // Until it has been done.
    while program.request("GET", "/v1/models", None, "").status == 401 {}
    let mut agent = Agent {
        socket: dial(&program, Some("no key of anybody")).unwrap(),
        session: String::new(),
        token: String::new(),
    };
    agent.send(&json!({ "type": "register", "agent_id": "stranger", "models": ["m"] }));
    let registered = agent.receive();
    assert_eq!(registered["type"], "registered");
    let token = registered["session_token"].as_str().unwrap();
    rewrite(true);
    assert_eq!(agent.closed(), 1008);
    assert_eq!(dial(&program, Some(token)).unwrap_err().0, 403);
    let models = program.request("GET", "/v1/models", Some(CLIENT), "");
    assert_eq!(models.json()["data"], json!([]), "{}", models.body);
}
