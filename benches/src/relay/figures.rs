//! What is measured of a gateway, against the yardstick and, where they are given, against other gateways.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::clients::{Calls, Clients, Target, Way, hello};
use crate::Error;
use crate::comparison::Rounds;
use crate::process::Process;
use crate::report::{Kind, Report, Row, median};
use crate::setup::{CLIENT_KEY, Setup, TARGET_CORE};

/// Sessions whose memory is measured, and WebSockets that are open together.
const MANY: usize = 1000;

/// Calls that are sent at once.
const AT_ONCE: u64 = 100;

/// Another gateway, which a command starts.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `supergateway` or `agentgateway`.
    pub name: &'static str,
    /// Its transport.
    pub way: Way,
    /// Path of its endpoint.
    pub path: &'static str,
    /// Largest ratio of our CPU time to its.
    pub bar: f64,
    /// Its command. `{port}` stands for the port, `{server}` for the command of the server, `{config}` for a file of
    /// agentgateway's form.
    pub command: Vec<String>,
}

/// Durations and numbers of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// True for the short run.
    pub quick: bool,
    /// Times that each part is run on each side.
    pub rounds: usize,
    /// Measured time of a part.
    pub time: Duration,
}

impl Plan {
    /// The run whose figures count: about two minutes.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            quick: false,
            rounds: 5,
            time: Duration::from_millis(2000),
        }
    }

    /// The run for every change.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            quick: true,
            rounds: 3,
            time: Duration::from_millis(500),
        }
    }
}

/// Figures of one round of one side.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Microseconds of CPU for a call with 16 sessions.
    few: f64,
    /// The same with 64.
    more: f64,
    /// Microseconds to the answer with one session, median.
    alone: f64,
}

/// A gateway with sessions.
struct Side<'p> {
    process: &'p Process,
    clients: Clients,
}

impl<'p> Side<'p> {
    fn new(process: &'p Process, target: Target) -> Result<Self, Error> {
        let mut clients = Clients::new(target)?;
        clients.open(64)?;
        Ok(Self { process, clients })
    }

    fn part(&mut self, time: Duration) -> Result<Part, Error> {
        let (few, _) = self.calls(16, time)?;
        let (more, _) = self.calls(64, time)?;
        let (_, calls) = self.calls(1, time / 2)?;
        let alone = median_of(&calls.latency, 1e6);
        Ok(Part { few, more, alone })
    }

    /// Microseconds of CPU for one call, and the calls.
    fn calls(&mut self, sessions: usize, time: Duration) -> Result<(f64, Calls), Error> {
        self.clients.run_for(sessions, time / 5)?;
        let before = self.process.cpu()?;
        let calls = self.clients.run_for(sessions, time)?;
        let cpu = self.process.cpu()?.since(before);
        Ok((cpu.as_secs_f64() * 1e6 / calls.answered as f64, calls))
    }
}

/// A gateway under measurement, with its files.
#[derive(Debug)]
pub struct Bench {
    setup: Setup,
    peers: Vec<Peer>,
    this: PathBuf,
}

/// Median of some times, in a unit of which a second has so many.
fn median_of(times: &[Duration], a_second: f64) -> f64 {
    let values: Vec<f64> = times
        .iter()
        .map(|time| time.as_secs_f64() * a_second)
        .collect();
    median(&values)
}

impl Bench {
    /// Measures `program`, and the peers beside it.
    ///
    /// # Errors
    /// Fails when the program is not there, or its directory cannot be made.
    pub fn new(program: &Path, peers: Vec<Peer>) -> Result<Self, Error> {
        let this = std::env::current_exe()?;
        let settings = format!(
            r#"limits: {{ requests_per_minute: 1000000000, tokens_per_minute: 4000000000, burst: 1000000000, connections: 19000 }}
gateway:
  rate: {{ requests: 1000000000 }}
  sessions: {{ per_client: 4000, max: 8000 }}
mcpServers:
  echo: {{ command: "{0}", args: [echo], scope: shared }}
  own: {{ command: "{0}", args: [echo] }}
"#,
            this.display()
        );
        Ok(Self {
            setup: Setup::new(program, &settings)?,
            peers,
            this,
        })
    }

    /// Runs everything.
    ///
    /// # Errors
    /// Fails when a process fails or an answer is not what it should be: then there are no figures.
    pub fn run(&self, plan: &Plan) -> Result<Report, Error> {
        let mut rows = self.calls(plan)?;
        rows.extend(self.opening(plan)?);
        rows.extend(self.many()?);
        Ok(Report {
            quick: plan.quick,
            rows,
        })
    }

    fn target(addr: SocketAddr, server: &str, way: Way) -> Target {
        let end = match way {
            Way::Http => "mcp",
            Way::Socket => "ws",
        };
        Target {
            addr,
            path: format!("/servers/{server}/{end}"),
            key: Some(CLIENT_KEY),
            way,
        }
    }

    /// CPU time and latency of calls, in rounds that all sides take in turns.
    fn calls(&self, plan: &Plan) -> Result<Vec<Row>, Error> {
        let floor = self.setup.role(TARGET_CORE, &["ideal"])?;
        let program = self.setup.start_program()?;
        let bare = Target {
            addr: floor.addr,
            path: "/mcp".to_owned(),
            key: None,
            way: Way::Http,
        };
        let mut sides = vec![
            Side::new(&floor, bare)?,
            Side::new(&program, Self::target(program.addr, "echo", Way::Http))?,
            Side::new(&program, Self::target(program.addr, "echo", Way::Socket))?,
        ];
        let mut others = Vec::new();
        for peer in &self.peers {
            others.push((self.start(peer)?, peer));
        }
        for (process, peer) in &others {
            let target = Target {
                addr: process.addr,
                path: peer.path.to_owned(),
                key: None,
                way: peer.way,
            };
            sides.push(Side::new(process, target)?);
        }
        let mut values: Vec<Vec<Part>> = sides.iter().map(|_| Vec::new()).collect();
        for _ in 0..plan.rounds {
            for (side, values) in sides.iter_mut().zip(&mut values) {
                values.push(side.part(plan.time)?);
            }
        }
        let (Some(ideal), Some(http), Some(socket)) =
            (values.first(), values.get(1), values.get(2))
        else {
            return Err("a side is missing".into());
        };
        let few = |part: &Part| part.few;
        let more = |part: &Part| part.more;
        let alone = |part: &Part| part.alone;
        let share = |part: &Part| part.more * 5000.0 / 1e6;
        let (us, ratio, bar) = ("CPU us", Kind::Ratio, (Some(1.5), None));
        let vs = |yardstick, program, of: &dyn Fn(&Part) -> f64| {
            let mut rounds = Rounds::against("ideal");
            push(&mut rounds, yardstick, program, of);
            rounds
        };
        let mut rows = vec![
            vs(ideal, http, &few).row("call, 16 sessions, HTTP", us, ratio, bar),
            vs(ideal, http, &more).row("call, 64 sessions, HTTP", us, ratio, bar),
            vs(ideal, socket, &few).row("call, 16 sessions, WebSocket", us, ratio, bar),
            vs(ideal, socket, &more).row("call, 64 sessions, WebSocket", us, ratio, bar),
            vs(ideal, http, &alone).row(
                "call, 1 session, HTTP, p50",
                "us",
                Kind::Difference,
                (None, None),
            ),
            vs(&Vec::new(), http, &share).row(
                "10,000 messages a second, HTTP",
                "cores",
                Kind::Value,
                (Some(0.5), None),
            ),
        ];
        for ((_, peer), theirs) in others.iter().zip(values.iter().skip(3)) {
            let ours = match peer.way {
                Way::Http => http,
                Way::Socket => socket,
            };
            let names = [
                (
                    "call, 16 sessions, as the peer is asked",
                    &few as &dyn Fn(&Part) -> f64,
                    us,
                ),
                ("call, 64 sessions, as the peer is asked", &more, us),
                ("call, 1 session, as the peer is asked, p50", &alone, "us"),
            ];
            for (name, of, unit) in names {
                let mut rounds = Rounds::against(peer.name);
                push(&mut rounds, theirs, ours, of);
                let bar = (unit == us).then_some(peer.bar);
                rows.push(rounds.row(name, unit, ratio, (bar, None)));
            }
        }
        Ok(rows)
    }

    /// Starts a peer on a port that is free.
    fn start(&self, peer: &Peer) -> Result<Process, Error> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let server = format!("{} echo", self.this.display());
        let config = self.setup.write(
            "agentgateway.yaml",
            &format!(
                "binds:\n- port: {port}\n  listeners:\n  - routes:\n    - backends:\n      - mcp:\n          targets:\n          - name: echo\n            stdio:\n              cmd: {}\n              args: [echo]\n",
                self.this.display()
            ),
        )?;
        let mut words = peer.command.iter().map(|word| {
            word.replace("{port}", &port.to_string())
                .replace("{server}", &server)
                .replace("{config}", &config.display().to_string())
        });
        let program = words.next().ok_or("a peer has no command")?;
        let mut command = Command::new(program);
        command.args(words);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        self.setup.start_other(&mut command, addr, peer.name)
    }

    /// Time to open a session: on a server that all share, and with a process of its own beyond the start of that.
    fn opening(&self, plan: &Plan) -> Result<Vec<Row>, Error> {
        let program = self.setup.start_program()?;
        let mut clients = Clients::new(Self::target(program.addr, "echo", Way::Http))?;
        // The first one starts the process.
        clients.open(1 + plan.rounds * 20)?;
        let shared = clients.opening.get(1..).unwrap_or_default();
        let mut rounds = Rounds::against("");
        rounds.push(1, median_of(shared, 1e3));
        let mut own = Rounds::against("process");
        for _ in 0..plan.rounds {
            let (mut alone, mut through) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                alone.push(self.start_server()?);
                let mut clients = Clients::new(Self::target(program.addr, "own", Way::Http))?;
                clients.open(1)?;
                through.append(&mut clients.opening);
                clients.end()?;
            }
            own.push(0, median_of(&alone, 1e3));
            own.push(1, median_of(&through, 1e3));
        }
        Ok(vec![
            rounds.row(
                "session opened, shared process",
                "ms",
                Kind::Value,
                (Some(1.0), None),
            ),
            own.row(
                "session opened, own process",
                "ms",
                Kind::Difference,
                (Some(1.0), None),
            ),
        ])
    }

    /// Time from the start of the server itself to its answer to `initialize`.
    fn start_server(&self) -> Result<Duration, Error> {
        let begin = Instant::now();
        let mut server = Command::new(&self.this)
            .arg("echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(mut input), Some(output)) = (server.stdin.take(), server.stdout.take()) else {
            return Err("the server has no pipes".into());
        };
        writeln!(input, "{}", hello())?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let time = begin.elapsed();
        drop(input);
        server.wait()?;
        if line.contains("\"result\"") {
            Ok(time)
        } else {
            Err("the server did not answer".into())
        }
    }

    /// Memory of many sessions, many WebSockets, and many calls at once.
    fn many(&self) -> Result<Vec<Row>, Error> {
        let program = self.setup.start_program()?;
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / MANY as f64;
        let mut first = Clients::new(Self::target(program.addr, "echo", Way::Socket))?;
        first.open(1)?;
        let mut at_once = Rounds::against("");
        at_once.push(1, first.at_once(AT_ONCE)?.as_secs_f64() * 1e3);
        let before = program.resident_kib()?;
        // Sessions whose connections are gone: they are kept for clients that come back.
        let mut idle = Clients::new(Self::target(program.addr, "echo", Way::Http))?;
        idle.open_and_leave(MANY)?;
        let sessions = program.resident_kib()?;
        let mut sockets = Clients::new(Self::target(program.addr, "echo", Way::Socket))?;
        sockets.open(MANY)?;
        let open = program.resident_kib()?;
        let begin = Instant::now();
        sockets.call_all()?;
        let called = begin.elapsed().as_secs_f64() * 1e3;
        let mut rows = Vec::new();
        for (name, unit, value, bar) in [
            (
                "idle session of 1,000, HTTP",
                "KiB",
                each(before, sessions),
                Some(16.0),
            ),
            ("open WebSocket of 1,000", "KiB", each(sessions, open), None),
            ("1,000 WebSockets call together", "ms", called, Some(1000.0)),
        ] {
            let mut rounds = Rounds::against("");
            rounds.push(1, value);
            rows.push(rounds.row(name, unit, Kind::Value, (bar, None)));
        }
        rows.push(at_once.row(
            "100 calls at once, one session",
            "ms",
            Kind::Value,
            (Some(100.0), None),
        ));
        Ok(rows)
    }
}

/// Adds what each round has shown of both sides.
fn push(rounds: &mut Rounds, yardstick: &[Part], program: &[Part], of: &dyn Fn(&Part) -> f64) {
    yardstick.iter().for_each(|part| rounds.push(0, of(part)));
    program.iter().for_each(|part| rounds.push(1, of(part)));
}
