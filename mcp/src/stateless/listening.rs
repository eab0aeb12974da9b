//! `subscriptions/listen` for several servers: one acknowledgement, and then what each of them tells.
//!
//! A server that is not there is left out, and asked again after a while. When it has come its lists are told to have changed, since they
//! belong to those of all.

use super::exchange::{Ending, same};
use super::several::{OWN, Several, Whole};
use super::{put, raise};
use crate::catalogue::Kind;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use mcp_local_provider_core::rpc::{Call, Json, Message};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::Instant;

/// Time after which a server that is not there is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// Lists whose changes may be told, with their names in a request to listen.
const LISTS: [(Kind, &str); 3] = [
    (Kind::Tools, "toolsListChanged"),
    (Kind::Prompts, "promptsListChanged"),
    (Kind::Resources, "resourcesListChanged"),
];

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// The state of a request to listen to several servers.
pub(super) struct Listeners {
    /// Lists whose changes the client wants to hear of.
    lists: Vec<(Kind, &'static str)>,
    /// Resources, as the client wrote them.
    uris: Vec<Box<str>>,
    /// Servers that have not acknowledged it, nor failed.
    awaited: BTreeSet<usize>,
    /// Servers that come late, whose lists are new then.
    late: BTreeSet<usize>,
    /// Resources that are honored, as JSON.
    honored: Vec<String>,
    /// Messages behind the acknowledgement; `None` when that was told.
    held: Option<Vec<String>>,
    /// Servers that are asked again.
    again: BTreeMap<usize, Instant>,
}

impl Listeners {
    pub(super) fn next(&self) -> Option<Instant> {
        self.again.values().min().copied()
    }
}

impl Several {
    /// Begins to listen to all servers. Those that are down have been asked what they have, and are asked again.
    pub(super) fn listen(&mut self, now: Instant, call: &Call<'_>) {
        let wanted = call
            .params
            .and_then(|params| params.member("notifications"));
        let wants = |name: &str| {
            let value = wanted.and_then(|wanted| wanted.member(name));
            value.is_some_and(|value| value.get() == "true")
        };
        let uris = wanted.and_then(|wanted| wanted.member("resourceSubscriptions"));
        let uris = uris.map(JsonValue::elements).unwrap_or_default();
        let uris = uris.iter().filter(|uri| uri.as_str().is_some());
        self.listeners = Some(Listeners {
            lists: LISTS.into_iter().filter(|(_, name)| wants(name)).collect(),
            uris: uris.map(|uri| uri.get().into()).collect(),
            awaited: BTreeSet::new(),
            late: BTreeSet::new(),
            honored: Vec::new(),
            held: Some(Vec::new()),
            again: BTreeMap::new(),
        });
        for at in 0..self.catalogue.len() {
            if self.catalogue.is_down(at) {
                self.put_off(now, at);
            } else {
                self.listen_to(at);
            }
        }
        self.acknowledge();
    }

    fn listen_to(&mut self, at: usize) {
        let Some(listeners) = &mut self.listeners else {
            return;
        };
        let mut json = Json::new();
        json.raw("{");
        for (_, name) in &listeners.lists {
            json.member(name).raw("true");
        }
        let uris = listeners.uris.iter();
        let own = uris.filter_map(|uri| self.catalogue.own_uri(at, JsonValue::read(uri)?));
        let own: Vec<String> = own.collect();
        if !own.is_empty() {
            json.member("resourceSubscriptions")
                .raw(&format!("[{}]", own.join(",")));
        }
        json.raw("}");
        let wanted = json.finish();
        if wanted == "{}" {
            return;
        }
        listeners.awaited.insert(at);
        let text = self.request("subscriptions/listen", Some(("notifications", &wanted)));
        self.begin(at, Whole::Listening, text);
    }

    /// A server that is to be listened to has said what it has, or cannot.
    pub(super) fn handle_greeted(&mut self, now: Instant, at: usize) {
        if self.catalogue.is_down(at) {
            self.put_off(now, at);
        } else {
            self.listen_to(at);
        }
    }

    /// A server tells something to those who listen.
    pub(super) fn handle_told(&mut self, at: usize, message: &str) {
        let text = self.for_client(at, message);
        let Ok(Message::Notification(call)) = Message::read(message) else {
            return;
        };
        if call.method == ACKNOWLEDGED {
            return self.handle_acknowledged(at, &call);
        }
        match self.listeners.as_mut().map(|listeners| &mut listeners.held) {
            Some(Some(held)) => held.push(text),
            Some(None) | None => self.messages.push(text),
        }
    }

    fn handle_acknowledged(&mut self, at: usize, call: &Call<'_>) {
        let uris = call
            .params
            .and_then(|params| params.path(&["notifications", "resourceSubscriptions"]));
        let uris = uris.map(JsonValue::elements).unwrap_or_default();
        let Some(listeners) = &mut self.listeners else {
            return;
        };
        listeners.awaited.remove(&at);
        // In the words of the client.
        for uri in &listeners.uris {
            let own = JsonValue::read(uri).and_then(|uri| self.catalogue.own_uri(at, uri));
            if own.is_some_and(|own| uris.iter().any(|uri| same(&own, *uri))) {
                listeners.honored.push(uri.as_ref().into());
            }
        }
        if listeners.late.remove(&at) {
            let has = |kind: &Kind| self.catalogue.offers(at, kind.capability());
            let changed = listeners.lists.iter().filter(|(kind, _)| has(kind));
            let changed = changed.map(|(kind, _)| {
                let method = format!("notifications/{}/list_changed", kind.capability());
                raise::tagged(&method, None, &self.id)
            });
            match &mut listeners.held {
                Some(held) => held.extend(changed),
                None => self.messages.extend(changed),
            }
        }
        self.acknowledge();
    }

    /// Tells the client that it is listened for, once all have said so who are there.
    fn acknowledge(&mut self) {
        let Some(listeners) = self.listeners.as_mut() else {
            return;
        };
        if !listeners.awaited.is_empty() {
            return;
        }
        let Some(held) = listeners.held.take() else {
            return;
        };
        let mut json = Json::new();
        json.raw("{\"notifications\":{");
        let places = || 0..self.catalogue.len();
        for (kind, name) in &listeners.lists {
            // A list of all changes with the servers that are there.
            let has = |at: usize| {
                self.catalogue.is_down(at) || self.catalogue.offers(at, kind.capability())
            };
            if places().any(has) {
                put(&mut json, name, "true");
            }
        }
        if !listeners.honored.is_empty() {
            let uris = format!("[{}]", listeners.honored.join(","));
            put(&mut json, "resourceSubscriptions", &uris);
        }
        json.raw("}}");
        let text = json.finish();
        let told = raise::tagged(ACKNOWLEDGED, JsonValue::read(&text), &self.id);
        self.messages.push(told);
        self.messages.extend(held);
    }

    /// A server tells nothing any more: by the will of this program where `is_over`, and else since it is gone.
    pub(super) fn handle_silent(&mut self, now: Instant, at: usize, is_over: bool) {
        if is_over {
            return self.handle_over();
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.awaited.remove(&at);
        }
        self.put_off(now, at);
        self.acknowledge();
    }

    /// The client is told nothing any more, by the will of this program.
    pub fn handle_over(&mut self) {
        self.ending = Some(Ending::Answer {
            status: 200,
            text: raise::listened(&self.id, Some(OWN)),
            retry_after: None,
        });
    }

    fn put_off(&mut self, now: Instant, at: usize) {
        if let Some(listeners) = &mut self.listeners {
            listeners.late.insert(at);
            listeners.again.insert(at, now + AGAIN);
        }
    }

    /// Asks servers again that were not there.
    pub(super) fn listen_again(&mut self, now: Instant) {
        let Some(listeners) = &mut self.listeners else {
            return;
        };
        let due = listeners.again.iter().filter(|(_, at)| **at <= now);
        let due: Vec<usize> = due.map(|(at, _)| *at).collect();
        for at in due {
            if let Some(listeners) = &mut self.listeners {
                listeners.again.remove(&at);
            }
            self.greet(at);
        }
    }
}
