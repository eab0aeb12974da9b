//! The situations that users meet, each measured on the least code that does the work ([`ideal`](crate::ideal)) and on
//! the program, in turns.

use std::path::Path;
use std::time::Duration;

use crate::Error;
use crate::comparison::{Plan, Rounds, Sample, Side, middle};
use crate::report::{Kind, Row};
use crate::script::Script;
use crate::setup::Setup;

/// Kind of program, each with bars of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Smol,
    Blocking,
}

impl Driver {
    /// Tells it from the name of the program's file.
    pub(crate) fn of(program: &Path) -> Self {
        let name = program.file_stem().unwrap_or_default();
        if name.to_string_lossy().ends_with("-blocking") {
            Self::Blocking
        } else {
            Self::Smol
        }
    }

    /// Picks the bar of this program.
    pub(crate) fn choose<T>(self, smol: T, blocking: T) -> T {
        match self {
            Self::Smol => smol,
            Self::Blocking => blocking,
        }
    }
}

/// The largest value that the gate allows, and the one aimed at.
type Bar = (Option<f64>, Option<f64>);

/// One figure of a situation.
struct Figure {
    name: &'static str,
    unit: &'static str,
    read: fn(&Sample) -> f64,
    kind: Kind,
    smol: Bar,
    blocking: Bar,
}

/// One load.
struct Situation {
    script: Script,
    connections: usize,
    /// False: the program writes no audit file.
    audited: bool,
    figures: Vec<Figure>,
}

/// A figure of which the program may need `smol` or `blocking` times as much as the least code, if it is held yet, and
/// should need at most so many.
fn ratio(name: &'static str, read: fn(&Sample) -> f64, smol: Bar, blocking: Bar) -> Figure {
    Figure {
        name,
        unit: "CPU us",
        read,
        kind: Kind::Ratio,
        smol,
        blocking,
    }
}

/// A figure in microseconds.
fn micros(name: &'static str, read: fn(&Sample) -> f64, goal: f64) -> Figure {
    Figure {
        name,
        unit: "us",
        read,
        kind: Kind::Value,
        smol: (None, Some(goal)),
        blocking: (None, Some(goal)),
    }
}

fn per_answer(sample: &Sample) -> f64 {
    sample.cpu_micros(sample.tally.answers)
}

fn per_chunk(sample: &Sample) -> f64 {
    sample.cpu_micros(sample.tally.chunks)
}

fn transit(sample: &Sample) -> f64 {
    middle(sample.tally.transit.iter().map(|micros| *micros as f64))
}

fn first_token(sample: &Sample) -> f64 {
    middle(
        sample
            .tally
            .first_chunk
            .iter()
            .map(|time| time.as_secs_f64() * 1e6),
    )
}

/// All of them. The goals are what a person should not have to wait or pay more than; a bar is what a change must not lose,
/// with room for a busy machine.
fn situations() -> Vec<Situation> {
    let load = |script, connections, figures| Situation {
        script,
        connections,
        audited: true,
        figures,
    };
    let held = |bar, goal| (Some(bar), Some(goal));
    let paced = Script::paced(20, Duration::from_millis(20));
    let turns = Script::stream(200, 1).turns();
    let ahead = Script::stream(200, 1).ahead();
    let large = Script::whole().with_request(100_000);
    vec![
        load(
            Script::whole(),
            16,
            vec![ratio(
                "whole answer, 16 clients",
                per_answer,
                held(4.0, 1.5),
                held(7.0, 2.0),
            )],
        ),
        load(
            Script::whole(),
            128,
            vec![ratio(
                "whole answer, 128 clients",
                per_answer,
                held(6.0, 1.7),
                held(11.0, 2.2),
            )],
        ),
        load(
            large,
            16,
            vec![ratio(
                "prompt of 100 KB, 16 clients",
                per_answer,
                held(4.0, 1.9),
                held(4.0, 1.9),
            )],
        ),
        Situation {
            script: large,
            connections: 16,
            audited: false,
            figures: vec![ratio(
                "the same without an audit file",
                per_answer,
                held(2.3, 1.4),
                held(2.8, 1.6),
            )],
        },
        load(
            paced,
            100,
            vec![ratio(
                "chunk, 100 streams at 50/s",
                per_chunk,
                held(3.2, 1.3),
                held(5.0, 2.0),
            )],
        ),
        load(
            paced,
            1,
            vec![
                ratio(
                    "chunk, one stream at 50/s",
                    per_chunk,
                    held(4.0, 1.5),
                    held(3.0, 1.0),
                ),
                micros("first token, one stream at 50/s, p50", first_token, 320.0),
            ],
        ),
        load(
            turns,
            16,
            vec![ratio(
                "chunk back to back, 16 streams",
                per_chunk,
                held(2.0, 1.1),
                held(2.6, 1.3),
            )],
        ),
        load(
            turns,
            128,
            vec![
                ratio(
                    "chunk back to back, 128 streams",
                    per_chunk,
                    held(2.5, 1.1),
                    held(3.0, 1.3),
                ),
                micros("transit of these, p50", transit, 31_000.0),
            ],
        ),
        load(
            ahead,
            16,
            vec![ratio(
                "chunk, agent ahead, 16 streams",
                per_chunk,
                held(2.2, 1.2),
                held(2.4, 1.2),
            )],
        ),
        load(
            ahead,
            128,
            vec![
                ratio(
                    "chunk, agent ahead, 128 streams",
                    per_chunk,
                    held(2.5, 1.2),
                    held(3.0, 1.2),
                ),
                micros("transit of these, p50", transit, 31_000.0),
            ],
        ),
    ]
}

/// Measures all situations on the build that `setup` starts.
///
/// # Errors
/// Fails when a process fails or an answer is not what it should be.
pub fn measure(setup: &Setup, plan: &Plan) -> Result<Vec<Row>, Error> {
    let driver = Driver::of(setup.program());
    let least = Side::ideal(setup)?;
    let program = Side::program(setup)?;
    let unaudited = Side::unaudited(setup)?;
    let mut rows = Vec::new();
    for situation in situations() {
        let own = if situation.audited {
            &program
        } else {
            &unaudited
        };
        let sides = [&least, own];
        let mut rounds: Vec<Rounds> = situation
            .figures
            .iter()
            .map(|_| Rounds::against("ideal"))
            .collect();
        for round in 0..plan.rounds {
            for turn in 0..2 {
                // The side that goes first changes, so that neither always meets a warmer machine.
                let which = (round + turn) % 2;
                let Some(side) = sides.get(which) else {
                    continue;
                };
                let sample = side.part(plan, &situation.script, situation.connections)?;
                for (figure, rounds) in situation.figures.iter().zip(&mut rounds) {
                    rounds.push(which, (figure.read)(&sample));
                }
            }
        }
        for (figure, rounds) in situation.figures.iter().zip(&rounds) {
            let bar = driver.choose(figure.smol, figure.blocking);
            rows.push(rounds.row(figure.name, figure.unit, figure.kind, bar));
        }
    }
    Ok(rows)
}
