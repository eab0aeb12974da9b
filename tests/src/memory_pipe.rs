//! A pipe in memory, whose reads and writes are as short as a script says, are pending whenever it says so, and meet one fault.

use mcp_local_provider_engine::pipe::Pipe;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// The one fault of a wire, at a byte that one side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens.
    None,
    /// The server's bytes end there, as if it had ended them.
    Cut(usize),
    /// The connection breaks when that byte of the server is to be read.
    Break(usize),
    /// A bit of that byte of the server is another one.
    DamageFromServer(usize),
    /// A bit of that byte of the client is another one.
    DamageToServer(usize),
}

/// Both directions between a client with a pipe and a server that a test plays.
#[derive(Debug)]
struct Wire {
    to_client: Direction,
    to_server: Direction,
    fault: Fault,
    /// Short reads, short writes and calls that are pending: one byte for each call of the client, then none of them.
    script: VecDeque<u8>,
    /// The client, while a call of it is pending.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Direction {
    bytes: VecDeque<u8>,
    /// Bytes that were sent since the beginning.
    sent: usize,
    is_ended: bool,
}

impl Direction {
    fn send(&mut self, bytes: &[u8], damaged: Option<usize>) {
        for byte in bytes {
            let flip = u8::from(damaged == Some(self.sent));
            self.bytes.push_back(byte ^ flip);
            self.sent += 1;
        }
    }
}

/// The client's end.
#[derive(Debug)]
pub struct MemoryPipe(Arc<Mutex<Wire>>);

/// The server's end.
pub struct FarEnd(Arc<Mutex<Wire>>);

impl fmt::Debug for FarEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FarEnd")
    }
}

/// Both ends of a wire with a fault. A byte of the script below 64 makes a call of the client pending, though it is worth
/// repeating at once; another one bounds what the call moves.
#[must_use]
pub fn pipe(fault: Fault, script: &[u8]) -> (MemoryPipe, FarEnd) {
    let wire = Arc::new(Mutex::new(Wire {
        to_client: Direction::default(),
        to_server: Direction::default(),
        fault,
        script: script.iter().copied().collect(),
        waker: None,
    }));
    (MemoryPipe(wire.clone()), FarEnd(wire))
}

impl MemoryPipe {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

impl Wire {
    /// The most that a call moves; `None` when it is pending.
    fn next(&mut self, waker: &Waker) -> Option<usize> {
        match self.script.pop_front() {
            None => Some(usize::MAX),
            Some(pending @ 0..64) => {
                // One that is woken at once, and one that is woken twice.
                waker.wake_by_ref();
                self.waker = (pending % 2 == 0).then(|| waker.clone());
                None
            }
            Some(most) => Some(usize::from(most) - 63),
        }
    }
}

impl Pipe for MemoryPipe {
    fn poll_read(
        &mut self,
        waker: &Waker,
        into: &mut Vec<u8>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let Some(piece) = wire.next(waker) else {
            return Poll::Pending;
        };
        let taken = wire.to_client.sent - wire.to_client.bytes.len();
        let mut count = piece.min(most).min(wire.to_client.bytes.len());
        match wire.fault {
            Fault::Break(at) => {
                if taken >= at {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                count = count.min(at - taken);
            }
            Fault::Cut(at) => {
                if taken >= at {
                    return Poll::Ready(Ok(0));
                }
                count = count.min(at - taken);
            }
            Fault::None | Fault::DamageFromServer(_) | Fault::DamageToServer(_) => {}
        }
        if count == 0 && !wire.to_client.is_ended {
            wire.waker = Some(waker.clone());
            return Poll::Pending;
        }
        into.extend(wire.to_client.bytes.drain(..count));
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.wire();
        let Some(piece) = wire.next(waker) else {
            return Poll::Pending;
        };
        let count = piece.min(bytes.len());
        let damaged = match wire.fault {
            Fault::DamageToServer(at) => Some(at),
            Fault::None | Fault::Cut(_) | Fault::Break(_) | Fault::DamageFromServer(_) => None,
        };
        wire.to_server.send(&bytes[..count], damaged);
        Poll::Ready(Ok(count))
    }
}

impl Drop for MemoryPipe {
    fn drop(&mut self) {
        self.wire().to_server.is_ended = true;
    }
}

impl FarEnd {
    /// Takes everything that the client has written.
    #[must_use]
    pub fn receive(&self) -> Vec<u8> {
        self.0.lock().unwrap().to_server.bytes.drain(..).collect()
    }

    /// True once the client has dropped its pipe.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.0.lock().unwrap().to_server.is_ended
    }

    /// Sends bytes to the client, and wakes it.
    pub fn send(&self, bytes: &[u8]) {
        self.change(|wire| {
            let damaged = match wire.fault {
                Fault::DamageFromServer(at) => Some(at),
                Fault::None | Fault::Cut(_) | Fault::Break(_) | Fault::DamageToServer(_) => None,
            };
            wire.to_client.send(bytes, damaged);
        });
    }

    /// Ends what the client reads, and wakes it.
    pub fn end(&self) {
        self.change(|wire| wire.to_client.is_ended = true);
    }

    /// Breaks the connection behind what was sent, and wakes the client.
    pub fn reset(&self) {
        self.change(|wire| wire.fault = Fault::Break(wire.to_client.sent));
    }

    fn change(&self, change: impl FnOnce(&mut Wire)) {
        let mut wire = self.0.lock().unwrap();
        change(&mut wire);
        let waker = wire.waker.take();
        drop(wire);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Read for FarEnd {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = &mut self.0.lock().unwrap().to_server;
        if bytes.bytes.is_empty() && !bytes.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        bytes.bytes.read(buf)
    }
}

impl Write for FarEnd {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
