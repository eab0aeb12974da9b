//! Pipes in memory whose server follows a script, and who opens them.

use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::pipe::{Endpoint, Pipe};
use mcp_local_provider_engine::proxy::Open;
use mcp_local_provider_engine::tls::TlsError;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// Step of a server, one for each read of its client.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes that have come.
    Bytes(Vec<u8>),
    /// Nothing has come yet; the waker is woken at once.
    Pending,
    /// The server ends. It is the last step.
    End,
    /// The connection breaks. It is the last step.
    Fail(ErrorKind),
}

impl Step {
    /// Bytes that have come.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }
}

#[derive(Default)]
struct Shared {
    steps: VecDeque<Step>,
    written: Vec<u8>,
    /// Bytes that are still taken; beyond them writes are pending.
    room: usize,
    write_fails: Option<ErrorKind>,
    waker: Option<Waker>,
    is_closed: bool,
}

/// Server at the other end of one scripted pipe. Clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Mutex<Shared>>);

impl Server {
    /// A server with its steps, which takes all that is written. After its last step it is silent.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            steps: steps.into_iter().collect(),
            room: usize::MAX,
            ..Shared::default()
        })))
    }

    /// A server that sends these bytes and is silent.
    pub fn sending(bytes: impl AsRef<[u8]>) -> Self {
        Self::new([Step::bytes(bytes)])
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    /// The client's end.
    pub fn pipe(&self) -> Box<dyn Pipe> {
        Box::new(Scripted(self.clone()))
    }

    /// Adds a step, and wakes the client.
    pub fn then(&self, step: Step) {
        self.shared().steps.push_back(step);
        self.wake();
    }

    /// Takes so many bytes from now on.
    pub fn take_in_all(&self, room: usize) {
        self.shared().room = room;
        self.wake();
    }

    /// Breaks the connection for whoever writes from now on.
    pub fn refuse_writes(&self, kind: ErrorKind) {
        self.shared().write_fails = Some(kind);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.shared().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// All that was written.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.shared().written).into_owned()
    }

    /// True when the client has dropped its pipe.
    pub fn is_closed(&self) -> bool {
        self.shared().is_closed
    }
}

struct Scripted(Server);

impl Drop for Scripted {
    fn drop(&mut self) {
        self.0.shared().is_closed = true;
    }
}

impl Pipe for Scripted {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.shared();
        match shared.steps.pop_front() {
            None => {
                shared.waker = Some(waker.clone());
                Poll::Pending
            }
            Some(Step::Pending) => {
                drop(shared);
                waker.wake_by_ref();
                Poll::Pending
            }
            Some(Step::Bytes(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(most));
                if !rest.is_empty() {
                    shared.steps.push_front(Step::Bytes(rest));
                }
                into.extend_from_slice(&bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            Some(Step::End) => {
                shared.steps.push_front(Step::End);
                Poll::Ready(Ok(0))
            }
            Some(Step::Fail(kind)) => {
                shared.steps.push_front(Step::Fail(kind));
                Poll::Ready(Err(kind.into()))
            }
        }
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.0.shared();
        if let Some(kind) = shared.write_fails {
            return Poll::Ready(Err(kind.into()));
        }
        let count = bytes.len().min(shared.room);
        if count == 0 && !bytes.is_empty() {
            shared.waker = Some(waker.clone());
            return Poll::Pending;
        }
        shared.room -= count;
        shared.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
}

/// Opens scripted pipes one after the other, and notes for whom.
pub struct Opener {
    servers: Mutex<VecDeque<Server>>,
    opened: Mutex<Vec<String>>,
    budget: Budget,
}

impl Default for Opener {
    /// With as much memory as anybody wants.
    fn default() -> Self {
        Self::within(Budget::new(usize::MAX))
    }
}

impl Opener {
    /// For pipes that share a budget.
    pub fn within(budget: Budget) -> Self {
        Self {
            servers: Mutex::default(),
            opened: Mutex::default(),
            budget,
        }
    }

    /// Adds the server of a pipe that is opened later.
    pub fn add(&self, server: &Server) {
        self.servers.lock().unwrap().push_back(server.clone());
    }

    /// Pipes that were opened since the last call: `tcp host:port`, `tls host`.
    pub fn opened(&self) -> Vec<String> {
        std::mem::take(&mut self.opened.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.opened.lock().unwrap().push(what);
    }
}

impl Open for Opener {
    fn tcp(&self, endpoint: &Endpoint) -> Box<dyn Pipe> {
        self.note(format!("tcp {}:{}", endpoint.host, endpoint.port));
        let server = self.servers.lock().unwrap().pop_front();
        let server = server.unwrap_or_else(|| {
            let nobody = Server::new([Step::Fail(ErrorKind::ConnectionRefused)]);
            nobody.refuse_writes(ErrorKind::ConnectionRefused);
            nobody
        });
        server.pipe()
    }

    /// Notes the name; the bytes stay as they are.
    fn tls(&self, pipe: Box<dyn Pipe>, host: &str) -> Result<Box<dyn Pipe>, TlsError> {
        self.note(format!("tls {host}"));
        Ok(pipe)
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }
}
