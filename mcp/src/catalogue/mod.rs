//! Servers under one address: which of them a request goes to, and how clients know what they have.
//!
//! One server under its own address is passed through. Where there are several, the names of tools and prompts have the server's
//! name before them, and are looked up in [`Table`]s; URIs and the ids of tasks begin with it ([`UriPrefix`]); lists are those of
//! all servers, one after the other ([`Listing`]). Messages stay texts, in which values are replaced where they stand ([`Edits`]).

mod edits;
mod kinds;
mod lists;
pub mod names;
mod opening;
mod places;
#[cfg(test)]
mod tests;
pub mod uris;

pub use edits::Edits;
pub use kinds::Kind;
pub use lists::{Listing, Page};
pub use opening::united;
pub use places::Asked;

use crate::config::{Prefix, Server, ToolFilter};
use crate::refusal::{Reason, Refusal};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use edits::quoted;
use mcp_local_provider_core::rpc::{Call, RpcError};
use mcp_local_provider_core::text::JsonValue;
use names::{Found, Table, joined};
use places::Places;
use uris::UriPrefix;

/// Capabilities of servers that requests are sent by.
const CAPABILITIES: [&str; 5] = ["tools", "prompts", "resources", "tasks", "logging"];

/// One server of a catalogue.
#[derive(Clone, Debug)]
struct Source {
    server: Arc<str>,
    /// Text before the names of its tools and prompts.
    names: Option<Arc<str>>,
    uris: Option<UriPrefix>,
    tools: ToolFilter,
    /// Those of [`CAPABILITIES`] that it has; `None` as long as it has not said.
    offers: Option<[bool; CAPABILITIES.len()]>,
}

impl Source {
    fn offers(&self, capability: &str) -> bool {
        let at = CAPABILITIES.iter().position(|name| *name == capability);
        at.zip(self.offers)
            .is_some_and(|(at, offers)| offers.get(at) == Some(&true))
    }

    /// The name that clients know.
    fn public<'n>(&self, own: &'n str) -> Cow<'n, str> {
        match &self.names {
            Some(prefix) => Cow::Owned(joined(prefix, own)),
            None => Cow::Borrowed(own),
        }
    }
}

/// The way of a client's request.
#[derive(Debug)]
pub enum Route<'t> {
    /// To the server at this place, with changes.
    To(usize, Edits<'t>),
    /// To several servers, whose pages become one list. Each has its cursor, as JSON string.
    List(Kind, Vec<(usize, Option<String>)>),
    /// To these servers, each of which is to do it.
    Each(Vec<usize>),
    /// To none as yet: first the lists of these servers are to be read.
    Learn(Kind, Vec<usize>),
}

/// The servers of a session, in their order, with what is known of them.
#[derive(Clone, Debug)]
pub struct Catalogue {
    sources: Vec<Source>,
    tools: Table,
    prompts: Table,
}

impl Catalogue {
    /// Makes the catalogue of the address of all servers: of these, in their order.
    #[must_use]
    pub fn of_all(prefix: Prefix, servers: &[&Server]) -> Self {
        let is_prefixed = match prefix {
            Prefix::Auto => servers.len() > 1,
            Prefix::Always => true,
            Prefix::Never => false,
        };
        let has_uris = is_prefixed || servers.len() > 1;
        Self::new(servers.iter().map(|server| Source {
            server: server.name.clone(),
            names: is_prefixed.then(|| server.prefix().clone()),
            uris: has_uris.then(|| UriPrefix::new(server.prefix())),
            tools: server.tools.clone(),
            offers: None,
        }))
    }

    /// Makes the catalogue of a server's own address.
    #[must_use]
    pub fn of_one(server: &Server) -> Self {
        Self::of_all(Prefix::Never, &[server])
    }

    fn new(sources: impl Iterator<Item = Source>) -> Self {
        let sources: Vec<Source> = sources.collect();
        Self {
            tools: Table::new(sources.len()),
            prompts: Table::new(sources.len()),
            sources,
        }
    }

    /// Returns the number of servers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sources.len()
    }

    /// Returns true when there is no server.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Returns the name of the server at a place.
    #[must_use]
    pub fn server(&self, at: usize) -> Option<&Arc<str>> {
        self.sources.get(at).map(|source| &source.server)
    }

    /// Returns true when the messages of the server at a place pass as they are.
    #[must_use]
    pub fn is_plain(&self, at: usize) -> bool {
        self.sources.get(at).is_none_or(|source| {
            source.names.is_none() && source.uris.is_none() && source.tools.is_open()
        })
    }

    /// Returns true when the server at a place has this capability.
    #[must_use]
    pub fn offers(&self, at: usize, capability: &str) -> bool {
        let source = self.sources.get(at);
        source.is_some_and(|source| source.offers(capability))
    }

    /// Returns true when the server at a place has not answered `initialize` yet.
    #[must_use]
    pub fn is_down(&self, at: usize) -> bool {
        let source = self.sources.get(at);
        source.is_some_and(|source| source.offers.is_none())
    }

    /// Returns the error for a name of which nobody knows.
    #[must_use]
    pub fn unknown(kind: Kind) -> Refusal {
        match kind {
            Kind::Prompts => Refusal::new(Reason::PromptNotFound, "there is no such prompt here"),
            Kind::Tools | Kind::Resources | Kind::Templates | Kind::Tasks => {
                Refusal::new(Reason::ToolNotFound, "there is no such tool here")
            }
        }
    }

    /// The server at a place has answered `initialize` with this.
    pub fn handle_ready(&mut self, at: usize, result: JsonValue<'_>) {
        let capabilities = result.member("capabilities");
        let has = |name| capabilities.is_some_and(|all| all.member(name).is_some());
        if let Some(source) = self.sources.get_mut(at) {
            source.offers = Some(CAPABILITIES.map(has));
        }
        for kind in Kind::ANNOUNCED {
            self.handle_changed(at, kind);
        }
    }

    /// The server at a place has told that its list of a kind has changed.
    pub fn handle_changed(&mut self, at: usize, kind: Kind) {
        if let Some(table) = self.table_mut(kind) {
            table.set_whole(at, false);
        }
    }

    /// Returns the places of the servers that a client's request may be for.
    #[must_use]
    pub fn concerned(&self, call: &Call<'_>) -> Vec<usize> {
        let param = |name: &str| call.params.and_then(|params| params.member(name));
        let of = param("ref");
        let (name, uri) = match &*call.method {
            "tools/call" | "prompts/get" => (param("name"), None),
            "resources/read" => (None, param("uri")),
            "completion/complete" => (
                of.and_then(|of| of.member("name")),
                of.and_then(|of| of.member("uri")),
            ),
            _ => (None, None),
        };
        let name = name.and_then(JsonValue::text);
        let all = 0..self.sources.len();
        let chosen = all.filter(|at| {
            name.as_ref().is_none_or(|name| self.may_have(*at, name))
                && uri.is_none_or(|uri| self.own_uri(*at, uri).is_some())
        });
        chosen.collect()
    }

    /// Returns the URI that the server at a place knows, for one that clients know, as JSON string. `None` when it is another's.
    #[must_use]
    pub fn own_uri(&self, at: usize, uri: JsonValue<'_>) -> Option<String> {
        match &self.sources.get(at)?.uris {
            Some(prefix) => prefix.take(uri),
            None => Some(uri.get().into()),
        }
    }

    /// Returns the URI that clients know, for one that the server at a place knows. Both are JSON strings.
    #[must_use]
    pub fn shown_uri(&self, at: usize, uri: JsonValue<'_>) -> String {
        let source = self.sources.get(at);
        let prefix = source.and_then(|source| source.uris.as_ref());
        let shown = prefix.and_then(|prefix| prefix.put(uri));
        shown.unwrap_or_else(|| uri.get().into())
    }

    /// Returns true when a tool or prompt of the server at a place may have this name.
    fn may_have(&self, at: usize, name: &str) -> bool {
        self.sources.get(at).is_some_and(|source| {
            let prefix = source.names.as_ref();
            // One that is cut has its prefix still.
            prefix.is_none_or(|prefix| {
                let rest = name.strip_prefix(&**prefix);
                rest.is_some_and(|rest| rest.starts_with("__"))
            })
        })
    }

    /// Finds the way of a client's request.
    ///
    /// # Errors
    /// No server has what it names.
    pub fn route<'t>(&self, call: &Call<'t>) -> Result<Route<'t>, Refusal> {
        if self.sources.len() == 1 && self.is_plain(0) {
            return Ok(Route::To(0, Edits::default()));
        }
        let param = |name: &str| call.params.and_then(|params| params.member(name));
        if let Some(kind) = Kind::listed_by(&call.method) {
            return self.list(kind, param("cursor"));
        }
        match &*call.method {
            "tools/call" => self.named(Kind::Tools, param("name")),
            "prompts/get" => self.named(Kind::Prompts, param("name")),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                self.at_uri("uri", param("uri"))
            }
            "tasks/get" | "tasks/result" | "tasks/cancel" => self.at_uri("taskId", param("taskId")),
            "completion/complete" => {
                let of = param("ref");
                let form = of.and_then(|of| of.member("type")?.text());
                match form.as_deref() {
                    Some("ref/prompt") => {
                        self.named(Kind::Prompts, of.and_then(|of| of.member("name")))
                    }
                    _ => self.at_uri("ref.uri", of.and_then(|of| of.member("uri"))),
                }
            }
            "logging/setLevel" if self.sources.len() > 1 => Ok(Route::Each(self.with("logging"))),
            _ if self.sources.len() == 1 => Ok(Route::To(0, Edits::default())),
            method => {
                let message = format!(
                    "`{method}` is not known here; a server that has it can be asked at /servers/NAME/mcp"
                );
                Err(Refusal::new(Reason::MethodNotFound, message))
            }
        }
    }

    /// The places of those that have a capability.
    fn with(&self, capability: &str) -> Vec<usize> {
        let sources = self.sources.iter().enumerate();
        let having = sources.filter(|(_, source)| source.offers(capability));
        having.map(|(at, _)| at).collect()
    }

    fn list<'t>(&self, kind: Kind, cursor: Option<JsonValue<'t>>) -> Result<Route<'t>, Refusal> {
        if self.sources.len() == 1 {
            return Ok(Route::To(0, Edits::default()));
        }
        let having = self.with(kind.capability());
        let Some(cursor) = cursor else {
            let parts = having.into_iter().map(|at| (at, None));
            return Ok(Route::List(kind, parts.collect()));
        };
        let (server, own) = lists::take_cursor(cursor)?;
        let mut sources = self.sources.iter();
        let Some(first) = sources.position(|source| *source.server == *server) else {
            let message = "`cursor` is none that this list has given";
            return Err(Refusal::new(Reason::BadParams, message));
        };
        let behind = having.into_iter().filter(|at| *at > first);
        let parts = behind.map(|at| (at, None));
        let parts = [(first, Some(own))].into_iter().chain(parts);
        Ok(Route::List(kind, parts.collect()))
    }

    fn named<'t>(&self, kind: Kind, name: Option<JsonValue<'t>>) -> Result<Route<'t>, Refusal> {
        let Some((value, name)) = name.and_then(|name| Some((name, name.text()?))) else {
            return Err(missing("name"));
        };
        let Some(table) = self.table(kind).filter(|_| self.has_tables()) else {
            let hidden = self
                .sources
                .iter()
                .any(|source| kind == Kind::Tools && !source.tools.allows(&name));
            return if hidden {
                Err(Self::unknown(kind))
            } else {
                Ok(Route::To(0, Edits::default()))
            };
        };
        match table.find(&name, |at| self.offers(at, kind.capability())) {
            Found::One(at, own) => {
                let mut edits = Edits::default();
                if own != name {
                    edits.put(value, quoted(own));
                }
                Ok(Route::To(at, edits))
            }
            Found::Two(one, other) => Err(self.clashing(kind, &name, one, other)),
            Found::Nobody => Err(Self::unknown(kind)),
            Found::NotYet => {
                let known = |at: &usize| !table.is_whole(*at);
                let unread = self.with(kind.capability()).into_iter().filter(known);
                Ok(Route::Learn(kind, unread.collect()))
            }
        }
    }

    fn at_uri<'t>(&self, param: &str, uri: Option<JsonValue<'t>>) -> Result<Route<'t>, Refusal> {
        if let [only] = self.sources.as_slice()
            && only.uris.is_none()
        {
            return Ok(Route::To(0, Edits::default()));
        }
        let Some((value, uri)) = uri.and_then(|uri| Some((uri, uri.text()?))) else {
            return Err(missing(param));
        };
        let mut sources = self.sources.iter().enumerate();
        let found = sources.find_map(|(at, source)| {
            let own = source.uris.as_ref()?.take(value)?;
            Some((at, own))
        });
        let Some((at, own)) = found else {
            let message = format!("no server here has `{uri}`");
            return Err(Refusal::new(Reason::ResourceNotFound, message));
        };
        let mut edits = Edits::default();
        edits.put(value, own);
        Ok(Route::To(at, edits))
    }

    /// Changes the answer of the server at a place to a request that went to it alone.
    pub fn answer<'t>(
        &mut self,
        at: usize,
        asked: Asked,
        outcome: &Result<Option<JsonValue<'t>>, RpcError<'t>>,
        edits: &mut Edits<'t>,
    ) {
        self.places(at, edits, |places| places.outcome(asked, outcome));
        if let (Asked::List(kind), Ok(Some(result))) = (asked, outcome)
            && let Some(array) = result.member(kind.member())
        {
            let elements = self.elements(at, kind, *result);
            edits.put(array, format!("[{elements}]"));
        }
    }

    /// Changes a request or notification of the server at a place.
    pub fn from_server<'t>(
        &self,
        at: usize,
        method: &str,
        params: JsonValue<'t>,
        edits: &mut Edits<'t>,
    ) {
        self.places(at, edits, |places| places.call(method, params));
    }

    /// Changes a client's answer to the server at a place.
    pub fn reply<'t>(&self, at: usize, result: JsonValue<'t>, edits: &mut Edits<'t>) {
        let prefix = self.sources.get(at).and_then(|source| source.uris.as_ref());
        let task = result.path(&["_meta", places::RELATED_TASK, "taskId"]);
        if let (Some(prefix), Some(task)) = (prefix, task)
            && let Some(own) = prefix.take(task)
        {
            edits.put(task, own);
        }
    }

    fn places<'t>(
        &self,
        at: usize,
        edits: &mut Edits<'t>,
        visit: impl FnOnce(&mut Places<'_, '_, 't>),
    ) {
        let prefix = self.sources.get(at).and_then(|source| source.uris.as_ref());
        if let Some(prefix) = prefix {
            visit(&mut Places { prefix, edits });
        }
    }

    /// Takes a page of the server at a place into a list of several. `is_first` when no cursor led to it.
    pub fn page(&mut self, at: usize, kind: Kind, result: JsonValue<'_>, is_first: bool) -> Page {
        let next = result.member("nextCursor");
        let next = next.zip(self.server(at).cloned());
        let next = next.and_then(|(own, server)| lists::cursor(&server, own));
        let is_whole = is_first && next.is_none();
        if is_whole && let Some(table) = self.table_mut(kind) {
            table.clear(at);
        }
        let elements = self.elements(at, kind, result);
        if is_whole && let Some(table) = self.table_mut(kind) {
            table.set_whole(at, true);
        }
        let scope = result.member("cacheScope").and_then(JsonValue::text);
        Page {
            elements,
            next,
            ttl: result.member("ttlMs").and_then(JsonValue::whole),
            is_private: scope.map(|scope| scope != "public"),
            has_type: result.member("resultType").is_some(),
        }
    }

    /// Learns the names of one page of the server at a place; returns the cursor of the next, as JSON.
    pub fn learn(
        &mut self,
        at: usize,
        kind: Kind,
        result: JsonValue<'_>,
        is_first: bool,
    ) -> Option<String> {
        if is_first && let Some(table) = self.table_mut(kind) {
            table.clear(at);
        }
        self.elements(at, kind, result);
        let next = result.member("nextCursor");
        next.filter(|next| next.as_str().is_some())
            .map(|next| next.get().to_string())
    }

    /// All names of a kind of the server at a place are learned, or cannot be.
    pub fn learned(&mut self, at: usize, kind: Kind) {
        if let Some(table) = self.table_mut(kind) {
            table.set_whole(at, true);
        }
    }

    /// Returns the error for a list in which two servers have the same name.
    #[must_use]
    pub fn clash(&self, kind: Kind) -> Option<Refusal> {
        let (name, one, other) = self.table(kind)?.clash()?;
        Some(self.clashing(kind, &name, one, other))
    }

    fn clashing(&self, kind: Kind, name: &str, one: usize, other: usize) -> Refusal {
        let server = |at| self.server(at).map_or("", |server| &**server);
        let message = format!(
            "the servers `{}` and `{}` both have `{name}` among their {}; give one of them another `prefix`, and leave gateway.prefix at `auto`",
            server(one),
            server(other),
            kind.member()
        );
        Refusal::new(Reason::NameClash, message)
    }

    /// The elements of a page as clients are to see them, with commas between. Their names are learned.
    fn elements(&mut self, at: usize, kind: Kind, result: JsonValue<'_>) -> String {
        let array = result.member(kind.member());
        let all = array.map(JsonValue::elements).unwrap_or_default();
        let mut elements = String::with_capacity(array.map_or(0, |array| array.get().len()));
        for element in all {
            if let Some(element) = self.element(at, kind, element) {
                if !elements.is_empty() {
                    elements.push(',');
                }
                elements.push_str(&element);
            }
        }
        elements
    }

    /// An element of a list; `None` when clients do not know of it.
    fn element<'t>(
        &mut self,
        at: usize,
        kind: Kind,
        element: JsonValue<'t>,
    ) -> Option<Cow<'t, str>> {
        let source = self.sources.get(at)?;
        let mut edits = Edits::default();
        self.places(at, &mut edits, |places| places.element(kind, element));
        let has_tables = self.has_tables();
        if let Some(value) = element.member("name")
            && let Some(own) = value.text()
            && let Kind::Tools | Kind::Prompts = kind
        {
            if kind == Kind::Tools && !source.tools.allows(&own) {
                return None;
            }
            let public = source.public(&own);
            if public != own {
                edits.put(value, quoted(&public));
            }
            if has_tables && !self.table_mut(kind)?.learn(at, &public, &own) {
                return None;
            }
        }
        Some(if edits.is_empty() {
            Cow::Borrowed(element.get())
        } else {
            Cow::Owned(edits.applied(element.get()))
        })
    }

    /// A name does not say to which server it belongs, or what that calls it.
    fn has_tables(&self) -> bool {
        self.sources.len() > 1 || self.sources.iter().any(|source| source.names.is_some())
    }

    const fn table(&self, kind: Kind) -> Option<&Table> {
        match kind {
            Kind::Tools => Some(&self.tools),
            Kind::Prompts => Some(&self.prompts),
            Kind::Resources | Kind::Templates | Kind::Tasks => None,
        }
    }

    const fn table_mut(&mut self, kind: Kind) -> Option<&mut Table> {
        match kind {
            Kind::Tools => Some(&mut self.tools),
            Kind::Prompts => Some(&mut self.prompts),
            Kind::Resources | Kind::Templates | Kind::Tasks => None,
        }
    }
}

fn missing(param: &str) -> Refusal {
    Refusal::new(
        Reason::BadParams,
        format!("`params.{param}` is missing, or no string"),
    )
}
