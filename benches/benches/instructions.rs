//! Instruction counts of the machines, for the gate: `src/bin/instruction_gate.rs`.
//! The id `case` stands for a case without variants.
#![allow(missing_docs, reason = "the macros make public items")]

use gungraun::prelude::*;
use mcp_local_provider_benches::cases::{Admissions, Frames, HandOver, Routing};

// What a case worked on is its result, so that taking it down is not counted.

#[library_benchmark]
#[bench::case(Frames::default())]
fn floor(mut frames: Frames) -> Frames {
    frames.floor();
    frames
}

#[library_benchmark]
#[bench::case(HandOver::default())]
fn mailbox(mut hand_over: HandOver) -> HandOver {
    hand_over.run();
    hand_over
}

#[library_benchmark]
#[bench::case(Frames::default())]
fn decode(mut frames: Frames) -> Frames {
    frames.decode();
    frames
}

#[library_benchmark]
#[bench::with_10(Routing::new(10))]
#[bench::with_10000(Routing::new(10_000))]
fn route(mut routing: Routing) -> Routing {
    routing.run();
    routing
}

#[library_benchmark]
#[bench::with_10(Admissions::new(10))]
#[bench::with_10000(Admissions::new(10_000))]
fn admit_and_settle(mut admissions: Admissions) -> Admissions {
    admissions.run();
    admissions
}

library_benchmark_group!(
    name = hot_path,
    benchmarks = [floor, decode, mailbox, route, admit_and_settle]
);
main!(library_benchmark_groups = hot_path);
