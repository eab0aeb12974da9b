//! All whom one process of a server serves, and what reaches each of them.

use super::cell::SessionCell;
use super::stateless::RequestCell;
use mcp_local_provider_core::rpc::{Call, Json, METHOD_NOT_FOUND};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_mcp::server::Delivery;
use mcp_local_provider_mcp::session::{self, Attachment, RequestKey, Session};
use mcp_local_provider_mcp::stateless::{Exchange, Level};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::task::Waker;

/// Resources to which one session may subscribe at a shared process.
const SUBSCRIPTIONS: usize = 1024;

/// Who waits for the answer of a process. One that has ended wants none.
#[derive(Clone)]
pub(crate) enum Asker {
    /// A request of a session.
    Session(Weak<SessionCell>, RequestKey),
    /// A request without a session.
    Request(Weak<RequestCell>),
    /// The gateway itself, which does not look at it.
    Nobody,
}

/// A session that a process serves.
pub(super) struct Attached {
    session: Weak<SessionCell>,
    /// The process's place in that session.
    at: Attachment,
    /// Somebody listens to the session.
    is_attended: bool,
    /// The least severe log messages that it wants of a shared process.
    level: Option<Level>,
    /// Resources to which it subscribes at a shared process, as JSON.
    uris: Vec<Box<str>>,
}

impl Attached {
    pub(super) fn new(session: &Arc<SessionCell>, at: Attachment) -> Self {
        Self {
            session: Arc::downgrade(session),
            at,
            is_attended: true,
            level: None,
            uris: Vec::new(),
        }
    }
}

/// All whom a process serves.
#[derive(Default)]
pub(super) struct Audience {
    /// It serves whoever comes.
    is_shared: bool,
    /// Sessions by their numbers.
    sessions: BTreeMap<u64, Attached>,
    /// Sessions that somebody listens to.
    attended: usize,
    /// Requests without a session, by their numbers. True for those that listen and ask the process nothing.
    requests: BTreeMap<u64, (Weak<RequestCell>, bool)>,
    /// What the process said to `initialize`, while it is ready.
    greeting: Option<Box<str>>,
    /// Resources to which somebody subscribes at a shared process, as JSON, with the number of those.
    subscriptions: BTreeMap<Box<str>, usize>,
    /// The least severe log messages that a shared process was told to write.
    level: Option<Level>,
}

/// The only one that a process can be at work for.
enum Only<'a> {
    Session(&'a Attached),
    Request(&'a Weak<RequestCell>),
}

/// What is to be done about something that a session asks of a shared process for itself.
pub(super) enum Noted {
    /// The process is asked.
    Passes,
    /// It is done, with what the process is to be told for it.
    Done(Option<(&'static str, String)>),
}

impl Audience {
    pub(super) fn new(is_shared: bool) -> Self {
        Self {
            is_shared,
            ..Self::default()
        }
    }

    /// What the process said to `initialize`, while it is ready.
    pub(super) fn greeting(&self) -> Option<&str> {
        self.greeting.as_deref()
    }

    /// True when somebody is there who may want the process.
    pub(super) fn is_attended(&self) -> bool {
        self.attended > 0 || !self.requests.is_empty()
    }

    /// The number of sessions that it serves.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn attach(&mut self, number: u64, attached: Attached) {
        self.attended += usize::from(attached.is_attended);
        self.sessions.insert(number, attached);
    }

    /// Takes a session out. Returns the parameters of the subscriptions that nobody has any more.
    pub(super) fn detach(&mut self, number: u64) -> Vec<String> {
        let Some(gone) = self.sessions.remove(&number) else {
            return Vec::new();
        };
        self.attended -= usize::from(gone.is_attended);
        self.unsubscribe(&gone.uris)
    }

    /// Notes whether anybody listens to a session, and returns whether anybody does to any.
    pub(super) fn attend(&mut self, number: u64, is_attended: bool) -> bool {
        if let Some(attached) = self.sessions.get_mut(&number) {
            self.attended += usize::from(is_attended);
            self.attended -= usize::from(attached.is_attended);
            attached.is_attended = is_attended;
        }
        self.is_attended()
    }

    /// Notes what a session asks for itself of a shared process.
    pub(super) fn note(&mut self, number: u64, call: &Call<'_>) -> Noted {
        // What the process said is long, and of use to one method.
        let logs = |greeting: Option<&str>| {
            let greeting = greeting.and_then(JsonValue::read);
            greeting.is_some_and(|all| all.path(&["capabilities", "logging"]).is_some())
        };
        let param = |name| call.params.and_then(|params| params.member(name));
        let Some(attached) = self.sessions.get_mut(&number) else {
            return Noted::Passes;
        };
        match &*call.method {
            "logging/setLevel" => {
                let level = param("level").and_then(JsonValue::text);
                match level.and_then(|name| Level::named(&name)) {
                    Some(level) if logs(self.greeting.as_deref()) => {
                        attached.level = Some(level);
                        Noted::Done(self.wish(level))
                    }
                    // The process says what is wrong with it, or is not ready to be told twice.
                    level @ (Some(_) | None) => {
                        attached.level = level.or(attached.level);
                        Noted::Passes
                    }
                }
            }
            "resources/subscribe" => {
                // The process is asked each time, which changes nothing for it and tells the client of what cannot be.
                let Some(uri) = param("uri").map(JsonValue::get) else {
                    return Noted::Passes;
                };
                let is_new = !attached.uris.iter().any(|own| **own == *uri);
                if is_new && attached.uris.len() < SUBSCRIPTIONS {
                    attached.uris.push(uri.into());
                    *self.subscriptions.entry(uri.into()).or_default() += 1;
                }
                Noted::Passes
            }
            "resources/unsubscribe" => {
                let own = param("uri").and_then(|uri| {
                    let at = attached.uris.iter().position(|own| **own == *uri.get())?;
                    Some(attached.uris.swap_remove(at))
                });
                let unwanted = self.unsubscribe(own.as_slice()).pop();
                Noted::Done(unwanted.map(|params| ("resources/unsubscribe", params)))
            }
            _ => Noted::Passes,
        }
    }

    /// Adds a request. Returns what the process is to be told for it.
    pub(super) fn admit(
        &mut self,
        cell: &Arc<RequestCell>,
        listens: bool,
        level: Option<Level>,
        uris: Vec<Box<str>>,
    ) -> Vec<(&'static str, String)> {
        let request = (Arc::downgrade(cell), listens);
        self.requests.insert(cell.number(), request);
        if let Some(greeting) = &self.greeting {
            cell.call(|exchange, wake| exchange.handle_ready(greeting, wake));
        }
        let mut tell: Vec<_> = level
            .and_then(|level| self.wish(level))
            .into_iter()
            .collect();
        for uri in uris {
            let params = subscription(&uri);
            let count = self.subscriptions.entry(uri).or_default();
            *count += 1;
            if *count == 1 {
                tell.push(("resources/subscribe", params));
            }
        }
        tell
    }

    /// Takes a request out, with its subscriptions. Returns the parameters of those that nobody has any more; `None` when it was not
    /// there.
    pub(super) fn dismiss(&mut self, number: u64, uris: &[Box<str>]) -> Option<Vec<String>> {
        self.requests.remove(&number)?;
        Some(self.unsubscribe(uris))
    }

    /// The requests without a session.
    pub(super) fn requests(&self) -> Vec<Arc<RequestCell>> {
        let all = self.requests.values();
        all.filter_map(|(cell, _)| cell.upgrade()).collect()
    }

    /// Takes a wish for log messages. Returns what the process is to be told, if it writes less.
    fn wish(&mut self, level: Level) -> Option<(&'static str, String)> {
        if self.level.is_some_and(|told| told <= level) {
            return None;
        }
        self.level = Some(level);
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        Some(("logging/setLevel", params))
    }

    fn unsubscribe(&mut self, uris: &[Box<str>]) -> Vec<String> {
        let mut unwanted = Vec::new();
        for uri in uris {
            if let Some(count) = self.subscriptions.get_mut(uri) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.subscriptions.remove(uri);
                    unwanted.push(subscription(uri));
                }
            }
        }
        unwanted
    }

    /// Whom a shared process is at work for, if all of these callers are one.
    fn only_of<'a>(&'a self, callers: &[&'a Asker]) -> Option<Only<'a>> {
        let mut all = callers.iter().filter_map(|caller| match caller {
            Asker::Session(session, _) => Some(Err(session)),
            Asker::Request(request) => Some(Ok(request)),
            Asker::Nobody => None,
        });
        match all.next()? {
            Ok(only) => all
                .all(|other| other.is_ok_and(|other| other.ptr_eq(only)))
                .then_some(Only::Request(only)),
            Err(only) => {
                let is_only = all.all(|other| other.is_err_and(|other| other.ptr_eq(only)));
                let number = only.upgrade().filter(|_| is_only)?.number;
                self.sessions.get(&number).map(Only::Session)
            }
        }
    }

    /// Whom the process can be at work for, if that is one.
    fn only(&self) -> Option<Only<'_>> {
        let asking = self.requests.values().filter(|(_, listens)| !listens);
        let asking = asking.map(|(request, _)| Only::Request(request));
        let is_busy = |attached: &&Attached| {
            // A process of its own may be at work for its session without a request.
            !self.is_shared
                || attached
                    .session
                    .upgrade()
                    .is_some_and(|cell| cell.machine.lock().open_requests() > 0)
        };
        let sessions = self.sessions.values().filter(is_busy).map(Only::Session);
        let mut all = asking.chain(sessions);
        match (all.next(), all.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// Parameters of a subscription to a resource, whose URI is JSON.
fn subscription(uri: &str) -> String {
    format!(r#"{{"uri":{uri}}}"#)
}

/// What follows from the deliveries of one call.
#[derive(Default)]
pub(super) struct Delivered {
    pub(super) wake: Vec<Waker>,
    /// Lines for the process.
    pub(super) replies: Vec<String>,
    /// Sessions that have ended by it.
    pub(super) ended: Vec<Arc<SessionCell>>,
    /// Sessions that have requests for other servers now.
    pub(super) dispatching: Vec<Arc<SessionCell>>,
}

impl Delivered {
    /// Gives a delivery to whom its request belongs to, or to those of the process.
    pub(super) fn take(
        &mut self,
        audience: &mut Audience,
        now: Instant,
        delivery: Delivery<'_, Asker>,
    ) {
        match delivery {
            Delivery::Answer {
                to,
                text,
                id,
                is_kept: _,
            } => match to {
                Asker::Session(session, key) => self.at(&session, |session, wake| {
                    session.handle_answer(now, key, text, id, wake);
                }),
                Asker::Request(request) => self.request(&request, |exchange, wake| {
                    exchange.handle_answer(text, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Failed { to, refusal } => match to {
                Asker::Session(session, key) => self.at(&session, |session, wake| {
                    session.handle_failed(now, key, &refusal, wake);
                }),
                Asker::Request(request) => self.request(&request, |exchange, wake| {
                    exchange.handle_failed(&refusal, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Progress { to, text, token } => match to {
                Asker::Session(session, key) => self.at(session, |session, wake| {
                    session.handle_progress(now, *key, text, token, wake);
                }),
                Asker::Request(request) => self.request(request, |exchange, wake| {
                    exchange.handle_progress(text, token, wake);
                }),
                Asker::Nobody => {}
            },
            Delivery::Ready { result, again } => {
                audience.greeting = Some(result.into());
                self.each(audience, |session, at, wake| {
                    session.handle_ready(now, at, result, again, wake);
                });
                self.each_request(audience, |exchange, wake| {
                    exchange.handle_ready(result, wake)
                });
            }
            Delivery::NotReady(refusal) => {
                self.each(audience, |session, at, wake| {
                    session.handle_not_ready(now, at, &refusal, wake);
                });
                self.each_request(audience, |exchange, wake| {
                    exchange.handle_failed(&refusal, wake);
                });
            }
            Delivery::Asked {
                of,
                text,
                id,
                method,
            } => self.ask((audience, of), now, text, id, method),
            Delivery::Withdrawn { text, id } => {
                self.each(audience, |session, at, wake| {
                    session.handle_withdrawn(now, at, text, id, wake);
                });
                self.each_request(audience, |exchange, _| exchange.handle_withdrawn(id));
            }
            Delivery::Notified {
                text,
                method,
                callers,
            } => {
                let only = if audience.is_shared {
                    audience.only_of(&callers)
                } else {
                    audience.only()
                };
                self.notify(audience, now, text, method, only);
            }
            Delivery::Gone { .. } => {
                audience.greeting = None;
                self.each(audience, |session, at, wake| {
                    session.handle_gone(now, at, wake)
                });
                self.each_request(audience, |exchange, _| exchange.handle_gone());
            }
        }
    }

    /// Calls one session, if it is still there.
    fn at(
        &mut self,
        session: &Weak<SessionCell>,
        call: impl FnOnce(&mut Session, &mut Vec<Waker>),
    ) {
        let Some(cell) = session.upgrade() else {
            return;
        };
        let mut session = cell.machine.lock();
        call(&mut session, &mut self.wake);
        let has_ended = session.state() == session::State::Ended;
        let has_dispatches = session.has_dispatches();
        drop(session);
        if has_ended {
            self.ended.push(cell);
        } else if has_dispatches {
            self.dispatching.push(cell);
        }
    }

    /// Calls one request, if it is still there.
    fn request(
        &mut self,
        request: &Weak<RequestCell>,
        call: impl FnOnce(&mut Exchange, &mut Vec<Waker>),
    ) {
        if let Some(cell) = request.upgrade() {
            call(&mut cell.machine.lock(), &mut self.wake);
        }
    }

    /// Calls each session of the process.
    fn each(
        &mut self,
        audience: &Audience,
        mut call: impl FnMut(&mut Session, Attachment, &mut Vec<Waker>),
    ) {
        for attached in audience.sessions.values() {
            self.at(&attached.session, |session, wake| {
                call(session, attached.at, wake);
            });
        }
    }

    /// Calls each request without a session.
    fn each_request(
        &mut self,
        audience: &Audience,
        mut call: impl FnMut(&mut Exchange, &mut Vec<Waker>),
    ) {
        for (request, _) in audience.requests.values() {
            self.request(request, &mut call);
        }
    }

    /// Tells what the process tells to all. A log message that several callers could have caused goes to none of them.
    fn notify(
        &mut self,
        audience: &Audience,
        now: Instant,
        text: &str,
        method: &str,
        only: Option<Only<'_>>,
    ) {
        let params = || JsonValue::read(text).and_then(|all| all.member("params"));
        if let Some(Only::Request(only)) = &only {
            self.request(only, |exchange, wake| {
                exchange.handle_notified(text, method, wake)
            });
        }
        for (request, _) in audience.requests.values().filter(|(_, listens)| *listens) {
            self.request(request, |exchange, wake| {
                exchange.handle_notified(text, method, wake)
            });
        }
        let uri = params().and_then(|params| params.member("uri"));
        let level = params().and_then(|params| Level::named(&params.member("level")?.text()?));
        let mut tell = |attached: &Attached| {
            self.at(&attached.session, |session, wake| {
                session.handle_notified(now, attached.at, text, method, wake);
            });
        };
        match method {
            _ if !audience.is_shared => audience.sessions.values().for_each(tell),
            "notifications/message" => {
                if let Some(Only::Session(attached)) = only
                    && level.is_some_and(|level| level >= attached.level.unwrap_or(Level::Info))
                {
                    tell(attached);
                }
            }
            "notifications/resources/updated" => {
                let wants = |attached: &&Attached| {
                    uri.is_some_and(|uri| attached.uris.iter().any(|own| is_same(own, uri)))
                };
                audience.sessions.values().filter(wants).for_each(tell);
            }
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => audience.sessions.values().for_each(tell),
            // It is somebody's, and nothing says whose.
            _ => {}
        }
    }

    /// Gives a request of the process to whom it belongs: it names a request that is open, or there is only one that it can be for.
    /// Where there are several, nothing says whom it is for, and the sessions of a shared process cannot be asked.
    fn ask(
        &mut self,
        (audience, of): (&Audience, Option<&Asker>),
        now: Instant,
        text: &str,
        id: JsonValue<'_>,
        method: &str,
    ) {
        let why = "no client of this process can be asked";
        let mut reply = Err(Json::error(id, METHOD_NOT_FOUND, why));
        let (whom, key) = match of {
            Some(Asker::Session(session, key)) => {
                let mut sessions = audience.sessions.values();
                let own = sessions.find(|attached| attached.session.ptr_eq(session));
                (own.map(Only::Session), Some(*key))
            }
            Some(Asker::Request(request)) => (Some(Only::Request(request)), None),
            Some(Asker::Nobody) => (None, None),
            None => (audience.only(), None),
        };
        match whom {
            Some(Only::Request(only)) => self.request(only, |exchange, wake| {
                reply = exchange.handle_asked(now, text, id, method, wake);
            }),
            Some(Only::Session(only)) if !audience.is_shared => {
                self.at(&only.session, |session, wake| {
                    reply = session.handle_asked(now, only.at, key, text, id, wake);
                });
            }
            Some(Only::Session(_)) | None => {}
        }
        self.replies.extend(reply.err());
    }
}

/// True for two strings, both JSON, that stand for the same text.
fn is_same(left: &str, right: JsonValue<'_>) -> bool {
    left == right.get() || JsonValue::read(left).and_then(JsonValue::text) == right.text()
}
