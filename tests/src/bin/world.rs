//! Lets the simulated world run for as long as one likes, or once more over an input that broke it, and beside it an ACP agent in
//! turmoil, an MCP gateway, servers of models and a registry, which the same input decides.
//!
//! `world soak SECONDS [SEED]` draws inputs until the time is over; one that breaks an invariant is made small, left in
//! the current directory as `world-SEED` and told step by step. `world find SECONDS [SEED]` succeeds when it breaks.
//! `world replay FILE` tells a run over that file. Seconds are those of the processor, so that a busy machine looks as far.
#![allow(clippy::print_stdout, clippy::indexing_slicing)] // it speaks to a person

use mcp_local_provider_tests::acp::turmoil;
use mcp_local_provider_tests::{mcp_world, registry_world, upstream_world, world};
use rustix::time::{ClockId, clock_gettime};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["replay", file] => match std::fs::read(file) {
            Ok(data) => {
                tell(&data);
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("{file}: {error}");
                ExitCode::FAILURE
            }
        },
        ["soak", seconds] => soak(seconds, "1"),
        ["soak", seconds, seed] => soak(seconds, seed),
        ["find", seconds] => find(seconds, "1"),
        ["find", seconds, seed] => find(seconds, seed),
        _ => {
            println!(
                "usage: world soak SECONDS [SEED] | world find SECONDS [SEED] | world replay FILE"
            );
            ExitCode::FAILURE
        }
    }
}

/// Runs that hold, and the first that does not.
struct Searched {
    runs: u64,
    steps: u64,
    took: Duration,
    broken: Option<(u64, Vec<u8>)>,
    next: u64,
}

fn search(seconds: &str, seed: &str) -> Option<Searched> {
    let (Ok(seconds), Ok(seed)) = (seconds.parse(), seed.parse::<u64>()) else {
        println!("SECONDS and SEED are whole numbers");
        return None;
    };
    let limit = Duration::from_secs(seconds);
    let mut searched = Searched {
        runs: 0,
        steps: 0,
        took: Duration::ZERO,
        broken: None,
        next: seed,
    };
    while searched.broken.is_none() && searched.took < limit {
        let data = world::input(searched.next);
        if cfg!(panic = "abort") {
            let seed = searched.next;
            panic::set_hook(Box::new(move |why| {
                println!("seed {seed} breaks the world: {why}");
            }));
        }
        match holds(&data) {
            Some(steps) => searched.steps += steps,
            None => searched.broken = Some((searched.next, data)),
        }
        searched.runs += 1;
        searched.next = searched.next.wrapping_add(1);
        searched.took = processor_time();
    }
    Some(searched)
}

/// The steps of a run.
fn simulate(data: &[u8]) -> u64 {
    let steps = world::run(data).steps;
    turmoil::run(data);
    mcp_world::run(data);
    upstream_world::run(data);
    registry_world::run(data);
    steps
}

/// A run that is told step by step.
fn tell(data: &[u8]) {
    world::run_told(data);
    turmoil::run(data);
    mcp_world::run_told(data);
    upstream_world::run_told(data);
    registry_world::run_told(data);
}

/// Time that this process has spent on a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn soak(seconds: &str, seed: &str) -> ExitCode {
    let Some(searched) = search(seconds, seed) else {
        return ExitCode::FAILURE;
    };
    let Searched {
        runs, steps, next, ..
    } = searched;
    let Some((seed, mut data)) = searched.broken else {
        println!("{runs} runs and {steps} steps, nothing broken; the next seed is {next}");
        return ExitCode::SUCCESS;
    };
    shrink(&mut data);
    let file = format!("world-{seed}");
    println!("seed {seed} breaks the world; see {file}");
    if let Err(error) = std::fs::write(&file, &data) {
        println!("{file}: {error}");
    }
    tell(&data);
    ExitCode::FAILURE
}

fn find(seconds: &str, seed: &str) -> ExitCode {
    let Some(searched) = search(seconds, seed) else {
        return ExitCode::FAILURE;
    };
    let (runs, took) = (searched.runs, searched.took.as_millis());
    let Some((seed, data)) = searched.broken else {
        println!("nothing in {runs} runs and {took} ms");
        return ExitCode::FAILURE;
    };
    println!("{took} ms, in run {runs} with seed {seed}: {}", why(&data));
    ExitCode::SUCCESS
}

/// The first line of what a run says that breaks an invariant.
fn why(data: &[u8]) -> String {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let run = panic::catch_unwind(AssertUnwindSafe(|| simulate(data)));
    panic::set_hook(hook);
    let Err(payload) = run else {
        return "not the second time".to_owned();
    };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let text = text.unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The steps of a run, unless it breaks an invariant.
fn holds(data: &[u8]) -> Option<u64> {
    if cfg!(panic = "abort") {
        return Some(simulate(data));
    }
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let run = panic::catch_unwind(AssertUnwindSafe(|| simulate(data)));
    panic::set_hook(hook);
    run.ok()
}

/// Cuts pieces out and makes bytes zero for as long as the world still breaks.
fn shrink(data: &mut Vec<u8>) {
    let mut size = data.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < data.len() {
            let mut shorter = data.clone();
            shorter.drain(at..(at + size).min(data.len()));
            if holds(&shorter).is_some() {
                at += size;
            } else {
                *data = shorter;
            }
        }
        size /= 2;
    }
    for at in 0..data.len() {
        let before = std::mem::take(&mut data[at]);
        if holds(data).is_some() {
            data[at] = before;
        }
    }
}
