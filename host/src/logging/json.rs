//! A line of the log as one JSON object: `timestamp`, `level`, the event's fields, `target`.
//!
//! The formatter of `tracing-subscriber` goes through `serde`, and takes 1.8 us for the line of a request.

use mcp_local_provider_core::text::escape_into;
use mcp_local_provider_core::time::write_rfc3339;
use std::fmt::{self, Debug, Write};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Room for the line of a request.
const LINE: usize = 512;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut members = Members(Vec::with_capacity(LINE));
        members.0.extend_from_slice(b"{\"timestamp\":\"");
        write_rfc3339(now.unwrap_or_default(), &mut members.0);
        members.0.push(b'"');
        members.text("level", about.level().as_str());
        event.record(&mut members);
        members.text("target", about.target());
        members.0.extend_from_slice(b"}\n");
        line.write_str(std::str::from_utf8(&members.0).map_err(|_| fmt::Error)?)
    }
}

/// The line so far. Each field is a member.
struct Members(Vec<u8>);

impl Members {
    /// Names of fields are identifiers.
    fn name(&mut self, name: &'static str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        self.0.push(b'"');
        escape_into(&mut self.0, text);
        self.0.push(b'"');
    }

    fn plain(&mut self, field: &Field, json: &str) {
        self.name(field.name());
        self.0.extend_from_slice(json.as_bytes());
    }
}

impl Visit for Members {
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
        let _ = write!(Inside(&mut self.0), "{value:?}");
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn any_field_is_a_member_of_one_object() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(JsonLine);
        let layer = layer.with_writer(move || writer.clone());
        let odd = "\"quoted\"\\ \n\t\u{1} é {}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (none, large) = (None::<u64>, u64::MAX);
            tracing::info!(odd, shown = %odd, large, none, low = -1, yes = true, list = ?[1, 2], "it says {odd}");
        });
        let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(
            line.ends_with("}\n") && line.matches('\n').count() == 1,
            "{line}"
        );
        let mut told: Value = serde_json::from_str(&line).unwrap();
        let time = told.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let expected = json!({
            "level": "INFO", "message": format!("it says {odd}"), "odd": odd, "shown": odd,
            "large": u64::MAX, "low": -1, "yes": true, "list": "[1, 2]", "target": module_path!(),
        });
        assert_eq!(told, expected);
    }
}
