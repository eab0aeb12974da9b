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
//! - Requests that are framed in two ways are mended, but for what their headers still show.
//! - A client that goes away is noticed by the next write only.
//! - Agents cannot dial in, because it gives a connection out as one thing that cannot be read and written at once.
//!
//! The integration suite runs against it too; `tests/tests/tiny_http.rs` lists what it fails.

use crate::accept::accept;
use crate::answering::{Client, Manner, write_answer, write_running};
use crate::provider::Provider;
use crate::threads::Threads;
use mcp_local_provider_core::api::{Listener, over_connection_limit};
use mcp_local_provider_core::wire::http1::{FIRST_ROOM, Version, check_framing, check_target};
use mcp_local_provider_engine::answer::Answer;
use mcp_local_provider_engine::request::{self, Begun, Expecting, Step};
use mcp_local_provider_engine::{Config, Driver, Engine, Handle, StartError};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
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

/// Writer of an answer, as tiny_http gives it.
struct Writer(Box<dyn Write + Send>);

impl Client for Writer {
    fn write(&mut self, parts: [&[u8]; 4]) -> io::Result<()> {
        for part in parts {
            self.0.write_all(part)?;
        }
        self.0.flush()
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

fn answer(threads: &Threads, mut request: tiny_http::Request) -> io::Result<()> {
    let engine = threads.engine();
    let mut manner = Manner {
        version: if *request.http_version() < tiny_http::HTTPVersion(1, 1) {
            Version::Http10
        } else {
            Version::Http11
        },
        is_head: *request.method() == tiny_http::Method::Head,
        keep: true,
    };
    // Counted so that a shutdown waits for its answer; tiny_http keeps the connection itself to itself.
    let Some(_client) = engine.connect() else {
        let mut client = Writer(request.into_writer());
        return client.write([&over_connection_limit(), &[], &[], &[]]);
    };
    let mut step = begin(engine, &request, manner.version);
    if let Step::Body(expecting) = step {
        step = read(engine, *expecting, &mut request);
    }
    let mut client = Writer(request.into_writer());
    loop {
        step = match step {
            // It was read above, and follows nothing else.
            Step::Body(expecting) => Step::Answer(expecting.broken()),
            Step::Report(report) => Step::Answer(report.answer(threads.engine().usage())),
            Step::Answer(answer) => return write_answer(engine, &mut client, &answer, &mut manner),
            Step::Running(running) => {
                return write_running(threads, &mut client, *running, &mut manner);
            }
        };
    }
}

/// Refuses what its headers show to be framed in two ways, and begins all else.
fn begin(engine: &Arc<Engine>, request: &tiny_http::Request, version: Version) -> Step {
    let address = request.remote_addr().map(SocketAddr::ip);
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let headers = || request.headers().iter();
    let pairs = headers().map(|header| {
        let name = header.field.as_str().as_str();
        (name, header.value.as_bytes())
    });
    let method = request.method().as_str();
    let target = check_framing(pairs, version)
        .and_then(|framing| check_target(method, request.url(), framing.host));
    let target = match target {
        Ok(target) => target,
        Err(error) => return Step::Answer(request::misframed(engine, address, error)),
    };
    let head = request::Request::new(method, target, address, |name| {
        let found =
            headers().rfind(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
        found.map(|header| header.value.as_bytes())
    });
    match request::begin(engine, Listener::All, &head) {
        Begun::Step(step) => step,
        Begun::Upgrade(upgrade) => Step::Answer(no_agents(upgrade)),
    }
}

fn no_agents(upgrade: request::Upgrade) -> Answer {
    upgrade.refuse(
        "agents cannot connect to the address that tiny_http serves, which is the first of listen.http; use another one",
    )
}

fn read(engine: &Engine, expecting: Expecting, request: &mut tiny_http::Request) -> Step {
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
