//! Changes of the registry: checked, applied in memory, and taken back when the store does not keep them.

use super::entry::{Definition, Entry, word};
use super::graph;
use crate::export::Exported;
use crate::failure::Failure;
use crate::json::{array, element, quoted, read_body};
use crate::permits::Permits;
use crate::registry::Registry;
use crate::store::{Key, Kind, Record, Value};
use mcp_local_provider_core::text::JsonValue;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One change that waits for the store, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChangeId(u64);

/// Lists of MCP that a change has touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// `notifications/tools/list_changed`.
    pub tools: bool,
    /// `notifications/resources/list_changed`.
    pub resources: bool,
    /// `notifications/prompts/list_changed`.
    pub prompts: bool,
    /// The models that clients see.
    pub models: bool,
}

impl Touched {
    /// Notes a kind of entries that has changed.
    pub(super) const fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Tool => self.tools = true,
            Kind::Resource | Kind::ResourceTemplate => self.resources = true,
            Kind::Prompt => self.prompts = true,
            Kind::Integration => self.models = true,
        }
    }

    /// Adds those of another change.
    pub(super) const fn add(&mut self, other: Self) {
        self.tools |= other.tools;
        self.resources |= other.resources;
        self.prompts |= other.prompts;
        self.models |= other.models;
    }
}

/// A change that was applied in memory. It is to be stored before it is answered: then call [`Registry::durable`], or
/// [`Registry::undo`] when the store failed.
#[derive(Debug)]
pub struct Changed {
    /// For those two calls.
    pub id: ChangeId,
    /// For the store, all or none.
    pub records: Vec<Record>,
    /// Keys of what was made, replaced or deleted.
    pub keys: Vec<Key>,
    /// To announce once it is durable.
    pub touched: Touched,
    /// JSON of the answer.
    pub body: String,
}

/// Result of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries that were not there before.
    pub added: usize,
    /// Entries that took the place of others.
    pub replaced: usize,
}

/// Entries as they were before a change.
#[derive(Debug)]
pub(crate) struct Pending {
    id: ChangeId,
    before: Vec<(Key, Option<Arc<Entry>>)>,
}

/// An entry as it is to be, and the place in the body where it stands.
struct Edit {
    key: Key,
    entry: Option<Arc<Entry>>,
    place: Option<String>,
}

impl Edit {
    fn refused(&self, failure: Failure) -> Failure {
        match &self.place {
            Some(place) => failure.within(place),
            None => failure,
        }
    }
}

impl Registry {
    /// Makes an entry, or all of an array of them.
    ///
    /// # Errors
    /// A definition is wrong, its name is taken, or there is no room. Then nothing is changed.
    pub fn create(
        &mut self,
        kind: Kind,
        body: &[u8],
        permits: &dyn Permits,
    ) -> Result<Changed, Failure> {
        let json = read_body(body)?;
        if !json.get().starts_with('[') {
            let (key, entry) = Entry::read(kind, json, permits, &self.limits, None)?;
            let body = entry.shown().into_owned();
            let entry = Some(Arc::new(entry));
            let edit = Edit {
                key,
                entry,
                place: None,
            };
            return self.make(vec![edit], body);
        }
        let list = json.elements();
        if list.is_empty() {
            return Err(Failure::wrong(
                "the array is empty; send at least one definition",
            ));
        }
        self.check_room(kind, list.len())?;
        let mut edits = Vec::new();
        let mut shown = Vec::new();
        for (at, json) in list.into_iter().enumerate() {
            let place = element("", at);
            let read = Entry::read(kind, json, permits, &self.limits, None);
            let (key, entry) = read.map_err(|failure| failure.within(&place))?;
            shown.push(entry.shown().into_owned());
            edits.push(Edit {
                key,
                entry: Some(Arc::new(entry)),
                place: Some(place),
            });
        }
        self.make(edits, array(shown))
    }

    fn make(&mut self, edits: Vec<Edit>, body: String) -> Result<Changed, Failure> {
        let mut names = BTreeSet::new();
        for edit in &edits {
            let (what, _) = word(edit.key.kind);
            if !names.insert(&edit.key) || self.entries.contains_key(&edit.key) {
                let name = quoted(&edit.key.name);
                let message = format!("there is a {what} {name} already; replace it with PUT");
                let failure = Failure::conflict(message).at(own_field(edit.key.kind));
                return Err(edit.refused(failure));
            }
        }
        self.apply(edits, body)
    }

    /// Replaces an entry.
    ///
    /// # Errors
    /// There is none of this name, or the definition is wrong.
    pub fn replace(
        &mut self,
        kind: Kind,
        name: &str,
        body: &[u8],
        permits: &dyn Permits,
    ) -> Result<Changed, Failure> {
        let (key, before) = self.find(kind, name)?;
        let named = with_name(read_body(body)?, &key)?;
        let json = read_body(named.as_bytes())?;
        let (new, entry) = Entry::read(kind, json, permits, &self.limits, Some(&before))?;
        if new != key {
            let field = own_field(new.kind);
            let message = format!("`{field}` must be {} as in the path", quoted(name));
            return Err(Failure::wrong_at(field, message));
        }
        let body = entry.shown().into_owned();
        let entry = Some(Arc::new(entry));
        let place = None;
        self.apply(vec![Edit { key, entry, place }], body)
    }

    /// Deletes an entry. With `force` also one that others refer to.
    ///
    /// # Errors
    /// There is none of this name, or it is in use.
    pub fn delete(&mut self, kind: Kind, name: &str, force: bool) -> Result<Changed, Failure> {
        let (key, _) = self.find(kind, name)?;
        if !force && let Some(user) = self.user(&key) {
            let (what, _) = word(key.kind);
            let (user_kind, _) = word(user.kind);
            let (name, user) = (quoted(&key.name), quoted(&user.name));
            let message = format!(
                "the {what} {name} is in use by the {user_kind} {user}; delete that first, or add ?force=true"
            );
            return Err(Failure::conflict(message));
        }
        let field = own_field(key.kind);
        let body = format!(
            "{{\"{field}\":{},\"status\":\"deleted\"}}",
            quoted(&key.name)
        );
        let (entry, place) = (None, None);
        self.apply(vec![Edit { key, entry, place }], body)
    }

    /// An entry that refers to another.
    fn user(&self, key: &Key) -> Option<&Key> {
        let uses = |entry: &Entry| entry.references().iter().any(|(_, used)| used == key);
        let mut users = self.entries.iter().filter(|(user, _)| *user != key);
        users.find(|(_, entry)| uses(entry)).map(|(user, _)| user)
    }

    /// Takes the entries of an export, all or none. Those that exist are replaced, or refused; secrets that were not exported stay
    /// as they are.
    ///
    /// # Errors
    /// An entry is wrong, one exists that may not be replaced, or there is no room.
    pub fn import(
        &mut self,
        entries: Vec<Exported>,
        replace: bool,
        permits: &dyn Permits,
    ) -> Result<(Changed, Imported), Failure> {
        let mut edits: Vec<Edit> = Vec::new();
        let mut imported = Imported::default();
        for exported in entries {
            let place = format!("line {}", exported.line);
            let key = exported.record.key.clone();
            let there = self.value(&key);
            if there.is_some() && !replace {
                let (what, _) = word(key.kind);
                let name = quoted(&key.name);
                let message =
                    format!("the {what} {name} exists already; `replace` replaces what exists");
                return Err(Failure::conflict(message).at(place));
            }
            match there {
                Some(_) => imported.replaced += 1,
                None => imported.added += 1,
            }
            let read = self.read_record(exported.onto(there.as_ref()), permits);
            let entry = read.map_err(|failure| failure.within(&place))?;
            edits.push(Edit {
                key,
                entry: Some(Arc::new(entry)),
                place: Some(place),
            });
        }
        let body = format!(
            "{{\"added\":{},\"replaced\":{}}}",
            imported.added, imported.replaced
        );
        Ok((self.apply(edits, body)?, imported))
    }

    fn read_record(&self, record: Record, permits: &dyn Permits) -> Result<Entry, Failure> {
        let value = record.value;
        let value = value.ok_or_else(|| Failure::wrong("the entry has no definition"))?;
        let json = JsonValue::read(&value.json);
        let json = json.ok_or_else(|| Failure::wrong("the definition is not JSON"))?;
        let (key, mut entry) = Entry::read(record.key.kind, json, permits, &self.limits, None)?;
        if key != record.key {
            return Err(Failure::wrong(
                "the definition has another name than its entry",
            ));
        }
        for (field, secret) in value.secrets {
            if entry.secrets.iter().all(|(known, _)| *known != field) {
                entry.secrets.push((field, secret));
            }
        }
        Ok(entry)
    }

    /// All entries as a store has them, by kind and name.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.entries.iter().map(|(key, entry)| entry.record(key))
    }

    /// One entry as a store has it.
    #[must_use]
    pub fn value(&self, key: &Key) -> Option<Value> {
        self.entries.get(key)?.record(key).value
    }

    /// Puts entries in their place, once all of them together make sense.
    fn apply(&mut self, edits: Vec<Edit>, body: String) -> Result<Changed, Failure> {
        let mut touched = Touched::default();
        let mut before = Vec::new();
        let mut records = Vec::new();
        let mut keys = Vec::new();
        for edit in &edits {
            touched.note(edit.key.kind);
            let old = self.put(&edit.key, edit.entry.clone());
            before.push((edit.key.clone(), old));
        }
        if let Err(failure) = self.check(&edits, &before) {
            for (key, entry) in before.into_iter().rev() {
                self.put(&key, entry);
            }
            return Err(failure);
        }
        for edit in edits {
            records.push(match &edit.entry {
                Some(entry) => entry.record(&edit.key),
                None => Record {
                    key: edit.key.clone(),
                    value: None,
                },
            });
            self.cache.forget(&edit.key);
            keys.push(edit.key);
        }
        let id = ChangeId(self.next_change);
        self.next_change += 1;
        self.pending.push_back(Pending { id, before });
        Ok(Changed {
            id,
            records,
            keys,
            touched,
            body,
        })
    }

    /// Checks the registry as it is after edits.
    fn check(&self, edits: &[Edit], before: &[(Key, Option<Arc<Entry>>)]) -> Result<(), Failure> {
        for kind in [Kind::Tool, Kind::Resource, Kind::Prompt, Kind::Integration] {
            let grows = edits.iter().zip(before).any(|(edit, (_, old))| {
                let same = word(edit.key.kind) == word(kind);
                same && edit.entry.is_some() && old.is_none()
            });
            if grows {
                self.check_room(kind, 0)?;
            }
        }
        let grows = edits.iter().any(|edit| edit.entry.is_some());
        if grows && self.bytes > self.limits.bytes {
            let message = format!("all definitions may have {} bytes", self.limits.bytes);
            return Err(Failure::full(message));
        }
        for edit in edits {
            let Some(entry) = &edit.entry else { continue };
            for (place, used) in entry.references() {
                let known = self.entries.contains_key(&used)
                    || (used.kind == Kind::Resource && self.resource(&used.name).is_some());
                if !known {
                    let (what, _) = word(used.kind);
                    let message = format!("there is no {what} {}", quoted(&used.name));
                    return Err(edit.refused(Failure::wrong_at(place, message)));
                }
            }
        }
        let has_steps = |entry: &Option<Arc<Entry>>| match entry.as_ref().map(|it| &it.definition) {
            Some(Definition::Tool(tool)) => graph::runs_tools(tool),
            Some(Definition::Integration(_)) => true,
            Some(Definition::Resource(_) | Definition::Prompt(_)) | None => false,
        };
        let reshapes = edits.iter().any(|it| has_steps(&it.entry))
            || before.iter().any(|(_, old)| has_steps(old));
        if reshapes {
            graph::check(&self.entries).map_err(|wrong| {
                let edit = edits.iter().find(|it| *it.key.name == *wrong.tool);
                // A tool that was there before got too deep by what it runs.
                edit.or(edits.first()).map_or(wrong.failure.clone(), |it| {
                    it.refused(wrong.failure.clone())
                })
            })?;
        }
        Ok(())
    }

    /// Refuses what has no room.
    fn check_room(&self, kind: Kind, more: usize) -> Result<(), Failure> {
        let (what, _) = word(kind);
        let (most, name) = match kind {
            Kind::Tool => (self.limits.tools, "registry.tools"),
            Kind::Resource | Kind::ResourceTemplate => {
                (self.limits.resources, "registry.resources")
            }
            Kind::Prompt => (self.limits.prompts, "registry.prompts"),
            Kind::Integration => (self.limits.integrations, "registry.integrations"),
        };
        if self.count(kind) + more > most {
            let message = format!("there may be {most} {what}s ({name}); delete some first");
            return Err(Failure::full(message));
        }
        Ok(())
    }

    /// The store has kept a change: those who listen and are subscribed hear of it.
    pub fn durable(&mut self, id: ChangeId) {
        let at = self.pending.iter().position(|it| it.id == id);
        if let Some(pending) = at.and_then(|at| self.pending.remove(at)) {
            let keys: Vec<Key> = pending.before.into_iter().map(|(key, _)| key).collect();
            self.announce(&keys);
        }
    }

    /// The store has not kept a change: everything is as if it had not been.
    pub fn undo(&mut self, id: ChangeId) {
        let Some(at) = self.pending.iter().position(|it| it.id == id) else {
            return;
        };
        let Some(pending) = self.pending.remove(at) else {
            return;
        };
        let keys: Vec<Key> = pending.before.iter().map(|(key, _)| key.clone()).collect();
        for (key, entry) in pending.before.into_iter().rev() {
            // A later change of the same entry began from this one: it begins from before it now.
            let later = self.pending.iter_mut().skip(at);
            let mut later = later.flat_map(|it| it.before.iter_mut());
            match later.find(|(later, _)| *later == key) {
                Some((_, before)) => *before = entry,
                None => {
                    self.put(&key, entry);
                    self.cache.forget(&key);
                }
            }
        }
        // A list that was given meanwhile had it.
        self.announce(&keys);
    }

    /// Reads what a store has, at the start. Gives those that cannot be read, each with its reason; they stay in the store.
    pub fn restore(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<(Key, Failure)> {
        let mut unread = Vec::new();
        for record in records {
            let key = record.key.clone();
            match self.read_record(record, &crate::permits::Anything) {
                Ok(entry) => {
                    self.put(&key, Some(Arc::new(entry)));
                }
                Err(failure) => unread.push((key, failure)),
            }
        }
        unread
    }
}

/// The field that names an entry.
pub(crate) const fn own_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Prompt => "name",
        Kind::Resource => "uri",
        Kind::ResourceTemplate => "uri_template",
        Kind::Integration => "integration_id",
    }
}

/// The definition with the name of the path, where it has none itself.
fn with_name(json: JsonValue<'_>, key: &Key) -> Result<String, Failure> {
    let field = own_field(key.kind);
    let has = |name: &str| json.member(name).is_some_and(|it| !it.is_null());
    let is_resource = matches!(key.kind, Kind::Resource | Kind::ResourceTemplate);
    let named = has(field) || (is_resource && (has("uri") || has("uri_template")));
    let inside = json.get().strip_prefix('{');
    let inside = inside.ok_or_else(|| crate::json::must_be("", "an object"))?;
    if named {
        return Ok(json.get().to_owned());
    }
    let mark = if inside.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    Ok(format!("{{\"{field}\":{}{mark}{inside}", quoted(&key.name)))
}
