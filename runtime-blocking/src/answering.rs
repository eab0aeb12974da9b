//! Answers on their way to a client: whole ones, and such whose pieces are written as they come.

use crate::parker::Woken;
use crate::threads::Threads;
use mcp_local_provider_core::wire::http1::{
    CHUNK_END, Connection as After, HeadWriter, ResponseLength, Version, write_chunk_size,
    write_last_chunk,
};
use mcp_local_provider_engine::answer::{Answer, Head};
use mcp_local_provider_engine::{Engine, Progress, Running};
use rustix::event::PollFlags;
use std::io::{self, ErrorKind};
use std::net::TcpStream;

/// Properties of an answer that its request and its connection decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub version: Version,
    /// The answer has no body: it is one to HEAD.
    pub is_head: bool,
    /// Another request may follow.
    pub keep: bool,
}

/// Destination of an answer.
pub(crate) trait Client {
    /// Writes all of it, and at once.
    fn write(&mut self, parts: [&[u8]; 4]) -> io::Result<()>;

    /// The socket whose end means that the client has gone; `None` where that is not known.
    fn socket(&self) -> Option<&TcpStream>;
}

/// Returns what a wait for others watches: the end of the client's sending side.
fn watched(client: &impl Client) -> Option<(&TcpStream, PollFlags)> {
    client.socket().map(|socket| (socket, PollFlags::RDHUP))
}

/// Writes a whole answer.
pub(crate) fn write_answer(
    engine: &Engine,
    client: &mut impl Client,
    answer: &Answer,
    manner: &mut Manner,
) -> io::Result<()> {
    manner.keep &= !answer.head.closes();
    let length = u64::try_from(answer.body.len()).ok();
    let head = head(engine, &answer.head, length, manner);
    let body = if manner.is_head {
        &[][..]
    } else {
        &answer.body
    };
    client.write([&head, body, &[], &[]])
}

/// Writes an answer as it comes. Leaving early means that the client has gone: who works for the answer hears of it.
pub(crate) fn write_running(
    threads: &Threads,
    client: &mut impl Client,
    mut running: Running,
    manner: &mut Manner,
) -> io::Result<()> {
    let clock = threads.clock();
    let parker = threads.parker();
    let waker = parker.waker();
    let (mut begun, mut size, mut end) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        if let Progress::Until(until) = running.poll(&waker) {
            let until = until.map(|until| clock.system(until));
            if parker.wait(watched(client), until) == Woken::Socket {
                return Err(ErrorKind::ConnectionReset.into());
            }
            continue;
        }
        if let Some(head_of_it) = running.take_head() {
            if !head_of_it.is_streamed() {
                let (head, body) = (head_of_it, std::mem::take(running.body()));
                return write_answer(threads.engine(), client, &Answer { head, body }, manner);
            }
            begun = head(threads.engine(), &head_of_it, None, manner);
        }
        let ended = running.has_ended();
        size.clear();
        end.clear();
        if manner.version == Version::Http11 {
            if running.has_body() {
                write_chunk_size(&mut size, running.body().len());
                end.extend_from_slice(CHUNK_END);
            }
            if ended {
                write_last_chunk(&mut end);
            }
        }
        client.write([&begun, &size, running.body(), &end])?;
        if ended {
            return Ok(());
        }
        running.body().clear();
        begun = Vec::new();
    }
}

/// The head of an answer whose body has that length, if it is known.
fn head(engine: &Engine, head: &Head, length: Option<u64>, manner: &mut Manner) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let (mut length, keep) = ResponseLength::answer(length, manner.version, manner.keep);
    manner.keep = keep;
    if head.status() == 204 {
        length = ResponseLength::Absent;
    }
    let after = After::after(manner.version, keep);
    let date = engine.date();
    let mut writer = HeadWriter::new(&mut out, head.status(), length, after, date.as_deref());
    head.headers(|name, value| writer.header(name, value));
    if let Err(invalid) = writer.finish() {
        // Headers are ours, or were checked when they came in.
        tracing::error!(%invalid, "an answer goes without its headers");
        // A head of nothing but its frame cannot be invalid.
        let _ = HeadWriter::new(&mut out, 500, length, after, date.as_deref()).finish();
    }
    out
}
