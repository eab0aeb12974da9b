//! `/control/…`: what bridges and operators read after what they did.

use crate::agent::Agent;
use crate::program::{Answer, BRIDGE, OPERATOR, Program};
use serde_json::{Value, json};
use std::io::Read;

fn control(program: &Program, action: &str, key: &str, body: &Value) -> Answer {
    let path = format!("/control/{action}");
    program.request("POST", &path, Some(key), &body.to_string())
}

fn session(program: &Program, id: &str) -> Value {
    let path = format!("/control/sessions/{id}");
    program.request("GET", &path, Some(OPERATOR), "").json()
}

#[test]
fn a_registration_names_its_session_and_a_revoke_may_be_repeated() {
    let program = Program::start("");
    let registered = control(&program, "register", BRIDGE, &json!({ "agent_id": "a" })).json();
    let id = registered["session_id"].as_str().unwrap();
    assert_eq!(registered["registered"], id, "{registered}");
    let body = json!({ "session_id": id });
    for _ in 0..2 {
        let revoked = control(&program, "revoke", BRIDGE, &body);
        assert_eq!(revoked.status, 200, "{}", revoked.body);
        assert_eq!(
            revoked.json(),
            json!({ "session_id": id, "status": "revoked", "action": "revoke", "revoked": id })
        );
    }
    assert_eq!(control(&program, "suspend", OPERATOR, &body).status, 409);
}

#[test]
fn a_missing_field_is_named_as_a_wrong_one_is() {
    let program = Program::start("");
    for (action, body, param) in [
        ("register", json!({}), "agent_id"),
        ("register", json!({ "agent_id": 1 }), "agent_id"),
        (
            "register",
            json!({ "agent_id": "a", "capabilities": { "tools": 1 } }),
            "capabilities.tools",
        ),
        ("revoke", json!({}), "session_id"),
        ("renew", json!({ "session_id": null }), "session_id"),
    ] {
        let refused = control(&program, action, BRIDGE, &body);
        assert_eq!(refused.status, 400, "{action} {body}: {}", refused.body);
        assert_eq!(refused.json()["error"]["param"], param, "{}", refused.body);
    }
}

#[test]
fn a_list_in_place_of_an_object_is_refused() {
    let program = Program::start("");
    let listed = json!([null, null, "a", null, null, null, null, null, null, null, null]);
    let able = json!({ "agent_id": "a", "capabilities": [true, true, true, true, true, null] });
    for (path, key, body, param) in [
        ("/control/register", BRIDGE, &listed, json!(null)),
        ("/control/register", BRIDGE, &able, json!("capabilities")),
        ("/control/revoke", BRIDGE, &json!(["s-1"]), json!(null)),
        ("/api/show", crate::program::CLIENT, &json!(["m", null, null]), json!(null)),
    ] {
        let refused = program.request("POST", path, Some(key), &body.to_string());
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.body);
        let refused = refused.json();
        if path.starts_with("/control") {
            assert_eq!(refused["error"]["param"], param, "{refused}");
        }
        assert!(refused.to_string().contains("a list"), "{refused}");
    }
    let sessions = program.request("GET", "/control/sessions", Some(OPERATOR), "");
    assert_eq!(sessions.json()["total_count"], 0, "{}", sessions.body);
}

#[test]
fn a_session_tells_its_tokens_and_when_it_has_ended() {
    let program = Program::start("");
    let mut agent = Agent::connect(&program);
    let body =
        json!({ "model": "m", "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let key = Some(crate::program::CLIENT);
    let mut client = program.open("POST", "/v1/chat/completions", key, &body.to_string());
    let (id, _) = agent.invocation();
    agent.chunk(&id, 0, "hello");
    agent.finish(&id, 1);
    client.read_to_end(&mut Vec::new()).unwrap();
    let active = session(&program, &agent.session);
    assert_eq!(active["total_tokens"], 12, "{active}");

    let revoke = json!({ "session_id": agent.session });
    assert_eq!(control(&program, "revoke", OPERATOR, &revoke).status, 200);
    let ended = session(&program, &agent.session);
    assert_eq!(ended["expires_at"], ended["last_activity"], "{ended}");
    let again = session(&program, &agent.session);
    assert_eq!(again["expires_at"], ended["expires_at"]);
}
