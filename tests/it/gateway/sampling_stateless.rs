//! MCP clients with `sampling` that answer as models (`/mcp/agent`), in revision 2026-07-28: each request to the model is a round.

use super::client::{Events, whole};
use super::sampling::{ask, models, said};
use super::stateless::Client;
use crate::program::{Answer, BRIDGE, OPERATOR, Program};
use serde_json::{Value, json};
use std::thread;

fn client(program: &Program) -> Client<'_> {
    let mut client = Client::new(program, BRIDGE, json!({ "sampling": { "tools": {} } }));
    client.path = "/mcp/agent";
    client
}

/// A call of `serve`, on with `more` parameters.
fn serve(client: &Client<'_>, more: &Value) -> Answer {
    let mut params = json!({ "name": "serve", "arguments": {} });
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    whole(client.send(&client.body("tools/call", params, &json!({}))))
}

/// The result of an answer, which came as JSON or as events.
fn result(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let last = answer.body.lines().find_map(|line| line.strip_prefix("data: "));
    let message: Value = serde_json::from_str(last.unwrap_or(&answer.body)).unwrap();
    assert_eq!(message["id"], "own");
    message["result"].clone()
}

/// The name of the only question of a round, and its text.
fn question(result: &Value) -> (String, String) {
    assert_eq!(result["resultType"], "input_required", "{result}");
    let questions = result["inputRequests"].as_object().unwrap();
    assert_eq!(questions.len(), 1, "{result}");
    let (name, question) = questions.iter().next().unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    let text = question["params"]["messages"][0]["content"]["text"].as_str();
    (name.clone(), text.unwrap().to_owned())
}

/// The parameters that answer a round.
fn answers(result: &Value, said: &Value) -> Value {
    let (name, _) = question(result);
    json!({ "requestState": result["requestState"], "inputResponses": { name: said } })
}

fn content(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn session(program: &Program) -> Value {
    let listed = program.request("GET", "/control/sessions", Some(OPERATOR), "").json();
    let sessions = listed["sessions"].as_array().or(listed.as_array()).unwrap();
    assert_eq!(sessions.len(), 1, "{listed}");
    sessions[0]["session_id"].clone()
}

#[test]
fn each_request_is_a_round_and_a_call_ends_before_clients_give_it_up() {
    let program = Program::start("");
    let client = client(&program);
    let found = client.ask("server/discover", json!({})).json()["result"].clone();
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(found["capabilities"], json!({ "tools": {} }));
    let listed = client.ask("tools/list", json!({})).json()["result"].clone();
    assert_eq!(listed["tools"][0]["name"], "serve");
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut rounds, mut ended, mut more) = (Vec::new(), 0, json!({}));
            while rounds.len() < 10 {
                let result = result(&serve(&client, &more));
                if result["resultType"] == "complete" {
                    assert!(result.to_string().contains("Call `serve` again"), "{result}");
                    // One that nobody asks any more would be served for ever.
                    assert_eq!(ended, 0, "a call has eight rounds");
                    (ended, more) = (ended + 1, json!({}));
                    continue;
                }
                let (_, text) = question(&result);
                more = answers(&result, &said(&format!("re: {text}")));
                rounds.push(text);
            }
            // The last answers are brought by a call of which nobody waits for the end.
            let mut params = json!({ "name": "serve", "arguments": {} });
            params["requestState"] = more["requestState"].clone();
            params["inputResponses"] = more["inputResponses"].clone();
            (rounds, ended, client.send(&client.body("tools/call", params, &json!({}))))
        });
        let mut before = None;
        super::client::until(|| models(&program).first().cloned());
        for number in 0..10 {
            let text = format!("number {number}");
            let answered = whole(ask(&program, "c", &text, &json!({})));
            assert_eq!(content(&answered), format!("re: {text}"));
            let session = session(&program);
            assert_eq!(before.get_or_insert_with(|| session.clone()), &session, "it is one session");
        }
        let (rounds, ended, open) = serving.join().unwrap();
        assert_eq!(rounds.len(), 10);
        assert_eq!(ended, 1, "a call has eight rounds");
        // Who closes its call has left.
        drop(open);
        super::client::until(|| models(&program).is_empty().then_some(()));
    });
}

#[test]
fn a_state_is_for_one_round_of_one_client() {
    let program = Program::start("");
    let client = client(&program);
    let open = client.send(&client.body("tools/call", json!({ "name": "serve" }), &json!({})));
    super::client::until(|| models(&program).first().cloned());
    let waiting = ask(&program, "c", "one", &json!({}));
    let asked = result(&whole(open));
    let right = answers(&asked, &said("1"));
    let state = asked["requestState"].as_str().unwrap();
    let forged = format!("{}x", &state[..state.len() - 1]);
    for (member, wrong) in [("requestState", json!(forged)), ("inputResponses", json!([])), ("requestState", json!(1))] {
        let mut more = right.clone();
        more[member] = wrong;
        let refused = serve(&client, &more);
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32602)), "{refused:?}");
    }
    let mut params = json!({ "name": "serve" });
    params["requestState"] = right["requestState"].clone();
    params["inputResponses"] = right["inputResponses"].clone();
    let again = client.send(&client.body("tools/call", params, &json!({})));
    assert_eq!(content(&whole(waiting)), "1");
    let refused = serve(&client, &right);
    assert_eq!(refused.json()["error"]["code"], -32602, "it was used");
    // One that misses an answer is asked again.
    let waiting = ask(&program, "c", "two", &json!({}));
    let asked = result(&whole(again));
    let without = json!({ "requestState": asked["requestState"], "inputResponses": {} });
    let asked = result(&serve(&client, &without));
    assert_eq!(question(&asked).1, "two");
    let mut params = json!({ "name": "serve" });
    let more = answers(&asked, &said("2"));
    params["requestState"] = more["requestState"].clone();
    params["inputResponses"] = more["inputResponses"].clone();
    let _open = client.send(&client.body("tools/call", params, &json!({})));
    assert_eq!(content(&whole(waiting)), "2");
}

#[test]
fn two_calls_are_two_agents() {
    let program = Program::start("");
    let client = client(&program);
    let call = || client.send(&client.body("tools/call", json!({ "name": "serve" }), &json!({})));
    let open = [call(), call()];
    let counted = || {
        let listed = program.request("GET", "/control/sessions", Some(OPERATOR), "").json();
        listed["sessions"].as_array().or(listed.as_array()).unwrap().len()
    };
    super::client::until(|| (counted() == 2).then_some(()));
    let waiting = ["left", "right"].map(|text| ask(&program, "c", text, &json!({})));
    let mut texts = Vec::new();
    let mut again = Vec::new();
    // An agent that has answered before the other question came may be asked that one too.
    let rounds = open.map(|call| result(&whole(call)));
    for asked in rounds {
        let (_, text) = question(&asked);
        let more = answers(&asked, &said(&text));
        let mut params = json!({ "name": "serve" });
        params["requestState"] = more["requestState"].clone();
        params["inputResponses"] = more["inputResponses"].clone();
        again.push(client.send(&client.body("tools/call", params, &json!({}))));
        texts.push(text);
    }
    texts.sort();
    assert_eq!(texts, ["left", "right"]);
    for (answer, text) in waiting.into_iter().zip(["left", "right"]) {
        assert_eq!(content(&whole(answer)), text);
    }
}

#[test]
fn who_has_not_declared_sampling_is_told_so() {
    let program = Program::start("");
    let mut client = Client::new(&program, BRIDGE, json!({}));
    client.path = "/mcp/agent";
    let refused = serve(&client, &json!({}));
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["code"]), (400, &json!(-32021)), "{refused:?}");
    assert_eq!(error["data"]["requiredCapabilities"], json!({ "sampling": {} }));
    let missing = client.ask("prompts/list", json!({}));
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!(-32601)));
}

#[test]
fn a_call_that_is_long_open_has_a_heartbeat_and_then_its_questions() {
    let program = Program::start("gateway: { timeouts: { heartbeat: 1s } }\nmcpServers: {}\n");
    let client = client(&program);
    let mut open = Events::read(client.send(&client.body("tools/call", json!({ "name": "serve" }), &json!({}))));
    assert_eq!(open.head.header("content-type"), Some("text/event-stream"));
    let _waiting = ask(&program, "c", "late", &json!({}));
    let message = open.untagged();
    assert_eq!(question(&message["result"]).1, "late");
}
