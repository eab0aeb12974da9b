//! A line of the log as one JSON object: `timestamp`, `level`, the event's fields, `target`.
//!
//! The formatter of `tracing-subscriber` goes through `serde`, and takes 1.8 us for the line of a request.

use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(about.level().as_str())?;
        line.write_str("\"")?;
        let mut members = Members {
            line: &mut line,
            result: Ok(()),
        };
        event.record(&mut members);
        members.result?;
        line.write_str(",\"target\":\"")?;
        Inside(&mut line).write_str(about.target())?;
        line.write_str("\"}\n")
    }
}

/// Appends each field as a member, until one fails.
struct Members<'l, 'w> {
    line: &'l mut Writer<'w>,
    result: fmt::Result,
}

impl Members<'_, '_> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = (|| {
                self.line.write_str(",\"")?;
                Inside(self.line).write_str(field.name())?;
                self.line.write_str("\":")?;
                value(self.line)
            })();
        }
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.member(field, |line| {
            line.write_str("\"")?;
            match text.as_str() {
                Some(text) => Inside(line).write_str(text)?,
                None => Inside(line).write_fmt(text)?,
            }
            line.write_str("\"")
        });
    }
}

impl Visit for Members<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |line| {
            line.write_str("\"")?;
            Inside(line).write_str(value)?;
            line.write_str("\"")
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |line| {
            line.write_str(itoa::Buffer::new().format(value))
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |line| {
            line.write_str(itoa::Buffer::new().format(value))
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |line| {
            line.write_str(if value { "true" } else { "false" })
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// The inside of a JSON string (RFC 8259, section 7).
struct Inside<'l, 'w>(&'l mut Writer<'w>);

impl Write for Inside<'_, '_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        while let Some(at) = text.bytes().position(special) {
            let (before, rest) = text.split_at(at);
            self.0.write_str(before)?;
            let (one, after) = rest.split_at(1);
            match one {
                "\"" => self.0.write_str("\\\"")?,
                "\\" => self.0.write_str("\\\\")?,
                "\n" => self.0.write_str("\\n")?,
                control => {
                    let code = control.bytes().next().unwrap_or_default();
                    write!(self.0, "\\u{code:04x}")?;
                }
            }
            text = after;
        }
        self.0.write_str(text)
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
