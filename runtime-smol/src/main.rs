//! The program `mcp-local-provider`.
fn main() {}
