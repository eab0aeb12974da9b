//! The diagrams of ARCHITECTURE.md are drawn from the tables that the machines go by, and no row of a table is dead.
//!
//! `UPDATE_DIAGRAMS=1 cargo test -p mcp-local-provider-tests --test diagrams` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mcp_local_provider_core::agents::acp::{self, Config, Profile};
use mcp_local_provider_core::config::{CircuitLimits, HubConfig};
use mcp_local_provider_core::hub::circuit::Circuit;
use mcp_local_provider_core::hub::sessions::Action;
use mcp_local_provider_core::hub::{Dialled, Hello, Hub, HubOut, Requester};
use mcp_local_provider_core::link::{Notice, Registration};
use mcp_local_provider_core::machine::Table;
use mcp_local_provider_core::process::{Life, Rules};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::http1::{
    self, ConnectionLimits, HeadLimits, SMALL_REST, ServerConnection,
};
use mcp_local_provider_core::{agent, exchange, hub, link, process};
use mcp_local_provider_engine::audit::Audit;
use mcp_local_provider_engine::http_client::{self, CallTimes, HttpClient, HttpRequest};
use mcp_local_provider_engine::pool::Pool;
use mcp_local_provider_engine::proxy::{Origin, Proxies, Route};
use mcp_local_provider_engine::{self as engine, Engine, Handle, Housekeeper, Outside};
use mcp_local_provider_tests::acp::turmoil::{EVENTS, Turmoil};
use mcp_local_provider_tests::acp::{Bench, NAME, transcript};
use mcp_local_provider_tests::scripted_pipe::{Opener, Server, Step};
use mcp_local_provider_tests::world;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

const TABLES: [(&str, &Table); 11] = [
    ("core::wire::http1::STATES", &http1::STATES),
    ("core::hub::sessions::STATES", &hub::sessions::STATES),
    ("core::hub::circuit::STATES", &hub::circuit::STATES),
    ("core::link::SLOT", &link::SLOT),
    ("core::exchange::STATES", &exchange::STATES),
    ("core::process::STATES", &process::STATES),
    ("core::agent::STATES", &agent::STATES),
    ("core::agents::acp::OPENING", &acp::OPENING),
    ("core::agents::acp::SESSION", &acp::SESSION),
    ("engine::http_client::STATES", &http_client::STATES),
    ("engine::PHASES", &engine::PHASES),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

const OPENING: &str = "```mermaid\nstateDiagram-v2\n";

fn mark(name: &str) -> String {
    format!("    %% drawn from {name}\n")
}

/// The block of a table. Moves between the same two states share an arrow.
fn draw(name: &str, table: &Table) -> String {
    let mut arrows: Vec<(&str, &str, String)> = Vec::new();
    for row in table.moves() {
        let known = arrows
            .iter_mut()
            .find(|(from, to, _)| (*from, *to) == (row.from, row.to));
        match known {
            Some((_, _, when)) => {
                when.push_str("<br/>");
                when.push_str(row.when);
            }
            None => arrows.push((row.from, row.to, row.when.into())),
        }
    }
    let mut block = String::from(OPENING);
    block.push_str(&mark(name));
    for (from, to, when) in arrows {
        block.push_str(&format!("    {from} --> {to}: {when}\n"));
    }
    block.push_str("```\n");
    block
}

#[test]
fn the_diagrams_are_those_of_the_tables() {
    let path = root().join("ARCHITECTURE.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let mut wrong = Vec::new();
    for (name, table) in TABLES {
        let drawn = draw(name, table);
        let start = format!("{OPENING}{}", mark(name));
        let at = page
            .find(&start)
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no diagram that begins\n{start}"));
        let length = page[at + 3..].find("```\n").unwrap() + 7;
        if page[at..at + length] != drawn {
            page.replace_range(at..at + length, &drawn);
            wrong.push(drawn);
        }
    }
    assert_eq!(
        page.matches("stateDiagram-v2").count(),
        TABLES.len(),
        "a diagram of states is not drawn from a table"
    );
    if std::env::var_os("UPDATE_DIAGRAMS").is_some() {
        std::fs::write(path, page).unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "UPDATE_DIAGRAMS=1 writes them:\n{}",
            wrong.join("\n")
        );
    }
}

/// Every machine panics on a move that its table lacks, in all tests. Here the other half: what the table has is used.
#[test]
fn every_move_of_a_table_is_made() {
    for seed in 0..800 {
        world::run(&world::input(seed));
    }
    for path in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("acp")).unwrap() {
        let script = std::fs::read_to_string(path.unwrap().path()).unwrap();
        assert!(!transcript::play(&script).is_empty());
    }
    for seed in 0..200 {
        let mut turmoil = Turmoil::new(seed % 2 == 0, seed % 4 == 0, 3);
        for byte in world::input(seed).into_iter().take(120) {
            turmoil.happen(byte % EVENTS);
        }
        turmoil.heal();
    }
    rare_ends_of_a_process();
    a_suspended_session_that_is_carried();
    a_shutdown();
    connections_of_clients();
    lives_of_children();
    calls_of_servers();
    circuits();
    lives_of_agents();
    let mut dead = Vec::new();
    for (name, table) in TABLES {
        for row in table.untaken() {
            dead.push(format!("{name}: {} --> {}: {}", row.from, row.to, row.when));
        }
    }
    assert!(dead.is_empty(), "nothing makes\n{}", dead.join("\n"));
}

fn circuits() {
    let mut circuit = Circuit::new(CircuitLimits {
        failures: 1,
        pause: Duration::from_secs(1),
    });
    let mut now = Instant::ZERO;
    for _ in 0..2 {
        circuit.failed(now);
        now = circuit.open_until().unwrap();
        circuit.handle_timeout(now);
    }
    circuit.succeeded();
}

fn rare_ends_of_a_process() {
    let agent = || Bench::new(Profile::new(NAME), Config::new("/tmp/empty"));
    let mut stopped_early = agent();
    stopped_early.call(|agent, now, out, link| agent.stop(now, out, link));
    let mut stopped_while_down = agent();
    stopped_while_down.exited("no such file");
    stopped_while_down.exited("no such file");
    stopped_while_down.call(|agent, now, out, link| agent.stop(now, out, link));
    let mut without_login = agent();
    without_login.started();
    without_login.writes_line(r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}"#);
    without_login.writes_line(
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"log in first"}}"#,
    );
    without_login.exited("exit status: 1");
}

fn a_suspended_session_that_is_carried() {
    let now = Instant::from_micros(1);
    let mut hub = Hub::new(HubConfig::default(), [7; 32], now, Duration::ZERO);
    let mut out = HubOut::default();
    let bridge = Hello {
        token: Some("bridge"),
        dialled: Some(Dialled::default()),
    };
    let link = hub.connect(now, bridge, &mut out).unwrap();
    let registration = Registration {
        agent_id: NAME.into(),
        ..Registration::default()
    };
    hub.handle_notice(now, link, Notice::Register(registration), &mut out);
    let id = hub.sessions().iter().next().unwrap().id.clone();
    let requester = Requester::Provider;
    hub.control(now, requester, id.as_str(), Action::Suspend, &mut out)
        .unwrap();
    hub.disconnected(now, link, &mut out);
    hub.connect(now, bridge, &mut out).unwrap();
    for action in [Action::Renew, Action::Revoke] {
        hub.control(now, requester, id.as_str(), action, &mut out)
            .unwrap();
    }
}

/// Time stands still, and nothing is dialled.
struct Still;

impl Outside for Still {
    fn now(&self) -> Instant {
        Instant::from_micros(1)
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

fn a_shutdown() {
    let engine = Engine::new(HubConfig::default(), [7; 32], Arc::new(Still), Audit::off());
    let mut housekeeper = Housekeeper::new(engine.clone());
    housekeeper.poll(Waker::noop());
    Handle::new(engine.clone()).shutdown();
    housekeeper.poll(Waker::noop());
    assert!(engine.is_stopped());
}

/// Every short series of events on a connection of a client.
fn connections_of_clients() {
    const EVENTS: u32 = 10;
    const LENGTH: u32 = 5;
    let rest = usize::try_from(SMALL_REST).unwrap() + 1;
    let more = format!("{rest:x}\r\n");
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        for series in 0..EVENTS.pow(LENGTH) {
            let limits = ConnectionLimits {
                sizes: HeadLimits::default(),
                head: Duration::from_secs(1),
                body: Duration::from_secs(1),
            };
            let mut now = Instant::from_micros(1);
            let mut connection = ServerConnection::new(now, limits, false);
            for place in 0..LENGTH {
                let input = match series / EVENTS.pow(place) % EVENTS {
                    0 => bytes,
                    1 => "G",
                    2 => &more,
                    3 => {
                        let _ = connection.read_body(now, 9);
                        ""
                    }
                    4 => {
                        let _ = connection.answer(200, Some(0), false);
                        ""
                    }
                    5 => {
                        connection.handle_answered(now, false);
                        ""
                    }
                    6 => {
                        let _ = connection.handle_end(now);
                        ""
                    }
                    7 => {
                        connection.handle_lost();
                        ""
                    }
                    8 => {
                        now = now + Duration::from_secs(99);
                        let _ = connection.handle_timeout(now);
                        ""
                    }
                    _ => {
                        connection.upgrade();
                        ""
                    }
                };
                let mut input = input.as_bytes();
                for _ in 0..3 {
                    let _ = connection.handle_read(now, &mut input);
                }
            }
        }
    }
}

/// Every short series of events of a child process.
fn lives_of_children() {
    const EVENTS: u32 = 7;
    const LENGTH: u32 = 6;
    for series in 0..EVENTS.pow(LENGTH) {
        let mut life = Life::new(Rules {
            attempts: Some(2),
            ..Rules::default()
        });
        let mut now = Instant::from_micros(1);
        let orders = &mut Vec::new();
        for place in 0..LENGTH {
            match series / EVENTS.pow(place) % EVENTS {
                0 => life.demand(now, orders),
                1 => life.restart(now, orders),
                2 => life.stop(now, orders),
                3 => life.handle_ready(now),
                4 => life.handle_failed(now, orders),
                5 => life.handle_exited(now, orders),
                _ => {
                    now = now + Duration::from_secs(9);
                    life.handle_timeout(now, orders);
                }
            }
        }
    }
}

/// Every short series of events of an agent.
fn lives_of_agents() {
    const EVENTS: u32 = 8;
    const LENGTH: u32 = 6;
    for series in 0..EVENTS.pow(LENGTH) {
        let (times, mut out) = (agent::Times::default(), VecDeque::new());
        let mut now = Instant::from_micros(1);
        let mut agent = agent::Agent::new(Registration::default(), times, 7, now);
        for place in 0..LENGTH {
            let frame = match series / EVENTS.pow(place) % EVENTS {
                0 => r#"{"type":"registered","session_id":"s","session_token":"t"}"#,
                1 => r#"{"type":"session_status","session_id":"s","status":"expired"}"#,
                event => {
                    match event {
                        2 | 3 => agent.handle_timeout(now, &mut out),
                        4 => agent.handle_connected(now, &mut out),
                        5 => agent.handle_lost(now, agent::Lost::Closed(None), &mut out),
                        6 => agent.handle_lost(now, agent::Lost::Refused(403), &mut out),
                        _ => agent.stop(&mut out),
                    }
                    now = now + Duration::from_secs(9);
                    continue;
                }
            };
            agent.handle_frame(now, frame, &mut out);
        }
    }
}

/// Every short series of events of a call, on a fresh pipe and on an idle one.
fn calls_of_servers() {
    const EVENTS: u32 = 6;
    const LENGTH: u32 = 5;
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let times = CallTimes {
        connect: Duration::from_secs(1),
        answer: Duration::from_secs(1),
        progress: Duration::from_secs(1),
    };
    let origin = Origin::of(&"http://a.example/".parse().unwrap()).unwrap();
    let route = Route::to(origin, &Proxies::default()).unwrap();
    for series in 0..2 * EVENTS.pow(LENGTH) {
        let mut now = Instant::from_micros(1);
        let (opener, pool) = (Arc::new(Opener::default()), Arc::new(Pool::default()));
        let server = Server::new([]);
        server.take_in_all(0);
        if series % 2 == 0 {
            opener.add(&server);
        } else {
            pool.put(now, route.clone(), server.pipe());
        }
        let request = HttpRequest {
            method: "GET",
            path: "/".to_owned(),
            headers: Vec::new(),
            body: None,
        };
        let client = HttpClient::new(opener, pool);
        let mut call = client.call(now, route.clone(), request, times).unwrap();
        for place in 0..LENGTH {
            match series / 2 / EVENTS.pow(place) % EVENTS {
                0 => server.take_in_all(1),
                1 => server.take_in_all(usize::MAX),
                2 => server.then(Step::bytes(ANSWER)),
                3 => server.then(Step::bytes("hi")),
                4 => {
                    server.then(Step::End);
                    server.refuse_writes(std::io::ErrorKind::BrokenPipe);
                }
                _ => now = now + Duration::from_secs(9),
            }
            for _ in 0..4 {
                let _ = call.poll(now, Waker::noop(), &mut Vec::new());
            }
        }
    }
}
