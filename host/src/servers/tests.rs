//! Processes of servers, with a script in the place of the gateway.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::process::{Owner, Runner, Surroundings};
use super::{Plans, lock};
use crate::config::{Environment, load_text};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::process::Order;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::lines::Line;
use mcp_local_provider_engine::gateway::{Exit, Work};
use mcp_local_provider_engine::{Audit, Engine, Outside};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

struct Still;

impl Outside for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn unix(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Happened {
    Started,
    Line(String),
    TooLong,
    Exited(Exit, String),
}

/// Work that a test gives to a process, and the thread's waker.
#[derive(Default)]
struct Script {
    orders: Vec<Order>,
    lines: Vec<String>,
    ended: bool,
    waker: Option<Waker>,
}

struct Scripted {
    script: Arc<Mutex<Script>>,
    happened: Sender<Happened>,
}

impl Owner for Scripted {
    fn server(&self) -> &str {
        "files"
    }

    fn take(&self, waker: &Waker, work: &mut Work) {
        let mut script = lock(&self.script);
        work.orders.append(&mut script.orders);
        work.lines.extend(script.lines.drain(..));
        work.ended = script.ended;
        script.waker = Some(waker.clone());
    }

    fn handle_started(&self, _pid: i32) {
        self.happened.send(Happened::Started).unwrap();
    }

    fn handle_line(&self, line: Line<'_>) {
        let happened = match line {
            Line::Whole(line) => Happened::Line(String::from_utf8(line.to_vec()).unwrap()),
            Line::TooLong => Happened::TooLong,
        };
        self.happened.send(happened).unwrap();
    }

    fn handle_exited(&self, exit: Exit, why: &str) {
        let happened = Happened::Exited(exit, why.to_owned());
        self.happened.send(happened).unwrap();
    }
}

struct Run {
    surroundings: Arc<Surroundings>,
    script: Arc<Mutex<Script>>,
    happened: Receiver<Happened>,
    thread: JoinHandle<()>,
}

impl Run {
    /// Begins with a server that is this program of the shell.
    fn of(program: &str) -> Self {
        let surroundings = Arc::new(Surroundings {
            plans: Plans::default(),
            variables: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            supervisor: None,
        });
        let (send, happened) = channel();
        let script = Arc::default();
        let owner = Scripted {
            script: Arc::clone(&script),
            happened: send,
        };
        let engine = Engine::new(HubConfig::default(), [7; 32], Arc::new(Still), Audit::off());
        let runner = Runner::new(owner, engine, surroundings.clone()).unwrap();
        let run = Self {
            surroundings,
            script,
            happened,
            thread: std::thread::spawn(move || runner.run()),
        };
        run.configure(program);
        run
    }

    fn configure(&self, program: &str) {
        let text = serde_json::json!({
            "data_dir": "/d",
            "gateway": { "message_bytes": 4096 },
            "mcpServers": { "files": { "command": "/bin/sh", "args": ["-c", program] } },
        });
        let loaded = load_text("c.json", &text.to_string(), &Environment::new([]));
        self.surroundings.plans.replace(&loaded.unwrap().config);
    }

    fn order(&self, orders: &[Order], lines: &[&str]) {
        let mut script = lock(&self.script);
        script.orders.extend_from_slice(orders);
        script
            .lines
            .extend(lines.iter().map(|line| format!("{line}\n")));
        if let Some(waker) = &script.waker {
            waker.wake_by_ref();
        }
    }

    fn next(&self) -> Happened {
        self.happened.recv_timeout(PATIENCE).unwrap()
    }

    /// Ends the thread. It must have nothing more to tell.
    fn end(self) {
        lock(&self.script).ended = true;
        self.order(&[], &[]);
        self.thread.join().unwrap();
        assert_eq!(self.happened.try_iter().collect::<Vec<_>>(), []);
    }
}

fn line(text: &str) -> Happened {
    Happened::Line(text.to_owned())
}

#[test]
fn lines_go_in_and_out_and_the_end_of_the_input_ends_it() {
    let run = Run::of("while read -r line; do echo \"got $line\"; done; exit 3");
    run.order(&[Order::Spawn], &["one", "two"]);
    assert_eq!(run.next(), Happened::Started);
    assert_eq!([run.next(), run.next()], [line("got one"), line("got two")]);
    run.order(&[Order::CloseInput], &["three"]);
    assert_eq!(run.next(), line("got three"));
    let ended = Happened::Exited(Exit::Code(3), "it ended with exit code 3".to_owned());
    assert_eq!(run.next(), ended);
    run.end();
}

#[test]
fn lines_for_a_process_that_has_ended_are_not_for_the_next_one() {
    let run = Run::of("read -r line; echo $line; kill -9 $$");
    run.order(&[Order::Spawn], &["one", "lost"]);
    assert_eq!([run.next(), run.next()], [Happened::Started, line("one")]);
    let killed = Happened::Exited(Exit::Signal(9), "it was ended by signal 9".to_owned());
    assert_eq!(run.next(), killed);
    run.configure("read -r line; echo new $line; read -r line");
    run.order(&[Order::Spawn], &["two"]);
    assert_eq!(
        [run.next(), run.next()],
        [Happened::Started, line("new two")]
    );
    run.order(&[Order::Terminate], &[]);
    let Happened::Exited(exit, _) = run.next() else {
        panic!("it goes on")
    };
    assert!(matches!(exit, Exit::Signal(15) | Exit::Code(_)), "{exit:?}");
    run.end();
}

#[test]
fn one_that_stays_is_killed_and_a_line_beyond_the_limit_is_told() {
    let run = Run::of(
        "trap '' TERM; head -c 5000 /dev/zero; echo; while :; do read -r x || sleep 1; done",
    );
    run.order(&[Order::Spawn], &[]);
    assert_eq!(
        [run.next(), run.next()],
        [Happened::Started, Happened::TooLong]
    );
    run.order(&[Order::CloseInput, Order::Terminate, Order::Kill], &[]);
    assert_eq!(
        run.next(),
        Happened::Exited(Exit::Signal(9), "it was ended by signal 9".to_owned())
    );
    run.end();
}

#[test]
fn a_server_that_cannot_be_started_says_why() {
    let run = Run::of("");
    lock(&run.surroundings.plans.0).clear();
    run.order(&[Order::Spawn], &["lost"]);
    let why = "it cannot be started: the configuration has no such server any more";
    assert_eq!(
        run.next(),
        Happened::Exited(Exit::NotStarted, why.to_owned())
    );
    run.configure("echo broken pipe fittings >&2; echo 'Error: no token' >&2; exit 1");
    run.order(&[Order::Spawn], &[]);
    assert_eq!(run.next(), Happened::Started);
    // Callers are told this, so nothing of standard error is in it.
    let why = "it ended with exit code 1";
    assert_eq!(run.next(), Happened::Exited(Exit::Code(1), why.to_owned()));
    run.end();
}
