//! Every order of everything that can happen to one exchange on one link.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::config::{HubConfig, Timeouts};
use mcp_local_provider_core::hub::Verdict;
use mcp_local_provider_core::hub::keys::Caller;
use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_tests::agent;
use mcp_local_provider_tests::driver::{Driver, Phase};
use std::time::Duration;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client asks; once it has, the exchange is opened once more.
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
    endpoint: Endpoint,
    stream: bool,
    /// The mailbox is emptied at once, or only when time passes.
    eager: bool,
    /// Timeouts so short that they meet in six steps, or the usual ones.
    hasty: bool,
}

struct Run {
    driver: Driver,
    caller: Caller,
    link: LinkId,
    way: Way,
    chunks: u64,
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
        let caller = driver
            .hub
            .keys()
            .authenticate(None, [127, 0, 0, 1].into())
            .unwrap();
        let link = driver.connect(None).unwrap();
        driver.receive(link, &agent::register("agent", &["model"], None));
        driver.flow();
        Self {
            driver,
            caller,
            link,
            way,
            chunks: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let Self { driver, link, .. } = self;
        // The agent guesses the id of an exchange that does not exist yet.
        let id = agent::guess(1);
        match step {
            Step::Open if driver.calls.is_empty() => {
                let (stream, endpoint) = (self.way.stream, self.way.endpoint);
                let asks = if endpoint == Endpoint::OllamaGenerate {
                    r#""prompt":"hello""#
                } else {
                    r#""messages":[{"role":"user","content":"hello"}]"#
                };
                let body = format!(r#"{{"model":"model","stream":{stream},{asks}}}"#);
                driver.request(&self.caller, endpoint, &body, None).unwrap();
            }
            Step::Open => driver.open_again(0),
            Step::Chunk => {
                driver.receive(*link, &agent::chunk(id, self.chunks, &piece(self.chunks)));
                self.chunks += 1;
            }
            Step::End => driver.receive(*link, &agent::end(id, self.chunks)),
            Step::AgentError => driver.receive(*link, &agent::failed(id, "overloaded")),
            Step::ClientGone => {
                if !driver.calls.is_empty() {
                    driver.client_gone(0);
                }
            }
            Step::LinkLost => driver.lose(*link),
            Step::Timer => {
                driver.prod(driver.now);
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
        self.serve();
        if let Some(call) = self.driver.calls.first()
            && matches!(call.phase, Phase::Admitted(_))
        {
            self.driver
                .receive(self.link, &agent::end(call.id, self.chunks));
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
        if let Some(call) = self.driver.calls.first() {
            let outcome = call.outcome;
            let verdict = outcome.map(|outcome| outcome.verdict);
            if verdict == Some(Verdict::Completed) {
                assert!(call.agent_ended, "completed without the agent's end");
            }
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
    endpoint: Endpoint::ChatCompletions,
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
        endpoint: Endpoint::OllamaChat,
        hasty: true,
        ..STREAM
    });
}

#[test]
fn a_stream_whose_client_reads_late_survives_every_order() {
    every_order(Way {
        endpoint: Endpoint::OllamaGenerate,
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
