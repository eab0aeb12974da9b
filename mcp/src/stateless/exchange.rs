//! One request of a client, with its rounds.

use super::check::{Capabilities, Level, Wanted, may_ask};
use super::{begin, params, put, raise};
use crate::refusal::{Reason, Refusal};
use crate::server::CallId;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::task::Waker;
use core::time::Duration;
use mcp_local_provider_core::rpc::{INTERNAL_ERROR, Json, METHOD_NOT_FOUND, replace};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Time in which further questions of a server join the first one.
const GATHER: Duration = Duration::from_millis(25);

/// Messages that may wait for a client.
const MESSAGES: usize = 1024;

/// Bytes that may wait for a client.
const BYTES: usize = 16 << 20;

/// Ways in which the answer to a request ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With this message.
    Answer {
        /// HTTP status, where nothing was told before it.
        status: u16,
        /// The message.
        text: String,
        /// Seconds after which another try may succeed.
        retry_after: Option<u64>,
    },
    /// With questions: [`Exchange::suspend`] gives the message.
    Questions,
    /// Without an answer, because the client does not read.
    Cut,
}

/// Result of [`Exchange::take`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// Messages before the answer.
    pub messages: Vec<String>,
    /// The end, when it is there.
    pub ending: Option<Ending>,
    /// The time at which to ask again, if nobody wakes the reader before.
    pub until: Option<Instant>,
}

/// Remains of an exchange that has ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// A call that the server is to give up.
    pub call: Option<CallId>,
    /// All was said: what the server says next is not about this exchange.
    pub is_clean: bool,
}

/// A question of the server that is not answered.
struct Question {
    /// Its name in `inputRequests`.
    name: String,
    /// As the server wrote it.
    id: Box<str>,
    method: Box<str>,
    /// JSON.
    params: String,
}

enum Outcome {
    /// The server's answer.
    Answer(String),
    /// The server's answer to `initialize`, for `server/discover`.
    Greeting(String),
    Refusal(Refusal),
    /// The program ends what a listener listens to.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its questions are with the client.
    Suspended,
    Ended,
}

/// The messages that a listener wants.
#[derive(Default)]
struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: Vec<Box<str>>,
}

/// One request of a client of revision 2026-07-28, and those that go on with it.
pub struct Exchange {
    state: State,
    /// As the client wrote it.
    id: Box<str>,
    method: Box<str>,
    /// Parameters without what belongs to one round, by which the next round is known.
    asked: String,
    /// As the client wrote it.
    token: Option<Box<str>>,
    /// The resource, as the client wrote it.
    uri: Option<Box<str>>,
    capabilities: Capabilities,
    level: Option<Level>,
    filter: Option<Filter>,
    /// `serverInfo`, once the server is ready.
    server: Option<Box<str>>,
    call: Option<CallId>,
    /// The server was ready once.
    is_greeted: bool,
    messages: VecDeque<String>,
    bytes: usize,
    is_cut: bool,
    outcome: Option<Outcome>,
    questions: Vec<Question>,
    last_question: u64,
    /// The time at which the questions go to the client.
    settles: Option<Instant>,
    waker: Option<Waker>,
}

impl fmt::Debug for Exchange {
    /// Messages are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.method)
            .field("messages", &self.messages.len())
            .field("questions", &self.questions.len())
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// Begins with a request.
    #[must_use]
    pub fn new(wanted: &Wanted<'_>) -> Self {
        let filter = (wanted.call.method == "subscriptions/listen").then(|| Filter::read(wanted));
        Self {
            state: State::Open,
            id: wanted.id.get().into(),
            method: (&*wanted.call.method).into(),
            asked: essence(wanted),
            token: wanted.call.progress_token.map(|token| token.get().into()),
            uri: wanted.param("uri").map(|uri| uri.get().into()),
            capabilities: wanted.capabilities,
            level: wanted.level,
            filter,
            server: None,
            call: None,
            is_greeted: false,
            messages: VecDeque::new(),
            bytes: 0,
            is_cut: false,
            outcome: None,
            questions: Vec::new(),
            last_question: 0,
            settles: None,
            waker: None,
        }
    }

    /// True for a listener, which asks the server nothing.
    #[must_use]
    pub const fn is_listening(&self) -> bool {
        self.filter.is_some()
    }

    /// Returns the URIs of the resources that a listener subscribes to, each as JSON.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        let uris = self.filter.iter().flat_map(|filter| &filter.uris);
        uris.map(|uri| &**uri)
    }

    /// Returns the least severe log messages that the client wants.
    #[must_use]
    pub const fn level(&self) -> Option<Level> {
        self.level
    }

    /// The request was sent to the server.
    pub fn sent(&mut self, call: CallId) {
        self.call = Some(call);
    }

    /// Ends it. `None` when it has ended before.
    pub fn end(&mut self) -> Option<End> {
        if self.state == State::Ended {
            return None;
        }
        self.state = State::Ended;
        let is_answered = matches!(self.outcome, Some(Outcome::Answer(_)));
        // The server knows that its question failed, and answers. One that is told to stop as well need not answer at all.
        let answers = is_answered
            || matches!(&self.outcome, Some(Outcome::Refusal(why)) if why.reason == Reason::MissingCapability);
        Some(End {
            call: self.call.take().filter(|_| !answers),
            is_clean: is_answered && self.questions.is_empty(),
        })
    }

    /// The server is ready; `greeting` is what it said to `initialize`.
    pub fn handle_ready(&mut self, greeting: &str, wake: &mut Vec<Waker>) {
        let again = core::mem::replace(&mut self.is_greeted, true);
        let all = JsonValue::read(greeting);
        let server = all.and_then(|all| all.member("serverInfo"));
        self.server = server.map(|server| server.get().into());
        if let Some(filter) = &self.filter {
            let honored = all.and_then(|all| all.member("capabilities"));
            for message in filter.messages(honored, again, &self.id) {
                self.push(message);
            }
            self.wake(wake);
        } else if &*self.method == "server/discover" {
            self.conclude(Outcome::Greeting(greeting.into()), wake);
        }
    }

    /// The answer of the server has come.
    pub fn handle_answer(&mut self, text: &str, wake: &mut Vec<Waker>) {
        self.conclude(Outcome::Answer(text.into()), wake);
    }

    /// The request has failed without an answer.
    pub fn handle_failed(&mut self, refusal: &Refusal, wake: &mut Vec<Waker>) {
        self.conclude(Outcome::Refusal(refusal.clone()), wake);
    }

    /// The source of a listener's messages has ended.
    pub fn handle_over(&mut self, wake: &mut Vec<Waker>) {
        if self.is_listening() {
            self.conclude(Outcome::Over, wake);
        }
    }

    /// The server tells of the progress of the request.
    pub fn handle_progress(&mut self, text: &str, token: JsonValue<'_>, wake: &mut Vec<Waker>) {
        if let (Some(own), State::Open) = (&self.token, self.state) {
            let mut out = String::with_capacity(text.len() + own.len());
            replace(&mut out, text, &[(token, own)]);
            self.push(out);
            self.wake(wake);
        }
    }

    /// The server tells something that belongs to no request that it names.
    pub fn handle_notified(&mut self, text: &str, method: &str, wake: &mut Vec<Waker>) {
        let params = JsonValue::read(text).and_then(|all| all.member("params"));
        let message = match &self.filter {
            Some(filter) => filter
                .wants(method, params)
                .then(|| raise::tagged(method, params, &self.id)),
            None => {
                let level = params.and_then(|params| params.member("level")?.text());
                let level = level.and_then(|level| Level::named(&level));
                let wanted = self
                    .level
                    .is_some_and(|least| level.is_some_and(|level| level >= least));
                let is_log = method == "notifications/message" && self.state == State::Open;
                (is_log && wanted).then(|| text.into())
            }
        };
        if let Some(message) = message {
            self.push(message);
            self.wake(wake);
        }
    }

    /// The server asks the client something, in the course of this request.
    ///
    /// # Errors
    /// It cannot: the line that tells the server.
    pub fn handle_asked(
        &mut self,
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        method: &str,
        wake: &mut Vec<Waker>,
    ) -> Result<(), String> {
        let Some((capability, is_declared)) = self.capabilities.of(method) else {
            let why = "a client cannot be asked that";
            return Err(Json::error(id, METHOD_NOT_FOUND, why));
        };
        if self.outcome.is_some() || self.state == State::Ended || !may_ask(&self.method) {
            return Err(Json::error(
                id,
                INTERNAL_ERROR,
                "no request is open that the client could be asked for",
            ));
        }
        if !is_declared {
            let message =
                format!("the server asks for `{capability}`, which the client has not declared");
            let refusal = Refusal::new(Reason::MissingCapability, message);
            let refusal = refusal.detailed(format!(
                "\"requiredCapabilities\":{{\"{capability}\":{{}}}}"
            ));
            self.conclude(Outcome::Refusal(refusal), wake);
            return Err(Json::error(
                id,
                METHOD_NOT_FOUND,
                "the client has not declared what this needs",
            ));
        }
        if self.questions.len() >= MESSAGES {
            return Err(Json::error(
                id,
                INTERNAL_ERROR,
                "too many questions wait for the client",
            ));
        }
        self.last_question += 1;
        let given = JsonValue::read(text).and_then(|all| all.member("params"));
        self.questions.push(Question {
            name: format!("input-{}", self.last_question),
            id: id.get().into(),
            method: method.into(),
            params: params(given, &[], &["progressToken"], None),
        });
        self.settles = Some(now + GATHER);
        self.wake(wake);
        Ok(())
    }

    /// The server takes a question back; `id` is the question's.
    pub fn handle_withdrawn(&mut self, id: JsonValue<'_>) {
        self.questions.retain(|question| &*question.id != id.get());
    }

    /// The server's process is gone: nobody waits for the client's answers any more.
    pub fn handle_gone(&mut self) {
        self.questions.clear();
    }

    /// Takes what there is for the client. `waker` is woken when there is more.
    pub fn take(&mut self, now: Instant, waker: &Waker) -> Step {
        let messages = self.messages.drain(..).collect();
        self.bytes = 0;
        if let Some(outcome) = &self.outcome {
            let server = self.server.as_deref();
            let (status, text) = match outcome {
                Outcome::Answer(text) => {
                    raise::answer(text, &self.id, &self.method, server, self.uri.as_deref())
                }
                Outcome::Greeting(greeting) => (200, raise::discovered(&self.id, greeting)),
                Outcome::Refusal(refusal) => (refusal_status(refusal), refusal.answer(&self.id)),
                Outcome::Over => (200, raise::listened(&self.id, server)),
            };
            let retry_after = match outcome {
                Outcome::Refusal(refusal) => refusal.retry_after_seconds(),
                Outcome::Answer(_) | Outcome::Greeting(_) | Outcome::Over => None,
            };
            let ending = Some(Ending::Answer {
                status,
                text,
                retry_after,
            });
            return Step {
                messages,
                ending,
                until: None,
            };
        }
        let ending = match self.settles {
            _ if self.is_cut => Some(Ending::Cut),
            Some(at) if at <= now && !self.questions.is_empty() => Some(Ending::Questions),
            Some(_) | None => None,
        };
        if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            self.waker = Some(waker.clone());
        }
        let until = self.settles.filter(|_| !self.questions.is_empty());
        Step {
            messages,
            ending,
            until,
        }
    }

    /// Gives the questions to the client, with `state`, which it sends back with its answers.
    pub fn suspend(&mut self, state: &str) -> String {
        self.state = State::Suspended;
        self.settles = None;
        self.waker = None;
        let mut json = Json::new();
        json.raw("{");
        put(&mut json, "resultType", "\"input_required\"");
        begin(&mut json, "inputRequests");
        json.raw("{");
        for question in &self.questions {
            begin(&mut json, &question.name);
            json.raw("{");
            begin(&mut json, "method");
            json.string(&question.method);
            put(&mut json, "params", &question.params);
            json.raw("}");
        }
        json.raw("}");
        begin(&mut json, "requestState");
        json.string(state);
        json.raw("}");
        let text = json.finish();
        raise::result(
            &self.id,
            JsonValue::read(&text),
            &self.method,
            self.server.as_deref(),
        )
    }

    /// Goes on with the client's answers, which another request brings. Returns the lines for the server. Questions that have no answer
    /// are asked again, and answers to none are passed over.
    ///
    /// # Errors
    /// It is not this exchange that the request goes on with, or an answer is none.
    pub fn resume(&mut self, now: Instant, wanted: &Wanted<'_>) -> Result<Vec<String>, Refusal> {
        let wrong = |message: &str| Err(Refusal::new(Reason::BadParams, message));
        if self.state != State::Suspended {
            return wrong("`requestState` was used already, or its request is over");
        }
        if *self.method != *wanted.call.method || self.asked != essence(wanted) {
            return wrong("`requestState` belongs to another request");
        }
        let given = wanted.param("inputResponses");
        if given.is_some_and(|given| !given.get().starts_with('{')) {
            return wrong("`inputResponses` is no object");
        }
        let answer_to = |question: &Question| given.and_then(|given| given.member(&question.name));
        let answers = self.questions.iter().map(answer_to);
        if answers
            .flatten()
            .any(|answer| !answer.get().starts_with('{'))
        {
            return wrong("a value of `inputResponses` is no object");
        }
        let mut lines = Vec::new();
        self.questions.retain(|question| {
            let Some(answer) = answer_to(question) else {
                return true;
            };
            let mut json = Json::new();
            json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
            json.raw(&question.id);
            json.raw(",\"result\":");
            json.raw(&answer.get().replace(['\n', '\r'], " "));
            json.raw("}\n");
            lines.push(json.finish());
            false
        });
        self.settles = (!self.questions.is_empty()).then_some(now);
        self.state = State::Open;
        self.id = wanted.id.get().into();
        self.token = wanted.call.progress_token.map(|token| token.get().into());
        self.level = wanted.level;
        Ok(lines)
    }

    fn conclude(&mut self, outcome: Outcome, wake: &mut Vec<Waker>) {
        if self.outcome.is_none() && self.state != State::Ended {
            self.outcome = Some(outcome);
            self.wake(wake);
        }
    }

    fn push(&mut self, message: String) {
        self.bytes = self.bytes.saturating_add(message.len());
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES || self.bytes > BYTES {
            self.messages.clear();
            self.is_cut = true;
        }
    }

    /// Wakes the reader.
    pub fn wake(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.waker.take());
    }
}

/// The status of an error that stands in the answer to a request that was accepted.
fn refusal_status(refusal: &Refusal) -> u16 {
    if matches!(
        refusal.reason,
        Reason::MissingCapability | Reason::HeaderMismatch
    ) {
        400
    } else {
        200
    }
}

/// Parameters without what belongs to one round.
fn essence(wanted: &Wanted<'_>) -> String {
    params(
        wanted.call.params,
        &["inputResponses", "requestState", "_meta"],
        &[],
        None,
    )
}

impl Filter {
    fn read(wanted: &Wanted<'_>) -> Self {
        let all = wanted.param("notifications");
        let wants = |name| {
            all.and_then(|all| all.member(name))
                .is_some_and(|value| value.get() == "true")
        };
        let uris = all.and_then(|all| all.member("resourceSubscriptions"));
        let uris = uris.map(JsonValue::elements).unwrap_or_default();
        let uris = uris.iter().filter(|uri| uri.as_str().is_some());
        Self {
            tools: wants("toolsListChanged"),
            prompts: wants("promptsListChanged"),
            resources: wants("resourcesListChanged"),
            uris: uris.take(MESSAGES).map(|uri| uri.get().into()).collect(),
        }
    }

    /// Messages to a listener about a server that is ready: first what it will be told of, and of one that is ready again, that its lists
    /// may have changed.
    fn messages(&self, capabilities: Option<JsonValue<'_>>, again: bool, id: &str) -> Vec<String> {
        let has = |path: &[&str]| {
            let value = capabilities.and_then(|all| all.path(path));
            value.is_some_and(|value| value.get() == "true")
        };
        let lists = [
            ("tools", self.tools, "toolsListChanged"),
            ("prompts", self.prompts, "promptsListChanged"),
            ("resources", self.resources, "resourcesListChanged"),
        ];
        let honored = lists
            .into_iter()
            .filter(|(kind, wanted, _)| *wanted && has(&[kind, "listChanged"]));
        if again {
            let method = |kind| format!("notifications/{kind}/list_changed");
            return honored
                .map(|(kind, ..)| raise::tagged(&method(kind), None, id))
                .collect();
        }
        let mut json = Json::new();
        json.raw("{\"notifications\":{");
        for (_, _, name) in honored {
            put(&mut json, name, "true");
        }
        if !self.uris.is_empty() && has(&["resources", "subscribe"]) {
            put(
                &mut json,
                "resourceSubscriptions",
                &format!("[{}]", self.uris.join(",")),
            );
        }
        json.raw("}}");
        let text = json.finish();
        let method = "notifications/subscriptions/acknowledged";
        [raise::tagged(method, JsonValue::read(&text), id)].into()
    }

    fn wants(&self, method: &str, params: Option<JsonValue<'_>>) -> bool {
        match method {
            "notifications/tools/list_changed" => self.tools,
            "notifications/prompts/list_changed" => self.prompts,
            "notifications/resources/list_changed" => self.resources,
            "notifications/resources/updated" => {
                let uri = params.and_then(|params| params.member("uri"));
                uri.is_some_and(|uri| self.uris.iter().any(|own| same(own, uri)))
            }
            _ => false,
        }
    }
}

/// True for two strings, both JSON, that stand for the same text.
pub(super) fn same(left: &str, right: JsonValue<'_>) -> bool {
    left == right.get() || JsonValue::read(left).and_then(JsonValue::text) == right.text()
}
