//! Lets the simulated world run for as long as one likes, or once more over an input that broke it.
//!
//! `world soak SECONDS [SEED]` draws inputs until the time is over; one that breaks an invariant is made small, left in
//! the current directory as `world-SEED` and told step by step. `world replay FILE` tells a run over that file.
#![allow(clippy::print_stdout, clippy::indexing_slicing)] // it speaks to a person

use mcp_local_provider_tests::world;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["replay", file] => match std::fs::read(file) {
            Ok(data) => {
                world::run_told(&data);
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("{file}: {error}");
                ExitCode::FAILURE
            }
        },
        ["soak", seconds] => soak(seconds, "1"),
        ["soak", seconds, seed] => soak(seconds, seed),
        _ => {
            println!("usage: world soak SECONDS [SEED] | world replay FILE");
            ExitCode::FAILURE
        }
    }
}

fn soak(seconds: &str, seed: &str) -> ExitCode {
    let (Ok(seconds), Ok(mut seed)) = (seconds.parse(), seed.parse::<u64>()) else {
        println!("SECONDS and SEED are whole numbers");
        return ExitCode::FAILURE;
    };
    let (begin, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut runs = 0u64;
    let mut steps = 0u64;
    while begin.elapsed() < limit {
        let mut data = world::input(seed);
        let Some(taken) = holds(&data) else {
            shrink(&mut data);
            let file = format!("world-{seed}");
            println!("seed {seed} breaks the world; see {file}");
            if let Err(error) = std::fs::write(&file, &data) {
                println!("{file}: {error}");
            }
            world::run_told(&data);
            return ExitCode::FAILURE;
        };
        steps += taken;
        runs += 1;
        seed += 1;
    }
    println!("{runs} runs and {steps} steps, nothing broken; the next seed is {seed}");
    ExitCode::SUCCESS
}

/// The steps of a run, unless it breaks an invariant.
fn holds(data: &[u8]) -> Option<u64> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let run = panic::catch_unwind(AssertUnwindSafe(|| world::run(data)));
    panic::set_hook(hook);
    run.ok().map(|account| account.steps)
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
