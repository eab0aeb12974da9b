//! Completions: answers that are found and cancelled by their ids, for an hour.

use crate::failure::Failure;
use crate::json::{ObjectWriter, quoted};
use mcp_local_provider_core::time::{Instant, WallClock};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Completions that are kept.
const MOST: usize = 1000;
/// Time for which one is kept after its beginning.
const KEPT: Duration = Duration::from_secs(3600);
/// Bytes of all messages that are kept.
const BYTES: usize = 64 << 20;

/// The key that asked; the caller chooses it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnerId(pub u64);

/// States of a completion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CompletionStatus {
    /// It waits for its turn.
    Queued,
    /// The model answers.
    InProgress,
    /// The answer is there.
    Completed,
    /// There is none.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl CompletionStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As answers have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when it does not change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::InProgress => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A completion that begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewCompletion {
    /// Its id, which cannot be guessed.
    pub id: Arc<str>,
    /// The key that asked.
    pub owner: OwnerId,
    /// The integration; `None` for a model alone.
    pub integration: Option<Box<str>>,
    /// The model.
    pub model: Box<str>,
}

struct Completion {
    new: NewCompletion,
    status: CompletionStatus,
    began: Instant,
    ended: Option<Instant>,
    /// The message, as JSON.
    message: Option<Box<str>>,
    usage: Option<Box<str>>,
    failure: Option<Failure>,
}

impl Completion {
    fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |it| it.len())
    }
}

/// Outcome of a deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// True when it was open: cancel what works on it.
    pub cancel: bool,
    /// JSON of the answer.
    pub body: String,
}

/// All completions.
#[derive(Default)]
pub struct Completions {
    all: BTreeMap<Arc<str>, Completion>,
    /// By their beginning.
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl fmt::Debug for Completions {
    /// Without what they say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Completions({})", self.all.len())
    }
}

impl Completions {
    /// Begins one, in state `queued`. The oldest that is over makes room for it.
    ///
    /// # Errors
    /// As many are open as may be.
    pub fn begin(&mut self, now: Instant, new: NewCompletion) -> Result<(), Failure> {
        self.handle_timeout(now);
        if self.all.len() >= MOST && !self.drop_oldest() {
            let message = format!("{MOST} completions are open already");
            return Err(Failure::overloaded(message));
        }
        let id = new.id.clone();
        self.order.push_back(id.clone());
        let completion = Completion {
            new,
            status: CompletionStatus::Queued,
            began: now,
            ended: None,
            message: None,
            usage: None,
            failure: None,
        };
        self.all.insert(id, completion);
        Ok(())
    }

    /// Forgets the oldest that is over.
    fn drop_oldest(&mut self) -> bool {
        let is_over = |id: &&Arc<str>| self.all.get(*id).is_none_or(|it| it.status.is_final());
        let Some(id) = self.order.iter().find(is_over).cloned() else {
            return false;
        };
        self.forget(&id);
        true
    }

    fn forget(&mut self, id: &str) {
        self.order.retain(|it| **it != *id);
        if let Some(gone) = self.all.remove(id) {
            self.bytes = self.bytes.saturating_sub(gone.bytes());
        }
    }

    /// The model answers now.
    pub fn started(&mut self, id: &str) {
        if let Some(it) = self.all.get_mut(id).filter(|it| !it.status.is_final()) {
            it.status = CompletionStatus::InProgress;
        }
    }

    /// The answer is there: its message and usage, each as JSON. One that was cancelled meanwhile stays so.
    pub fn completed(&mut self, now: Instant, id: &str, message: &str, usage: &str) {
        let Some(it) = self.all.get_mut(id).filter(|it| !it.status.is_final()) else {
            return;
        };
        it.status = CompletionStatus::Completed;
        it.ended = Some(now);
        it.message = Some(message.into());
        it.usage = Some(usage.into());
        self.bytes += message.len();
        while self.bytes > BYTES && self.drop_oldest() {}
    }

    /// There is no answer.
    pub fn failed(&mut self, now: Instant, id: &str, failure: Failure) {
        if let Some(it) = self.all.get_mut(id).filter(|it| !it.status.is_final()) {
            it.status = CompletionStatus::Failed;
            it.ended = Some(now);
            it.failure = Some(failure);
        }
    }

    /// Finds one for its key, or for an operator (`None`).
    fn find(&self, id: &str, owner: Option<OwnerId>) -> Result<&Completion, Failure> {
        let found = self.all.get(id);
        let found = found.filter(|it| owner.is_none_or(|owner| it.new.owner == owner));
        found.ok_or_else(|| {
            let message = format!("there is no completion {}, or none any more", quoted(id));
            Failure::not_found("completion_not_found", message)
        })
    }

    /// `GET /completions/{id}`, for its key, or for an operator (`None`).
    ///
    /// # Errors
    /// There is none of this id for that key.
    pub fn show(
        &self,
        id: &str,
        owner: Option<OwnerId>,
        wall: &WallClock,
    ) -> Result<String, Failure> {
        let it = self.find(id, owner)?;
        let mut shown = ObjectWriter::new();
        shown.text("completion_id", id);
        match &it.new.integration {
            Some(integration) => shown.text("integration_id", integration),
            None => shown.json("integration_id", "null"),
        };
        shown.text("model", &it.new.model);
        shown.text("status", it.status.as_str());
        shown.json("message", it.message.as_deref().unwrap_or("null"));
        shown.json("usage", it.usage.as_deref().unwrap_or("null"));
        if let Some(failure) = &it.failure {
            let mut error = String::new();
            failure.write(&mut error);
            let error = mcp_local_provider_core::text::JsonValue::read(&error);
            if let Some(error) = error.and_then(|it| it.member("error")) {
                shown.json("error", error.get());
            }
        }
        shown.text("created_at", &wall.rfc3339(it.began));
        match it.ended {
            Some(ended) => shown.text("completed_at", &wall.rfc3339(ended)),
            None => shown.json("completed_at", "null"),
        };
        Ok(shown.finish())
    }

    /// `DELETE /completions/{id}`: cancels one that is open, forgets one that is over.
    ///
    /// # Errors
    /// There is none of this id for that key.
    pub fn remove(
        &mut self,
        now: Instant,
        id: &str,
        owner: Option<OwnerId>,
    ) -> Result<Removed, Failure> {
        let is_over = self.find(id, owner)?.status.is_final();
        let status = if is_over { "deleted" } else { "cancelled" };
        let body = format!(
            "{{\"completion_id\":{},\"status\":\"{status}\"}}",
            quoted(id)
        );
        if is_over {
            self.forget(id);
        } else if let Some(it) = self.all.get_mut(id) {
            it.status = CompletionStatus::Cancelled;
            it.ended = Some(now);
        }
        let cancel = !is_over;
        Ok(Removed { cancel, body })
    }

    /// Returns when to call [`Completions::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.order.front().and_then(|id| self.all.get(id));
        oldest
            .filter(|it| it.status.is_final())
            .map(|it| it.began + KEPT)
    }

    /// Forgets those that have been kept for long enough. One that is open is kept until it is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(it) = self.order.front().and_then(|id| self.all.get(id)) {
            if !it.status.is_final() || it.began + KEPT > now {
                break;
            }
            let id = it.new.id.clone();
            self.forget(&id);
        }
    }

    /// Completions by their status, for the summary.
    #[must_use]
    pub fn count(&self) -> [(&'static str, usize); 5] {
        CompletionStatus::ALL.map(|status| {
            let same = self.all.values().filter(|it| it.status == status);
            (status.as_str(), same.count())
        })
    }
}

/// One event of a streamed completion.
#[derive(Clone, Copy)]
pub enum CompletionEvent<'e> {
    /// It has begun, under this id.
    Started(&'e str),
    /// A piece of text.
    Text(&'e str),
    /// A piece of reasoning.
    Reasoning(&'e str),
    /// A tool of the registry began or ended.
    Tool(&'e super::ToolEvent),
    /// It is over: what [`Completions::show`] gives.
    Completed(&'e str),
    /// It failed.
    Error(&'e Failure),
}

impl fmt::Debug for CompletionEvent<'_> {
    /// Without what is said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl CompletionEvent<'_> {
    /// `event` of SSE.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Text(_) | Self::Reasoning(_) => "delta",
            Self::Tool(_) => "tool",
            Self::Completed(_) => "completed",
            Self::Error(_) => "error",
        }
    }

    /// `data` of SSE.
    #[must_use]
    pub fn data(&self) -> String {
        let mut data = ObjectWriter::new();
        match self {
            Self::Started(id) => data.text("completion_id", id).finish(),
            Self::Text(text) => data.text("text", text).finish(),
            Self::Reasoning(text) => data.text("reasoning", text).finish(),
            Self::Tool(event) => {
                let status = match event.status {
                    super::ToolStatus::Running => "running",
                    super::ToolStatus::Ok => "ok",
                    super::ToolStatus::Error => "error",
                };
                data.text("name", &event.name)
                    .text("status", status)
                    .finish()
            }
            Self::Completed(shown) => (*shown).to_owned(),
            Self::Error(failure) => {
                let mut error = String::new();
                failure.write(&mut error);
                error
            }
        }
    }

    /// The message of a WebSocket: the data with its `type`.
    #[must_use]
    pub fn message(&self) -> String {
        let data = self.data();
        let inside = data.strip_prefix('{').unwrap_or_default();
        format!("{{\"type\":\"{}\",{inside}", self.name())
    }

    /// Appends the event of SSE.
    pub fn write_sse(&self, out: &mut Vec<u8>) {
        let event = format!("event: {}\ndata: {}\n\n", self.name(), self.data());
        out.extend_from_slice(event.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn new(id: &str, owner: u64) -> NewCompletion {
        NewCompletion {
            id: id.into(),
            owner: OwnerId(owner),
            integration: Some("h".into()),
            model: "m".into(),
        }
    }

    fn wall() -> WallClock {
        WallClock::new(Instant::ZERO, Duration::from_secs(1_700_000_000))
    }

    #[test]
    fn a_completion_is_found_by_its_key_and_by_operators() {
        let mut all = Completions::default();
        let now = Instant::ZERO;
        all.begin(now, new("a", 1)).unwrap();
        let shown = all.show("a", Some(OwnerId(1)), &wall()).unwrap();
        assert!(shown.contains("\"status\":\"queued\""), "{shown}");
        assert!(all.show("a", None, &wall()).is_ok());
        let failure = all.show("a", Some(OwnerId(2)), &wall()).unwrap_err();
        assert_eq!(failure.reason, Some("completion_not_found"));
        assert!(all.remove(now, "a", Some(OwnerId(2))).is_err());
        all.started("a");
        all.completed(now, "a", "{\"role\":\"assistant\"}", "{}");
        let shown = all.show("a", None, &wall()).unwrap();
        assert_eq!(
            shown,
            r#"{"completion_id":"a","integration_id":"h","model":"m","status":"completed","message":{"role":"assistant"},"usage":{},"created_at":"2023-11-14T22:13:20.000000Z","completed_at":"2023-11-14T22:13:20.000000Z"}"#
        );
        let removed = all.remove(now, "a", None).unwrap();
        assert_eq!((removed.cancel, all.bytes), (false, 0));
        assert!(all.remove(now, "a", None).is_err());
    }

    #[test]
    fn one_that_is_cancelled_stays_cancelled() {
        let mut all = Completions::default();
        let now = Instant::ZERO;
        all.begin(now, new("a", 1)).unwrap();
        assert!(all.remove(now, "a", Some(OwnerId(1))).unwrap().cancel);
        all.completed(now, "a", "{}", "{}");
        all.failed(now, "a", Failure::wrong("x"));
        let shown = all.show("a", None, &wall()).unwrap();
        assert!(shown.contains("\"status\":\"cancelled\""), "{shown}");
        assert!(all.count().contains(&("cancelled", 1)));
    }

    #[test]
    fn they_are_bounded_in_number_and_time() {
        let mut all = Completions::default();
        let now = Instant::ZERO;
        for at in 0..MOST {
            all.begin(now, new(&at.to_string(), 1)).unwrap();
        }
        assert_eq!(all.begin(now, new("x", 1)).unwrap_err().status, 503);
        all.failed(now, "7", Failure::wrong("x"));
        all.begin(now, new("x", 1)).unwrap();
        assert!(all.show("7", None, &wall()).is_err());
        assert_eq!(all.poll_timeout(), None);
        all.completed(now, "0", "{}", "{}");
        assert_eq!(all.poll_timeout(), Some(now + KEPT));
        all.handle_timeout(now + KEPT);
        assert_eq!(all.all.len(), MOST - 1);
    }

    #[test]
    fn events_are_written_as_server_sent_ones() {
        let mut out = Vec::new();
        CompletionEvent::Text("a\"b\n").write_sse(&mut out);
        let tool = super::super::ToolEvent {
            name: "t".into(),
            status: super::super::ToolStatus::Ok,
        };
        CompletionEvent::Tool(&tool).write_sse(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "event: delta\ndata: {\"text\":\"a\\\"b\\n\"}\n\nevent: tool\ndata: {\"name\":\"t\",\"status\":\"ok\"}\n\n"
        );
    }
}
