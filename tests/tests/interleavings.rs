//! Every order of everything that can happen to one exchange on one link.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::config::{HubConfig, Timeouts};
use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_tests::agent;
use mcp_local_provider_tests::driver::Driver;
use std::time::Duration;

/// An event of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client asks; once it has, all are polled before their time.
    Open,
    /// The agent says the next piece.
    Chunk,
    /// The agent ends its answer.
    End,
    /// The agent fails.
    AgentError,
    /// The client closes its connection.
    ClientGone,
    /// The agent's connection is lost.
    LinkLost,
    /// The least timeout passes.
    Timer,
}

const STEPS: [Step; 7] = [
    Step::Open,
    Step::Chunk,
    Step::End,
    Step::AgentError,
    Step::ClientGone,
    Step::LinkLost,
    Step::Timer,
];

const LENGTH: u32 = 6;

/// One way in which the exchange can be served.
#[derive(Clone, Copy, Debug)]
struct Way {
    endpoint: &'static str,
    stream: bool,
    /// The mailbox is emptied at once, or only when time passes.
    eager: bool,
    /// Timeouts so short that they meet in six steps, or the usual ones.
    hasty: bool,
}

struct Run {
    driver: Driver,
    link: LinkId,
    way: Way,
    chunks: u64,
    /// The agent has said that its answer ends.
    ended: bool,
}

impl Run {
    fn new(way: Way) -> Self {
        let mut config = HubConfig::default();
        if way.hasty {
            config.timeouts = Timeouts {
                first_event: Duration::from_secs(1),
                first_chunk: Duration::from_secs(2),
                keep_alive: Duration::from_secs(1),
                idle: Duration::from_secs(2),
                total: Duration::from_secs(4),
                ..Timeouts::default()
            };
        }
        let mut driver = Driver::new(config);
        driver.eager = way.eager;
        let link = driver.connect(None).unwrap();
        driver.receive(link, &agent::register("agent", &["model"], None));
        driver.flow();
        Self {
            driver,
            link,
            way,
            chunks: 0,
            ended: false,
        }
    }

    fn step(&mut self, step: Step) {
        let Self { driver, link, .. } = self;
        // The agent guesses the id of an exchange that does not exist yet.
        let id = agent::guess(1);
        match step {
            Step::Open if driver.calls.is_empty() => {
                let (stream, endpoint) = (self.way.stream, self.way.endpoint);
                let asks = if endpoint == "POST /api/generate" {
                    r#""prompt":"hello""#
                } else {
                    r#""messages":[{"role":"user","content":"hello"}]"#
                };
                let body = format!(r#"{{"model":"model","stream":{stream},{asks}}}"#);
                let _ = driver.ask(endpoint, &body);
            }
            Step::Open => driver.prod(),
            Step::Chunk => {
                driver.receive(*link, &agent::chunk(id, self.chunks, &piece(self.chunks)));
                self.chunks += 1;
            }
            Step::End => {
                driver.receive(*link, &agent::end(id, self.chunks));
                self.ended = true;
            }
            Step::AgentError => driver.receive(*link, &agent::failed(id, "overloaded")),
            Step::ClientGone => {
                if !driver.calls.is_empty() {
                    driver.client_gone(0, false);
                }
            }
            Step::LinkLost => driver.lose(*link),
            Step::Timer => {
                driver.prod();
                driver.advance();
                self.serve();
            }
        }
        self.driver.flow();
        self.check();
    }

    fn serve(&mut self) {
        for at in 0..self.driver.calls.len() {
            self.driver.serve(at);
        }
        self.driver.flow();
    }

    fn check(&self) {
        self.driver.check();
        if let Some(call) = self.driver.calls.first() {
            let said: String = (0..self.chunks).map(piece).collect();
            assert!(
                said.starts_with(&call.client.content),
                "{:?} is no beginning of {said:?}",
                call.client.content
            );
        }
    }

    /// Everything is allowed to end.
    fn heal(&mut self) {
        if let Some(call) = self.driver.calls.first_mut() {
            call.eager = true;
        }
        self.serve();
        if let Some(call) = self.driver.calls.first()
            && !call.is_over()
        {
            let id = call.id;
            self.driver.receive(self.link, &agent::end(id, self.chunks));
            self.ended = true;
        }
        self.serve();
        self.driver.flow();
        // The agent has no more to do than to show that it lives.
        for _ in 0..64 {
            if self.driver.is_over() {
                break;
            }
            self.driver.advance();
            self.driver.alive(self.link);
        }
        self.driver.check_quiescent();
        self.driver.check_audit();
        if let Some(call) = self.driver.calls.first() {
            assert!(
                self.ended || !call.completed(),
                "completed without the agent's end"
            );
        }
    }
}

fn piece(index: u64) -> String {
    format!("{index} ")
}

fn every_order(way: Way) {
    let base = u32::try_from(STEPS.len()).unwrap();
    for order in 0..base.pow(LENGTH) {
        let steps = Told(std::array::from_fn(|place| {
            let place = u32::try_from(place).unwrap();
            let digit = order / base.pow(LENGTH - 1 - place) % base;
            STEPS[usize::try_from(digit).unwrap()]
        }));
        let mut run = Run::new(way);
        for step in steps.0 {
            run.step(step);
        }
        run.heal();
    }
}

/// Says which order it was when a run panics.
struct Told([Step; LENGTH as usize]);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in this order: {:?}", self.0);
        }
    }
}

/// A stream whose client reads at once.
const STREAM: Way = Way {
    endpoint: "POST /v1/chat/completions",
    stream: true,
    eager: true,
    hasty: false,
};

#[test]
fn a_stream_survives_every_order() {
    every_order(STREAM);
}

#[test]
fn a_stream_with_short_timeouts_survives_every_order() {
    every_order(Way {
        endpoint: "POST /api/chat",
        hasty: true,
        ..STREAM
    });
}

#[test]
fn a_stream_whose_client_reads_late_survives_every_order() {
    every_order(Way {
        endpoint: "POST /api/generate",
        eager: false,
        hasty: true,
        ..STREAM
    });
}

#[test]
fn a_whole_answer_survives_every_order() {
    every_order(Way {
        stream: false,
        hasty: true,
        ..STREAM
    });
}
