//! A program that was stopped (`SIGSTOP`, a debugger, a machine without memory): what came meanwhile waits in its sockets, and
//! counts as come in time.

use crate::agent::Agent;
use crate::failures::ask;
use crate::program::{Answer, CLIENT, Folder, PATIENCE, Program};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than the deadlines of these tests.
const LONG: Duration = Duration::from_millis(1500);

/// Conversations at once, so that many tasks or threads find themselves late in whatever order.
const AT_ONCE: usize = 12;

/// A deadline that does not pass while the test prepares its stop, and a longer time.
const DEADLINE: &str = "2s";
const LONGER: Duration = Duration::from_millis(2500);

/// Stops the program while `meanwhile` happens, for longer than its deadlines.
fn stopped(program: &Program, client: &mut TcpStream, meanwhile: impl FnOnce()) {
    stopped_for(LONG, program, client, meanwhile);
}

fn stopped_for(
    time: Duration,
    program: &Program,
    client: &mut TcpStream,
    meanwhile: impl FnOnce(),
) {
    program.signal("STOP");
    let state = format!("/proc/{}/stat", program.child.id());
    while !std::fs::read_to_string(&state).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    meanwhile();
    // The deadlines pass while somebody listens to it in vain.
    client.set_read_timeout(Some(time)).unwrap();
    let mut nothing = Vec::new();
    let heard = client.read_to_end(&mut nothing).unwrap_err();
    assert_eq!(heard.kind(), ErrorKind::WouldBlock);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    program.signal("CONT");
}

fn rest(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    Answer::parse(&bytes)
}

#[test]
fn what_an_agent_said_meanwhile_is_not_late() {
    let program = Program::start("timeouts: { first_chunk: 1s, idle: 1s }\n");
    let mut agent = Agent::connect(&program);
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for number in 0..AT_ONCE {
        clients.push(ask(&program, number % 2 == 0));
        ids.push(agent.invocation().0);
    }
    let mut listens = program.connect();
    stopped(&program, &mut listens, || {
        for id in &ids {
            agent.chunk(id, 0, "in time");
            agent.finish(id, 1);
        }
    });
    for mut client in clients {
        let answer = rest(&mut client);
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains("in time"), "{}", answer.body);
    }
}

#[test]
fn what_a_client_sent_meanwhile_is_not_late() {
    let program = Program::start("timeouts: { head: 1s, body: 1s }\n");
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CLIENT}\r\n");
    let body = r#"{"model":"nobody","input":"x"}"#;
    let end = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut clients: Vec<(TcpStream, String)> = (0..AT_ONCE)
        .map(|number| {
            // Half of the head, or head and half of the body.
            let whole = format!("{head}{end}{body}");
            let cut = whole.len() - if number % 2 == 0 { body.len() + 20 } else { 7 };
            let (first, second) = whole.split_at(cut);
            (program.raw(first), second.to_owned())
        })
        .collect();
    // By now the program has read what came before.
    assert_eq!(program.get("/v1/models").status, 200);
    let mut listens = program.connect();
    stopped(&program, &mut listens, || {
        for (client, second) in &mut clients {
            client.write_all(second.as_bytes()).unwrap();
        }
    });
    for (mut client, second) in clients {
        let answer = rest(&mut client);
        // Nobody is there who could answer.
        assert_eq!(answer.status, 503, "after {second}: {}", answer.body);
    }
}

#[test]
fn a_client_that_read_meanwhile_is_not_slow() {
    let program = Program::start("timeouts: { write: 1s }\n");
    let mut agent = Agent::connect(&program);
    // More than the sockets between us hold.
    let text = "x".repeat(700 << 10);
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = ask(&program, true);
        let (id, _) = agent.invocation();
        agent.chunk(&id, 0, &text);
        agent.finish(&id, 1);
        let mut seen = vec![0];
        client.read_exact(&mut seen).unwrap();
        clients.push((client, seen));
    }
    let mut listens = program.connect();
    stopped(&program, &mut listens, || {
        for (client, seen) in &mut clients {
            client
                .set_read_timeout(Some(Duration::from_millis(10)))
                .unwrap();
            let emptied = client.read_to_end(seen).unwrap_err();
            assert_eq!(emptied.kind(), ErrorKind::WouldBlock);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
        }
    });
    for (mut client, mut seen) in clients {
        client.read_to_end(&mut seen).unwrap();
        let answer = Answer::parse(&seen);
        assert!(answer.body.contains("[DONE]"), "the answer is cut");
    }
}

/// Answers with more than the program reads before others get their turn.
fn say_much(agent: &mut Agent, ids: &[String]) {
    let text = "x".repeat(32 << 10);
    for id in ids {
        agent.chunk(id, 0, &text);
    }
    for id in ids {
        agent.finish(id, 1);
    }
}

#[test]
fn a_place_that_an_agent_gave_up_meanwhile_is_given_to_who_waits() {
    let program = Program::start(&format!(
        "limits: {{ queue: {{ wait: {DEADLINE} }} }}\n"
    ));
    let registration = json!({ "agent_id": "it", "models": ["m"], "max_concurrency": AT_ONCE });
    let mut agent = Agent::connect_as(&program, registration);
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| ask(&program, false)).collect();
    let first: Vec<_> = clients.iter().map(|_| agent.invocation().0).collect();
    clients.extend((0..AT_ONCE).map(|_| ask(&program, false)));
    program.wait_for_queue(AT_ONCE);
    let mut listens = program.connect();
    stopped_for(LONGER, &program, &mut listens, || {
        say_much(&mut agent, &first);
    });
    for _ in 0..AT_ONCE {
        let (id, _) = agent.invocation();
        agent.finish(&id, 0);
    }
    for mut client in clients {
        let answer = rest(&mut client);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn what_an_agent_said_before_its_session_expired_meanwhile_is_answered() {
    let program = Program::start("sessions: { renew: never, ttl_seconds: 2 }\n");
    let mut agent = Agent::connect(&program);
    let clients: Vec<_> = (0..AT_ONCE).map(|_| ask(&program, false)).collect();
    let ids: Vec<_> = clients.iter().map(|_| agent.invocation().0).collect();
    let mut listens = program.connect();
    stopped_for(LONGER, &program, &mut listens, || say_much(&mut agent, &ids));
    for mut client in clients {
        let answer = rest(&mut client);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn what_an_agent_said_before_the_end_of_a_drain_meanwhile_is_answered() {
    let program = Program::start(&format!("timeouts: {{ drain: {DEADLINE} }}\n"));
    let mut agent = Agent::connect(&program);
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| ask(&program, false)).collect();
    let ids: Vec<_> = clients.iter().map(|_| agent.invocation().0).collect();
    program.signal("TERM");
    while program.get("/health").json()["status"] != "draining" {
        std::thread::yield_now();
    }
    stopped_for(LONGER, &program, &mut clients[0], || say_much(&mut agent, &ids));
    for mut client in clients {
        let answer = rest(&mut client);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// An agent that has its first session when `$GO` is there, and tells with `$ASKED` that it was asked for one.
const SLOW_AGENT: &str = r#"
number=0
while read -r line; do
    id=${line#*'"id":'}; id=${id%%,*}
    case $line in
    *'"method":"initialize"'*) result='{"protocolVersion":1,"agentCapabilities":{}}' ;;
    *'"method":"session/new"'*)
        : >"$ASKED"
        number=$((number + 1))
        until [ -e "$GO" ]; do sleep 0.01; done
        result="{\"sessionId\":\"s$number\"}" ;;
    *) result='{"stopReason":"end_turn"}' ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

#[test]
fn an_agent_that_got_ready_meanwhile_is_not_late() {
    let folder = Folder::new();
    let [asked, go] = ["asked", "go"].map(|name| folder.0.join(name));
    let agents = json!([{ "name": "m", "command": ["/bin/sh", "-c", SLOW_AGENT], "start_timeout": DEADLINE,
        "env": { "ASKED": asked, "GO": go }, "concurrency": AT_ONCE }]);
    let program = Program::start(&format!("agents: {agents}\n"));
    let clients: Vec<_> = (0..AT_ONCE).map(|_| ask(&program, false)).collect();
    program.wait_for_queue(AT_ONCE);
    while !asked.exists() {
        std::thread::yield_now();
    }
    let mut listens = program.connect();
    stopped_for(LONGER, &program, &mut listens, || {
        std::fs::write(&go, "").unwrap();
    });
    for mut client in clients {
        let answer = rest(&mut client);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}
