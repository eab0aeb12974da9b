//! Times of the machines, for people. The gate counts instructions instead: `instructions.rs`.
#![allow(missing_docs, reason = "the macros make public items")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mcp_local_provider_benches::cases::{
    AcpCalls, AcpChunks, AcpPrompts, Admissions, Answers, CHUNKS, Frames, HandOver, PROMPTS,
    Routing, Stream, run,
};

const FORMS: [(&str, &str); 2] = [
    ("OpenAI", "POST /v1/chat/completions"),
    ("Ollama", "POST /api/chat"),
];

fn hot_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    let mut frames = Frames::default();
    group.bench_function("floor", |bencher| bencher.iter(|| frames.floor()));
    group.bench_function("decode", |bencher| bencher.iter(|| frames.decode()));
    let mut hand_over = HandOver::default();
    group.bench_function("mailbox", |bencher| bencher.iter(|| hand_over.run()));
    for open in [10, 10_000] {
        group.bench_function(format!("route with {open} open"), |bencher| {
            let fresh = || Routing::new(open);
            bencher.iter_batched_ref(fresh, Routing::run, BatchSize::PerIteration);
        });
    }
    for (name, endpoint) in FORMS {
        group.bench_function(format!("from frame to {name} bytes"), |bencher| {
            let fresh = || Stream::new(endpoint);
            bencher.iter_batched_ref(
                fresh,
                |case| run(case, Stream::run),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    for sessions in [10, 10_000] {
        let mut admissions = Admissions::new(sessions);
        let name = format!("admit and settle with {sessions} sessions");
        group.bench_function(name, |bencher| bencher.iter(|| admissions.run()));
    }
    for (name, endpoint) in FORMS {
        let mut answers = Answers::new(endpoint);
        group.bench_function(format!("whole answer for {name}"), |bencher| {
            bencher.iter(|| run(&mut answers, Answers::run));
        });
    }
    group.finish();
}

fn acp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acp");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    for bytes in [32, 4096] {
        let mut chunks = AcpChunks::new(bytes);
        group.bench_function(format!("chunk of {bytes} bytes"), |bencher| {
            bencher.iter(|| run(&mut chunks, AcpChunks::run));
        });
    }
    let mut calls = AcpCalls::new();
    group.bench_function("tool call", |bencher| {
        bencher.iter(|| run(&mut calls, AcpCalls::run));
    });
    group.throughput(Throughput::Elements(PROMPTS as u64));
    let mut prompts = AcpPrompts::new();
    group.bench_function("prompt of 100 KB", |bencher| {
        bencher.iter(|| run(&mut prompts, AcpPrompts::run));
    });
    group.finish();
}

criterion_group!(benches, hot_path, exchange, acp);
criterion_main!(benches);
