//! Real machines under a simulated world, and what the tests, the benchmarks and the fuzzers share.
//!
//! [`driver::Driver`] is the laziest legal driver of the core: one thread, virtual time that advances exactly to the least
//! `poll_timeout`, and every invariant checked after every step. [`world::run`] puts it under seeded faults; its input is a
//! string of bytes, so that property tests, fuzzers and long soaks drive the same function.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a broken invariant is told by a panic

pub mod acp;
pub mod agent;
pub mod client;
pub mod driver;
pub mod fuzz_targets;
pub mod transcript;
pub mod world;
