//! Subscriptions to resources: who is told when one changes, and when files are looked at.

use crate::definition::Source;
use crate::failure::Failure;
use crate::json::quoted;
use crate::registry::Registry;
use crate::store::{Key, Kind};
use mcp_local_provider_core::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Time between two looks at a file.
const LOOK: Duration = Duration::from_secs(2);
/// Subscriptions in all.
const MOST: usize = 10_000;

/// One subscriber: a stream, or a session of MCP. The caller chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriberId(pub u64);

/// A resource that is another than before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Updated {
    /// Its URI.
    pub uri: Arc<str>,
    /// Its `ETag`, where it was read; else it is to be read anew.
    pub etag: Option<Arc<str>>,
    /// Those who want to know.
    pub subscribers: Vec<SubscriberId>,
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

#[derive(Debug, Default)]
struct Watched {
    subscribers: BTreeSet<SubscriberId>,
    etag: Option<Arc<str>>,
    /// The next look; `None` for what need not be looked at.
    look: Option<Instant>,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    watched: BTreeMap<Arc<str>, Watched>,
    count: usize,
}

impl Subscriptions {
    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}

impl Registry {
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
        let watched = self.subscriptions.watched.entry(uri.into()).or_default();
        if watched.subscribers.insert(subscriber) {
            self.subscriptions.count += 1;
        }
        if matches!(resource.source, Source::File(_)) && watched.look.is_none() {
            watched.look = Some(now + LOOK);
        }
        Ok(())
    }

    /// Ends one subscription.
    pub fn unsubscribe(&mut self, uri: &str, subscriber: SubscriberId) {
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
    }

    /// Returns when to call [`Registry::looks`].
    #[must_use]
    pub fn poll_look(&self) -> Option<Instant> {
        let watched = self.subscriptions.watched.values();
        watched.filter_map(|it| it.look).min()
    }

    /// Gives the resources to look at: read each with [`Registry::read_anew`], and hand its `ETag` to [`Registry::looked`].
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

    /// A subscribed resource was read. Gives those to tell, when it is another than the last time.
    pub fn looked(&mut self, uri: &str, etag: &Arc<str>) -> Option<Updated> {
        let (uri, watched) = self.subscriptions.watched.get_key_value(uri)?;
        let uri = uri.clone();
        let before = watched.etag.clone();
        let watched = self.subscriptions.watched.get_mut(&uri)?;
        watched.etag = Some(etag.clone());
        if before.is_none_or(|before| before == *etag) {
            return None;
        }
        Some(Updated {
            uri,
            etag: Some(etag.clone()),
            subscribers: watched.subscribers.iter().copied().collect(),
        })
    }

    /// Those to tell of entries that a change has touched, once it is durable.
    pub fn updated(&mut self, keys: &[Key]) -> Vec<Updated> {
        let mut all = Vec::new();
        for key in keys {
            if !matches!(key.kind, Kind::Resource | Kind::ResourceTemplate) {
                continue;
            }
            let watched = self.subscriptions.watched.iter_mut();
            for (uri, watched) in watched {
                let same = match key.kind {
                    Kind::Resource => **uri == *key.name,
                    Kind::ResourceTemplate | Kind::Tool | Kind::Prompt | Kind::Integration => {
                        let template = crate::uri_template::UriTemplate::read(&key.name);
                        template.is_ok_and(|it| it.take(uri).is_some())
                    }
                };
                if same {
                    watched.etag = None;
                    all.push(Updated {
                        uri: uri.clone(),
                        etag: None,
                        subscribers: watched.subscribers.iter().copied().collect(),
                    });
                }
            }
        }
        all
    }
}
