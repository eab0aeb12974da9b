//! Subscriptions to resources, and to the lists of MCP: who is to be told of what, and when files are looked at.

use super::change::Touched;
use crate::definition::Source;
use crate::failure::Failure;
use crate::json::quoted;
use crate::registry::Registry;
use crate::store::{Key, Kind};
use crate::uri_template::UriTemplate;
use mcp_local_provider_core::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at a file.
const LOOK: Duration = Duration::from_secs(2);
/// Subscriptions in all.
const MOST: usize = 10_000;

/// One subscriber: a stream, or the registry as an MCP server. The caller chooses it, and never twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriberId(pub u64);

/// A resource that is another than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Updated {
    /// Its URI.
    pub uri: Arc<str>,
    /// Its `ETag`, where that is known; else it is to be read anew.
    pub etag: Option<Arc<str>>,
}

impl Updated {
    /// `data` of the SSE event `updated`.
    #[must_use]
    pub fn event(&self) -> String {
        let mut event = crate::json::ObjectWriter::new();
        event.text("uri", &self.uri);
        match &self.etag {
            Some(etag) => event.text("etag", etag),
            None => event.json("etag", "null"),
        };
        event.finish()
    }
}

/// What a subscriber has not been told yet. A resource that changes twice is in it once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Lists that have changed.
    pub lists: Touched,
    /// Resources that have changed, by their URIs.
    pub updated: Vec<Updated>,
}

#[derive(Debug, Default)]
struct Watched {
    subscribers: BTreeSet<SubscriberId>,
    etag: Option<Arc<str>>,
    /// The next look; `None` for what need not be looked at.
    look: Option<Instant>,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// It wants to know of lists too.
    hears_lists: bool,
    lists: Touched,
    updated: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    watched: BTreeMap<Arc<str>, Watched>,
    count: usize,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    /// Those who have something to be told since they were asked for.
    fresh: BTreeSet<SubscriberId>,
}

impl Subscriptions {
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    fn tell(&mut self, uri: &Arc<str>, etag: Option<&Arc<str>>) {
        let Some(watched) = self.watched.get(uri) else {
            return;
        };
        for id in &watched.subscribers {
            if let Some(subscriber) = self.subscribers.get_mut(id) {
                subscriber.updated.insert(uri.clone(), etag.cloned());
                self.fresh.insert(*id);
            }
        }
    }

    fn tell_of_lists(&mut self, lists: Touched) {
        for (id, subscriber) in &mut self.subscribers {
            if subscriber.hears_lists {
                subscriber.lists.add(lists);
                self.fresh.insert(*id);
            }
        }
    }
}

impl Registry {
    /// Tells a subscriber of changes of the lists from now on.
    pub fn listen(&mut self, subscriber: SubscriberId) {
        let all = &mut self.subscriptions.subscribers;
        all.entry(subscriber).or_default().hears_lists = true;
    }

    /// Tells a subscriber of changes of a resource from now on.
    ///
    /// # Errors
    /// There is no such resource, or there are too many subscriptions.
    pub fn subscribe(
        &mut self,
        now: Instant,
        uri: &str,
        subscriber: SubscriberId,
    ) -> Result<(), Failure> {
        let Some((_, _, resource, _)) = self.resource(uri) else {
            let message = format!("there is no resource {}", quoted(uri));
            return Err(Failure::not_found("resource_not_found", message));
        };
        if self.subscriptions.count >= MOST {
            let message = format!("there are {MOST} subscriptions already");
            return Err(Failure::overloaded(message));
        }
        // Whoever has read it knows the copy: what differs from that is news.
        let known = self.etag(uri);
        let watched = self.subscriptions.watched.entry(uri.into()).or_default();
        if watched.subscribers.is_empty() {
            watched.etag = known;
            watched.look = matches!(resource.source, Source::File(_)).then_some(now);
        }
        if watched.subscribers.insert(subscriber) {
            self.subscriptions.count += 1;
        }
        let all = &mut self.subscriptions.subscribers;
        all.entry(subscriber).or_default();
        Ok(())
    }

    /// Ends one subscription.
    pub fn unsubscribe(&mut self, uri: &str, subscriber: SubscriberId) {
        if let Some(told) = self.subscriptions.subscribers.get_mut(&subscriber) {
            told.updated.remove(uri);
        }
        let Some(watched) = self.subscriptions.watched.get_mut(uri) else {
            return;
        };
        if watched.subscribers.remove(&subscriber) {
            self.subscriptions.count -= 1;
        }
        if watched.subscribers.is_empty() {
            self.subscriptions.watched.remove(uri);
        }
    }

    /// Ends all subscriptions of one who is gone.
    pub fn unsubscribe_all(&mut self, subscriber: SubscriberId) {
        let all = self.subscriptions.watched.iter();
        let own = all.filter(|(_, it)| it.subscribers.contains(&subscriber));
        let own: Vec<Arc<str>> = own.map(|(uri, _)| uri.clone()).collect();
        for uri in own {
            self.unsubscribe(&uri, subscriber);
        }
        self.subscriptions.subscribers.remove(&subscriber);
        self.subscriptions.fresh.remove(&subscriber);
    }

    /// True while a resource is subscribed to.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        self.subscriptions.count > 0
    }

    /// Returns when to call [`Registry::looks`].
    #[must_use]
    pub fn poll_look(&self) -> Option<Instant> {
        let watched = self.subscriptions.watched.values();
        watched.filter_map(|it| it.look).min()
    }

    /// Gives the resources to look at: read each with [`Registry::read_anew`].
    pub fn looks(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (uri, watched) in &mut self.subscriptions.watched {
            if watched.look.is_some_and(|look| look <= now) {
                watched.look = Some(now + LOOK);
                due.push(uri.clone());
            }
        }
        due
    }

    /// Gives those who have something to be told since the call before: wake them.
    pub fn fresh(&mut self) -> BTreeSet<SubscriberId> {
        std::mem::take(&mut self.subscriptions.fresh)
    }

    /// Gives what a subscriber has not been told yet.
    pub fn news(&mut self, subscriber: SubscriberId) -> News {
        let Some(subscriber) = self.subscriptions.subscribers.get_mut(&subscriber) else {
            return News::default();
        };
        let updated = std::mem::take(&mut subscriber.updated).into_iter();
        News {
            lists: std::mem::take(&mut subscriber.lists),
            updated: updated.map(|(uri, etag)| Updated { uri, etag }).collect(),
        }
    }

    /// A resource was read: those who are subscribed hear of it when it is another than the last time.
    pub(crate) fn looked(&mut self, uri: &Arc<str>, etag: &Arc<str>) {
        let Some(watched) = self.subscriptions.watched.get_mut(uri) else {
            return;
        };
        let before = watched.etag.replace(etag.clone());
        if before.is_some_and(|before| before != *etag) {
            self.subscriptions.tell(uri, Some(etag));
        }
    }

    /// Entries are other ones, or as before a change that was not kept: those who are subscribed hear of it.
    pub(crate) fn announce(&mut self, keys: &[Key]) {
        let mut lists = Touched::default();
        keys.iter().for_each(|key| lists.note(key.kind));
        self.subscriptions.tell_of_lists(lists);
        let mut touched: BTreeSet<Arc<str>> = BTreeSet::new();
        for key in keys {
            let template = match key.kind {
                Kind::Resource => None,
                Kind::ResourceTemplate => UriTemplate::read(&key.name).ok(),
                Kind::Tool | Kind::Prompt | Kind::Integration => continue,
            };
            let is_meant = |uri: &str| match &template {
                None => *uri == *key.name,
                Some(template) => template.take(uri).is_some(),
            };
            let uris = self.subscriptions.watched.keys();
            touched.extend(uris.filter(|uri| is_meant(uri)).cloned());
        }
        for uri in touched {
            let is_file = self
                .resource(&uri)
                .is_some_and(|(_, _, resource, _)| matches!(resource.source, Source::File(_)));
            let etag = self.etag(&uri);
            if let Some(watched) = self.subscriptions.watched.get_mut(&uri) {
                watched.etag.clone_from(&etag);
                watched.look = is_file.then_some(Instant::ZERO);
            }
            self.subscriptions.tell(&uri, etag.as_ref());
        }
    }
}
