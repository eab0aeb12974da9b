//! Measurement of the same load on a yardstick and on the program, in rounds that take turns, so that other load on the
//! machine affects both.

use std::path::Path;
use std::time::Duration;

use crate::Error;
use crate::load::{Load, Tally};
use crate::plain_gateway;
use crate::process::Process;
use crate::report::{Kind, Report, Row, Yardstick, median, millis};
use crate::scrape::Scraper;
use crate::script::Script;
use crate::setup::{CLIENT_KEY, LOAD_CORE, Setup, TARGET_CORE};
use crate::situations::{self, Driver};

/// Limits that the load does not reach.
const LIMITS: &str = "limits:
  requests_per_minute: 1000000000
  tokens_per_minute: 4000000000
  burst: 1000000000
  exchanges: 20000
  connections: 19000
";

/// Streams that run while the program is scraped.
const STREAMS: usize = 64;

/// Durations and numbers of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// True for the short run.
    pub quick: bool,
    /// Times that each part is run on each side.
    pub rounds: usize,
    /// Measured time of a part, after a warm-up of a fifth of it.
    pub time: Duration,
    /// Streams that are held open for the memory part.
    pub streams: usize,
    /// Starts of the program for the start-up time.
    pub starts: usize,
}

impl Plan {
    /// The run whose figures count: about six minutes.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            quick: false,
            rounds: 5,
            time: Duration::from_millis(2000),
            streams: 10_000,
            starts: 9,
        }
    }

    /// The run for every change: about a minute.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            quick: true,
            rounds: 3,
            time: Duration::from_millis(600),
            streams: 2_000,
            starts: 3,
        }
    }
}

/// One side of the comparison, running.
#[derive(Debug)]
pub(crate) struct Side {
    /// The process that is measured.
    target: Process,
    /// The process that answers: the backend behind the splice, the agent behind the program. `None` where the target does.
    origin: Option<Process>,
}

/// The comparison of one build with the splice.
#[derive(Debug)]
pub struct Bench(Setup);

/// The values of one part, one per round.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// Name of the yardstick.
    name: &'static str,
    yardstick: Vec<f64>,
    program: Vec<f64>,
}

impl Rounds {
    /// Compares with the yardstick of this name.
    pub(crate) const fn against(name: &'static str) -> Self {
        Self {
            name,
            yardstick: Vec::new(),
            program: Vec::new(),
        }
    }

    /// Adds a value of a side: 0 is the yardstick, 1 the program.
    pub(crate) fn push(&mut self, side: usize, value: f64) {
        if side == 0 {
            self.yardstick.push(value);
        } else {
            self.program.push(value);
        }
    }

    pub(crate) fn row(
        &self,
        name: &'static str,
        unit: &'static str,
        kind: Kind,
        (bar, goal): (Option<f64>, Option<f64>),
    ) -> Row {
        let pairs = self.program.iter().zip(&self.yardstick);
        let figure = match kind {
            Kind::Ratio => median(&pairs.map(|(p, y)| p / y).collect::<Vec<_>>()),
            Kind::Difference => median(&pairs.map(|(p, y)| p - y).collect::<Vec<_>>()),
            Kind::Value => median(&self.program),
        };
        Row {
            name,
            unit,
            yardstick: (!self.yardstick.is_empty()).then(|| Yardstick {
                name: self.name,
                value: median(&self.yardstick),
            }),
            program: median(&self.program),
            kind,
            figure,
            bar,
            goal,
            needs_quiet: kind == Kind::Difference,
        }
    }
}

/// Figures of one part of a round.
pub(crate) struct Sample {
    pub(crate) tally: Tally,
    /// CPU time of the target in the measured time.
    pub(crate) cpu: Duration,
}

impl Bench {
    /// A bench that runs `program`, and this very program for the processes round it.
    ///
    /// # Errors
    /// Fails when the program is not there, or its directory cannot be made.
    pub fn new(program: &Path) -> Result<Self, Error> {
        Ok(Self(Setup::new(program, LIMITS)?))
    }

    /// Runs everything.
    ///
    /// # Errors
    /// Fails when a process fails or an answer is not what it should be: then there are no figures.
    pub fn run(&self, plan: &Plan) -> Result<Report, Error> {
        let mut rows = self.rounds(plan)?;
        rows.extend(situations::measure(&self.0, plan)?);
        rows.extend(plain_gateway::measure(&self.0, plan)?);
        rows.extend(self.held_streams(plan)?);
        rows.push(self.start_up(plan)?);
        rows.extend(self.scraped(plan)?);
        rows.push(self.full_disk(plan)?);
        Ok(Report {
            quick: plan.quick,
            rows,
        })
    }

    /// The parts that both sides take in turns.
    fn rounds(&self, plan: &Plan) -> Result<Vec<Row>, Error> {
        let splice = Side::splice(&self.0)?;
        let program = Side::program(&self.0)?;
        let [
            mut whole,
            mut latency,
            mut in_a_row,
            mut chunk,
            mut alone,
            mut burst,
            mut writes,
            mut first,
        ] = std::array::from_fn(|_| Rounds::against("splice"));
        let stream = Script::stream(200, 1);
        let bursts = Script::stream(200, 16).turns();
        let slow = Script::paced(200, Duration::from_millis(1));
        let paced = Script::paced(5, Duration::from_millis(5));
        let sides = [&splice, &program];
        for round in 0..plan.rounds {
            for turn in 0..2 {
                // The side that goes first changes, so that neither always meets a warmer machine.
                let which = (round + turn) % 2;
                let Some(side) = sides.get(which) else {
                    continue;
                };
                let push = |rounds: &mut Rounds, value: f64| rounds.push(which, value);
                let sample = side.part(plan, &Script::whole(), 16)?;
                push(&mut whole, sample.cpu_micros(sample.tally.answers));
                let sample = side.part(plan, &Script::whole(), 1)?;
                push(&mut latency, middle_micros(&sample.tally.latency));
                let sample = side.part(plan, &stream, 16)?;
                push(&mut in_a_row, sample.cpu_micros(sample.tally.chunks));
                let sample = side.part(plan, &stream.turns(), 16)?;
                push(&mut chunk, sample.cpu_micros(sample.tally.chunks));
                let sample = side.part(plan, &slow, 16)?;
                push(&mut alone, sample.cpu_micros(sample.tally.chunks));
                let sample = side.part(plan, &bursts, 16)?;
                push(&mut burst, sample.cpu_micros(sample.tally.chunks));
                push(
                    &mut writes,
                    sample.tally.transfer_chunks as f64 / sample.tally.chunks as f64,
                );
                let sample = side.part(plan, &paced, 1)?;
                push(
                    &mut first,
                    middle_micros(&sample.tally.first_chunk) / 1000.0,
                );
            }
        }
        let (ratio, difference) = (Kind::Ratio, Kind::Difference);
        let driver = Driver::of(self.0.program());
        // The one with a thread for each connection pays for switches between them.
        let held = |smol, blocking, goal| (Some(driver.choose(smol, blocking)), Some(goal));
        let free = (None, None);
        Ok(vec![
            whole.row(
                "whole answer, 16 clients",
                "CPU us",
                ratio,
                // The program writes the line of each request into its log, which the splice does not.
                held(3.2, 6.0, 2.2),
            ),
            latency.row("whole answer, 1 client, p50", "us", difference, free),
            chunk.row(
                "streamed chunk, 16 streams",
                "CPU us",
                ratio,
                held(2.0, 3.0, 1.5),
            ),
            in_a_row.row("streamed chunk, a stream in one go", "CPU us", ratio, free),
            alone.row("streamed chunk, 16 paced streams", "CPU us", ratio, free),
            burst.row("streamed chunk, bursts of 16", "CPU us", ratio, free),
            writes.row(
                "writes per chunk, bursts of 16",
                "writes",
                Kind::Value,
                (Some(0.1), None),
            ),
            first.row(
                "first token, one paced stream",
                "ms",
                difference,
                held(0.25, 0.25, 0.15),
            ),
        ])
    }

    /// Memory of a fresh program: idle, and with many streams open on one link.
    fn held_streams(&self, plan: &Plan) -> Result<Vec<Row>, Error> {
        let mut side = Side::program(&self.0)?;
        std::thread::sleep(Duration::from_millis(300));
        let idle = side.target.resident_kib()?;

        let mut warm = side.load(&Script::whole())?;
        warm.open(1)?;
        warm.finish(Duration::from_secs(10))?;
        let before = side.target.resident_kib()?;
        let mut load = side.load(&Script::held())?;
        load.open(plan.streams)?;
        load.wait_begun(Duration::from_secs(30))?;
        std::thread::sleep(Duration::from_millis(300));
        let held = side.target.resident_kib()?;
        side.origin.iter_mut().try_for_each(Process::release)?;
        let tally = load.finish(Duration::from_secs(60))?;
        if tally.answers != plan.streams as u64 || tally.chunks != plan.streams as u64 {
            return Err(format!(
                "of {} streams {} ended, with {} chunks",
                plan.streams, tally.answers, tally.chunks
            )
            .into());
        }
        drop(load);
        // The program gives memory back a second after most have left.
        std::thread::sleep(Duration::from_secs(3));
        let after = side.target.resident_kib()?;

        let per_stream = held.saturating_sub(before) as f64 / plan.streams as f64;
        Ok(vec![
            value("memory, idle", "MiB", idle as f64 / 1024.0, Some(12.0)),
            value(
                "memory per open stream",
                "KiB",
                per_stream,
                Some(Driver::of(self.0.program()).choose(9.0, 26.0)),
            ),
            value(
                "memory after all of them have left",
                "MiB",
                after as f64 / 1024.0,
                Some(40.0),
            ),
        ])
    }

    /// Measures the cost of monitoring for streams that run as fast as they can. A stall of the program shows in every
    /// round and one of the machine in some, so the best rounds are compared.
    fn scraped(&self, plan: &Plan) -> Result<Vec<Row>, Error> {
        let side = Side::program(&self.0)?;
        let script = Script::stream(200, 1).turns();
        let (mut alone, mut scraped) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..plan.rounds {
            let undisturbed = side.part(plan, &script, STREAMS)?.tally.longest_gap;
            let scraper = Scraper::start(side.target.addr)?;
            let disturbed = side.part(plan, &script, STREAMS)?.tally.longest_gap;
            if scraper.stop()? == 0 {
                return Err("nothing was scraped".into());
            }
            alone = alone.min(millis(undisturbed));
            scraped = scraped.min(millis(disturbed));
        }
        let more = scraped - alone;
        Ok(vec![
            value("longest gap, 64 streams", "ms", alone, None),
            value("longest gap, 64 streams, scraped", "ms", scraped, None),
            value("what 20 scrapes a second add to it", "ms", more, Some(50.0)),
        ])
    }

    /// Compares the cost of an answer with an audit file on a full disk to that with a working file.
    fn full_disk(&self, plan: &Plan) -> Result<Row, Error> {
        let good = Side::program(&self.0)?;
        let full = Side::with_agent(&self.0, self.0.start_program_on_full_disk()?)?;
        let script = Script::whole();
        let mut ratios = Vec::new();
        for round in 0..plan.rounds {
            let mut costs = [0.0; 2];
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let side = if which == 0 { &good } else { &full };
                let sample = side.part(plan, &script, 16)?;
                if let Some(slot) = costs.get_mut(which) {
                    *slot = sample.cpu_micros(sample.tally.answers);
                }
            }
            let [good, full] = costs;
            ratios.push(full / good);
        }
        let name = "whole answer, audit on a full disk";
        Ok(value(name, "times CPU", median(&ratios), Some(1.15)))
    }

    /// Measures the time from the start of the program to its ready line.
    fn start_up(&self, plan: &Plan) -> Result<Row, Error> {
        let mut times = Rounds::against("splice");
        for _ in 0..plan.starts {
            times
                .program
                .push(self.0.start_program()?.start.as_secs_f64() * 1000.0);
        }
        let row = times.row(
            "from the start to the ready line",
            "ms",
            Kind::Value,
            (Some(50.0), None),
        );
        Ok(Row {
            needs_quiet: true,
            ..row
        })
    }
}

impl Side {
    /// The splice in front of the backend.
    pub(crate) fn splice(setup: &Setup) -> Result<Self, Error> {
        let origin = setup.role(LOAD_CORE, &["backend"])?;
        let target = setup.role(TARGET_CORE, &["splice", &origin.addr.to_string()])?;
        let origin = Some(origin);
        Ok(Self { target, origin })
    }

    /// The backend alone.
    pub(crate) fn direct(setup: &Setup) -> Result<Self, Error> {
        let target = setup.role(LOAD_CORE, &["backend"])?;
        let origin = None;
        Ok(Self { target, origin })
    }

    /// The program in front of the backend.
    pub(crate) fn gateway(setup: &Setup) -> Result<Self, Error> {
        let origin = setup.role(LOAD_CORE, &["backend"])?;
        let target = setup.start_program_before(origin.addr)?;
        let origin = Some(origin);
        Ok(Self { target, origin })
    }

    /// The least code in front of the agent.
    pub(crate) fn ideal(setup: &Setup) -> Result<Self, Error> {
        Self::with_agent(setup, setup.role(TARGET_CORE, &["ideal"])?)
    }

    /// The program in front of the agent.
    pub(crate) fn program(setup: &Setup) -> Result<Self, Error> {
        Self::with_agent(setup, setup.start_program()?)
    }

    /// The same without an audit file.
    pub(crate) fn unaudited(setup: &Setup) -> Result<Self, Error> {
        Self::with_agent(setup, setup.start_program_without_audit()?)
    }

    fn with_agent(setup: &Setup, target: Process) -> Result<Self, Error> {
        let origin = Some(setup.agent(&target)?);
        Ok(Self { target, origin })
    }

    fn load(&self, script: &Script) -> Result<Load, Error> {
        Load::new(self.target.addr, CLIENT_KEY, &script.request_body())
    }

    pub(crate) fn part(
        &self,
        plan: &Plan,
        script: &Script,
        connections: usize,
    ) -> Result<Sample, Error> {
        let mut load = self.load(script)?;
        load.open(connections)?;
        load.run_for(plan.time / 5)?;
        let before = self.target.cpu()?;
        let tally = load.run_for(plan.time)?;
        let cpu = self.target.cpu()?.since(before);
        load.finish(Duration::from_secs(10))?;
        if tally.answers == 0 {
            return Err("no answer ended in the measured time".into());
        }
        Ok(Sample { tally, cpu })
    }
}

impl Sample {
    /// CPU microseconds for each of `count`.
    pub(crate) fn cpu_micros(&self, count: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count as f64
    }
}

/// A row of the program's own.
fn value(name: &'static str, unit: &'static str, program: f64, bar: Option<f64>) -> Row {
    Row {
        name,
        unit,
        yardstick: None,
        program,
        kind: Kind::Value,
        figure: program,
        bar,
        goal: None,
        needs_quiet: false,
    }
}

fn middle_micros(times: &[Duration]) -> f64 {
    middle(times.iter().map(|time| time.as_secs_f64() * 1e6))
}

pub(crate) fn middle(values: impl Iterator<Item = f64>) -> f64 {
    median(&values.collect::<Vec<_>>())
}
