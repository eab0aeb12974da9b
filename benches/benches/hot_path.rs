//! Times of the machines, for people. The gate counts instructions instead: `instructions.rs`.
#![allow(missing_docs, reason = "the macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mcp_local_provider_benches::cases::{CHUNKS, Frames, HandOver};

const ID: &str = "0123456789abcdef0123";

fn hot_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Elements(CHUNKS));
    let mut frames = Frames::new(ID);
    group.bench_function("floor", |bencher| bencher.iter(|| frames.floor()));
    let mut hand_over = HandOver::default();
    group.bench_function("mailbox", |bencher| bencher.iter(|| hand_over.run()));
    group.finish();
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
