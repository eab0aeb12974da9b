//! tiny_http in the place of our own HTTP engine, for clients behind a trusted proxy only.
//!
//! The first address of a configuration is served by tiny_http 0.12, all others by our own engine. It has no limits of its
//! own that could be set from outside, so a client can do with it what no client should:
//!
//! - A head, a body or a wait between requests may take for ever, and a head as much memory as it likes; the timeouts for
//!   clients do not hold, and `limits.connections` counts requests.
//! - A body that is announced far too long and not read ends the whole process.
//! - When descriptors run out it stops listening for good.
//! - Connections that come at once may be given to one thread, where each waits for the one before it to end.
//! - Requests that come before their time on one connection reach agents side by side, in any order; their answers keep theirs.
//! - Requests that are framed in two ways are mended, but for what their headers still show.
//! - A client that goes away is noticed by the next write only.
//! - Agents cannot dial in, because it gives a connection out as one thing that cannot be read and written at once.
//!
//! The integration suite runs against it too; `tests/tests/tiny_http.rs` lists what it fails.

use crate::accept::accept;
use crate::parker::Woken;
use crate::provider::Provider;
use crate::threads::Threads;
use mcp_local_provider_core::api::{Listener, over_connection_limit};
use mcp_local_provider_core::wire::http1::{
    CHUNK_END, Connection, FIRST_ROOM, LAST_CHUNK, ResponseLength, Version, check_framing,
    check_target, write_chunk_size,
};
use mcp_local_provider_engine::answer::{Answer, Head};
use mcp_local_provider_engine::request::{self, Begun, Expecting, Fields, Step};
use mcp_local_provider_engine::{Config, Driver, Engine, Handle, Progress, Running, StartError};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Interval at which the driver looks whether the provider has stopped.
const LOOK: Duration = Duration::from_millis(100);

/// A provider whose first address is served by tiny_http; see the module's documentation for what that costs.
#[derive(Debug)]
pub struct TinyHttp(Provider);

impl Driver for TinyHttp {
    fn start(config: Config) -> Result<Self, StartError> {
        let provider = Provider::start_with(config, |threads, listener, number, on| {
            if number == 0 {
                if let Err(error) = serve(threads, listener) {
                    tracing::error!(%error, "tiny_http serves no longer");
                }
            } else {
                accept(threads, listener, on);
            }
        });
        provider.map(Self)
    }

    fn addresses(&self) -> &[SocketAddr] {
        self.0.addresses()
    }

    fn engine(&self) -> &Arc<Engine> {
        self.0.engine()
    }

    fn handle(&self) -> Handle {
        self.0.handle()
    }

    fn join(self) {
        self.0.join();
    }
}

fn serve(threads: &Threads, listener: &TcpListener) -> io::Result<()> {
    let server =
        tiny_http::Server::from_listener(listener.try_clone()?, None).map_err(io::Error::other)?;
    while !threads.engine().is_stopped() {
        let Some(request) = server.recv_timeout(LOOK)? else {
            continue;
        };
        let own = threads.clone();
        threads.spawn("client", move || {
            if let Err(error) = answer(&own, request) {
                tracing::debug!(%error, "a connection ended early");
            }
        })?;
    }
    Ok(())
}

/// Client of tiny_http: the writer of its answer, and what its request says about that.
struct Client {
    writer: Box<dyn Write + Send>,
    version: Version,
    /// The answer has no body: it is one to HEAD.
    is_head: bool,
}

impl Client {
    fn write(&mut self, parts: [&[u8]; 4]) -> io::Result<()> {
        for part in parts {
            self.writer.write_all(part)?;
        }
        self.writer.flush()
    }

    /// The head of an answer whose body has that length, if it is known.
    fn head(&self, engine: &Engine, head: &Head, length: Option<usize>) -> Vec<u8> {
        let length = length.map(|length| u64::try_from(length).unwrap_or(u64::MAX));
        let (length, keep) = ResponseLength::answer(length, self.version, !head.closes());
        let connection = Connection::after(self.version, keep);
        let mut out = Vec::new();
        head.write(&mut out, length, connection, engine.date(engine.clock()));
        out
    }

    fn write_answer(&mut self, engine: &Engine, answer: &Answer) -> io::Result<()> {
        let head = self.head(engine, &answer.head, Some(answer.body.len()));
        let body = if self.is_head { &[][..] } else { &answer.body };
        self.write([&head, body, &[], &[]])
    }

    /// Writes an answer as it comes. Leaving early means that the client has gone: who works for the answer hears of it.
    fn write_running(&mut self, threads: &Threads, mut running: Running) -> io::Result<()> {
        let clock = threads.clock();
        let parker = threads.parker();
        let waker = parker.waker();
        loop {
            if let Progress::Until(until) = running.poll(clock.now(), &waker) {
                // Nobody tells when the client goes.
                let _: Woken = parker.wait(None, until.map(|until| clock.system(until)));
                continue;
            }
            let mut start = Vec::new();
            if let Some(head) = running.take_head() {
                if !head.is_streamed() {
                    let body = std::mem::take(running.body());
                    return self.write_answer(threads.engine(), &Answer { head, body });
                }
                start = self.head(threads.engine(), &head, None);
            }
            let ended = running.has_ended();
            let (mut end, mut last) = (&[][..], &[][..]);
            if self.version == Version::Http11 {
                if running.has_body() {
                    write_chunk_size(&mut start, running.body().len());
                    end = CHUNK_END;
                }
                if ended {
                    last = LAST_CHUNK;
                }
            }
            self.write([&start, running.body(), end, last])?;
            if ended {
                return Ok(());
            }
            running.body().clear();
        }
    }
}

fn answer(threads: &Threads, mut request: tiny_http::Request) -> io::Result<()> {
    let engine = threads.engine();
    let version = if *request.http_version() < tiny_http::HTTPVersion(1, 1) {
        Version::Http10
    } else {
        Version::Http11
    };
    let is_head = *request.method() == tiny_http::Method::Head;
    let client = |request: tiny_http::Request| Client {
        writer: request.into_writer(),
        version,
        is_head,
    };
    // Counted so that a shutdown waits for its answer; tiny_http keeps the connection itself to itself.
    let Some(_counted) = engine.connect() else {
        return client(request).write([&over_connection_limit(), &[], &[], &[]]);
    };
    let mut step = begin(engine, &request, version);
    if let Step::Body(expecting) = step {
        step = read(engine, expecting, &mut request);
    }
    let mut client = client(request);
    loop {
        step = match step {
            // It was read above, and follows nothing else.
            Step::Body(expecting) => Step::Answer(expecting.broken()),
            Step::Report(report) => Step::Answer(report.answer(threads.engine().usage())),
            Step::Answer(answer) => return client.write_answer(engine, &answer),
            Step::Running(running) => return client.write_running(threads, *running),
        };
    }
}

/// The header fields as tiny_http has them.
struct TinyFields<'r>(&'r [tiny_http::Header]);

impl Fields for TinyFields<'_> {
    fn all(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        Box::new(self.0.iter().map(|header| {
            let name = header.field.as_str().as_str();
            (name, header.value.as_bytes())
        }))
    }
}

/// Refuses what its headers show to be framed in two ways, and begins all else.
fn begin(engine: &Arc<Engine>, request: &tiny_http::Request, version: Version) -> Step {
    let address = request.remote_addr().map(SocketAddr::ip);
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let fields = TinyFields(request.headers());
    let method = request.method().as_str();
    let target = check_framing(fields.all(), version)
        .and_then(|framing| check_target(method, request.url(), framing.host));
    let target = match target {
        Ok(target) => target,
        Err(error) => return Step::Answer(request::misframed(engine, address, error)),
    };
    let head = request::Request::new(method, target, address, &fields);
    match request::begin(engine, Listener::All, &head) {
        Begun::Step(step) => step,
        Begun::Upgrade(upgrade) => Step::Answer(no_websocket(upgrade)),
    }
}

fn no_websocket(upgrade: request::Upgrade) -> Answer {
    upgrade.refuse(
        "no WebSocket can be opened at the address that tiny_http serves, which is the first of listen.http; use another one",
    )
}

fn read(engine: &Engine, expecting: Box<Expecting>, request: &mut tiny_http::Request) -> Step {
    let limit = engine.config().limits.body_bytes;
    let announced = request.body_length();
    if announced.is_some_and(|length| length > limit) {
        return Step::Answer(expecting.too_large());
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(0).min(FIRST_ROOM));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = request.as_reader().take(most).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() > limit => Step::Answer(expecting.too_large()),
        Ok(_) if announced.is_some_and(|length| body.len() < length) => {
            Step::Answer(expecting.broken())
        }
        Ok(_) => expecting.complete(body),
        Err(_) => Step::Answer(expecting.broken()),
    }
}
