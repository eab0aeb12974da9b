//! Servers of models that answer over HTTP, as clients of the three APIs see them: their faults, their names and their limits.

mod ask;
mod circuits;
mod counts;
mod cuts;
mod fallbacks;
mod faults;
mod loops;
mod names;
mod prompts;
mod rates;
mod secrets;
pub mod server;

use crate::program::Program;

/// The key of every upstream here.
const SECRET: &str = "sk-secret-0123456789abcdef-of-the-upstream";

/// Times that are over soon. A whole answer has `total` alone, because its first byte is its last.
const QUICK: &str = "timeouts: { first_chunk: 400ms, idle: 400ms, total: 1500ms }\n";

/// Starts the program with these entries of `upstreams`, and more YAML.
fn start(entries: &str, more: &str) -> Program {
    Program::start(&format!("{more}log: {{ level: debug }}\nupstreams:\n{entries}"))
}
