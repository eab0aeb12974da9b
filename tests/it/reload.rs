//! Another configuration while the program serves.

use crate::agent::{Agent, dial};
use crate::program::{BRIDGE, CLIENT, OPERATOR, Program, write_config};

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
    assert!(
        program
            .log()
            .contains("what has changed of listen holds from the next start on"),
        "{}",
        program.log()
    );
}
