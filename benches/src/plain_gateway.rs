//! The program as a plain gateway: in front of the backend as its upstream, in the same rounds as the splice in front of the backend,
//! and as the backend alone.

use crate::Error;
use crate::comparison::{Plan, Rounds, Side, middle};
use crate::report::{Kind, Row};
use crate::script::Script;
use crate::setup::Setup;
use crate::situations::Driver;
use std::time::Duration;

/// Measures the build that `setup` starts.
///
/// # Errors
/// Fails when a process fails or an answer is not what it should be.
pub(crate) fn measure(setup: &Setup, plan: &Plan) -> Result<Vec<Row>, Error> {
    let splice = Side::splice(setup)?;
    let direct = Side::direct(setup)?;
    let program = Side::gateway(setup)?;
    let [mut whole, mut chunk] = std::array::from_fn(|_| Rounds::against("splice"));
    let mut first = Rounds::against("direct");
    let turns = Script::stream(200, 1).turns();
    let paced = Script::paced(5, Duration::from_millis(5));
    for round in 0..plan.rounds {
        for turn in 0..2 {
            // The side that goes first changes, so that neither always meets a warmer machine.
            let which = (round + turn) % 2;
            let [side, near] = match which {
                0 => [&splice, &direct],
                _ => [&program, &program],
            };
            let sample = side.part(plan, &Script::whole(), 16)?;
            whole.push(which, sample.cpu_micros(sample.tally.answers));
            let sample = side.part(plan, &turns, 128)?;
            chunk.push(which, sample.cpu_micros(sample.tally.chunks));
            let times = near.part(plan, &paced, 1)?.tally.first_chunk;
            first.push(
                which,
                middle(times.iter().map(Duration::as_secs_f64)) * 1000.0,
            );
        }
    }
    let driver = Driver::of(setup.program());
    let held = |smol| driver.choose(Some(smol), None);
    // The goals are half of what agentgateway 1.3.1 takes for the same, relative to the splice: of 4.87 times for a whole answer
    // (48.7 us and 10.0), and of 2.05 times for a chunk (7.8 us and 3.8).
    Ok(vec![
        whole.row(
            "plain gateway: whole answer, 16 clients",
            "CPU us",
            Kind::Ratio,
            (held(6.5), Some(2.43)),
        ),
        chunk.row(
            "plain gateway: chunk, 128 streams",
            "CPU us",
            Kind::Ratio,
            (held(2.3), Some(1.03)),
        ),
        first.row(
            "plain gateway: first token, one paced stream",
            "ms",
            Kind::Difference,
            (held(0.3), Some(0.3)),
        ),
    ])
}
