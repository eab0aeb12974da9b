//! The yardstick as a process: one thread that reads what has come, relays it by the [`Floor`], and writes each side once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use super::floor::{Floor, Taken};
use crate::Error;
use crate::poll::{Interest, Poll, Ready, would_block, write_owed};
use crate::process::{Control, STDIN, announce};

const LISTENER: usize = usize::MAX - 1;
const SERVER: usize = usize::MAX - 2;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Serves clients with one server, which is started by `command`, until standard input ends.
///
/// # Errors
/// Fails when it cannot listen, the server ends, or somebody sends what it does not understand.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut input), Some(mut output)) = (server.stdin.take(), server.stdout.take()) else {
        return Err("the server has no pipes".into());
    };
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, Interest::READ)?;
    poll.add(&output, SERVER, Interest::READ)?;
    let mut control = Control::new(&poll)?;
    announce(listener.local_addr()?)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut floor = Floor::default();
    let (mut lines, mut unread) = (Vec::new(), Vec::new());
    let mut dirty: Vec<usize> = Vec::new();
    let mut ready: Vec<Ready> = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        poll.wait(None, &mut ready)?;
        for event in &ready {
            match event.token {
                STDIN if control.read()?.ended => return Ok(()),
                STDIN => {}
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        poll.add(&stream, clients.len(), Interest::READ)?;
                        clients.push(Some(Client {
                            stream,
                            input: Vec::new(),
                            output: Vec::new(),
                        }));
                    }
                }
                SERVER => {
                    let n = output.read(&mut buffer)?;
                    if n == 0 {
                        return Err("the server has ended".into());
                    }
                    unread.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    let mut done = 0;
                    for end in memchr::memchr_iter(b'\n', &unread) {
                        let line = std::str::from_utf8(unread.get(done..end).unwrap_or_default())?;
                        done = end + 1;
                        let mut out = Vec::new();
                        let to = floor.line(line, &mut out)?;
                        if let Some(Some(client)) = clients.get_mut(to) {
                            client.output.append(&mut out);
                            dirty.push(to);
                        }
                    }
                    unread.drain(..done);
                }
                token => {
                    let Some(slot) = clients.get_mut(token) else {
                        continue;
                    };
                    let Some(client) = slot else { continue };
                    match client.stream.read(&mut buffer) {
                        Ok(0) => *slot = None,
                        Ok(n) => {
                            let came = buffer.get(..n).unwrap_or_default();
                            client.input.extend_from_slice(came);
                            match floor.request(token, &client.input, &mut lines)? {
                                Taken::Part => {}
                                Taken::Request(length) => drop(client.input.drain(..length)),
                                Taken::Notice(length) => {
                                    client.input.drain(..length);
                                    client.output.extend_from_slice(
                                        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
                                    );
                                    dirty.push(token);
                                }
                            }
                        }
                        Err(e) if would_block(&e) => {}
                        Err(_) => *slot = None,
                    }
                }
            }
        }
        if !lines.is_empty() {
            input.write_all(&lines)?;
            lines.clear();
        }
        for token in dirty.drain(..) {
            if let Some(Some(client)) = clients.get_mut(token) {
                // One answer fits into a socket that its client reads.
                write_owed(&client.stream, &mut client.output)?;
            }
        }
    }
}
