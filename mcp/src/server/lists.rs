//! Lists of a process that are kept, and given to clients without asking it again.
//!
//! A page holds for as long as the server says with `ttlMs`, else for `gateway.cache_ttl`. It is forgotten when the server tells that its
//! list has changed, and when its process ends. A server without sessions tells that to those who listen alone.

use super::{Open, Server};
use crate::catalogue::Kind;
use crate::envelope::{self, ResultKind};
use crate::revision::Era;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;
use mcp_local_provider_core::budget::{ENTRY_CHARGE, Share};
use mcp_local_provider_core::rpc::{Call, Json, RpcError};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Bytes of the pages that are kept of one process.
const BYTES: usize = 1 << 20;

/// Longest time for which a page is kept, whatever the server says.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A page of a list, as it is asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    /// Capabilities of the client as JSON, where each request tells them to the process.
    capabilities: Box<str>,
    /// As JSON; empty for the first page.
    cursor: Box<str>,
}

/// A page that is kept.
struct Kept {
    /// The result, as the server wrote it.
    result: Box<str>,
    /// `nextCursor`, as JSON.
    next: Option<Box<str>>,
    until: Instant,
}

/// A request for a page, whose answer may be kept.
pub(super) struct Wish {
    place: Place,
    /// Changes of the list before the request.
    changes: u64,
}

/// The pages of one process.
pub(super) struct Lists {
    ttl: Duration,
    /// Several clients have the process.
    is_shared: bool,
    pages: BTreeMap<Place, Kept>,
    bytes: usize,
    share: Option<Share>,
    /// Times that something was forgotten before its end.
    changes: u64,
}

impl Lists {
    pub(super) const fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            is_shared: false,
            pages: BTreeMap::new(),
            bytes: 0,
            share: None,
            changes: 0,
        }
    }

    /// The server has told that a list has changed.
    pub(super) fn handle_changed(&mut self, kind: Kind) {
        self.changes += 1;
        self.drop_where(|place, _| place.kind.capability() == kind.capability());
    }

    /// Forgets all pages.
    pub(super) fn clear(&mut self) {
        self.changes += 1;
        self.drop_where(|_, _| true);
    }

    /// Returns the moment at which a page is too old.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.pages.values().map(|page| page.until).min()
    }

    /// Forgets pages that are too old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.drop_where(|_, page| page.until <= now);
    }

    /// Finds a page, with the time for which it holds.
    fn find(&self, now: Instant, place: &Place) -> Option<(&str, Duration)> {
        let page = self.pages.get(place).filter(|page| page.until > now)?;
        Some((&page.result, page.until.since(now)))
    }

    /// Keeps a page, if it may be kept. Returns the time for which it holds.
    fn keep(&mut self, now: Instant, wish: Wish, result: JsonValue<'_>) -> Option<Duration> {
        let Wish { place, changes } = wish;
        let ttl = match result.member("ttlMs") {
            Some(said) => Duration::from_millis(said.whole().unwrap_or_default()),
            None => self.ttl,
        };
        let scope = result.member("cacheScope").and_then(JsonValue::text);
        let is_anothers = self.is_shared && scope.is_some_and(|scope| scope != "public");
        if ttl.is_zero() || is_anothers || changes != self.changes {
            return None;
        }
        let mut until = now + ttl.min(LONGEST);
        let is_first = place.cursor.is_empty();
        if is_first {
            // The pages behind the one that it replaces belong to that.
            self.drop_where(|other, _| {
                other.kind == place.kind && other.capabilities == place.capabilities
            });
        } else {
            let mut before = self.pages.iter().filter(|(other, page)| {
                other.kind == place.kind
                    && other.capabilities == place.capabilities
                    && page.next.as_deref() == Some(&*place.cursor)
            });
            until = until.min(before.next()?.1.until);
        }
        let next = result.member("nextCursor").map(JsonValue::get);
        let page = Kept {
            result: result.get().into(),
            next: next.map(Box::from),
            until,
        };
        let cost = charge(&place, &page);
        if cost > BYTES {
            return None;
        }
        while self.bytes + cost > BYTES {
            let oldest = self.next_end()?;
            self.drop_where(|_, page| page.until <= oldest);
        }
        self.bytes += cost;
        if let Some(old) = self.pages.insert(place.clone(), page) {
            self.bytes -= charge(&place, &old);
        }
        if !self.hold() {
            self.drop_where(|_, _| true);
            return None;
        }
        Some(until.since(now))
    }

    fn drop_where(&mut self, is_over: impl Fn(&Place, &Kept) -> bool) {
        let mut freed = 0;
        self.pages.retain(|place, page| {
            let stays = !is_over(place, page);
            if !stays {
                freed += charge(place, page);
            }
            stays
        });
        if freed > 0 {
            self.bytes -= freed;
            self.hold();
        }
    }

    /// Counts the pages to the memory of the program. False when there is too little of it.
    fn hold(&mut self) -> bool {
        let bytes = self.bytes;
        self.share.as_mut().is_none_or(|share| share.hold(bytes))
    }
}

impl<T: Clone> Server<T> {
    /// Counts the lists that are kept to a memory budget. `is_shared` says that several clients have the process: a list is not kept then
    /// which the server calls private.
    #[must_use]
    pub fn keeping(mut self, share: Share, is_shared: bool) -> Self {
        self.lists.share = Some(share);
        self.lists.is_shared = is_shared;
        self
    }

    /// Reads a request for a page of a list. `None` for one whose answer may depend on more than the list.
    pub(super) fn wish(&self, form: Era, call: &Call<'_>) -> Option<Wish> {
        let kind = Kind::listed_by(&call.method).filter(|kind| *kind != Kind::Tasks)?;
        let cursor = call.params.and_then(|params| params.member("cursor"));
        let members = call.params.map(JsonValue::members).unwrap_or_default();
        let mut names = members.iter().map(|(name, _)| name);
        let is_plain = names.all(|name| name.is("cursor") || name.is("_meta"));
        let meta = envelope::plain_meta(call.meta)?;
        let capabilities = meta.filter(|_| form == Era::Stateless);
        is_plain.then(|| Wish {
            place: Place {
                kind,
                capabilities: capabilities.map(JsonValue::get).unwrap_or_default().into(),
                cursor: cursor.map(JsonValue::get).unwrap_or_default().into(),
            },
            changes: self.lists.changes,
        })
    }

    /// The page that is kept for a request, as a result in the form of its asker.
    pub(super) fn kept(&self, now: Instant, form: Era, wish: &Wish) -> Option<String> {
        if !self.is_ready() {
            return None;
        }
        let (result, left) = self.lists.find(now, &self.told(&wish.place))?;
        match (form, self.era()) {
            (Era::Stateless, _) => Some(envelope::lasting(JsonValue::read(result)?, left)),
            (Era::Sessions, Era::Stateless) => Some(envelope::result(JsonValue::read(result)?)),
            (Era::Sessions, Era::Sessions) => Some(result.into()),
        }
    }

    /// Takes the wish for a page, and the form of its asker, from a request that waits.
    pub(super) fn page_of(&mut self, number: u64) -> Option<(Option<Box<Wish>>, Era)> {
        match self.peer.get_mut(number)? {
            Open::Call(waiting) => Some((waiting.page.take(), waiting.form)),
            Open::Handshake
            | Open::Listen
            | Open::Round(_)
            | Open::Own
            | Open::Life
            | Open::Withdrawn(_) => None,
        }
    }

    /// Takes the answer to a request for a page, and keeps that. Returns the answer with the time for which the page holds, where its
    /// asker wants to know and the server has not said it.
    pub(super) fn take_page(
        &mut self,
        now: Instant,
        (page, form): (Option<Box<Wish>>, Era),
        id: JsonValue<'_>,
        outcome: &Result<Option<JsonValue<'_>>, RpcError<'_>>,
    ) -> Option<String> {
        let wish = *page?;
        match outcome {
            Ok(Some(result)) => {
                let left = self.keep(now, wish, *result)?;
                let is_unsaid = form == Era::Stateless && result.member("ttlMs").is_none();
                is_unsaid.then(|| {
                    let text = Json::result(id, &envelope::lasting(*result, left));
                    text.trim_end().into()
                })
            }
            Err(_) if !wish.place.cursor.is_empty() => {
                // The cursor is of a page that is kept, and the server does not know it any more.
                self.lists.handle_changed(wish.place.kind);
                None
            }
            Ok(None) | Err(_) => None,
        }
    }

    /// Keeps the page that the process has answered with. Returns the time for which it holds.
    fn keep(&mut self, now: Instant, wish: Wish, result: JsonValue<'_>) -> Option<Duration> {
        let place = self.told(&wish.place);
        let changes = wish.changes;
        let is_told = match self.era() {
            Era::Sessions => true,
            Era::Stateless => {
                let kind = place.kind.capability();
                !self.raising.offers(&[kind, "listChanged"]) || self.raising.listening.is_told()
            }
        };
        if !is_told || ResultKind::of(result) != ResultKind::Complete {
            return None;
        }
        self.lists.keep(now, Wish { place, changes }, result)
    }

    /// A page as this process is asked for it: one with sessions is not told the capabilities of each client.
    fn told(&self, place: &Place) -> Place {
        match self.era() {
            Era::Stateless => place.clone(),
            Era::Sessions => Place {
                capabilities: Box::default(),
                ..place.clone()
            },
        }
    }
}

fn charge(place: &Place, page: &Kept) -> usize {
    let next = page.next.as_ref().map_or(0, |next| next.len());
    place.capabilities.len() + place.cursor.len() + page.result.len() + next + ENTRY_CHARGE
}
