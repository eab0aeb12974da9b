//! TLS over a pipe with faults, against rustls as the server.

use crate::certificates::Authority;
use crate::memory_pipe::{FarEnd, Fault, MemoryPipe, pipe as memory_pipe};
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::pipe::Pipe;
use mcp_local_provider_engine::tls::{Tls, Trust};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Wake, Waker};

const HOST: &str = "bridge.test";

/// However the bytes are cut on their way, and whatever happens to one of them, each side reads a prefix of what the other one
/// said; the client finds a clean end only behind all of it, sleeps only where nothing can be done, and fails for ever once it
/// has failed.
///
/// The first byte is the kind of the fault, two its place, two the lengths of what both say, in steps of 97 and 331 bytes. The
/// rest is the script of the pipe.
pub fn pipe(data: &[u8]) {
    let [kind, at_high, at_low, question, answer, script @ ..] = data else {
        return;
    };
    let at = usize::from(u16::from_be_bytes([*at_high, *at_low]));
    let fault = match kind % 5 {
        0 => Fault::None,
        1 => Fault::Cut(at),
        2 => Fault::Break(at),
        3 => Fault::DamageFromServer(at),
        _ => Fault::DamageToServer(at),
    };
    talk(
        fault,
        &text(usize::from(*question) * 97),
        &text(usize::from(*answer) * 331),
        script,
    );
}

fn text(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Trust and the server, made once.
fn both() -> &'static (Trust, Arc<ServerConfig>) {
    static BOTH: OnceLock<(Trust, Arc<ServerConfig>)> = OnceLock::new();
    BOTH.get_or_init(|| {
        let authority = Authority::new();
        let trust = Trust::only(vec![authority.root().clone()]);
        (trust, authority.server(&[HOST]))
    })
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn talk(fault: Fault, question: &[u8], answer: &[u8], script: &[u8]) {
    let (trust, server) = both();
    let (near, far) = memory_pipe(fault, script);
    let mut client = Client {
        tls: Tls::new(near, HOST, trust, &Budget::new(usize::MAX)).unwrap(),
        unsent: question,
        heard: Vec::new(),
        end: None,
    };
    let mut server = Server {
        tls: ServerConnection::new(server.clone()).unwrap(),
        far,
        heard: Vec::new(),
        question: question.len(),
        answer: Some(answer),
        has_failed: false,
        is_ended: false,
    };
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    while client.end.is_none() {
        let client_moves = woken.0.swap(false, Ordering::Relaxed);
        if client_moves {
            client.go_on(&waker);
        }
        let server_moves = server.go_on();
        if !client_moves && !server_moves {
            // A damaged length has one of them wait for bytes that are not to come, until the server gives up.
            let is_damaged = matches!(fault, Fault::DamageFromServer(_) | Fault::DamageToServer(_));
            assert!(
                is_damaged && !server.is_ended,
                "the client sleeps for ever: {fault:?}"
            );
            server.end();
        }
    }
    let end = client.end.take().unwrap();
    assert!(answer.starts_with(&client.heard), "{fault:?}");
    assert!(question.starts_with(&server.heard), "{fault:?}");
    match end {
        Ok(()) => assert_eq!(client.heard.len(), answer.len(), "{fault:?}"),
        Err(error) => {
            assert_ne!(fault, Fault::None, "{error}");
            for _ in 0..2 {
                let read = repeated(|| client.tls.poll_read(&waker, &mut Vec::new(), 1));
                let written = repeated(|| client.tls.poll_write(&waker, b"a"));
                assert!(read.is_err() && written.is_err(), "{fault:?}: {error}");
            }
        }
    }
}

/// Calls again while a call is pending.
fn repeated<T>(mut call: impl FnMut() -> Poll<T>) -> T {
    loop {
        if let Poll::Ready(result) = call() {
            return result;
        }
    }
}

struct Client<'t> {
    tls: Tls<MemoryPipe>,
    unsent: &'t [u8],
    heard: Vec<u8>,
    end: Option<io::Result<()>>,
}

impl Client<'_> {
    /// Writes what there is to say, then reads to the end.
    fn go_on(&mut self, waker: &Waker) {
        while !self.unsent.is_empty() {
            match self.tls.poll_write(waker, self.unsent) {
                Poll::Ready(Ok(count)) => {
                    assert!(count > 0);
                    self.unsent = &self.unsent[count..];
                }
                Poll::Ready(Err(error)) => return self.end = Some(Err(error)),
                Poll::Pending => break,
            }
        }
        loop {
            let before = self.heard.len();
            match self.tls.poll_read(waker, &mut self.heard, 5000) {
                Poll::Ready(Ok(0)) => return self.end = Some(Ok(())),
                Poll::Ready(Ok(count)) => {
                    assert!(count <= 5000 && self.heard.len() == before + count);
                }
                Poll::Ready(Err(error)) => return self.end = Some(Err(error)),
                Poll::Pending => return assert_eq!(self.heard.len(), before),
            }
        }
    }
}

struct Server<'t> {
    tls: ServerConnection,
    far: FarEnd,
    heard: Vec<u8>,
    /// Length of what it waits for before it answers.
    question: usize,
    answer: Option<&'t [u8]>,
    /// It heard something that is no TLS of this connection.
    has_failed: bool,
    is_ended: bool,
}

impl Server<'_> {
    /// Answers once it has heard the question, says close_notify, and ends. False when there is nothing to do.
    fn go_on(&mut self) -> bool {
        let bytes = self.far.receive();
        let mut unread = bytes.as_slice();
        while !unread.is_empty() && !self.has_failed {
            self.tls.read_tls(&mut unread).unwrap();
            self.has_failed = self.tls.process_new_packets().is_err();
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = self.tls.reader().read(&mut part) {
                self.heard.extend_from_slice(&part[..count]);
            }
        }
        if !self.has_failed
            && self.heard.len() >= self.question
            && !self.tls.is_handshaking()
            && let Some(answer) = self.answer.take()
        {
            self.tls.set_buffer_limit(None);
            self.tls.writer().write_all(answer).unwrap();
            self.tls.send_close_notify();
        }
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).unwrap();
        }
        if !out.is_empty() {
            self.far.send(&out);
        }
        let ends = !self.is_ended && (self.has_failed || self.answer.is_none());
        if ends {
            self.end();
        }
        !bytes.is_empty() || !out.is_empty() || ends
    }

    fn end(&mut self) {
        self.is_ended = true;
        self.far.end();
    }
}
