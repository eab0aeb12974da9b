//! Copies of resources that were read from files and over HTTP, and the fetches that are open: one for all that want it.

use super::entry::Entry;
use crate::definition::{Resource, Source, render_headers};
use crate::failure::Failure;
use crate::json::quoted;
use crate::limits::Limits;
use crate::need::{Body, Contents, HttpNeed, Need, Outcome};
use crate::registry::Registry;
use crate::store::Key;
use crate::template::{Stop, value};
use crate::uri_template::Arguments;
use data_encoding::BASE64;
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::time::{Instant, WallClock};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Time that a fetch may take.
const FETCH: Duration = Duration::from_secs(30);
/// Time for which an old copy is shown beyond its own when its origin fails.
const STALE: Duration = Duration::from_secs(60);
/// Bytes that a kept copy takes beside its content.
const ENTRY: usize = 512;
/// Fetches at once.
const FETCHES: usize = 1024;

/// One fetch, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchId(u64);

/// One read of a resource; the caller chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReaderId(pub u64);

/// Outcome of a read at once.
#[derive(Debug)]
pub enum Reading {
    /// It is over.
    Ready(Result<Contents, Failure>),
    /// Begin this need, and hand its outcome to [`Registry::fetched`]; the reader's end is among what that gives.
    Begin(FetchId, Need),
    /// Another reader's fetch serves this one too.
    Wait(FetchId),
}

/// Ends of reads.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Readers, each with its end.
    pub ready: Vec<(ReaderId, Result<Contents, Failure>)>,
    /// Fetches to end: they took too long.
    pub end: Vec<FetchId>,
}

#[derive(Debug)]
struct Kept {
    contents: Contents,
    key: Key,
    /// True when the origin gave the `ETag`.
    validates: bool,
    fresh_until: Instant,
    used: u64,
}

#[derive(Debug)]
struct Fetch {
    uri: Arc<str>,
    key: Key,
    resource: Arc<Resource>,
    readers: Vec<ReaderId>,
    until: Instant,
    /// False when the definition has changed meanwhile.
    keeps: bool,
}

/// Copies and fetches.
#[derive(Debug)]
pub(crate) struct Cache {
    most: usize,
    ttl: Duration,
    bytes: usize,
    kept: BTreeMap<Arc<str>, Kept>,
    /// Copies by their last use.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    fetches: BTreeMap<FetchId, Fetch>,
    next_fetch: u64,
}

impl Cache {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most: limits.cache_bytes,
            ttl: limits.cache_ttl,
            bytes: 0,
            kept: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            fetches: BTreeMap::new(),
            next_fetch: 0,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        (self.most, self.ttl) = (limits.cache_bytes, limits.cache_ttl);
        self.shrink();
    }

    /// Copies, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }

    /// A definition has changed: its copies are none any more.
    pub(crate) fn forget(&mut self, key: &Key) {
        for fetch in self.fetches.values_mut().filter(|it| it.key == *key) {
            fetch.keeps = false;
        }
        // Any change may take a URI from a template, or give it back to one.
        let gone = self
            .kept
            .iter()
            .filter(|(uri, kept)| kept.key == *key || ***uri == *key.name);
        let gone: Vec<Arc<str>> = gone.map(|(uri, _)| uri.clone()).collect();
        for uri in gone {
            self.drop(&uri);
        }
    }

    fn drop(&mut self, uri: &str) {
        if let Some(kept) = self.kept.remove(uri) {
            self.by_use.remove(&kept.used);
            self.bytes = self.bytes.saturating_sub(kept.contents.body.len() + ENTRY);
        }
    }

    fn shrink(&mut self) {
        while self.bytes > self.most {
            let Some((_, uri)) = self.by_use.pop_first() else {
                break;
            };
            self.drop(&uri);
        }
    }

    fn touch(&mut self, uri: &str) -> Option<&mut Kept> {
        let kept = self.kept.get_mut(uri)?;
        let name = self.by_use.remove(&kept.used)?;
        self.uses += 1;
        kept.used = self.uses;
        self.by_use.insert(self.uses, name);
        Some(kept)
    }

    fn keep(&mut self, kept: Kept) {
        let uri = kept.contents.uri.clone();
        self.drop(&uri);
        let bytes = kept.contents.body.len() + ENTRY;
        if bytes > self.most {
            return;
        }
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, uri.clone());
        let used = self.uses;
        self.kept.insert(uri, Kept { used, ..kept });
        self.shrink();
    }
}

/// An `ETag` of content.
fn etag(body: &[u8]) -> Arc<str> {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}-{:x}\"", hasher.finish(), body.len()).into()
}

impl Registry {
    /// The `ETag` of a resource as it is known here, without a fetch.
    pub(super) fn etag(&self, uri: &str) -> Option<Arc<str>> {
        let (_, entry, resource, arguments) = self.resource(uri)?;
        match own_contents(uri, &entry, &resource, &arguments, &self.limits) {
            Some(own) => own.ok().map(|it| it.etag),
            None => self.cache.kept.get(uri).map(|it| it.contents.etag.clone()),
        }
    }

    /// Reads a resource whose copy may be old: a look at a file, for those who are subscribed. Else as [`Registry::read`].
    pub fn read_anew(
        &mut self,
        now: Instant,
        wall: &WallClock,
        uri: &str,
        reader: ReaderId,
    ) -> Reading {
        if let Some(kept) = self.cache.kept.get_mut(uri) {
            kept.fresh_until = kept.fresh_until.min(now);
        }
        self.read(now, wall, uri, reader)
    }

    /// Reads a resource. `reader` is told of the end by what [`Registry::fetched`] gives, unless it is ready at once.
    pub fn read(&mut self, now: Instant, wall: &WallClock, uri: &str, reader: ReaderId) -> Reading {
        let Some((key, entry, resource, arguments)) = self.resource(uri) else {
            let message = format!("there is no resource {}", quoted(uri));
            return Reading::Ready(Err(Failure::not_found("resource_not_found", message)));
        };
        if let Some(own) = own_contents(uri, &entry, &resource, &arguments, &self.limits) {
            self.counters.hits += 1;
            let fetched_at = Some(wall.rfc3339(now).into());
            return Reading::Ready(own.map(|it| Contents { fetched_at, ..it }));
        }
        if let Some(kept) = self.cache.touch(uri)
            && kept.fresh_until > now
        {
            let contents = Contents {
                cached: true,
                ..kept.contents.clone()
            };
            self.counters.hits += 1;
            return Reading::Ready(Ok(contents));
        }
        self.counters.misses += 1;
        let open = self.cache.fetches.iter_mut();
        let mut open = open.filter(|(_, it)| *it.uri == *uri && it.keeps);
        if let Some((id, fetch)) = open.next() {
            fetch.readers.push(reader);
            return Reading::Wait(*id);
        }
        if self.cache.fetches.len() >= FETCHES {
            let message = format!("{FETCHES} resources are being read already");
            return Reading::Ready(Err(Failure::overloaded(message)));
        }
        let kept = self.cache.kept.get(uri).filter(|it| it.validates);
        let known = kept.map(|it| it.contents.etag.clone());
        let need = match need_of(&resource, &arguments, known.as_deref()) {
            Ok(need) => need,
            Err(Stop::Failed(failure)) => return Reading::Ready(Err(failure)),
            Err(Stop::Error(message)) => return Reading::Ready(Err(Failure::wrong(message))),
        };
        let id = FetchId(self.cache.next_fetch);
        self.cache.next_fetch += 1;
        let fetch = Fetch {
            uri: uri.into(),
            key,
            resource,
            readers: vec![reader],
            until: now + FETCH,
            keeps: true,
        };
        self.cache.fetches.insert(id, fetch);
        Reading::Begin(id, need)
    }

    /// Takes what came of a fetch. One that is not open is passed over.
    pub fn fetched(
        &mut self,
        now: Instant,
        wall: &WallClock,
        id: FetchId,
        outcome: Outcome,
    ) -> Fetched {
        let mut fetched = Fetched::default();
        let Some(fetch) = self.cache.fetches.remove(&id) else {
            return fetched;
        };
        let ttl = fetch.resource.ttl.unwrap_or(self.cache.ttl);
        let end = match self.take(&fetch, now, wall, outcome) {
            Ok((contents, validates)) => {
                if fetch.keeps {
                    self.looked(&fetch.uri, &contents.etag);
                    self.cache.keep(Kept {
                        contents: contents.clone(),
                        key: fetch.key.clone(),
                        validates,
                        fresh_until: now + ttl,
                        used: 0,
                    });
                }
                Ok(contents)
            }
            Err(failure) => {
                let old = self.cache.kept.get(&fetch.uri);
                let old = old.filter(|it| it.fresh_until + STALE > now && fetch.keeps);
                old.map(|it| Contents {
                    cached: true,
                    stale: true,
                    ..it.contents.clone()
                })
                .ok_or(failure)
            }
        };
        let first = fetch.readers.first().copied();
        for reader in fetch.readers {
            let end = end.clone().map(|it| Contents {
                cached: it.cached || Some(reader) != first,
                ..it
            });
            fetched.ready.push((reader, end));
        }
        fetched
    }

    /// Reads what came of a fetch; true with it when the origin's `ETag` is its own.
    fn take(
        &self,
        fetch: &Fetch,
        now: Instant,
        wall: &WallClock,
        outcome: Outcome,
    ) -> Result<(Contents, bool), Failure> {
        let origin = |why: &str| Failure::bad_answer(format!("the resource cannot be read: {why}"));
        let most = self.limits.resource_bytes;
        let large = || {
            origin(&format!(
                "it has more than {most} bytes (registry.resource_bytes)"
            ))
        };
        let (bytes, media, tag) = match outcome {
            Outcome::Http(answer) if answer.status == 304 => {
                let kept = self.cache.kept.get(&fetch.uri);
                let kept = kept.ok_or_else(|| origin("the server says 304 without a reason"))?;
                let contents = Contents {
                    fetched_at: Some(wall.rfc3339(now).into()),
                    ..kept.contents.clone()
                };
                return Ok((contents, kept.validates));
            }
            Outcome::Http(answer) if (200..300).contains(&answer.status) => {
                let tag = answer.etag.filter(|it| is_etag(it));
                (answer.body, answer.content_type, tag)
            }
            Outcome::Http(answer) => {
                return Err(origin(&format!("the server answers {}", answer.status)));
            }
            Outcome::File(bytes) => (bytes, None, None),
            Outcome::Failed(why) => return Err(origin(&why)),
            Outcome::TooLarge => return Err(large()),
            Outcome::TimedOut => return Err(Failure::timeout("the resource did not come in time")),
            Outcome::Exited { .. } | Outcome::Said(_) | Outcome::Called(_) | Outcome::Read(_) => {
                return Err(origin("the answer is none of a resource"));
            }
        };
        if bytes.len() > most {
            return Err(large());
        }
        let validates = tag.is_some();
        let etag = tag.map_or_else(|| etag(&bytes), Into::into);
        let body = match String::from_utf8(bytes) {
            Ok(text) => Body::Text(text.into()),
            Err(bytes) => Body::Bytes(bytes.into_bytes().into()),
        };
        let usual = match &body {
            Body::Text(_) => "text/plain",
            Body::Bytes(_) => "application/octet-stream",
        };
        let given = fetch.resource.mime_type.clone();
        let mime_type = given.or_else(|| media.map(Into::into));
        let contents = Contents {
            uri: fetch.uri.clone(),
            mime_type: mime_type.unwrap_or_else(|| usual.into()),
            body,
            etag,
            fetched_at: Some(wall.rfc3339(now).into()),
            cached: false,
            stale: false,
        };
        Ok((contents, validates))
    }

    /// A reader does not want it any more. Gives the fetch to end, when it was the last one.
    pub fn leave(&mut self, reader: ReaderId) -> Option<FetchId> {
        let mut open = self.cache.fetches.iter_mut();
        let (id, fetch) = open.find(|(_, it)| it.readers.contains(&reader))?;
        fetch.readers.retain(|it| *it != reader);
        let (id, empty) = (*id, fetch.readers.is_empty());
        if empty {
            self.cache.fetches.remove(&id);
        }
        empty.then_some(id)
    }

    /// Returns when to call [`Registry::handle_fetch_timeout`].
    #[must_use]
    pub fn poll_fetch_timeout(&self) -> Option<Instant> {
        self.cache.fetches.values().map(|it| it.until).min()
    }

    /// Ends the fetches that took too long.
    pub fn handle_fetch_timeout(&mut self, now: Instant, wall: &WallClock) -> Fetched {
        let due = self.cache.fetches.iter().filter(|(_, it)| it.until <= now);
        let due: Vec<FetchId> = due.map(|(id, _)| *id).collect();
        let mut all = Fetched::default();
        for id in due {
            let fetched = self.fetched(now, wall, id, Outcome::TimedOut);
            all.ready.extend(fetched.ready);
            all.end.push(id);
        }
        all
    }
}

fn is_etag(text: &str) -> bool {
    let bare = text.strip_prefix("W/").unwrap_or(text);
    bare.len() >= 2
        && bare.starts_with('"')
        && bare.ends_with('"')
        && bare.bytes().all(|it| it.is_ascii_graphic())
}

fn scope_of(arguments: &Arguments) -> minijinja::Value {
    value(&serde_json::json!({ "args": arguments }))
}

/// Content of the definition itself; `None` for one that is read elsewhere.
fn own_contents(
    uri: &str,
    entry: &Entry,
    resource: &Resource,
    arguments: &Arguments,
    limits: &Limits,
) -> Option<Result<Contents, Failure>> {
    let member = |name| JsonValue::read(&entry.json)?.member(name)?.text();
    let body = match &resource.source {
        Source::Text(None) => Ok(Body::Text(member("text")?.into())),
        Source::Text(Some(template)) => match template.text(&scope_of(arguments)) {
            Ok(text) if text.len() > limits.resource_bytes => {
                let most = limits.resource_bytes;
                Err(Failure::template_limit(format!(
                    "the text has more than {most} bytes"
                )))
            }
            Ok(text) => Ok(Body::Text(text.into())),
            Err(trouble) => Err(match trouble.of("text") {
                Stop::Failed(failure) => failure,
                Stop::Error(message) => Failure::wrong(message),
            }),
        },
        Source::Blob => {
            let bytes = BASE64
                .decode(member("blob")?.as_bytes())
                .unwrap_or_default();
            Ok(Body::Bytes(bytes.into()))
        }
        Source::File(_) | Source::Http { .. } => return None,
    };
    Some(body.map(|body| {
        Contents {
            uri: uri.into(),
            mime_type: resource
                .mime_type
                .clone()
                .unwrap_or_else(|| "text/plain".into()),
            etag: match &body {
                Body::Text(text) => etag(text.as_bytes()),
                Body::Bytes(bytes) => etag(bytes),
            },
            body,
            fetched_at: None,
            cached: false,
            stale: false,
        }
    }))
}

/// Need of a fetch.
fn need_of(resource: &Resource, arguments: &Arguments, known: Option<&str>) -> Result<Need, Stop> {
    let scope = scope_of(arguments);
    match &resource.source {
        Source::File(path) => {
            let path = path.text(&scope).map_err(|it| it.of("path"))?;
            if path.contains('\0') {
                return Err(Stop::Error("the path has a zero byte".to_owned()));
            }
            Ok(Need::File(path))
        }
        Source::Http { url, headers } => {
            let mut headers = render_headers(headers, &scope)?;
            if let Some(etag) = known {
                headers.push(("If-None-Match".into(), etag.to_owned()));
            }
            Ok(Need::Http(HttpNeed {
                method: "GET".into(),
                url: url.render(&scope)?,
                headers,
                body: None,
            }))
        }
        Source::Text(_) | Source::Blob => Err(Stop::Error(
            "the definition has the content itself".to_owned(),
        )),
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
