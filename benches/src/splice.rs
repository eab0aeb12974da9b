//! The yardstick: a proxy that knows nothing of what it carries. One thread, one epoll set, one
//! read and one write for what has arrived; nobody can forward bytes between two sockets for less
//! without leaving ordinary system calls.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block, write_owed};
use crate::process::{Control, STDIN, announce};

const LISTENER: usize = usize::MAX - 1;

/// One socket of a pair.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    /// Bytes that the other side sent and this one has no room for yet.
    pending: Vec<u8>,
    ended: bool,
    interest: Interest,
}

impl Side {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            pending: Vec::new(),
            ended: false,
            interest: Interest::READ,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = if self.pending.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => n,
                Err(e) if would_block(&e) => 0,
                Err(e) => return Err(e),
            }
        } else {
            0
        };
        self.pending
            .extend_from_slice(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        write_owed(&self.stream, &mut self.pending)
    }
}

/// Runs the proxy in front of `to` until standard input ends.
///
/// # Errors
/// Fails when it cannot listen, or the operating system refuses to poll.
pub fn run(to: SocketAddr) -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, Interest::READ)?;
    let mut control = Control::new(&poll)?;
    announce(listener.local_addr()?)?;

    let mut pairs: Vec<Option<(Side, Side)>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut ready: Vec<Ready> = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        poll.wait(None, &mut ready)?;
        for event in &ready {
            match event.token {
                STDIN => {
                    if control.read()?.ended {
                        return Ok(());
                    }
                }
                LISTENER => {
                    while let Ok((client, _)) = listener.accept() {
                        let pair = (Side::new(client)?, Side::new(TcpStream::connect(to)?)?);
                        let index = free.pop().unwrap_or_else(|| {
                            pairs.push(None);
                            pairs.len() - 1
                        });
                        poll.add(&pair.0.stream, index * 2, Interest::READ)?;
                        poll.add(&pair.1.stream, index * 2 + 1, Interest::READ)?;
                        if let Some(slot) = pairs.get_mut(index) {
                            *slot = Some(pair);
                        }
                    }
                }
                token => {
                    let Some(slot) = pairs.get_mut(token / 2) else {
                        continue;
                    };
                    let Some((client, server)) = slot else {
                        continue;
                    };
                    let (this, other) = if token % 2 == 0 {
                        (client, server)
                    } else {
                        (server, client)
                    };
                    let open = carry(&poll, token, event, this, other, &mut buffer);
                    if !open.unwrap_or(false) {
                        *slot = None;
                        free.push(token / 2);
                    }
                }
            }
        }
    }
}

/// Serves one event of `this` side. The answer is whether the pair is still open.
fn carry(
    poll: &Poll,
    token: usize,
    event: &Ready,
    this: &mut Side,
    other: &mut Side,
    buffer: &mut [u8],
) -> io::Result<bool> {
    if event.writable {
        this.flush()?;
    }
    if event.readable {
        if this.ended {
            return Ok(false);
        }
        match this.stream.read(buffer) {
            Ok(0) => this.ended = true,
            Ok(n) => other.write(buffer.get(..n).unwrap_or_default())?,
            Err(e) if would_block(&e) => {}
            Err(e) => return Err(e),
        }
    }
    for (from, to) in [(&*this, &*other), (&*other, &*this)] {
        if from.ended && to.pending.is_empty() {
            let _ = to.stream.shutdown(std::net::Shutdown::Write);
        }
    }
    if this.ended && other.ended && this.pending.is_empty() && other.pending.is_empty() {
        return Ok(false);
    }
    settle(poll, token, this, other)?;
    settle(poll, token ^ 1, other, this)?;
    Ok(true)
}

/// Makes `side` wait for what it can use: input while the other has room, room while it is owed some.
fn settle(poll: &Poll, token: usize, side: &mut Side, other: &Side) -> io::Result<()> {
    let wanted = Interest {
        read: !side.ended && other.pending.is_empty(),
        write: !side.pending.is_empty(),
    };
    if wanted != side.interest {
        poll.modify(&side.stream, token, wanted)?;
        side.interest = wanted;
    }
    Ok(())
}
