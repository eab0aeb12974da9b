//! A line of the log as one JSON object: `timestamp`, `level`, the event's fields, `target`.
//!
//! Each request has one. The formatter of `tracing-subscriber` goes through `serde`, and takes 1.8 us for it.

use mcp_local_provider_core::text::escape_into;
use mcp_local_provider_core::time::write_rfc3339;
use std::fmt::{self, Debug, Write};
use std::time::Duration;
use tracing::Event;
use tracing::field::{Field, Visit};

/// Appends the line of an event, with its line end. `unix` is the time since 1970-01-01T00:00:00Z.
pub fn write_log_line(event: &Event<'_>, unix: Duration, out: &mut Vec<u8>) {
    let about = event.metadata();
    out.extend_from_slice(b"{\"timestamp\":\"");
    write_rfc3339(unix, out);
    out.push(b'"');
    let mut members = Members(out);
    members.text("level", about.level().as_str());
    event.record(&mut members);
    members.text("target", about.target());
    out.extend_from_slice(b"}\n");
}

/// The line so far. Each field is a member.
struct Members<'l>(&'l mut Vec<u8>);

impl Members<'_> {
    /// Names of fields are identifiers.
    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.0.push(b'"');
        escape_into(self.0, text);
        self.0.push(b'"');
    }

    fn plain(&mut self, field: &Field, json: &str) {
        self.name(field.name());
        self.0.extend_from_slice(json.as_bytes());
    }
}

impl Visit for Members<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, if value { "true" } else { "false" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.name(field.name());
        self.0.push(b'"');
        // Nothing that is shown here fails, and what does ends where it failed.
        let _ = write!(Inside(self.0), "{value:?}");
        self.0.push(b'"');
    }
}

/// The inside of a JSON string (RFC 8259, section 7).
struct Inside<'l>(&'l mut Vec<u8>);

impl Write for Inside<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape_into(self.0, text);
        Ok(())
    }
}
