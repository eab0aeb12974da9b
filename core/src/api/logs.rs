//! `GET /logs`: the latest lines of the log, for operators.

use super::lookup::query_value;
use super::route::{Handler, Responder, Route};
use crate::config::Role;
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::rpc::Json;
use crate::text::{JsonValue, split_once};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Lines that are kept.
const LINES: usize = 1000;
/// Bytes of these lines.
const BYTES: usize = 1 << 20;
/// Lines of an answer where nothing else is asked.
const USUAL: usize = 100;
/// Levels, the most urgent one first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

pub(super) const ROUTES: &[Route] = &[Route::engine(
    "GET /logs",
    &["GET"],
    &["/logs", "/registry/logs"],
    Handler::Respond(Responder::Logs),
)
.for_roles(&[Role::Operator])
.in_dialect(Dialect::Rest)];

/// The latest lines of the log. Lines have numbers, which grow by one with each and begin at 0 with the program.
#[derive(Debug, Default)]
pub struct LogHistory {
    lines: VecDeque<Box<str>>,
    bytes: usize,
    /// Number of the first line in `lines`.
    first: u64,
}

/// What a request wants of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogQuery {
    /// Place in [`LEVELS`] of the least urgent level.
    level: usize,
    limit: usize,
    since: Since,
    request_id: Option<String>,
    /// True when lines are to be sent as they come.
    pub follow: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Since {
    /// The latest ones.
    Latest,
    /// Those from a number on.
    Number(u64),
    /// Those of a time and later (RFC 3339, UTC, without `Z`).
    Time(String),
}

impl LogQuery {
    /// Reads the query of a request: `level`, `limit`, `since` (the `next` of an earlier answer, or a time as RFC 3339 has it, in UTC),
    /// `request_id` and `follow`. `last_event` is the `Last-Event-ID` of a client that connects again.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn read(target: &str, last_event: Option<&str>) -> Result<Self, Refusal> {
        let value = |name| query_value(target, name).filter(|value| !value.is_empty());
        let level = match value("level") {
            None => LEVELS.len() - 1,
            Some(level) => {
                let place = LEVELS.iter().position(|it| level.eq_ignore_ascii_case(it));
                let message = format!("`level` must be one of {}", LEVELS.join(", "));
                place.ok_or_else(|| Refusal::invalid(message).at("level"))?
            }
        };
        let limit = match value("limit") {
            None => USUAL,
            Some(limit) => {
                let limit = limit.parse().ok().filter(|it| (1..=LINES).contains(it));
                let message = format!("`limit` must be 1 to {LINES}");
                limit.ok_or_else(|| Refusal::invalid(message).at("limit"))?
            }
        };
        let follow = match value("follow").as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => {
                let message = "`follow` must be true or false";
                return Err(Refusal::invalid(message).at("follow"));
            }
        };
        let last_event = last_event.and_then(|id| id.parse::<u64>().ok());
        let since = match (last_event, value("since")) {
            (Some(last), _) => Since::Number(last.saturating_add(1)),
            (None, None) => Since::Latest,
            (None, Some(since)) => read_since(&since)?,
        };
        Ok(Self {
            level,
            limit,
            since,
            request_id: value("request_id").map(Cow::into_owned),
            follow,
        })
    }

    /// Reads one line: its object for the answer, where it fits.
    fn take(&self, line: &str) -> Option<String> {
        let whole = JsonValue::read(line)?;
        let text = |name| whole.member(name).and_then(JsonValue::text);
        let level = text("level").unwrap_or_default();
        let urgency = LEVELS.iter().position(|it| level.eq_ignore_ascii_case(it));
        let request_id = text("request_id");
        let fits = urgency.is_some_and(|urgency| urgency <= self.level)
            && self
                .request_id
                .as_deref()
                .is_none_or(|wanted| request_id.as_deref() == Some(wanted));
        let timestamp = text("timestamp").unwrap_or_default();
        let is_late = match &self.since {
            Since::Latest | Since::Number(_) => true,
            Since::Time(since) => timestamp.trim_end_matches('Z') >= since.as_str(),
        };
        if !fits || !is_late {
            return None;
        }
        let mut shown = Json::new();
        shown.raw("{");
        shown.member("timestamp").string(&timestamp);
        shown.member("level").string(&level.to_ascii_lowercase());
        shown
            .member("target")
            .string(&text("target").unwrap_or_default());
        shown
            .member("message")
            .string(&text("message").unwrap_or_default());
        match &request_id {
            Some(id) => shown.member("request_id").string(id),
            None => shown.member("request_id").raw("null"),
        };
        shown.member("fields").raw("{");
        for (name, value) in whole.members() {
            let name = name.decode();
            if !["timestamp", "level", "target", "message", "request_id"].contains(&&*name) {
                shown.member(&crate::text::escaped(&name)).raw(value.get());
            }
        }
        shown.raw("}}");
        Some(shown.finish())
    }
}

/// Reads `since`.
fn read_since(text: &str) -> Result<Since, Refusal> {
    if let Ok(number) = text.parse() {
        return Ok(Since::Number(number));
    }
    let time = text.strip_suffix(['Z', 'z']).unwrap_or_default();
    let is_form = |at: usize, byte: u8| match at {
        4 | 7 => byte == b'-',
        10 => matches!(byte, b'T' | b't' | b' '),
        13 | 16 => byte == b':',
        19 => byte == b'.',
        _ => byte.is_ascii_digit(),
    };
    let is_time = time.len() >= 19 && time.bytes().enumerate().all(|(at, byte)| is_form(at, byte));
    if !is_time {
        let message = "`since` must be the `next` of an earlier answer, or a time such as 2026-01-31T12:00:00Z";
        return Err(Refusal::invalid(message).at("since"));
    }
    Ok(Since::Time(time.replace(['t', ' '], "T")))
}

impl LogHistory {
    /// Takes lines of the log, each a JSON object with `timestamp`, `level`, `target`, `message` and fields. The oldest lines make
    /// room.
    pub fn push(&mut self, lines: &str) {
        let mut rest = lines;
        while let Some((line, after)) = split_once(rest, b'\n') {
            self.keep(line);
            rest = after;
        }
        if !rest.is_empty() {
            self.keep(rest);
        }
    }

    fn keep(&mut self, line: &str) {
        self.lines.push_back(line.into());
        self.bytes += line.len();
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.first += 1;
        }
    }

    /// Number that the next line will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.lines.len() as u64
    }

    /// Lines that a request wants, each with its number, and the number to go on from.
    fn find(&self, query: &LogQuery) -> (Vec<(u64, String)>, u64) {
        let from = match query.since {
            Since::Number(from) => from.max(self.first),
            Since::Latest | Since::Time(_) => self.first,
        };
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let lines = (from..).zip(self.lines.iter().skip(skipped));
        let mut fitting = lines.filter_map(|(number, line)| Some((number, query.take(line)?)));
        if query.since == Since::Latest {
            let mut all: Vec<_> = fitting.collect();
            let latest = all.split_off(all.len().saturating_sub(query.limit));
            return (latest, self.next());
        }
        let found: Vec<_> = fitting.by_ref().take(query.limit).collect();
        let next = match found.last() {
            // There may be more.
            Some((last, _)) if found.len() == query.limit => last + 1,
            Some(_) | None => self.next(),
        };
        (found, next)
    }

    /// The whole answer: `{"lines":[…],"next":N}`.
    #[must_use]
    pub fn answer(&self, query: &LogQuery) -> String {
        let (lines, next) = self.find(query);
        let mut body = String::from("{\"lines\":[");
        for (at, (_, line)) in lines.iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(line);
        }
        body.push_str(&format!("],\"next\":{next}}}"));
        body
    }

    /// Writes the lines that there are as server-sent events, each with its number as its id, and has the query go on behind them.
    pub fn follow(&self, query: &mut LogQuery, out: &mut Vec<u8>) {
        loop {
            let (lines, next) = self.find(query);
            for (number, line) in &lines {
                out.extend_from_slice(
                    format!("id: {number}\nevent: line\ndata: {line}\n\n").as_bytes(),
                );
            }
            query.since = Since::Number(next);
            if next >= self.next() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn history() -> LogHistory {
        let mut history = LogHistory::default();
        for (second, level, id) in [
            (1, "INFO", "a"),
            (2, "DEBUG", "b"),
            (3, "WARN", "a"),
            (4, "INFO", "c"),
        ] {
            history.push(&format!(
                "{{\"timestamp\":\"2026-01-01T00:00:0{second}.000000Z\",\"level\":\"{level}\",\"message\":\"m{second}\",\"request_id\":\"{id}\",\"n\":{second},\"target\":\"t\"}}"
            ));
        }
        history
    }

    fn messages(history: &LogHistory, target: &str) -> (Vec<String>, u64) {
        let query = LogQuery::read(target, None).unwrap();
        let answer = history.answer(&query);
        let answer = JsonValue::read(&answer).unwrap();
        let lines = answer.member("lines").unwrap().elements();
        let messages = lines
            .iter()
            .map(|line| line.member("message").unwrap().text().unwrap().into_owned());
        (
            messages.collect(),
            answer.member("next").unwrap().whole().unwrap(),
        )
    }

    #[test]
    fn lines_are_chosen_by_level_time_request_and_number() {
        let history = history();
        for (target, expected, next) in [
            ("/logs", &["m1", "m2", "m3", "m4"][..], 4),
            ("/logs?limit=2", &["m3", "m4"], 4),
            ("/logs?level=WARN", &["m3"], 4),
            ("/logs?level=info&request_id=a", &["m1", "m3"], 4),
            ("/logs?since=1&limit=2", &["m2", "m3"], 3),
            ("/logs?since=3&limit=2", &["m4"], 4),
            ("/logs?since=2026-01-01T00:00:03Z", &["m3", "m4"], 4),
            ("/logs?since=9", &[], 4),
        ] {
            let (messages, at) = messages(&history, target);
            assert_eq!(
                (messages.as_slice(), at),
                (
                    expected
                        .iter()
                        .map(|it| String::from(*it))
                        .collect::<Vec<_>>()
                        .as_slice(),
                    next
                ),
                "{target}"
            );
        }
        let query = LogQuery::read("/logs?limit=1&level=warn", None).unwrap();
        let expected = r#"{"lines":[{"timestamp":"2026-01-01T00:00:03.000000Z","level":"warn","target":"t","message":"m3","request_id":"a","fields":{"n":3}}],"next":4}"#;
        assert_eq!(history.answer(&query), expected);
    }

    #[test]
    fn a_follower_gets_each_line_once_and_goes_on_where_it_was() {
        let mut history = history();
        let mut query = LogQuery::read("/logs?follow=true&level=info&limit=1", None).unwrap();
        let mut out = Vec::new();
        history.follow(&mut query, &mut out);
        assert!(
            out.starts_with(b"id: 3\nevent: line\ndata: {\"timestamp\""),
            "{}",
            String::from_utf8_lossy(&out)
        );
        out.clear();
        history.follow(&mut query, &mut out);
        assert!(out.is_empty());
        for _ in 0..3 {
            history.push(r#"{"level":"INFO","message":"new"}"#);
        }
        history.follow(&mut query, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out)
                .matches("\"message\":\"new\"")
                .count(),
            3
        );
        let mut again = LogQuery::read("/logs?follow=true", Some("5")).unwrap();
        out.clear();
        history.follow(&mut again, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out).matches("event: line").count(),
            1
        );
    }

    #[test]
    fn old_lines_make_room_and_wrong_parameters_are_named() {
        let mut history = LogHistory::default();
        let line = format!(
            "{{\"level\":\"INFO\",\"message\":\"{}\"}}",
            "x".repeat(2000)
        );
        for _ in 0..2 * LINES {
            history.push(&line);
        }
        assert!(history.bytes <= BYTES && history.lines.len() <= LINES);
        assert_eq!(history.next(), 2 * LINES as u64);
        for (target, param) in [
            ("/logs?level=loud", "level"),
            ("/logs?limit=0", "limit"),
            ("/logs?limit=1001", "limit"),
            ("/logs?since=yesterday", "since"),
            ("/logs?since=2026-01-01T00:00:00+01:00", "since"),
            ("/logs?follow=perhaps", "follow"),
        ] {
            let refusal = LogQuery::read(target, None).unwrap_err();
            assert_eq!(refusal.param(), Some(param), "{target}");
        }
    }
}
