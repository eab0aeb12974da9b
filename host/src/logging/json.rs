//! Lines of the log as JSON, which the engine writes.

use mcp_local_provider_engine::write_log_line;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Room for the line of a request, in bytes.
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
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut line = Vec::with_capacity(LINE);
        write_log_line(event, now.unwrap_or_default(), &mut line);
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)
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
