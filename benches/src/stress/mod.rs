//! Properties that must hold when clients are hostile, many or too many: the program `stress` runs a release build
//! against them.

pub mod attack;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Error;
use crate::load::Load;
use crate::process::Process;
use crate::report::{Report, Row, millis};
use crate::script::Script;
use crate::setup::{CLIENT_KEY, Setup};
use attack::Attack;

/// Clients that behave, while others do not.
const HONEST: usize = 4;

/// The connection of the agent does not count among those of clients, so all that may stay open are these.
const BASE: u64 = HONEST as u64 + 1;

/// Time that an attack may go on before it counts as not cut off.
const PATIENCE: Duration = Duration::from_secs(20);

/// Limits of time as in a deployment that faces such clients; the bar of ten seconds is twice that.
const ATTACKED: &str = "limits:
  requests_per_minute: 1000000000
  tokens_per_minute: 4000000000
  burst: 1000000000
  exchanges: 20000
  connections: 19000
timeouts: { head: 5s, body: 5s, write: 5s }
";

/// A head may take a minute, so that idle connections stay.
const IDLE: &str = "limits: { connections: 19000 }
timeouts: { head: 60s }
";

/// Few connections.
const CAP: usize = 64;
const CAPPED: &str = "limits: { connections: 64 }
timeouts: { head: 60s }
";

/// Open files of a program that is to run out of them, and connections that make it.
const FILES: u64 = 128;
const TOO_MANY: usize = 200;

/// Durations and numbers of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// True for the short run.
    pub quick: bool,
    /// Clients of each attack.
    pub attackers: usize,
    /// Idle connections.
    pub idle: usize,
    /// Streams that are open at once.
    pub streams: usize,
    /// Measured time without an attack.
    pub quiet: Duration,
}

impl Plan {
    /// The run whose figures count: about a minute.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            quick: false,
            attackers: 1_000,
            idle: 10_000,
            streams: 2_000,
            quiet: Duration::from_secs(3),
        }
    }

    /// The run for every change: about half a minute.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            quick: true,
            attackers: 300,
            idle: 2_000,
            streams: 500,
            quiet: Duration::from_secs(1),
        }
    }

    /// The most files that this process needs.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.idle as u64 + 200
    }
}

/// Runs everything against `program`.
///
/// # Errors
/// Fails when a process fails or an answer is not what it should be: then there are no figures.
pub fn run(program: &Path, plan: &Plan) -> Result<Report, Error> {
    let mut rows = Vec::new();
    for (attack, cut, honest, longest) in [
        (
            Attack::SlowHead,
            "slow heads: the last is cut after",
            "slow heads: p99 of honest clients",
            10.0,
        ),
        (
            Attack::SlowBody,
            "slow bodies: the last is cut after",
            "slow bodies: p99 of honest clients",
            10.0,
        ),
        (
            Attack::SlowReader,
            "slow readers: the last is cut after",
            "slow readers: p99 of honest clients",
            10.0,
        ),
    ] {
        let fought = withstand(program, plan, attack)?;
        rows.push(Row::value(
            cut,
            "s",
            fought.cut.as_secs_f64(),
            Some(longest),
        ));
        let quiet = millis(fought.quiet);
        let bar = f64::max(50.0, 5.0 * quiet);
        let p99 = Row::value(honest, "ms", millis(fought.attacked), Some(bar));
        rows.push(Row {
            needs_quiet: true,
            ..p99
        });
    }
    rows.push(streams(program, plan)?);
    rows.extend(idle(program, plan)?);
    rows.extend(beyond_the_cap(program)?);
    rows.extend(without_files(program)?);
    Ok(Report {
        quick: plan.quick,
        rows,
    })
}

/// Result of an attack.
struct Fought {
    /// From the moment that all attackers were there to the last that was cut off.
    cut: Duration,
    /// p99 of honest whole answers before the attack.
    quiet: Duration,
    /// The same during it.
    attacked: Duration,
}

fn withstand(program: &Path, plan: &Plan, attack: Attack) -> Result<Fought, Error> {
    let setup = Setup::new(program, ATTACKED)?;
    let target = setup.start_program()?;
    let _agent = setup.agent(&target)?;
    let mut honest = Load::new(target.addr, CLIENT_KEY, &Script::whole().request_body())?;
    honest.open(HONEST)?;
    let quiet = honest.run_for(plan.quiet)?;
    let mut attacked = Vec::new();
    let stop = AtomicBool::new(false);
    let there = AtomicBool::new(false);
    let addr = target.addr;
    let cut = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            attack.run(addr, plan.attackers, &stop, || {
                there.store(true, Ordering::Relaxed);
            })
        });
        let mut begin = None;
        let outcome = loop {
            match honest.run_for(Duration::from_millis(200)) {
                Ok(tally) => attacked.extend(tally.latency),
                Err(e) => break Err(format!("an honest client: {e}").into()),
            }
            if !there.load(Ordering::Relaxed) {
                if crowd.is_finished() {
                    break Err("the crowd could not connect".into());
                }
                continue;
            }
            let begin = *begin.get_or_insert_with(Instant::now);
            match connections(addr) {
                Ok(open) if open <= BASE => break Ok(begin.elapsed()),
                Ok(_) if begin.elapsed() > PATIENCE => break Ok(Duration::MAX),
                Ok(_) => {}
                Err(e) => break Err(e),
            }
        };
        stop.store(true, Ordering::Relaxed);
        match crowd.join() {
            Ok(Ok(())) => outcome,
            Ok(Err(e)) => Err(e),
            Err(_) => Err("the crowd panicked".into()),
        }
    })?;
    honest.finish(Duration::from_secs(10))?;
    Ok(Fought {
        cut,
        quiet: p99(quiet.latency)?,
        attacked: p99(attacked)?,
    })
}

fn p99(mut times: Vec<Duration>) -> Result<Duration, Error> {
    times.sort_unstable();
    let at = times.len() * 99 / 100;
    Ok(*times.get(at).ok_or("no honest answer ended")?)
}

/// Connections of clients that the program has, by its metrics.
fn connections(addr: SocketAddr) -> Result<u64, Error> {
    let (_, body) = get(addr, "/metrics")?;
    let line = body
        .lines()
        .find_map(|line| line.strip_prefix("mcp_local_provider_connections "))
        .ok_or("no mcp_local_provider_connections in /metrics")?;
    Ok(line.trim().parse()?)
}

/// The status line and the body of an answer.
fn get(addr: SocketAddr, path: &str) -> Result<(String, String), Error> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no whole answer came")?;
    let status = head.lines().next().unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

/// One request on a connection that stays open.
fn ask_health(stream: &mut TcpStream, addr: SocketAddr) -> Result<(), Error> {
    // In one piece: a second one would wait for the acknowledgement of the first.
    let request = format!("GET /health HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut buffer = [0; 2048];
    let n = stream.read(&mut buffer)?;
    if buffer
        .get(..n)
        .is_some_and(|b| b.starts_with(b"HTTP/1.1 200 "))
    {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()).into_owned();
        Err(format!("/health was answered by: {text}").into())
    }
}

/// Many streams at once, each with a word now and then: all of them end, with all of their words.
fn streams(program: &Path, plan: &Plan) -> Result<Row, Error> {
    const WORDS: u32 = 10;
    let setup = Setup::new(program, ATTACKED)?;
    let target = setup.start_program()?;
    let _agent = setup.agent(&target)?;
    let script = Script::paced(WORDS, Duration::from_millis(200));
    let mut load = Load::new(target.addr, CLIENT_KEY, &script.request_body())?;
    load.open(plan.streams)?;
    load.wait_begun(PATIENCE)?;
    let tally = load.finish(Duration::from_secs(60))?;
    let count = plan.streams as u64;
    if tally.chunks != tally.answers * u64::from(WORDS) {
        return Err(format!("{} streams gave {} chunks", tally.answers, tally.chunks).into());
    }
    Ok(Row::value(
        "streams at once that do not end",
        "",
        count.saturating_sub(tally.answers) as f64,
        Some(0.0),
    ))
}

/// Connections that have been served once and are kept: what each costs, and that all are served again.
fn idle(program: &Path, plan: &Plan) -> Result<[Row; 2], Error> {
    let setup = Setup::new(program, IDLE)?;
    let target = setup.start_program()?;
    ask_health(&mut TcpStream::connect(target.addr)?, target.addr)?;
    let before = target.resident_kib()?;
    let mut kept = Vec::with_capacity(plan.idle);
    for _ in 0..plan.idle {
        let mut stream = TcpStream::connect(target.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        ask_health(&mut stream, target.addr)?;
        kept.push(stream);
    }
    let after = target.resident_kib()?;
    let failed = kept
        .iter_mut()
        .filter_map(|stream| ask_health(stream, target.addr).err())
        .count();
    let each = after.saturating_sub(before) as f64 / plan.idle as f64;
    Ok([
        Row::value("idle connection, memory", "KiB", each, Some(32.0)),
        Row::value(
            "idle connections that are not served again",
            "",
            failed as f64,
            Some(0.0),
        ),
    ])
}

/// One connection more than may be: it is served when others are idle, and refused at once when all are at work.
fn beyond_the_cap(program: &Path) -> Result<[Row; 2], Error> {
    let setup = Setup::new(program, CAPPED)?;
    let target = setup.start_program()?;
    let full = |begin: fn(&mut TcpStream, SocketAddr) -> Result<(), Error>,
                expected: &str|
     -> Result<Duration, Error> {
        let mut kept = Vec::with_capacity(CAP);
        for _ in 0..CAP {
            let mut stream = TcpStream::connect(target.addr)?;
            begin(&mut stream, target.addr)?;
            kept.push(stream);
        }
        let begin = Instant::now();
        let (status, _) = get(target.addr, "/health")?;
        let time = begin.elapsed();
        if !status.contains(expected) {
            return Err(format!("one connection too many was answered by {status}").into());
        }
        drop(kept);
        served_again(&target, Instant::now())?;
        Ok(time)
    };
    let row = |name, time| Row::value(name, "ms", millis(time), Some(1000.0));
    Ok([
        row(
            "a connection too many, others idle: 200 after",
            full(ask_health, " 200 ")?,
        ),
        row(
            "a connection too many, others at work: 503 after",
            full(begin_request, " 503 ")?,
        ),
    ])
}

/// Begins a request and leaves its body out. It is at work once the program has asked for that.
fn begin_request(stream: &mut TcpStream, addr: SocketAddr) -> Result<(), Error> {
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {CLIENT_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 400\r\nExpect: 100-continue\r\n\r\n"
    )?;
    let mut answer = [0; 25];
    stream.read_exact(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 100 ") {
        Ok(())
    } else {
        Err(format!("no 100 came: {}", String::from_utf8_lossy(&answer)).into())
    }
}

/// The program runs out of open files: it neither spins nor dies, and serves again when there are some.
fn without_files(program: &Path) -> Result<[Row; 2], Error> {
    let setup = Setup::new(program, IDLE)?;
    let target = setup.start_program_with_files(FILES)?;
    let mut kept = Vec::with_capacity(TOO_MANY);
    for _ in 0..TOO_MANY {
        // The kernel takes what the program cannot, so each of them succeeds.
        kept.push(TcpStream::connect(target.addr)?);
    }
    std::thread::sleep(Duration::from_millis(300));
    let before = target.cpu()?;
    std::thread::sleep(Duration::from_secs(1));
    let spun = target.cpu()?.since(before);
    drop(kept);
    let again = served_again(&target, Instant::now())?;
    Ok([
        Row::value(
            "open files used up: processor",
            "%",
            spun.as_secs_f64() * 100.0,
            Some(20.0),
        ),
        Row::value(
            "open files used up: served again after",
            "s",
            again.as_secs_f64(),
            Some(1.5),
        ),
    ])
}

/// The time from `since` until the program answers.
fn served_again(target: &Process, since: Instant) -> Result<Duration, Error> {
    loop {
        if get(target.addr, "/health").is_ok_and(|(status, _)| status.contains(" 200 ")) {
            return Ok(since.elapsed());
        }
        if since.elapsed() > PATIENCE {
            return Err("the program does not serve any more".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
