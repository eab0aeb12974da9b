//! The smol driver of MCP Local Provider.
