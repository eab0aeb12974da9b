//! The registry: all entries in memory, by kind and name.

mod cache;
mod change;
pub(crate) mod entry;
mod figures;
mod graph;
mod subscriptions;

pub use cache::{FetchId, Fetched, ReaderId, Reading};
pub use change::{ChangeId, Changed, Imported, Touched};
use figures::Counters;
pub use subscriptions::{News, SubscriberId, Updated};

pub(crate) use change::own_field;

use crate::definition::{Integration, Resource};
use crate::failure::Failure;
use crate::json::{ObjectWriter, array, quoted};
use crate::limits::Limits;
use crate::run::ToolSet;
use crate::store::{Key, Kind, Secret};
use crate::uri_template::Arguments;
use cache::Cache;
use change::Pending;
use data_encoding::BASE64URL_NOPAD;
use entry::{Definition, Entry, word};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use subscriptions::Subscriptions;

/// Most entries of one page.
const PAGE: usize = 1000;

/// All entries, their cache and their figures. One lock is round it; no call waits.
#[derive(Debug)]
pub struct Registry {
    pub(crate) limits: Limits,
    pub(crate) entries: BTreeMap<Key, Arc<Entry>>,
    counts: [usize; 5],
    pub(crate) bytes: usize,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) next_change: u64,
    pub(crate) cache: Cache,
    pub(crate) counters: Counters,
    pub(crate) subscriptions: Subscriptions,
}

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    /// Entries, each as JSON.
    pub(crate) items: Vec<Box<str>>,
    pub(crate) total: usize,
    pub(crate) next: Option<String>,
}

const fn place(kind: Kind) -> usize {
    match kind {
        Kind::Tool => 0,
        Kind::Resource => 1,
        Kind::ResourceTemplate => 2,
        Kind::Prompt => 3,
        Kind::Integration => 4,
    }
}

impl Registry {
    /// Makes an empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            cache: Cache::new(&limits),
            limits,
            entries: BTreeMap::new(),
            counts: [0; 5],
            bytes: 0,
            pending: VecDeque::new(),
            next_change: 0,
            counters: Counters::default(),
            subscriptions: Subscriptions::default(),
        }
    }

    /// Its limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes other limits, of a configuration that was read anew. What is over them stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.cache.set_limits(&limits);
        self.limits = limits;
    }

    /// True when nothing is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of tools that are on.
    #[must_use]
    pub fn tools(&self) -> usize {
        let all = self.range(Kind::Tool, None);
        let is_on = |entry: &Entry| matches!(&entry.definition, Definition::Tool(it) if it.enabled);
        all.filter(|(_, entry)| is_on(entry)).count()
    }

    /// Entries of a kind; templates count as resources.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let of = |kind: Kind| self.counts.get(place(kind)).copied().unwrap_or(0);
        match kind {
            Kind::Tool | Kind::Prompt | Kind::Integration => of(kind),
            Kind::Resource | Kind::ResourceTemplate => {
                of(Kind::Resource) + of(Kind::ResourceTemplate)
            }
        }
    }

    /// Puts an entry in its place, or takes it away; gives what was there.
    pub(crate) fn put(&mut self, key: &Key, entry: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        let more = usize::from(entry.is_some());
        let bytes = entry.as_ref().map_or(0, |it| it.bytes());
        let old = match entry {
            Some(entry) => self.entries.insert(key.clone(), entry),
            None => self.entries.remove(key),
        };
        if let Some(count) = self.counts.get_mut(place(key.kind)) {
            *count = (*count + more).saturating_sub(usize::from(old.is_some()));
        }
        let less = old.as_ref().map_or(0, |it| it.bytes());
        self.bytes = (self.bytes + bytes).saturating_sub(less);
        old
    }

    /// Finds an entry; a resource may be a template by the same name.
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Result<(Key, Arc<Entry>), Failure> {
        let kinds: &[Kind] = match kind {
            Kind::Resource | Kind::ResourceTemplate => &[Kind::Resource, Kind::ResourceTemplate],
            Kind::Tool => &[Kind::Tool],
            Kind::Prompt => &[Kind::Prompt],
            Kind::Integration => &[Kind::Integration],
        };
        for kind in kinds {
            let key = Key {
                kind: *kind,
                name: name.into(),
            };
            if let Some(entry) = self.entries.get(&key) {
                return Ok((key, entry.clone()));
            }
        }
        let (what, reason) = word(kind);
        let message = format!("there is no {what} {}", quoted(name));
        Err(Failure::not_found(reason, message))
    }

    /// A tool as it is now, with all that it runs.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn tool_set(&self, name: &str) -> Result<ToolSet, Failure> {
        let root = graph::tool(&self.entries, name).cloned();
        let Some(root) = root else {
            let message = format!("there is no tool {}", quoted(name));
            return Err(Failure::not_found("tool_not_found", message));
        };
        let mut others = BTreeMap::new();
        let mut open = vec![root.clone()];
        while let Some(tool) = open.pop() {
            for step in tool.action.steps().1 {
                if let Some(inner) = graph::tool(&self.entries, &step.tool)
                    && others.insert(step.tool.clone(), inner.clone()).is_none()
                {
                    open.push(inner.clone());
                }
            }
        }
        Ok(ToolSet { root, others })
    }

    /// The resource with a URI, or the template that it fits, with the values of its names.
    pub(crate) fn resource(
        &self,
        uri: &str,
    ) -> Option<(Key, Arc<Entry>, Arc<Resource>, Arguments)> {
        let key = Key {
            kind: Kind::Resource,
            name: uri.into(),
        };
        let of = |entry: &Arc<Entry>| match &entry.definition {
            Definition::Resource(resource) => Some(resource.clone()),
            Definition::Tool(_) | Definition::Prompt(_) | Definition::Integration(_) => None,
        };
        if let Some(entry) = self.entries.get(&key) {
            return Some((key, entry.clone(), of(entry)?, Arguments::default()));
        }
        self.range(Kind::ResourceTemplate, None)
            .find_map(|(key, entry)| {
                let resource = of(entry)?;
                let arguments = resource.template.as_ref()?.take(uri)?;
                Some((key.clone(), entry.clone(), resource, arguments))
            })
    }

    /// The integration of a model `integration/ID`, by its id.
    ///
    /// # Errors
    /// There is none, or it is disabled.
    pub fn integration(&self, id: &str) -> Result<Arc<Integration>, Failure> {
        let (_, entry) = self.find(Kind::Integration, id)?;
        match &entry.definition {
            Definition::Integration(it) => it.check_enabled().map(|()| it.clone()),
            Definition::Tool(_) | Definition::Resource(_) | Definition::Prompt(_) => {
                let message = format!("there is no integration {}", quoted(id));
                Err(Failure::not_found("integration_not_found", message))
            }
        }
    }

    /// The key for the provider of an integration's model.
    #[must_use]
    pub fn api_key(&self, id: &str) -> Option<Secret> {
        let (_, entry) = self.find(Kind::Integration, id).ok()?;
        entry.secrets.first().map(|(_, secret)| secret.clone())
    }

    /// All integrations, by id: the models `integration/ID`.
    pub fn integrations(&self) -> impl Iterator<Item = &Arc<Integration>> {
        let all = self.range(Kind::Integration, None);
        all.filter_map(|(_, entry)| match &entry.definition {
            Definition::Integration(it) => Some(it),
            Definition::Tool(_) | Definition::Resource(_) | Definition::Prompt(_) => None,
        })
    }

    /// Entries of a kind, by name, behind a name.
    pub(crate) fn range(
        &self,
        kind: Kind,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&Key, &Arc<Entry>)> {
        let key = Key {
            kind,
            name: after.unwrap_or_default().into(),
        };
        let from = match after {
            Some(_) => Bound::Excluded(key),
            None => Bound::Included(key),
        };
        let range = self.entries.range((from, Bound::Unbounded));
        range.take_while(move |(key, _)| key.kind == kind)
    }

    /// One page of a list, each entry as `shown` has it; those that it leaves out are not on the page.
    pub(crate) fn page(
        &self,
        kind: Kind,
        limit: usize,
        cursor: Option<&str>,
        shown: impl Fn(&Entry) -> Option<Box<str>>,
    ) -> Result<Page, Failure> {
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let name = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok();
                let name = name.and_then(|it| String::from_utf8(it).ok());
                let message = "`cursor` is none that a list gave as next_cursor";
                Some(name.ok_or_else(|| Failure::wrong_at("cursor", message))?)
            }
        };
        let limit = limit.clamp(1, PAGE);
        let mut items = Vec::new();
        let mut next = None;
        let mut last: Option<&Key> = None;
        for (key, entry) in self.range(kind, after.as_deref()) {
            let Some(item) = shown(entry) else { continue };
            if items.len() == limit {
                next = last.map(|key| BASE64URL_NOPAD.encode(key.name.as_bytes()));
                break;
            }
            items.push(item);
            last = Some(key);
        }
        let total = self.counts.get(place(kind)).copied().unwrap_or(0);
        Ok(Page { items, total, next })
    }
}

impl Page {
    /// As REST answers it.
    pub(crate) fn rest(&self, name: &str) -> String {
        let mut answer = ObjectWriter::new();
        answer.json(name, &array(&self.items));
        answer.plain("total_count", self.total);
        match &self.next {
            Some(next) => answer.text("next_cursor", next),
            None => answer.json("next_cursor", "null"),
        };
        answer.finish()
    }
}
