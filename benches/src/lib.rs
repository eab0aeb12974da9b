//! Cost of the provider, measured from outside and from inside.
//!
//! From outside, the program `compare` runs a release build of the provider next to a raw TCP
//! splice proxy: the same client, the same requests, the same answers, in turns, on one core each.
//! Ratios between the two carry over to other machines better than times do; where system calls are cheap, they are larger.
//!
//! The parts, each a small process of its own so that its CPU time can be told apart:
//!
//! | module | what it is |
//! |---|---|
//! | [`splice`] | the yardstick: bytes in, bytes out, one thread, one epoll |
//! | [`ideal`] | the second yardstick: the least code that parses every frame |
//! | [`backend`] | the HTTP server behind the splice; answers what the provider would answer |
//! | [`agent`] | the scripted agent behind the provider, over a real WebSocket |
//! | [`script`] | what both of them play: how many chunks, how fast, how many to a write |
//! | [`load`] | the client: many keep-alive connections, one thread |
//! | [`process`] | starting, pinning and measuring the processes |
//! | [`setup`] | the program under measurement, its configuration and files, the roles round it |
//! | [`comparison`] | what is measured, in rounds that take turns |
//! | `plain_gateway` | the program in front of an upstream, against the splice |
//! | [`situations`] | what users meet, against the least code |
//! | [`relay`] | the gateway in front of MCP servers, against the least code that relays |
//! | [`registry`] | the registry against its goals |
//! | [`stress`] | what must hold when clients are hostile, many or too many |
//! | [`arguments`] | the command line that both programs share |
//! | [`report`] | the bars, the table and the JSON |
//!
//! From inside, the machines of the core run on the frames of [`cases`]: `cargo bench` gives times for people (criterion), the
//! program `instructions` counts instructions (gungraun) for the gate, which holds them against `benches/baseline.json` and against
//! the [`floor`].
//!
//! Comparison and stress are for Linux only: they read `/proc` and use epoll.

pub mod agent;
mod answer;
pub mod arguments;
pub mod backend;
pub mod cases;
pub mod comparison;
pub mod floor;
pub mod ideal;
pub mod load;
mod plain_gateway;
pub mod poll;
pub mod process;
pub mod registry;
pub mod relay;
pub mod report;
pub mod scrape;
pub mod script;
pub mod setup;
pub mod situations;
pub mod splice;
pub mod stress;

/// An error that ends the comparison, worded for the person at the terminal.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
