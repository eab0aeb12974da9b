//! MCP Local Provider.
