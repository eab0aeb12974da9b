//! Upstreams that lead back to the program.

use super::ask::{EVERY, ask};
use super::server::{Api, entry};
use super::start;
use crate::program::{Folder, program, write_config};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::Arc;
use std::thread;

/// An address that leads to another, once that is known. It counts the connections.
struct Relay {
    address: SocketAddr,
    target: Sender<SocketAddr>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (target, told) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        thread::spawn(move || {
            let Ok(target) = told.recv() else { return };
            for client in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let Ok(server) = TcpStream::connect(target) else { return };
                let pair = [(&client, &server), (&server, &client)].map(|(from, to)| {
                    (from.try_clone().unwrap(), to.try_clone().unwrap())
                });
                for (mut from, mut to) in pair {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self {
            address,
            target,
            connections,
        }
    }
}

/// An entry for an instance of the program, whose clients' key is that of the tests.
fn instance(api: Api, name: &str, address: SocketAddr) -> String {
    let entry = entry(api, name, &format!("http://{address}"), ", models: [x], circuit: { failures: 0 }");
    entry.replace(super::SECRET, crate::program::CLIENT)
}

#[test]
fn two_instances_that_ask_each_other_end_it_with_508() {
    for api in Api::EVERY {
        let relay = Relay::new();
        let first = start(&instance(api, "second", relay.address), "");
        let second = start(&instance(api, "first", first.address), "");
        relay.target.send(second.address).unwrap();
        for as_client in EVERY {
            let told = ask(&first, as_client, "x");
            assert_eq!(told.answer.status, 508, "{api:?} {told:?}");
            assert!(!told.message().is_empty());
        }
        let connections = relay.connections.load(Ordering::Relaxed);
        assert!(connections <= EVERY.len(), "{connections} connections");
    }
}

#[test]
fn an_instance_that_asks_itself_by_another_way_ends_it_with_508() {
    let relay = Relay::new();
    let program = start(&instance(Api::OpenAi, "itself", relay.address), "");
    relay.target.send(program.address).unwrap();
    for as_client in EVERY {
        assert_eq!(ask(&program, as_client, "x").answer.status, 508);
    }
}

#[test]
fn an_upstream_at_an_own_address_ends_the_start() {
    let folder = Folder::new();
    // The port is free a moment later.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let upstream = entry(Api::OpenAi, "itself", &format!("http://{host}:{}", address.port()), "");
        let config = write_config(&folder.0, &address.to_string(), &format!("upstreams:\n{upstream}"));
        let ended = Command::new(program())
            .arg("--config")
            .arg(&config)
            .current_dir(&folder.0)
            .env("HOME", &folder.0)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("itself") || said.contains("upstreams"), "{said}");
        assert!(!said.contains(super::SECRET), "{said}");
    }
}
