//! Counts the instructions of the machines under valgrind. Without `--bench` it counts nothing, as gungraun has it;
//! `instruction_gate.rs` says how to hold the counts.
//!
//! The id `case` stands for a case without variants.
#![allow(missing_docs, reason = "the macros make public items")]

use gungraun::prelude::*;
use mcp_local_provider_benches::Error;
use mcp_local_provider_benches::cases::{
    AcpCalls, AcpChunks, AcpPrompts, Admissions, Answers, CHUNKS, Crowd, Frames, HandOver, PROMPT,
    PROMPTS, Relay, RelayFloor, Routing, Scan, Stream, run,
};

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

#[library_benchmark]
#[bench::with_10(Crowd::new(10))]
#[bench::with_10000(Crowd::new(10_000))]
fn crowd(mut crowd: Result<Crowd, Error>) -> Result<Crowd, Error> {
    run(&mut crowd, Crowd::run);
    crowd
}

#[library_benchmark]
#[bench::case(Stream::new("POST /v1/chat/completions"))]
fn chunk_to_sse(mut stream: Result<Stream, Error>) -> Result<Stream, Error> {
    run(&mut stream, Stream::run);
    stream
}

#[library_benchmark]
#[bench::case(Stream::new("POST /api/chat"))]
fn chunk_to_ndjson(mut stream: Result<Stream, Error>) -> Result<Stream, Error> {
    run(&mut stream, Stream::run);
    stream
}

#[library_benchmark]
#[bench::openai(Answers::new("POST /v1/chat/completions"))]
#[bench::ollama(Answers::new("POST /api/chat"))]
fn whole_answer(mut answers: Result<Answers, Error>) -> Result<Answers, Error> {
    run(&mut answers, Answers::run);
    answers
}

#[library_benchmark]
#[bench::chunk_32(Scan::chunk(32), CHUNKS)]
#[bench::chunk_4096(Scan::chunk(4096), CHUNKS)]
#[bench::prompt(Scan::prompt(PROMPT), PROMPTS)]
fn acp_scan(scan: Scan, times: usize) -> Scan {
    assert!(scan.run(times).is_ok(), "the case is no JSON");
    scan
}

#[library_benchmark]
#[bench::chunk_32(AcpChunks::new(32))]
#[bench::chunk_4096(AcpChunks::new(4096))]
fn acp_chunk(mut chunks: Result<AcpChunks, Error>) -> Result<AcpChunks, Error> {
    run(&mut chunks, AcpChunks::run);
    chunks
}

#[library_benchmark]
#[bench::case(AcpPrompts::new())]
fn acp_prompt(mut prompts: Result<AcpPrompts, Error>) -> Result<AcpPrompts, Error> {
    run(&mut prompts, AcpPrompts::run);
    prompts
}

#[library_benchmark]
#[bench::case(AcpCalls::new())]
fn acp_tool_call(mut calls: Result<AcpCalls, Error>) -> Result<AcpCalls, Error> {
    run(&mut calls, AcpCalls::run);
    calls
}

#[library_benchmark]
#[bench::request(RelayFloor::to_ask(), RelayFloor::requests)]
#[bench::answer(RelayFloor::to_answer(), RelayFloor::lines)]
#[bench::progress(RelayFloor::to_tell(), RelayFloor::lines)]
#[bench::last_event(RelayFloor::to_end(), RelayFloor::lines)]
fn mcp_floor(
    mut floor: Result<RelayFloor, Error>,
    each: fn(&mut RelayFloor) -> Result<(), Error>,
) -> Result<RelayFloor, Error> {
    run(&mut floor, each);
    floor
}

#[library_benchmark]
#[bench::request(Relay::to_ask(), Relay::requests)]
#[bench::answer(Relay::to_answer(), Relay::lines)]
#[bench::progress(Relay::to_tell(), Relay::lines)]
#[bench::last_event(Relay::to_end(), Relay::lines)]
fn mcp_relay(
    mut relay: Result<Relay, Error>,
    each: fn(&mut Relay) -> Result<(), Error>,
) -> Result<Relay, Error> {
    run(&mut relay, each);
    relay
}

library_benchmark_group!(
    name = hot_path,
    benchmarks = [
        floor,
        decode,
        mailbox,
        route,
        chunk_to_sse,
        chunk_to_ndjson,
        admit_and_settle,
        crowd,
        whole_answer,
        acp_scan,
        acp_chunk,
        acp_prompt,
        acp_tool_call,
        mcp_floor,
        mcp_relay
    ]
);
main!(library_benchmark_groups = hot_path);
