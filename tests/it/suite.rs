// Every test of a running program. Each program's test target includes this list.

extern crate alloc;

mod acp_agents;
mod agent;
mod agent_library;
mod answers;
mod audit;
mod bad_input;
mod bridges;
mod browser_safety;
mod canary;
mod child_process;
mod command_line;
mod commands;
mod completions;
mod connections;
mod control;
mod embeddings;
mod failures;
mod foreign_folder;
mod gateway;
mod framing;
mod limits;
mod links;
mod keys;
mod logs;
mod mcp_command;
mod metrics;
mod ollama_address;
mod program;
mod proxies;
mod registry;
mod registry_rest;
mod reload;
mod stopped;
mod tls;
mod upstreams;
