//! Answers of REST, and runs that become one.

use crate::failure::Failure;
use crate::json::ObjectWriter;
use crate::need::{Body, Contents};
use crate::run::Finished;
use data_encoding::BASE64;
use mcp_local_provider_core::error::Code;
use std::fmt;

/// An answer. Its body is empty with status 304.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Location`.
    pub location: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// The code under which a failure is counted and audited.
    pub code: Option<Code>,
    /// True for an export: one JSON text a line.
    pub is_lines: bool,
    /// JSON.
    pub body: String,
}

impl fmt::Debug for Answer {
    /// Without the body.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl Answer {
    /// An answer with a body.
    #[must_use]
    pub const fn json(status: u16, body: String) -> Self {
        Self {
            status,
            location: None,
            etag: None,
            retry_after: None,
            code: None,
            is_lines: false,
            body,
        }
    }

    /// The answer when so many secrets were sealed with another key.
    #[must_use]
    pub fn rekeyed(secrets: usize) -> Self {
        Self::json(200, format!("{{\"secrets\":{secrets}}}"))
    }

    /// The answer that tells of a failure.
    #[must_use]
    pub fn of(failure: &Failure) -> Self {
        let mut body = String::new();
        failure.write(&mut body);
        Self {
            retry_after: failure.retry_after,
            code: Some(failure.code),
            ..Self::json(failure.status, body)
        }
    }
}

/// The form of a run's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// `If-None-Match` of a request for a resource.
    known: Option<String>,
}

impl Shown {
    pub(super) const PLAIN: Self = Self { known: None };

    pub(super) const fn resource(known: Option<String>) -> Self {
        Self { known }
    }

    /// The answer for a run that has ended so.
    #[must_use]
    pub fn answer(&self, ended: Result<Finished, Failure>) -> Answer {
        match ended {
            Ok(Finished::Tool(tool, result)) => Answer::json(200, result.rest(&tool)),
            Ok(Finished::Prompt(generated)) => Answer::json(200, generated.rest()),
            Ok(Finished::Values(values)) => Answer::json(200, values.rest()),
            Ok(Finished::Read(contents)) => {
                let known = self.known.as_deref();
                let mut answer = if known.is_some_and(|known| matches(known, &contents.etag)) {
                    Answer::json(304, String::new())
                } else {
                    Answer::json(200, contents.rest())
                };
                answer.etag = Some(contents.etag.to_string());
                answer
            }
            Err(failure) => Answer::of(&failure),
        }
    }
}

/// True when `If-None-Match` names this `ETag`, by the weak comparison (RFC 9110, 8.8.3.2).
fn matches(known: &str, etag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    known.trim() == "*" || known.split(',').any(|it| bare(it) == bare(etag))
}

impl Contents {
    /// `GET /resources/{uri}`.
    #[must_use]
    pub fn rest(&self) -> String {
        let mut answer = ObjectWriter::new();
        answer.text("uri", &self.uri);
        answer.text("mime_type", &self.mime_type);
        self.write_body(&mut answer);
        answer.plain("size", self.body.len());
        answer.text("etag", &self.etag);
        match &self.fetched_at {
            Some(at) => answer.text("fetched_at", at),
            None => answer.json("fetched_at", "null"),
        };
        answer.plain("cached", self.cached);
        answer.plain("stale", self.stale).finish()
    }

    /// The result of `resources/read`.
    #[must_use]
    pub fn mcp(&self) -> String {
        let mut content = ObjectWriter::new();
        content.text("uri", &self.uri);
        content.text("mimeType", &self.mime_type);
        self.write_body(&mut content);
        format!("{{\"contents\":[{}]}}", content.finish())
    }

    fn write_body(&self, out: &mut ObjectWriter) {
        match &self.body {
            Body::Text(text) => out.text("text", text),
            Body::Bytes(bytes) => out.text("blob", &BASE64.encode(bytes)),
        };
    }
}
