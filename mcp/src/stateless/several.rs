//! A request of a client of revision 2026-07-28 for servers that stand under one address, as requests for each of them.
//!
//! Nothing is remembered from one request to the next. First the servers that may be meant say what they have; where a name does not
//! tell the server, their lists are read, which the gateway keeps. Then the request goes to its server, or to all of them, and
//! their answers are joined as those of a session are.

#[cfg(test)]
mod tests;

use super::check::Wanted;
use super::exchange::{Ending, Step};
use super::listening::Listeners;
use super::raise;
use crate::catalogue::{Asked, Catalogue, Edits, Kind, Listing, Route, united};
use crate::envelope::untracked;
use crate::refusal::{Reason, Refusal};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use mcp_local_provider_core::rpc::{Call, Json, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// `serverInfo` of an answer that is of several servers.
pub(crate) const OWN: &str = concat!(
    "{\"name\":\"mcp-local-provider\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"}"
);

/// Pages of one server that are read to find a name.
const PAGES: usize = 100;

/// The error of a server whose answer has no result.
const NO_RESULT: &str = "{\"code\":-32603,\"message\":\"the answer has no result\"}";

/// Number of a part of a request. It is never used twice in that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartId(u64);

/// A part of a request: a request of the same revision, for one server.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number.
    pub id: PartId,
    /// The place of the server.
    pub at: usize,
    /// The whole message.
    pub text: String,
}

/// Reasons for a part.
#[derive(Clone, Copy)]
pub(super) enum Whole {
    /// The server says what it has.
    Greeting,
    /// Its names are read, of which so many pages were before.
    Names(Kind, usize),
    /// Its page of a list is wanted.
    Page { is_first: bool },
    /// The request is for this server alone.
    Only(Asked),
    /// It tells what changes.
    Listening,
}

/// The answer to the client by which a request fails: status, message, and seconds after which another try may succeed.
type Failure = (u16, String, Option<u64>);

/// A request for several servers.
pub struct Several {
    pub(super) catalogue: Catalogue,
    /// As the client wrote it.
    pub(super) id: Box<str>,
    method: Box<str>,
    text: Arc<str>,
    /// `_meta` of a part that is no client's request.
    meta: Box<str>,
    parts: BTreeMap<PartId, (usize, Whole)>,
    last_part: u64,
    /// Parts that are to be begun.
    new: Vec<Part>,
    /// What the servers have said of themselves, by their places.
    greetings: BTreeMap<usize, Box<str>>,
    /// The first error.
    failure: Option<Failure>,
    listing: Option<Listing>,
    pub(super) listeners: Option<Listeners>,
    /// Lists were read to find a name.
    has_learned: bool,
    pub(super) messages: Vec<String>,
    pub(super) ending: Option<Ending>,
}

impl fmt::Debug for Several {
    /// Messages are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Several")
            .field("method", &self.method)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Several {
    /// Begins with a request, whose message is `text`.
    #[must_use]
    pub fn new(now: Instant, wanted: &Wanted<'_>, text: &str, catalogue: Catalogue) -> Self {
        let mut several = Self {
            id: wanted.id.get().into(),
            method: (&*wanted.call.method).into(),
            text: text.into(),
            meta: untracked(wanted.call.meta).into(),
            parts: BTreeMap::new(),
            last_part: 0,
            new: Vec::new(),
            greetings: BTreeMap::new(),
            failure: None,
            listing: None,
            listeners: None,
            has_learned: false,
            messages: Vec::new(),
            ending: None,
            catalogue,
        };
        let concerned = several.catalogue.concerned(&wanted.call);
        for at in &concerned {
            several.greet(*at);
        }
        if concerned.is_empty() {
            several.route(now, &wanted.call);
        }
        several
    }

    /// Takes the parts that are to be begun.
    pub fn take_parts(&mut self) -> Vec<Part> {
        core::mem::take(&mut self.new)
    }

    /// A part could not be begun.
    pub fn handle_refused(&mut self, now: Instant, part: PartId, refusal: &Refusal) {
        let ending = Ending::Answer {
            status: refusal.reason.status(),
            text: refusal.answer(&self.id),
            retry_after: refusal.retry_after_seconds(),
        };
        let step = Step {
            ending: Some(ending),
            ..Step::default()
        };
        self.handle_step(now, part, step);
    }

    /// A part has come further.
    pub fn handle_step(&mut self, now: Instant, part: PartId, step: Step) {
        let Some((at, whole)) = self.parts.get(&part).copied() else {
            return;
        };
        for message in step.messages {
            match whole {
                Whole::Greeting | Whole::Names(..) => {}
                Whole::Page { .. } | Whole::Only(_) => {
                    let message = self.for_client(at, &message);
                    self.messages.push(message);
                }
                Whole::Listening => self.handle_told(at, &message),
            }
        }
        match step.ending {
            None => {}
            Some(Ending::Cut) => self.ending = Some(Ending::Cut),
            Some(Ending::Questions) => {
                // Whoever carries the part has made an answer of them.
                self.parts.remove(&part);
            }
            Some(Ending::Answer {
                status,
                text,
                retry_after,
            }) => {
                self.parts.remove(&part);
                let answer = (status, text, retry_after);
                self.handle_answer(now, at, whole, answer);
            }
        }
    }

    /// Takes what there is for the client.
    pub fn take(&mut self, now: Instant) -> Step {
        self.listen_again(now);
        Step {
            messages: core::mem::take(&mut self.messages),
            ending: self.ending.clone(),
            until: self.listeners.as_ref().and_then(Listeners::next),
        }
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        at: usize,
        whole: Whole,
        (status, text, retry_after): Failure,
    ) {
        let outcome = outcome_of(&text);
        let result = outcome.as_deref().ok().and_then(JsonValue::read);
        match whole {
            Whole::Only(asked) => {
                let text = self.answered(at, asked, &text);
                self.ending = Some(Ending::Answer {
                    status,
                    text,
                    retry_after,
                });
            }
            Whole::Listening => self.handle_silent(now, at, result.is_some()),
            Whole::Greeting => {
                match result {
                    Some(result) => {
                        self.catalogue.handle_ready(at, result);
                        self.greetings.insert(at, result.get().into());
                    }
                    None => {
                        self.failure = self.failure.take().or(Some((status, text, retry_after)))
                    }
                }
                if self.listeners.is_some() {
                    return self.handle_greeted(now, at);
                }
                if self.parts.is_empty() {
                    self.handle_all_greeted(now);
                }
            }
            Whole::Page { is_first } => {
                if let Some(listing) = &mut self.listing {
                    match (result, &outcome) {
                        (Some(result), _) => {
                            let kind = listing.kind();
                            let page = self.catalogue.page(at, kind, result, is_first);
                            listing.handle_page(at, page);
                        }
                        (None, Err(error)) => listing.handle_failed(at, error),
                        (None, Ok(_)) => listing.handle_failed(at, NO_RESULT),
                    }
                }
                self.finish_list();
            }
            Whole::Names(kind, pages) => {
                let next = result
                    .and_then(|result| self.catalogue.learn(at, kind, result, pages == 0))
                    .filter(|_| pages < PAGES);
                match next {
                    Some(next) => {
                        let text = self.list_request(kind, Some(&next));
                        self.begin(at, Whole::Names(kind, pages + 1), text);
                    }
                    None => {
                        if result.is_some() {
                            self.catalogue.learned(at, kind);
                        }
                        if self.parts.is_empty() {
                            self.has_learned = true;
                            self.route_again(now);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn begin(&mut self, at: usize, whole: Whole, text: String) {
        self.last_part += 1;
        let id = PartId(self.last_part);
        self.parts.insert(id, (at, whole));
        self.new.push(Part { id, at, text });
    }

    pub(super) fn greet(&mut self, at: usize) {
        let text = self.request("server/discover", None);
        self.begin(at, Whole::Greeting, text);
    }

    /// All servers that may be meant have said what they have, or cannot.
    fn handle_all_greeted(&mut self, now: Instant) {
        if self.greetings.is_empty()
            && let Some((status, text, retry_after)) = self.failure.take()
        {
            self.ending = Some(Ending::Answer {
                status,
                text,
                retry_after,
            });
            return;
        }
        self.route_again(now);
    }

    fn route_again(&mut self, now: Instant) {
        let text = self.text.clone();
        if let Ok(Message::Request { call, .. }) = Message::read(&text) {
            self.route(now, &call);
        }
    }

    fn route(&mut self, now: Instant, call: &Call<'_>) {
        let route = match &*call.method {
            "subscriptions/listen" => return self.listen(now, call),
            "server/discover" if self.catalogue.len() > 1 => return self.discover(),
            "server/discover" => Ok(Route::To(0, Edits::default())),
            _ => self.catalogue.route(call),
        };
        match route {
            Ok(Route::To(at, edits)) => {
                let text = edits.applied(&self.text);
                self.begin(at, Whole::Only(Asked::by(&call.method)), text);
            }
            Ok(Route::List(kind, servers)) => {
                let goes_on = servers.first().is_some_and(|(_, cursor)| cursor.is_some());
                let places = servers.iter().map(|(at, _)| *at);
                self.listing = Some(Listing::new(kind, places, goes_on));
                for (at, cursor) in servers {
                    let is_first = cursor.is_none();
                    let text = self.list_request(kind, cursor.as_deref());
                    self.begin(at, Whole::Page { is_first }, text);
                }
                self.finish_list();
            }
            Ok(Route::Learn(kind, servers)) if !self.has_learned && !servers.is_empty() => {
                for at in servers {
                    let text = self.list_request(kind, None);
                    self.begin(at, Whole::Names(kind, 0), text);
                }
            }
            Ok(Route::Learn(kind, _)) => self.refuse(&Catalogue::unknown(kind)),
            // The revision has no method that all are to do.
            Ok(Route::Each(_)) => {
                let message = "no server here has this method";
                self.refuse(&Refusal::new(Reason::MethodNotFound, message));
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let text = self.text.clone();
        let params = JsonValue::read(&text).and_then(|all| all.member("params"));
        let uri = params.and_then(|params| params.member("uri"));
        let (status, text) = raise::answer(
            &refusal.answer(&self.id),
            &self.id,
            &self.method,
            Some(OWN),
            uri.map(JsonValue::get),
        );
        self.ending = Some(Ending::Answer {
            status,
            text,
            retry_after: None,
        });
    }

    fn discover(&mut self) {
        let named = self.greetings.iter().filter_map(|(at, greeting)| {
            let name: &str = self.catalogue.server(*at)?;
            Some((name, JsonValue::read(greeting)?))
        });
        let results: Vec<_> = named.collect();
        let united = united(&results, results.len() == self.catalogue.len());
        self.ending = Some(Ending::Answer {
            status: 200,
            text: raise::discovered(&self.id, &united),
            retry_after: None,
        });
    }

    fn finish_list(&mut self) {
        let Some(listing) = self.listing.take_if(|listing| listing.is_whole()) else {
            return;
        };
        if let Some(clash) = self.catalogue.clash(listing.kind()) {
            return self.refuse(&clash);
        }
        let text = match listing.result() {
            Ok(result) => {
                raise::result(&self.id, JsonValue::read(&result), &self.method, Some(OWN))
            }
            Err(error) => {
                let id = &self.id;
                format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}")
            }
        };
        self.ending = Some(Ending::Answer {
            status: 200,
            text,
            retry_after: None,
        });
    }

    /// A request of this program, with what the client says of itself.
    pub(super) fn request(&self, method: &str, params: Option<(&str, &str)>) -> String {
        let mut json = Json::new();
        json.raw("{\"jsonrpc\":\"2.0\",\"id\":");
        json.raw(&self.id);
        json.member("method").string(method);
        json.member("params").raw("{");
        if let Some((name, value)) = params {
            json.member(name).raw(value);
        }
        json.member("_meta").raw(&self.meta);
        json.raw("}}");
        json.finish()
    }

    fn list_request(&self, kind: Kind, cursor: Option<&str>) -> String {
        self.request(kind.method(), cursor.map(|cursor| ("cursor", cursor)))
    }

    /// A notification of a server as the client is to see it.
    pub(super) fn for_client(&self, at: usize, text: &str) -> String {
        let mut edits = Edits::default();
        if let Ok(Message::Notification(call)) = Message::read(text)
            && let Some(params) = call.params
        {
            self.catalogue
                .from_server(at, &call.method, params, &mut edits);
        }
        edits.applied(text)
    }

    /// The answer of a server that was asked alone, as the client is to see it.
    fn answered(&mut self, at: usize, asked: Asked, text: &str) -> String {
        let mut edits = Edits::default();
        if let Ok(Message::Response { outcome, .. }) = Message::read(text) {
            self.catalogue.answer(at, asked, &outcome, &mut edits);
        }
        edits.applied(text)
    }
}

/// The outcome in an answer: the result, or the error as JSON.
fn outcome_of(text: &str) -> Result<String, String> {
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
