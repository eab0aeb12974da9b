//! Bridges over TLS, whose certificates a private root has signed.

use crate::agent::Agent;
use crate::program::{CLIENT, OPERATOR, PATIENCE, Program};
use mcp_local_provider_tests::certificates::Authority;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

type Secure = StreamOwned<ServerConnection, TcpStream>;

/// The next connection, with TLS, whose handshake is not made yet.
fn accept(listener: &TcpListener, server: &Arc<ServerConfig>) -> Secure {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ServerConnection::new(server.clone()).unwrap(), stream)
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Writes a file of roots, which goes when the test ends.
pub struct Roots(PathBuf);

impl Roots {
    pub fn new(authority: &Authority) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "provider-roots-{}-{}.pem",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn start(roots: &Roots, bridges: &[(&str, String)]) -> Program {
    let roots = roots.path().display();
    let mut config = format!("tls: {{ ca_file: \"{roots}\" }}\nbridges:\n");
    for (name, url) in bridges {
        config.push_str(&format!(
            "  - {{ name: {name}, url: \"{url}\", connect_timeout: 2s, reconnect_delay: 10ms, reconnect_max_delay: 20ms }}\n"
        ));
    }
    Program::start(&config)
}

#[test]
fn a_bridge_over_tls_is_asked_and_dialled_again_when_it_was_gone() {
    let authority = Authority::new();
    let server = authority.server(&["localhost"]);
    let roots = Roots::new(&authority);
    let (mut listener, address) = listen();
    let url = format!("wss://localhost:{}/agents", address.port());
    let program = start(&roots, &[("secure", url)]);
    let text = "more than one record of TLS ".repeat(4000);
    for round in ["first", "second", "third"] {
        let mut agent = Agent::taken(accept(&listener, &server));
        let protocol = agent.socket.get_ref().conn.alpn_protocol();
        assert_eq!(protocol, Some(&b"http/1.1"[..]));
        agent.send(&json!({ "type": "register", "agent_id": "out", "models": ["m"] }));
        assert_eq!(agent.receive()["type"], "registered");
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": text }] });
        let mut client = program.open(
            "POST",
            "/v1/chat/completions",
            Some(CLIENT),
            &body.to_string(),
        );
        let (id, invocation) = agent.invocation();
        assert!(invocation.to_string().contains(&text));
        agent.chunk(&id, 0, round);
        agent.chunk(&id, 1, &text);
        agent.finish(&id, 2);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(round) && answer.contains(&text), "{answer}");
        if round == "first" {
            // It closes in order, and the program dials again at once.
            agent.socket.close(None).unwrap();
            while agent.socket.read().is_ok() {}
        } else if round == "second" {
            // Nobody listens for a while, and the connection is cut off.
            drop(listener);
            drop(agent);
            program.wait_for_log("it ended without TLS's close_notify");
            program.wait_for_log("it cannot be reached: Connection refused");
            listener = TcpListener::bind(address).unwrap();
        }
    }
}

#[test]
fn a_wrong_certificate_is_refused_and_told_by_name() {
    let authority = Authority::new();
    let roots = Roots::new(&authority);
    let bridges = [
        ("stranger", Authority::new().server(&["localhost"])),
        ("other-name", authority.server(&["bridge.test", "10.1.2.3"])),
        ("expired", authority.server_until(&["localhost"], 2020)),
    ];
    let urls = bridges.map(|(name, server)| {
        let (listener, address) = listen();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut connection = ServerConnection::new(server.clone()).unwrap();
                connection.complete_io(&mut stream).expect_err(name);
            }
        });
        (name, format!("wss://localhost:{}", address.port()))
    });
    let program = start(&roots, &urls);
    let told = [
        "its TLS certificate is signed by an issuer that is not trusted here: name a file with the issuer's root certificate in `tls.ca_file`",
        "its TLS certificate is not for `localhost`, but for `bridge.test`, `10.1.2.3`",
        "its TLS certificate has expired",
    ];
    for text in told {
        program.wait_for_log(text);
    }
    let health = program.request("GET", "/health/deep", Some(OPERATOR), "");
    let doctor = program.command(&["doctor"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    for ((name, _), text) in urls.iter().zip(told) {
        assert!(health.body.contains(text), "{}", health.body);
        let line = doctor
            .lines()
            .find(|line| line.contains(&format!("bridge        {name} ")));
        assert!(
            line.is_some_and(|line| line.starts_with("warn") && line.contains(text)),
            "{doctor}"
        );
    }
    assert!(!program.log().contains("connected"), "{}", program.log());
}

#[test]
fn a_server_that_speaks_no_tls_is_told_of() {
    let (plain, plain_address) = listen();
    let (closing, closing_address) = listen();
    let (_silent, silent_address) = listen();
    let roots = Roots::new(&Authority::new());
    let urls = [
        ("plain", plain_address),
        ("closing", closing_address),
        ("silent", silent_address),
    ]
    .map(|(name, address)| (name, format!("wss://{address}")));
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    std::thread::spawn(move || {
        for stream in closing.incoming() {
            let mut hello = [0; 4096];
            let _ = stream.unwrap().read(&mut hello);
        }
    });
    let program = start(&roots, &urls);
    program.wait_for_log("it does not speak TLS");
    program.wait_for_log("it closed the connection at the start of TLS");
    program.wait_for_log("it does not answer");
}

#[test]
fn doctor_finds_a_bridge_over_tls_that_can_be_used() {
    let authority = Authority::new();
    let roots = Roots::new(&authority);
    let server = authority.server(&["127.0.0.1"]);
    let (listener, address) = listen();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = ServerConnection::new(server.clone()).unwrap();
            let _ = connection.complete_io(&mut stream);
        }
    });
    let program = start(&roots, &[("good", format!("wss://{address}"))]);
    let doctor = program.command(&["doctor"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        doctor.contains("good accepts connections, and its TLS certificate is trusted"),
        "{doctor}"
    );
}
