//! Connections of the registry, on both drivers: what an address leads to is held against the list before anything is connected to,
//! and no proxy is asked.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::http_client::{Call, CallError, CallTimes, HttpRequest, Part};
use mcp_local_provider_engine::pipe::AddressRefused;
use mcp_local_provider_engine::proxy::{Proxies, Route};
use mcp_local_provider_engine::registry_permits::{HostEntry, Permits};
use mcp_local_provider_engine::{Config, Driver, Engine};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

const TIMES: CallTimes = CallTimes {
    connect: Duration::from_secs(20),
    answer: Duration::from_secs(20),
    progress: Duration::from_secs(20),
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn finish(mut call: Call) -> Result<(), CallError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut body = Vec::new();
    loop {
        match call.poll(Instant::ZERO, &waker, &mut body) {
            Poll::Ready(Ok(Part::End)) => return Ok(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => thread::park_timeout(Duration::from_secs(20)),
        }
    }
}

fn ask(engine: &Arc<Engine>, route: Route) -> Result<(), CallError> {
    let request = HttpRequest {
        method: "GET",
        path: "/".to_owned(),
        headers: Vec::new(),
        body: None,
    };
    let client = engine.http_client();
    finish(client.call(Instant::ZERO, route, request, TIMES)?)
}

/// Address that a call was refused, before anything was connected to.
fn refused(asked: Result<(), CallError>) -> AddressRefused {
    let Err(CallError::Unreachable(error)) = asked else {
        panic!("{asked:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    AddressRefused::of(&error).unwrap()
}

fn permits(list: &[&str]) -> Permits {
    let entries = list.iter();
    entries
        .map(|entry| entry.parse::<HostEntry>().unwrap())
        .collect()
}

/// A server that answers so many connections, and tells how many came.
fn server(listener: TcpListener, connections: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut client, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = client.read(&mut head).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            client.write_all(answer).unwrap();
        }
        listener.set_nonblocking(true).unwrap();
        let more = listener.accept().map(drop).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock, "one more came");
    })
}

fn fenced<D: Driver>() {
    let provider = D::start(Config::new(HubConfig::default())).unwrap();
    let engine = provider.engine();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A proxy that would ask for anything.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let variable = |name: &str| (name == "ALL_PROXY").then(|| format!("http://{address}"));
    engine.set_proxies(Proxies::of(variable));
    let targets = |list: &[&str]| {
        let permits = permits(list);
        let target = |scheme: &str, host: &str| permits.http(scheme, host, Some(port)).unwrap();
        [target("http", "localhost"), target("https", "localhost")]
    };
    // The name is listed, and leads to this machine, which is not.
    for target in targets(&["localhost"]) {
        for _ in 0..2 {
            let refused = refused(ask(engine, target.route()));
            assert!(refused.0.is_loopback(), "{refused:?}");
        }
    }
    let other = format!("127.0.0.1:{}", port ^ 1);
    for target in targets(&["localhost", &other]) {
        assert!(refused(ask(engine, target.route())).0.is_loopback());
    }
    // One that another part of the program has connected to, and left open, is not taken.
    let plain = permits(&["localhost", "127.0.0.1", "::1"]);
    let plain = plain.http("http", "localhost", Some(port)).unwrap();
    let asked = server(listener, 2);
    let unfenced = Route::to(plain.origin.clone(), &Proxies::default()).unwrap();
    ask(engine, unfenced).unwrap();
    ask(engine, plain.route()).unwrap();
    asked.join().unwrap();
    // No proxy was asked for any of them; whoever asks for what is public does not ask one either.
    let public = permits(&["192.0.2.1"]);
    let public = public.http("http", "192.0.2.1", Some(port)).unwrap();
    assert_eq!(public.route().first_hop(), ("192.0.2.1", port));
    proxy.set_nonblocking(true).unwrap();
    let came = proxy.accept().map(drop).unwrap_err();
    assert_eq!(came.kind(), io::ErrorKind::WouldBlock);
    provider.handle().stop();
    provider.join();
}

#[test]
fn tasks_connect_to_what_is_permitted_alone() {
    fenced::<mcp_local_provider::Provider>();
}

#[test]
fn threads_connect_to_what_is_permitted_alone() {
    fenced::<mcp_local_provider_blocking::Provider>();
}
