//! `GET /metrics`, `GET /metrics.json` and `GET /stats`: one table of figures, written in three forms.

mod agents;
mod gateway;
mod json;
mod registry;
mod servers;

use super::answered::Answered;
use super::route::Route;
use super::status::ProgramStatus;
use crate::config::Role;
use crate::exchange::JSON;
use crate::hub::metrics::{BOUNDS, Histogram, Snapshot};
use crate::hub::sessions::Status;
use crate::time::Instant;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// The Prometheus text format, version 0.0.4.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// OpenMetrics, version 1.0.0.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The forms of the figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Prometheus text.
    Prometheus,
    /// OpenMetrics text.
    OpenMetrics,
    /// JSON.
    Json,
}

impl Form {
    /// The form that a scraper accepts; `accept` is its `Accept` header.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        // Scrapers name the text as well, with less weight; programs that want JSON name it first.
        if accept.contains("application/openmetrics-text") {
            return Self::OpenMetrics;
        }
        let json = accept.find(JSON);
        match (json, accept.find("text/plain")) {
            (Some(_), None) => Self::Json,
            (Some(json), Some(text)) if json < text => Self::Json,
            (Some(_) | None, _) => Self::Prometheus,
        }
    }

    /// `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => PROMETHEUS,
            Self::OpenMetrics => OPEN_METRICS,
            Self::Json => JSON,
        }
    }
}

pub(super) const ROUTES: &[Route] = &[
    Route::report("GET /metrics", &["/metrics"], |snapshot, status, accept| {
        answer(Form::accepted(accept), snapshot, status)
    })
    .for_roles_from_afar(&[Role::Operator]),
    Route::report(
        "GET /metrics.json",
        &["/metrics.json"],
        |snapshot, status, _| answer(Form::Json, snapshot, status),
    )
    .for_roles_from_afar(&[Role::Operator]),
    Route::report("GET /stats", &["/stats"], |snapshot, status, _| {
        let mut text = Vec::new();
        let table = table(snapshot, status);
        json::write(snapshot, &table, Some(status), &mut text);
        Answered::Bytes(JSON, text)
    })
    .for_roles_from_afar(&[Role::Operator]),
];

fn answer(form: Form, snapshot: &Snapshot, status: &ProgramStatus) -> Answered {
    let mut text = Vec::new();
    write(form, snapshot, status, &mut text);
    Answered::Bytes(form.content_type(), text)
}

/// Writes all figures.
pub fn write(form: Form, snapshot: &Snapshot, status: &ProgramStatus, out: &mut Vec<u8>) {
    let table = table(snapshot, status);
    if form == Form::Json {
        return json::write(snapshot, &table, None, out);
    }
    for family in &table {
        write_family(family, form, out);
    }
    if form == Form::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Only grows.
    Counter,
    /// Says what is now.
    Gauge,
    Histogram,
}

enum Value<'s> {
    Count(u64),
    /// Seconds, given in microseconds.
    Micros(u64),
    Histogram(&'s Histogram),
}

type Labels<'s> = Vec<(&'static str, &'s str)>;

/// All samples of one name.
struct Family<'s> {
    /// Without the `_total` of counters.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(Labels<'s>, Value<'s>)>,
}

impl<'s> Family<'s> {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            help,
            samples: Vec::new(),
        }
    }

    fn with(mut self, labels: &[(&'static str, &'s str)], value: Value<'s>) -> Self {
        self.samples.push((labels.to_vec(), value));
        self
    }
}

fn counter<'s>(name: &'static str, help: &'static str) -> Family<'s> {
    Family::new(name, Kind::Counter, help)
}

fn gauge<'s>(name: &'static str, help: &'static str, value: usize) -> Family<'s> {
    Family::new(name, Kind::Gauge, help).with(&[], number(value))
}

fn histogram<'s>(name: &'static str, help: &'static str, value: &'s Histogram) -> Family<'s> {
    Family::new(name, Kind::Histogram, help).with(&[], Value::Histogram(value))
}

fn number<'s>(value: usize) -> Value<'s> {
    Value::Count(u64::try_from(value).unwrap_or(u64::MAX))
}

fn seconds_of<'s>(duration: Duration) -> Value<'s> {
    Value::Micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The API family of a route by its name (`POST /api/chat`).
fn dialect_of(endpoint: &str) -> &'static str {
    let path = endpoint.split_once(' ').map_or(endpoint, |(_, path)| path);
    if path.starts_with("/v1/messages") {
        "anthropic"
    } else if path.starts_with("/v1/") {
        "openai"
    } else if path.starts_with("/api/") {
        "ollama"
    } else {
        "none"
    }
}

fn table<'s>(snapshot: &'s Snapshot, status: &'s ProgramStatus) -> Vec<Family<'s>> {
    let mut table = Vec::with_capacity(48);
    requests(snapshot, &mut table);
    sessions(snapshot, status, &mut table);
    queues(snapshot, status, &mut table);
    agents::add(status, &mut table);
    upstreams::add(status, &mut table);
    servers::add(status, &mut table);
    registry::add(status, &mut table);
    process(snapshot, status, &mut table);
    table
}

fn requests<'s>(snapshot: &'s Snapshot, table: &mut Vec<Family<'s>>) {
    let metrics = &snapshot.metrics;
    let mut requests = counter(
        "mcp_local_provider_requests",
        "Answers by route, API family and HTTP status.",
    );
    for request in &snapshot.requests {
        let labels = alloc::vec![
            ("endpoint", request.endpoint),
            ("dialect", dialect_of(request.endpoint)),
            ("status", status_text(request.status)),
        ];
        let count = Value::Count(request.count);
        requests.samples.push((labels, count));
    }
    table.push(requests);
    table.push(
        counter(
            "mcp_local_provider_exchanges_ended",
            "Admitted exchanges that ended, by how.",
        )
        .with(&[("outcome", "completed")], Value::Count(metrics.completed))
        .with(&[("outcome", "failed")], Value::Count(metrics.failed))
        .with(&[("outcome", "cancelled")], Value::Count(metrics.cancelled)),
    );
    table.push(
        counter(
            "mcp_local_provider_exchanges_admitted",
            "Exchanges that were admitted.",
        )
        .with(&[], Value::Count(metrics.admitted)),
    );
    table.push(
        counter(
            "mcp_local_provider_exchanges_unsettled",
            "Admitted exchanges whose account was lost; anything but zero is a fault.",
        )
        .with(&[], Value::Count(metrics.unsettled)),
    );
    table.push(gauge(
        "mcp_local_provider_exchanges_open",
        "Exchanges that are open now.",
        metrics.open,
    ));
    table.push(histogram(
        "mcp_local_provider_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        &metrics.latency,
    ));
    table.push(histogram(
        "mcp_local_provider_time_to_first_token_seconds",
        "From admission to the agent's first chunk.",
        &metrics.time_to_first_token,
    ));
    table.push(histogram(
        "mcp_local_provider_stream_duration_seconds",
        "From the agent's first chunk to the end of a streamed answer.",
        &metrics.stream_duration,
    ));
    table.push(histogram(
        "mcp_local_provider_chunk_gap_seconds",
        "Between the chunks of a streamed answer.",
        &metrics.chunk_gap,
    ));
    table.push(
        counter("mcp_local_provider_tokens", "Tokens, by direction.")
            .with(&[("kind", "prompt")], Value::Count(metrics.prompt_tokens))
            .with(
                &[("kind", "completion")],
                Value::Count(metrics.completion_tokens),
            ),
    );
    table.push(
        counter(
            "mcp_local_provider_refusals",
            "Requests that were refused, by what refused them.",
        )
        .with(
            &[("reason", "request_limit")],
            Value::Count(metrics.limited_requests),
        )
        .with(
            &[("reason", "token_limit")],
            Value::Count(metrics.limited_tokens),
        )
        .with(
            &[("reason", "overloaded")],
            Value::Count(metrics.overloaded),
        )
        .with(
            &[("reason", "authentication")],
            Value::Count(metrics.unauthenticated),
        )
        .with(&[("reason", "violation")], Value::Count(metrics.violations)),
    );
    table.push(
        counter(
            "mcp_local_provider_fallbacks",
            "Requests that went on to a fallback.",
        )
        .with(&[], Value::Count(metrics.fallbacks)),
    );
}

fn sessions<'s>(snapshot: &'s Snapshot, status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    let metrics = &snapshot.metrics;
    let mut sessions = Family::new(
        "mcp_local_provider_sessions",
        Kind::Gauge,
        "Sessions, by state; ended ones as long as they are remembered.",
    );
    for (state, count) in Status::ALL.iter().zip(metrics.sessions) {
        sessions = sessions.with(&[("status", state.as_str())], number(count));
    }
    table.push(sessions);
    table.push(
        counter(
            "mcp_local_provider_session_events",
            "Sessions that were registered, and those that ended, by how.",
        )
        .with(&[("event", "made")], Value::Count(metrics.sessions_made))
        .with(
            &[("event", "expired")],
            Value::Count(metrics.sessions_expired),
        )
        .with(
            &[("event", "revoked")],
            Value::Count(metrics.sessions_revoked),
        ),
    );
    table.push(gauge(
        "mcp_local_provider_links",
        "Connections of agents.",
        metrics.links,
    ));
    table.push(gauge(
        "mcp_local_provider_connections",
        "Connections of clients.",
        status.connections,
    ));
    let counters = &status.links.counters;
    table.push(
        counter(
            "mcp_local_provider_link_messages",
            "Messages on the connections of agents.",
        )
        .with(&[("direction", "sent")], Value::Count(counters.sent))
        .with(
            &[("direction", "received")],
            Value::Count(counters.received),
        ),
    );
    let mut events = counter(
        "mcp_local_provider_link_events",
        "What happened on the connections of agents: messages, and chunks that were repeated, late or lost.",
    );
    for (event, count) in [
        ("opened", counters.opened),
        ("chunk", counters.chunks),
        ("result", counters.results),
        ("agent_error", counters.agent_errors),
        ("repeat", counters.repeats),
        ("reordered", counters.reordered),
        ("late", counters.late),
        ("gap", counters.gaps),
        ("overrun", counters.overruns),
        ("cancel", counters.cancels),
        ("fault", counters.faults),
        ("unknown_id", counters.unknown_ids),
        ("unknown_type", counters.unknown_types),
    ] {
        events = events.with(&[("event", event)], Value::Count(count));
    }
    table.push(events);
}

fn queues<'s>(snapshot: &'s Snapshot, status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    table.push(gauge(
        "mcp_local_provider_admissions_waiting",
        "Requests that wait for capacity.",
        snapshot.metrics.queued,
    ));
    table.push(gauge(
        "mcp_local_provider_link_queue_frames",
        "Frames that wait to be written to agents.",
        status.links.queued_frames,
    ));
    table.push(gauge(
        "mcp_local_provider_link_queue_bytes",
        "What these frames are charged.",
        status.links.queued_bytes,
    ));
    table.push(gauge(
        "mcp_local_provider_mailboxes",
        "Exchanges that wait for agents, each with a mailbox.",
        status.links.mailboxes,
    ));
    table.push(gauge(
        "mcp_local_provider_mailbox_bytes",
        "What waits in the mailboxes for clients, as charged.",
        status.links.mailbox_bytes,
    ));
    let audit = status.audit.as_ref();
    table.push(gauge(
        "mcp_local_provider_audit_waiting_records",
        "Audit records that wait for their writer.",
        audit.map_or(0, |audit| audit.queued_records),
    ));
    if let Some(audit) = audit {
        table.push(gauge(
            "mcp_local_provider_audit_queue_bytes",
            "Audit records that wait for the disk.",
            audit.queued_bytes,
        ));
    }
    table.push(
        counter(
            "mcp_local_provider_audit_records",
            "Audit records, by fate.",
        )
        .with(
            &[("result", "written")],
            Value::Count(audit.map_or(0, |audit| audit.written)),
        )
        .with(
            &[("result", "lost")],
            Value::Count(audit.map_or(0, |audit| audit.lost)),
        ),
    );
}

fn process<'s>(snapshot: &'s Snapshot, status: &'s ProgramStatus, table: &mut Vec<Family<'s>>) {
    table.push(
        Family::new(
            "mcp_local_provider_build_info",
            Kind::Gauge,
            "Always 1; the label tells the version.",
        )
        .with(&[("version", env!("CARGO_PKG_VERSION"))], Value::Count(1)),
    );
    let started = snapshot.wall.unix(Instant::ZERO);
    table.push(
        Family::new(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the program started, in seconds since 1970.",
        )
        .with(&[], seconds_of(started)),
    );
    let Some(process) = &status.process else {
        return;
    };

    table.push(
        counter("process_cpu_seconds", "Processor time of all threads.")
            .with(&[], seconds_of(process.cpu)),
    );
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory that is resident.",
            process.resident_bytes,
        ),
        (
            "process_open_fds",
            "Open files and sockets.",
            process.open_files,
        ),
        ("process_threads", "Threads.", process.threads),
    ] {
        table.push(Family::new(name, Kind::Gauge, help).with(&[], Value::Count(value)));
    }
}

/// HTTP statuses that are given here.
const fn status_text(status: u16) -> &'static str {
    match status {
        101 => "101",
        200 => "200",
        202 => "202",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        429 => "429",
        499 => "499",
        500 => "500",
        501 => "501",
        502 => "502",
        503 => "503",
        504 => "504",
        529 => "529",
        _ => "other",
    }
}

fn write_family(family: &Family<'_>, form: Form, out: &mut Vec<u8>) {
    let kind: &[u8] = match family.kind {
        Kind::Counter => b"counter",
        Kind::Gauge => b"gauge",
        Kind::Histogram => b"histogram",
    };
    let total = family.kind == Kind::Counter;
    for (word, text) in [
        (&b"# HELP "[..], family.help.as_bytes()),
        (b"# TYPE ", kind),
    ] {
        out.extend_from_slice(word);
        out.extend_from_slice(family.name.as_bytes());
        // In OpenMetrics `_total` belongs to the sample and not to the family.
        if total && form == Form::Prometheus {
            out.extend_from_slice(b"_total");
        }
        out.push(b' ');
        out.extend_from_slice(text);
        out.push(b'\n');
    }
    for (labels, value) in &family.samples {
        match value {
            Value::Histogram(histogram) => {
                for (bound, count) in cumulated(histogram) {
                    let le = bound.map_or_else(|| String::from("+Inf"), seconds);
                    let mut labels = labels.clone();
                    labels.push(("le", &le));
                    write_sample(family.name, "_bucket", &labels, &integer(count), out);
                }
                let (sum, count) = (seconds(histogram.sum), integer(histogram.count));
                write_sample(family.name, "_sum", labels, &sum, out);
                write_sample(family.name, "_count", labels, &count, out);
            }
            Value::Count(_) | Value::Micros(_) => {
                let suffix = if total { "_total" } else { "" };
                write_sample(family.name, suffix, labels, &plain(value), out);
            }
        }
    }
}

fn write_sample(name: &str, suffix: &str, labels: &[(&str, &str)], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    for (at, (label, text)) in labels.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        // No value of a label here has a backslash, a quotation mark or a line end.
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
    if !labels.is_empty() {
        out.push(b'}');
    }
    out.push(b' ');
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Upper bounds in microseconds, `None` for the last one, each with all observations up to it.
fn cumulated(histogram: &Histogram) -> impl Iterator<Item = (Option<u64>, u64)> {
    let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
    let mut sum = 0;
    bounds.zip(&histogram.buckets).map(move |(bound, count)| {
        sum += count;
        (bound, sum)
    })
}

fn plain(value: &Value<'_>) -> String {
    match value {
        Value::Count(count) => integer(*count),
        Value::Micros(micros) => seconds(*micros),
        Value::Histogram(histogram) => integer(histogram.count),
    }
}

fn integer(number: u64) -> String {
    String::from(itoa::Buffer::new().format(number))
}

/// Microseconds as seconds, always with a point: `0.0025`, `1.0`.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let text = alloc::format!("{whole}.{rest:06}");
    let trimmed = text.trim_end_matches('0');
    if trimmed.ends_with('.') {
        alloc::format!("{trimmed}0")
    } else {
        String::from(trimmed)
    }
}

#[cfg(test)]
mod tests;
mod upstreams;
