//! One HTTP request on a connection of its own in memory, and the alarm of whoever is polled when it was woken or its time has come.

use crate::response::{Head, Reader};
use mcp_local_provider_core::api::Listener;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::client_connection::{ClientConnection, Next, Wakers};
use mcp_local_provider_engine::listen::room;
use mcp_local_provider_engine::{Engine, Usage};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Polls of one connection that are more than anybody needs.
const RESTLESS: usize = 10_000;

/// Tells when somebody is to be polled.
pub(crate) struct Alarm {
    flag: Arc<Flag>,
    pub(crate) waker: Waker,
    pub(crate) until: Option<Instant>,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Alarm {
    /// Of somebody who has just begun, and is polled for that reason.
    pub(crate) fn new() -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self {
            waker: Waker::from(flag.clone()),
            flag,
            until: None,
        }
    }

    /// True when it is to be polled, of which the alarm forgets the reason.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let is_late = self.until.is_some_and(|until| until <= now);
        self.flag.0.swap(false, Ordering::Relaxed) || is_late
    }
}

struct Same<'w>(&'w Waker);

impl Wakers for Same<'_> {
    fn idle(&mut self) -> &Waker {
        self.0
    }

    fn answer(&mut self) -> &Waker {
        self.0
    }
}

/// One HTTP request on a connection of its own.
pub(crate) struct Exchange {
    connection: Option<ClientConnection>,
    unsent: Vec<u8>,
    reader: Reader,
    pub(crate) alarm: Alarm,
    pub(crate) head: Option<Head>,
    /// What has arrived of the body and was not read.
    pub(crate) arrived: Vec<u8>,
    /// The response is whole.
    pub(crate) is_whole: bool,
}

impl Exchange {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Self {
        let client = engine.connect().expect("limits.connections are many");
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        if matches!(method, "POST" | "PUT") {
            let _ = write!(request, "content-length: {}\r\n", body.len());
        }
        request.push_str("\r\n");
        request.push_str(body);
        Self {
            connection: Some(ClientConnection::new(
                client,
                [127, 0, 0, 1].into(),
                Listener::All,
            )),
            unsent: request.into_bytes(),
            reader: Reader::new(method),
            alarm: Alarm::new(),
            head: None,
            arrived: Vec::new(),
            is_whole: false,
        }
    }

    /// The client closes its connection. What it has not read is lost.
    pub(crate) fn cut(&mut self) {
        self.connection = None;
        self.arrived.clear();
        self.alarm.until = None;
    }

    /// True once nothing can come any more.
    pub(crate) const fn is_closed(&self) -> bool {
        self.connection.is_none()
    }

    /// Its task runs.
    pub(crate) fn poll(&mut self, now: Instant) {
        self.alarm.until = None;
        for _ in 0..RESTLESS {
            let Some(connection) = &mut self.connection else {
                return;
            };
            match connection.poll(&mut Same(&self.alarm.waker)) {
                Next::Write => {
                    let bytes = connection.unwritten().concat();
                    connection.wrote(bytes.len());
                    let (head, body) = self.reader.read(&bytes);
                    self.head = self.head.take().or(head);
                    self.arrived.extend(body);
                    if self.reader.is_whole() {
                        self.is_whole = true;
                        self.connection = None;
                    }
                }
                Next::Receive(_) if !self.unsent.is_empty() => {
                    let unsent = &mut self.unsent;
                    let receive = |into: &mut Vec<u8>| {
                        let count = unsent.len().min(room(into));
                        into.extend(unsent.drain(..count));
                        Ok(count)
                    };
                    connection.receive(receive).expect("memory does not fail");
                }
                Next::Receive(until) if until.is_some_and(|until| until <= now) => {
                    connection.late()
                }
                Next::Receive(until) | Next::Wait(until) => {
                    self.alarm.until = until;
                    return;
                }
                Next::Measure => connection.measured(Usage::default()),
                Next::Finish => {}
                Next::Upgraded => panic!("nobody asked for another protocol"),
                Next::Close => {
                    self.connection = None;
                    assert!(self.is_whole, "a connection ends within an answer");
                }
            }
        }
        panic!("a request never rests");
    }
}
