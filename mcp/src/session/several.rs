//! A session with several servers: which of them a request goes to, what goes to all of them, and how they open it together.

#[cfg(test)]
mod tests;

use super::{Attachment, RequestKey, Session, State, answer, with};
use crate::catalogue::{Asked, Catalogue, Edits, Kind, Listing, Route, united};
use crate::greeting::Greeting;
use crate::refusal::{Reason, Refusal};
use crate::revision::Revision;
use crate::streams::{StreamId, Weight};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;
use mcp_local_provider_core::rpc::{Call, Json, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Pages of one server that are read to find a name.
const PAGES: usize = 100;

/// A request that is to be sent to a server.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The server.
    pub to: Attachment,
    /// Number under which its answer is given back.
    pub key: RequestKey,
    /// The message, where it is another one than the client's.
    pub text: Option<Box<str>>,
}

/// A part of a request that goes to several servers.
struct Part {
    at: usize,
    of: Whole,
}

/// Request or reading that a part belongs to.
#[derive(Clone, Copy)]
enum Whole {
    /// The list for a client's request.
    List { of: RequestKey, is_first: bool },
    /// A client's request that each of them is to do.
    Each(RequestKey),
    /// The reading of names, of which so many pages were read before.
    Names(Kind, usize),
}

/// A client's request that each server is to do.
#[derive(Default)]
struct Each {
    left: usize,
    is_done: bool,
    /// The first error as JSON.
    error: Option<Box<str>>,
}

/// Names that are being read, and the requests that wait for them.
#[derive(Default)]
struct Reading {
    left: usize,
    waiting: Vec<(RequestKey, Box<str>)>,
}

/// Knowledge of a session about its servers, and its requests to several of them.
pub(super) struct Several {
    pub(super) catalogue: Catalogue,
    /// Answers of each to `initialize`, until all are there.
    opening: Vec<Option<Result<Box<str>, Refusal>>>,
    parts: BTreeMap<RequestKey, Part>,
    lists: BTreeMap<RequestKey, Listing>,
    each: BTreeMap<RequestKey, Each>,
    names: BTreeMap<Kind, Reading>,
    dispatches: Vec<Dispatch>,
    /// Somebody sends them.
    is_dispatching: bool,
}

impl Several {
    pub(super) fn new(catalogue: Catalogue) -> Self {
        let mut opening = Vec::new();
        opening.resize_with(catalogue.len(), || None);
        Self {
            catalogue,
            opening,
            parts: BTreeMap::new(),
            lists: BTreeMap::new(),
            each: BTreeMap::new(),
            names: BTreeMap::new(),
            dispatches: Vec::new(),
            is_dispatching: false,
        }
    }

    /// Notes how a start has ended. Returns how all have, once they have.
    fn opened(
        &mut self,
        from: Attachment,
        outcome: Result<&str, &Refusal>,
    ) -> Option<Result<String, Refusal>> {
        let place = self.opening.get_mut(usize::from(from.0))?;
        if !matches!(place, Some(Ok(_))) {
            *place = Some(outcome.map(Box::from).map_err(Clone::clone));
        }
        if self.opening.iter().any(Option::is_none) {
            return None;
        }
        let outcomes: Vec<_> = core::mem::take(&mut self.opening)
            .into_iter()
            .flatten()
            .collect();
        if let [Ok(only)] = outcomes.as_slice() {
            return Some(Ok(only.as_ref().into()));
        }
        let named = outcomes.iter().enumerate().filter_map(|(at, outcome)| {
            let result = outcome.as_ref().ok()?;
            Some((&**self.catalogue.server(at)?, JsonValue::read(result)?))
        });
        let results: Vec<_> = named.collect();
        if results.is_empty() {
            return outcomes.into_iter().find_map(Result::err).map(Err);
        }
        Some(Ok(united(&results, results.len() == outcomes.len())))
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.lists.clear();
        self.each.clear();
        self.names.clear();
        self.dispatches.clear();
    }
}

impl Session {
    /// Makes it one with these servers, in the order of their attachments.
    #[must_use]
    pub fn with(mut self, catalogue: Catalogue) -> Self {
        self.several = Several::new(catalogue);
        self
    }

    /// A server is ready; `result` is what it says to `initialize`.
    pub fn handle_ready(
        &mut self,
        now: Instant,
        from: Attachment,
        result: &str,
        again: bool,
        wake: &mut Vec<Waker>,
    ) {
        let value = JsonValue::read(result);
        let catalogue = &mut self.several.catalogue;
        if let Some(value) = value {
            catalogue.handle_ready(usize::from(from.0), value);
        }
        if self.opening.is_some() {
            let opened = self.several.opened(from, Ok(result));
            self.handle_opened(now, opened, wake);
        } else if catalogue.len() > 1 {
            self.announce(now, from, wake);
        } else if again {
            let capabilities = value.and_then(|value| value.member("capabilities"));
            for kind in Kind::ANNOUNCED {
                let name = kind.capability();
                let declared = capabilities.and_then(|all| all.path(&[name, "listChanged"]));
                if declared.is_some_and(|declared| declared.get() == "true") {
                    self.announce_one(now, kind, wake);
                }
            }
        }
    }

    /// A server cannot be started. A session that waits for its last one ends with that.
    pub fn handle_not_ready(
        &mut self,
        now: Instant,
        from: Attachment,
        refusal: &Refusal,
        wake: &mut Vec<Waker>,
    ) {
        if self.opening.is_some() {
            let opened = self.several.opened(from, Err(refusal));
            self.handle_opened(now, opened, wake);
        }
    }

    /// All servers have been started, or could not be.
    fn handle_opened(
        &mut self,
        now: Instant,
        opened: Option<Result<String, Refusal>>,
        wake: &mut Vec<Waker>,
    ) {
        let Some(opened) = opened else { return };
        let Some((id, stream)) = self.opening.take() else {
            return;
        };
        match opened {
            Ok(result) => {
                self.greeting = Some(Ok(Greeting::read(&result)));
                let value = JsonValue::read(&result);
                let version = value.and_then(|value| value.member("protocolVersion"));
                let agreed = version.and_then(|version| Revision::named(&version.text()?));
                self.revision = agreed.unwrap_or(self.revision);
                let result = match (version, self.asked) {
                    (Some(version), Some(asked)) => {
                        self.revision = asked;
                        with(&result, version, &format!("\"{}\"", asked.as_str()))
                    }
                    (Some(_), None) | (None, _) => result,
                };
                self.state = State::Open;
                self.put(now, stream, Weight::Answer, answer(&id, &result), wake);
            }
            Err(refusal) => {
                self.greeting = Some(Err(refusal.clone()));
                self.put(now, stream, Weight::Answer, refusal.answer(&id), wake);
                self.end(wake);
            }
        }
    }

    /// Finds the way of a request that was taken from the client. Returns what is to be sent at once; requests of this session's
    /// own are among [`Session::take_dispatches`] then. One that no server has is answered.
    pub fn route(
        &mut self,
        now: Instant,
        key: RequestKey,
        text: &str,
        call: &Call<'_>,
        wake: &mut Vec<Waker>,
    ) -> Option<Dispatch> {
        self.route_once(now, key, text, call, true, wake)
    }

    fn route_once(
        &mut self,
        now: Instant,
        key: RequestKey,
        text: &str,
        call: &Call<'_>,
        may_read: bool,
        wake: &mut Vec<Waker>,
    ) -> Option<Dispatch> {
        let route = match self.several.catalogue.route(call) {
            Ok(Route::Learn(kind, _)) if !may_read => Err(Catalogue::unknown(kind)),
            route => route,
        };
        match route {
            Ok(Route::To(at, edits)) => {
                let to = Attachment(u16::try_from(at).ok()?);
                let request = self.requests.get_mut(&key)?;
                request.way = Some((to, Asked::by(&call.method)));
                let text = (!edits.is_empty()).then(|| edits.applied(text).into());
                return Some(Dispatch { to, key, text });
            }
            Ok(Route::List(kind, servers)) => {
                let goes_on = servers.first().is_some_and(|(_, cursor)| cursor.is_some());
                let places = servers.iter().map(|(at, _)| *at);
                let listing = Listing::new(kind, places, goes_on);
                self.several.lists.insert(key, listing);
                for (at, cursor) in servers {
                    let is_first = cursor.is_none();
                    let whole = Whole::List { of: key, is_first };
                    self.send(at, whole, list_request(kind, cursor.as_deref()));
                }
                self.finish_list(now, key, wake);
            }
            Ok(Route::Each(servers)) => {
                let left = servers.len();
                let each = Each {
                    left,
                    ..Each::default()
                };
                self.several.each.insert(key, each);
                for at in servers {
                    self.send(at, Whole::Each(key), text.into());
                }
                self.finish_each(now, key, wake);
            }
            Ok(Route::Learn(kind, servers)) => {
                let is_begun = self.several.names.contains_key(&kind);
                let reading = self.several.names.entry(kind).or_default();
                reading.waiting.push((key, text.into()));
                if !is_begun {
                    reading.left = servers.len();
                    for at in servers {
                        self.send(at, Whole::Names(kind, 0), list_request(kind, None));
                    }
                }
            }
            Err(refusal) => self.handle_failed(now, key, &refusal, wake),
        }
        None
    }

    /// Begins to send the requests that are to be sent besides. False when somebody does so already, or there are none. An answer that
    /// is there at once makes further ones, which are sent by the same turn.
    pub const fn begin_dispatches(&mut self) -> bool {
        let begins = self.has_dispatches() && !self.several.is_dispatching;
        self.several.is_dispatching |= begins;
        begins
    }

    /// Takes the requests that are to be sent besides. When there are none, whoever has begun to send them is done.
    pub fn take_dispatches(&mut self) -> Vec<Dispatch> {
        let dispatches = core::mem::take(&mut self.several.dispatches);
        self.several.is_dispatching &= !dispatches.is_empty();
        dispatches
    }

    /// Returns true when there are requests to be sent besides.
    #[must_use]
    pub const fn has_dispatches(&self) -> bool {
        !self.several.dispatches.is_empty()
    }

    /// Returns true when a server has not said yet what it has, and is to be started if it does not run.
    #[must_use]
    pub fn is_missed(&self, at: Attachment) -> bool {
        self.several.catalogue.is_down(usize::from(at.0))
    }

    /// Returns the URI that the client knows, as JSON string, for one that a server knows.
    #[must_use]
    pub fn shown_uri(&self, of: Attachment, uri: &str) -> String {
        let mut json = Json::new();
        json.string(uri);
        let json = json.finish();
        match JsonValue::read(&json) {
            Some(uri) => self.several.catalogue.shown_uri(usize::from(of.0), uri),
            None => json,
        }
    }

    fn send(&mut self, at: usize, of: Whole, text: String) {
        let Ok(place) = u16::try_from(at) else { return };
        self.last_key += 1;
        let key = RequestKey(self.last_key);
        self.several.parts.insert(key, Part { at, of });
        self.several.dispatches.push(Dispatch {
            to: Attachment(place),
            key,
            text: Some(text.into()),
        });
    }

    /// Returns true when this is a part that waits for its answer.
    pub(super) fn has_part(&self, key: RequestKey) -> bool {
        self.several.parts.contains_key(&key)
    }

    /// Takes the answer to a part, if it is one: the result, or the error as JSON.
    pub(super) fn take_part(
        &mut self,
        now: Instant,
        key: RequestKey,
        outcome: impl FnOnce() -> Result<String, String>,
        wake: &mut Vec<Waker>,
    ) -> bool {
        let Some(Part { at, of }) = self.several.parts.remove(&key) else {
            return false;
        };
        let outcome = outcome();
        let result = outcome.as_deref().ok().and_then(JsonValue::read);
        match of {
            Whole::List { of, is_first } => {
                if let Some(listing) = self.several.lists.get_mut(&of) {
                    match (result, &outcome) {
                        (Some(result), _) => {
                            let kind = listing.kind();
                            let page = self.several.catalogue.page(at, kind, result, is_first);
                            listing.handle_page(at, page);
                        }
                        (None, Err(error)) => listing.handle_failed(at, error),
                        (None, Ok(_)) => listing.handle_failed(at, NO_RESULT),
                    }
                    self.finish_list(now, of, wake);
                }
            }
            Whole::Each(of) => {
                if let Some(each) = self.several.each.get_mut(&of) {
                    each.left = each.left.saturating_sub(1);
                    match outcome {
                        Ok(_) => each.is_done = true,
                        Err(error) => {
                            each.error.get_or_insert_with(|| error.into());
                        }
                    }
                    self.finish_each(now, of, wake);
                }
            }
            Whole::Names(kind, pages) => {
                let next = result.and_then(|result| {
                    let catalogue = &mut self.several.catalogue;
                    catalogue.learn(at, kind, result, pages == 0)
                });
                match next {
                    Some(next) if pages < PAGES => {
                        let request = list_request(kind, Some(&next));
                        self.send(at, Whole::Names(kind, pages + 1), request);
                    }
                    Some(_) | None => {
                        if result.is_some() {
                            self.several.catalogue.learned(at, kind);
                        }
                        self.finish_names(now, kind, wake);
                    }
                }
            }
        }
        true
    }

    fn finish_list(&mut self, now: Instant, key: RequestKey, wake: &mut Vec<Waker>) {
        if !self.several.lists.get(&key).is_some_and(Listing::is_whole) {
            return;
        }
        let Some(listing) = self.several.lists.remove(&key) else {
            return;
        };
        if let Some(clash) = self.several.catalogue.clash(listing.kind()) {
            return self.handle_failed(now, key, &clash, wake);
        }
        let outcome = listing.result();
        self.finish(now, key, outcome.as_deref().map_err(|error| *error), wake);
    }

    fn finish_each(&mut self, now: Instant, key: RequestKey, wake: &mut Vec<Waker>) {
        if self.several.each.get(&key).is_none_or(|each| each.left > 0) {
            return;
        }
        match self.several.each.remove(&key) {
            Some(Each {
                is_done: false,
                error: Some(error),
                ..
            }) => self.finish(now, key, Err(&error), wake),
            Some(Each { is_done: true, .. }) => self.finish(now, key, Ok("{}"), wake),
            Some(_) | None => {
                let message = "no server here has this method";
                let refusal = Refusal::new(Reason::MethodNotFound, message);
                self.handle_failed(now, key, &refusal, wake);
            }
        }
    }

    fn finish_names(&mut self, now: Instant, kind: Kind, wake: &mut Vec<Waker>) {
        if let Some(reading) = self.several.names.get_mut(&kind) {
            reading.left = reading.left.saturating_sub(1);
            if reading.left > 0 {
                return;
            }
        }
        let reading = self.several.names.remove(&kind);
        for (key, text) in reading.into_iter().flat_map(|reading| reading.waiting) {
            let Ok(Message::Request { call, .. }) = Message::read(&text) else {
                continue;
            };
            if let Some(mut dispatch) = self.route_once(now, key, &text, &call, false, wake) {
                dispatch.text.get_or_insert_with(|| text.clone());
                self.several.dispatches.push(dispatch);
            }
        }
    }

    /// Answers a request by a result or an error, which are JSON.
    fn finish(
        &mut self,
        now: Instant,
        key: RequestKey,
        outcome: Result<&str, &str>,
        wake: &mut Vec<Waker>,
    ) {
        if let Some(request) = self.requests.remove(&key) {
            self.by_id.remove(&request.id);
            let id = &request.id;
            let text = match outcome {
                Ok(result) => answer(id, result),
                Err(error) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"),
            };
            self.put(now, request.stream, Weight::Answer, text, wake);
        }
    }

    /// A server is there again, or has come late: lists are longer by what it has.
    fn announce(&mut self, now: Instant, from: Attachment, wake: &mut Vec<Waker>) {
        for kind in Kind::ANNOUNCED {
            let catalogue = &self.several.catalogue;
            if catalogue.offers(usize::from(from.0), kind.capability()) {
                self.announce_one(now, kind, wake);
            }
        }
    }

    fn announce_one(&mut self, now: Instant, kind: Kind, wake: &mut Vec<Waker>) {
        let name = kind.capability();
        let method = format!("notifications/{name}/list_changed");
        let changed = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\"}}");
        self.put(now, StreamId::SESSION, Weight::Heavy, changed, wake);
    }

    /// A request or notification of a server as the client is to see it, `id` with `new` in its place.
    pub(super) fn for_client(
        &self,
        from: Attachment,
        text: &str,
        id: Option<(JsonValue<'_>, &str)>,
    ) -> String {
        let at = usize::from(from.0);
        let mut edits = Edits::default();
        if let Some((id, new)) = id {
            edits.put(id, new);
        }
        if !self.several.catalogue.is_plain(at)
            && let Ok(Message::Request { call, .. } | Message::Notification(call)) =
                Message::read(text)
            && let Some(params) = call.params
        {
            let catalogue = &self.several.catalogue;
            catalogue.from_server(at, &call.method, params, &mut edits);
        }
        edits.applied(text)
    }

    /// The client's answer as a server is to see it, with the server's `own` id in the place of `id`.
    #[must_use]
    pub fn for_server(&self, to: Attachment, text: &str, id: JsonValue<'_>, own: &str) -> String {
        let at = usize::from(to.0);
        let mut edits = Edits::default();
        edits.put(id, own);
        if !self.several.catalogue.is_plain(at)
            && let Ok(Message::Response {
                outcome: Ok(Some(result)),
                ..
            }) = Message::read(text)
        {
            self.several.catalogue.reply(at, result, &mut edits);
        }
        edits.applied(text)
    }

    /// The answer of a server to a request that went to it alone, with the client's `own` id in the place of `id`.
    pub(super) fn answer_of(
        &mut self,
        way: Option<(Attachment, Asked)>,
        text: &str,
        id: JsonValue<'_>,
        own: &str,
    ) -> String {
        let mut edits = Edits::default();
        edits.put(id, own);
        if let Some((from, asked)) = way
            && let at = usize::from(from.0)
            && !self.several.catalogue.is_plain(at)
            && let Ok(Message::Response { outcome, .. }) = Message::read(text)
        {
            let catalogue = &mut self.several.catalogue;
            catalogue.answer(at, asked, &outcome, &mut edits);
        }
        edits.applied(text)
    }
}

/// The error of a server whose answer has no result.
const NO_RESULT: &str = "{\"code\":-32603,\"message\":\"the answer has no result\"}";

/// A request for a page of a list. Its id is replaced when it is sent.
fn list_request(kind: Kind, cursor: Option<&str>) -> String {
    let mut json = Json::request(0, kind.method());
    if let Some(cursor) = cursor {
        json.member("cursor").raw(cursor);
    }
    json.end_params()
}

/// The outcome in a server's answer: the result, or the error as JSON.
pub(super) fn outcome_of(text: &str) -> Result<String, String> {
    let message = JsonValue::read(text);
    let member = |name| message.and_then(|message| message.member(name));
    match (
        member("error").filter(|error| !error.is_null()),
        member("result"),
    ) {
        (Some(error), _) => Err(error.get().into()),
        (None, Some(result)) => Ok(result.get().into()),
        (None, None) => Err(NO_RESULT.into()),
    }
}
