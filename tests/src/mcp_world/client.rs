//! A scripted client's session: what it has asked, what it has seen, and what it must have seen.

use super::SHARED;
use crate::exchange::Exchange;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A request of a client.
#[derive(Debug)]
pub(super) struct Request {
    /// As the client wrote it.
    pub(super) id: Value,
    token: Option<Value>,
    pub(super) canary: String,
    progress: u64,
    /// It was taken back, or nobody can know its answer: the connection was lost before there was anything to resume from.
    pub(super) is_given_up: bool,
    /// The client has said that it takes it back.
    pub(super) is_cancelled: bool,
    pub(super) answers: u32,
    /// It asks for a list, which must not be older than this change of it.
    least: Option<u64>,
    /// The answer is an error of the gateway's.
    pub(super) reason: Option<String>,
}

/// One stream of the session.
pub(super) struct Stream {
    pub(super) exchange: Exchange,
    unread: Vec<u8>,
    /// The event to resume from.
    pub(super) last: Option<String>,
    /// Index of its request; none on the session's own stream.
    pub(super) request: Option<usize>,
    /// The client has cut it.
    pub(super) is_cut: bool,
    /// It was read to its end.
    pub(super) is_over: bool,
}

/// One session.
pub(super) struct Session {
    /// The name in its canaries.
    pub(super) name: String,
    pub(super) key: &'static str,
    pub(super) server: &'static str,
    /// Once it is open.
    pub(super) id: Option<String>,
    pub(super) streams: Vec<Stream>,
    pub(super) requests: Vec<Request>,
    /// Ids of events that were seen.
    seen: BTreeSet<String>,
    /// Questions of the server that were not answered.
    pub(super) questions: Vec<Value>,
    /// The client has ended it, or was told that it is gone.
    pub(super) is_over: bool,
    /// Nobody knows its id, and it goes on for its time.
    pub(super) is_lost: bool,
    /// The client has said that it ends it.
    pub(super) is_ended: bool,
    /// It has asked to hear of the resource that bears its name.
    pub(super) has_subscribed: bool,
    /// There may be a reason for its end of which the client is not told.
    pub(super) may_end: bool,
    /// The latest change of a list that it was told of.
    changed: u64,
    /// Numbers of what came, by kind.
    pub(super) happened: BTreeMap<&'static str, u64>,
}

impl Session {
    pub(super) fn new(
        name: String,
        key: &'static str,
        server: &'static str,
        opening: Exchange,
    ) -> Self {
        let mut it = Self {
            name,
            key,
            server,
            id: None,
            streams: Vec::new(),
            requests: Vec::new(),
            seen: BTreeSet::new(),
            questions: Vec::new(),
            is_over: false,
            is_lost: false,
            is_ended: false,
            has_subscribed: false,
            may_end: false,
            changed: 0,
            happened: BTreeMap::new(),
        };
        it.expect(opening, json!("open"), None, String::new());
        it
    }

    /// A request was sent on this exchange.
    pub(super) fn expect(
        &mut self,
        exchange: Exchange,
        id: Value,
        token: Option<Value>,
        canary: String,
    ) {
        let request = Some(self.requests.len());
        self.requests.push(Request {
            id,
            token,
            canary,
            progress: 0,
            is_given_up: false,
            is_cancelled: false,
            answers: 0,
            least: None,
            reason: None,
        });
        self.streams.push(Stream {
            exchange,
            unread: Vec::new(),
            last: None,
            request,
            is_cut: false,
            is_over: false,
        });
    }

    /// A request for the tools was sent on this exchange.
    pub(super) fn expect_list(&mut self, exchange: Exchange, id: Value) {
        self.expect(exchange, id, None, String::new());
        let changed = self.changed;
        if let Some(request) = self.requests.last_mut() {
            request.least = Some(changed);
        }
    }

    /// Listens to the session's own stream, or goes on with one that was cut.
    pub(super) fn listen(&mut self, exchange: Exchange, resumed: Option<usize>) {
        match resumed {
            Some(at) => {
                let stream = &mut self.streams[at];
                stream.exchange = exchange;
                stream.unread.clear();
                stream.is_cut = false;
            }
            None => self.streams.push(Stream {
                exchange,
                unread: Vec::new(),
                last: None,
                request: None,
                is_cut: false,
                is_over: false,
            }),
        }
    }

    /// True while a request waits for its answer.
    pub(super) fn is_open(&self, id: &Value) -> bool {
        let open = |request: &&Request| request.answers == 0 && !request.is_given_up;
        self.requests
            .iter()
            .filter(open)
            .any(|request| request.id == *id)
    }

    /// The client loses a connection, with all of it that was not read.
    pub(super) fn cut(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if stream.is_over || stream.is_cut {
            return;
        }
        stream.exchange.cut();
        stream.is_cut = true;
        if let Some(request) = stream.request.filter(|_| stream.last.is_none()) {
            self.requests[request].is_given_up = true;
            stream.is_over = true;
            if request == 0 {
                // Without the answer to `initialize` nobody knows the session.
                self.is_over = true;
                self.is_lost = true;
            }
        }
    }

    /// The client reads what has arrived on one of its streams.
    pub(super) fn read(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if stream.is_over || stream.is_cut {
            return;
        }
        let Some(head) = stream.exchange.head.clone() else {
            return;
        };
        let (mut content_type, mut session) = (String::new(), None);
        head.headers(|name, value| {
            let value = String::from_utf8_lossy(value).into_owned();
            match name {
                "content-type" => content_type = value,
                "mcp-session-id" => session = Some(value),
                _ => {}
            }
        });
        if let Some(id) = session {
            self.id = Some(id);
        }
        stream.unread.append(&mut stream.exchange.arrived);
        if content_type.starts_with("text/event-stream") {
            self.read_events(at);
        } else if stream.exchange.is_whole {
            let body = std::mem::take(&mut stream.unread);
            self.read_body(at, head.status(), &body);
        }
        let stream = &mut self.streams[at];
        if stream.exchange.is_whole && stream.unread.is_empty() {
            stream.is_over = true;
            if let Some(request) = stream.request.map(|request| &self.requests[request]) {
                let is_told = request.answers > 0 || request.is_given_up;
                let told = is_told || self.is_over || self.may_end;
                let (name, id) = (&self.name, &request.id);
                assert!(told, "{name}: the stream of {id} ends without its answer");
            }
        }
    }

    fn read_body(&mut self, at: usize, status: u16, body: &[u8]) {
        let request = self.streams[at].request;
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        if status == 200 {
            self.hear(request, &message);
            return;
        }
        let reason = message["error"]["data"]["reason"]
            .as_str()
            .unwrap_or("none");
        *self.happened.entry("refusals").or_default() += 1;
        if status == 404 {
            assert_eq!(reason, "session_not_found", "{message}");
            // One that did not wait for the answer to `initialize` may have missed that there is no server.
            let may_end = self.may_end || self.is_over || self.requests[0].answers == 0;
            assert!(may_end, "{} is gone for no reason", self.name);
            self.is_over = true;
        }
        if let Some(request) = request {
            let request = &mut self.requests[request];
            request.answers += 1;
            request.reason = Some(reason.to_owned());
        }
    }

    fn read_events(&mut self, at: usize) {
        loop {
            let stream = &mut self.streams[at];
            let Some(end) = memchr::memmem::find(&stream.unread, b"\n\n") else {
                return;
            };
            let event: Vec<u8> = stream.unread.drain(..end + 2).collect();
            let event = String::from_utf8(event).expect("events are UTF-8");
            let (mut id, mut data) = (None, None);
            for line in event.lines() {
                match line.split_once(": ").or(line.split_once(':')) {
                    Some(("id", value)) => id = Some(value.to_owned()),
                    Some(("data", value)) => data = Some(value.to_owned()),
                    Some(("retry" | "event" | "", _)) | None => {}
                    Some(other) => panic!("the field {other:?}"),
                }
            }
            if let Some(id) = id {
                stream.last = Some(id.clone());
                if data.as_deref().is_some_and(|data| !data.is_empty()) {
                    assert!(self.seen.insert(id.clone()), "the event {id} comes twice");
                }
            }
            let request = stream.request;
            if let Some(data) = data.filter(|data| !data.is_empty()) {
                let message: Value = serde_json::from_str(&data).expect("data is JSON");
                self.hear(request, &message);
            }
        }
    }

    /// Takes a message that came on the stream of a request, or on the session's own.
    fn hear(&mut self, on: Option<usize>, message: &Value) {
        let id = &message["id"];
        let canary = |of: &Value| of["canary"].as_str().map(str::to_owned);
        let kind = match message["method"].as_str() {
            None => {
                let at = on.expect("an answer on the stream of its request");
                let asked = &self.requests[at];
                assert_eq!(
                    asked.id, *id,
                    "{} has the answer to another request",
                    self.name
                );
                assert_eq!(
                    asked.answers, 0,
                    "{} has a second answer: {message}",
                    self.name
                );
                let request = &mut self.requests[at];
                request.answers += 1;
                request.reason = message["error"]["data"]["reason"]
                    .as_str()
                    .map(str::to_owned);
                let said = canary(&message["result"]);
                let said = said.or(message["error"]["message"].as_str().map(str::to_owned));
                if let (None, Some(least)) = (&request.reason, request.least) {
                    let seen = message["result"]["tools"][1]["name"].as_str();
                    let seen = seen.and_then(|seen| seen.strip_prefix('v')?.parse().ok());
                    let name = &self.name;
                    assert!(
                        seen >= Some(least),
                        "{name}: {message} is older than {least}"
                    );
                    *self.happened.entry("lists").or_default() += 1;
                } else if request.reason.is_none() && at > 0 {
                    assert_eq!(
                        said.as_ref(),
                        Some(&request.canary),
                        "{} has the answer of another one",
                        self.name
                    );
                }
                if at == 0 && request.reason.is_some() {
                    self.is_over = true;
                }
                "answers"
            }
            Some("notifications/progress") => {
                let params = &message["params"];
                let at = on.expect("progress on the stream of its request");
                let request = &mut self.requests[at];
                assert_eq!(
                    request.token.as_ref(),
                    Some(&params["progressToken"]),
                    "{}: another token",
                    self.name
                );
                assert_eq!(
                    params["message"].as_str(),
                    Some(&*request.canary),
                    "progress of another one"
                );
                assert_eq!(request.answers, 0, "progress behind the answer");
                request.progress += 1;
                let progress = params["progress"].as_u64();
                assert_eq!(
                    progress,
                    Some(request.progress),
                    "{}: progress is missing",
                    self.name
                );
                "progress"
            }
            Some("sampling/createMessage") => {
                let is_own = self.server != SHARED;
                assert!(is_own, "a process of several sessions asks {}", self.name);
                self.check_owner(canary(&message["params"]));
                assert!(
                    !self.questions.contains(id),
                    "two questions have the id {id}"
                );
                self.questions.push(id.clone());
                "questions"
            }
            Some("notifications/cancelled") => {
                let request = &message["params"]["requestId"];
                self.questions.retain(|open| open != request);
                "questions withdrawn"
            }
            Some("notifications/message") => {
                self.check_owner(canary(&message["params"]["data"]));
                match self.server {
                    SHARED => "log messages of a shared process",
                    _ => "log messages",
                }
            }
            Some("notifications/resources/updated") => {
                let is_wanted = self.has_subscribed || self.server != SHARED;
                assert!(is_wanted, "{} has not subscribed", self.name);
                self.check_owner(canary(&message["params"]));
                match self.server {
                    SHARED => "updates of a shared process",
                    _ => "updates",
                }
            }
            Some(method) => {
                assert!(method.ends_with("/list_changed"), "{method}");
                let change = message["params"]["change"].as_u64();
                self.changed = self.changed.max(change.unwrap_or_default());
                "list changes"
            }
        };
        *self.happened.entry(kind).or_default() += 1;
    }

    fn check_owner(&self, canary: Option<String>) {
        if let Some(canary) = canary {
            assert_eq!(canary, self.name, "a message of another session");
        }
    }

    /// All that was asked and not given up has one answer.
    pub(super) fn check_answered(&self) {
        for request in &self.requests {
            let told = request.answers == 1 || request.is_given_up || self.is_over || self.may_end;
            assert!(told, "{}: {} has no answer", self.name, request.id);
            assert!(
                request.answers <= 1,
                "{}: {} has two answers",
                self.name,
                request.id
            );
        }
    }
}
