//! Times of the machines, for people. The gate counts instructions instead: `instructions.rs`.
#![allow(missing_docs, reason = "the macros make public items")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mcp_local_provider_benches::cases::{Admissions, CHUNKS, Frames, HandOver, Routing};

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
    group.finish();
}

criterion_group!(benches, hot_path, exchange);
criterion_main!(benches);
