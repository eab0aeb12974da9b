//! One row for each route, written beside its handler. Roles, dialects of errors, `Allow`, near misses and what a listener
//! serves derive from the rows.

use super::answered::Answered;
use super::completions::CompletionTask;
use super::registry::RegistryTask;
use super::rest::Rest;
use super::status::ProgramStatus;
use super::{Input, Parameters};
use crate::config::{Area, Role};
use crate::dialect::{Dialect, Form};
use crate::error::Refusal;
use crate::hub::lists::Lists;
use crate::hub::metrics::Snapshot;
use crate::hub::{Hub, HubOut};
use crate::scope::Scope;
use crate::time::Instant;
use alloc::boxed::Box;

/// Reads a list or a figure, without any lock.
pub type Read = fn(&Lists, &Input<'_>) -> Result<Answered, Refusal>;
/// Reads a request that changes something, without any lock.
pub type Prepare = fn(&Input<'_>) -> Result<Change, Refusal>;
/// Tells about the running program; the text is the request's `Accept` header.
pub type Report = fn(&Snapshot, &ProgramStatus, Option<&str>) -> Answered;
/// Changes the hub. It runs under the hub's lock: reading the request came before, and writing the answer comes after.
pub type Change =
    Box<dyn FnOnce(&mut Hub, Instant, &mut HubOut) -> Result<Changed, Refusal> + Send>;
/// Gives the answer to a change, once the hub's lock is released.
pub type Changed = Box<dyn FnOnce() -> Answered + Send>;

/// Kinds of work that a route does for a request.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Runs an exchange.
    Ask(Form),
    /// Answers from what the hub told last.
    Read(Read),
    /// Changes the hub.
    Change(Prepare),
    /// Tells about the running program: the engine gathers the figures.
    Report(Report),
    /// Has the program's owner do something.
    Order(Order),
    /// The engine answers.
    Respond(Responder),
    /// The connection becomes a WebSocket.
    Upgrade(Socket),
    /// The headers say all: a browser's preflight.
    Preflight,
}

/// Orders of an operator to the program itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Take the configuration over as it is now.
    Reload,
    /// Take the key file over as it is now.
    ReloadKeys,
    /// Drain and end; given again, end at once.
    Stop,
}

/// Peers on a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Socket {
    /// An agent, whose link it is.
    Agent,
    /// A client of the Model Context Protocol.
    Mcp,
    /// A client of the registry's completions.
    Completion,
}

/// Parts of the engine that answer a route themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Responder {
    /// The tools of a caller, for the agent that answers it.
    CallerTools,
    /// The server that asks clients of the Model Context Protocol, which answer as models: Streamable HTTP.
    McpAgent,
    /// The servers behind the gateway, for clients of the Model Context Protocol: Streamable HTTP.
    Mcp,
    /// The same by HTTP+SSE (revision 2024-11-05): the stream of a session that this opens.
    McpSse,
    /// The same: messages of such a session.
    McpMessages,
    /// The same: the events of a session of any transport.
    McpEvents,
    /// The same, for programs that speak REST.
    Rest(Rest),
    /// The page by which a person tests the same.
    TestPage,
    /// The registry.
    Registry(RegistryTask),
    /// The latest lines of the log.
    Logs,
    /// The registry's completions.
    Completion(CompletionTask),
}

/// Callers that may use a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everyone; or the handler checks a token that is no key.
    Open,
    /// Keys with one of these roles; `Admin` always may.
    Roles(&'static [Role]),
    /// The same, but programs on this machine need no key.
    RolesFromAfar(&'static [Role]),
}

/// The routes that a listening address serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    /// Every route.
    All,
    /// Every route, where programs look for an Ollama (`listen.ollama`): those on this machine may ask without a key, unless
    /// `listen.ollama_auth` is `required`.
    Ollama,
    /// Health and metrics (`listen.metrics`).
    Reports,
}

impl Listener {
    /// True when it serves the route.
    #[must_use]
    pub const fn serves(self, route: &Route) -> bool {
        match self {
            Self::All | Self::Ollama => true,
            Self::Reports => route.monitors,
        }
    }
}

/// `GET`, and what comes with it.
const GET: &[&str] = &["GET", "HEAD"];
const POST: &[&str] = &["POST"];
/// Roles that may use the lists: everyone who has a key.
const ANYONE: &[Role] = &[Role::Client, Role::Bridge, Role::Operator];

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Method and path, for audit and metrics.
    pub name: &'static str,
    /// The methods that it takes, besides `OPTIONS`.
    pub methods: &'static [&'static str],
    /// Its paths, the usual one first. `{name}` stands for one segment, at the end of a path for all that follows, slashes
    /// included. Each path is answered with and without `/v1`.
    pub paths: &'static [&'static str],
    /// The form of its answers and errors.
    pub dialect: Dialect,
    /// Callers that may use it.
    pub access: Access,
    /// Area that the caller's key must be allowed.
    pub area: Option<Area>,
    /// Scope that the session needs.
    pub scope: Option<Scope>,
    /// True when its body is to be read.
    pub body: bool,
    /// True when it tells how the program does, so that the listener of `listen.metrics` serves it.
    pub monitors: bool,
    /// True when it is served while the provider drains.
    pub drains: bool,
    /// The work that it does.
    pub handler: Handler,
    /// Names of parameters of the query, one of which a request has to have; any query will do where there are none.
    pub(super) query: &'static [&'static str],
    /// True when one of its paths has a parameter.
    pub(super) has_parameters: bool,
    /// The first segments of its paths.
    pub(super) firsts: Segments,
}

impl Route {
    const fn new(
        name: &'static str,
        methods: &'static [&'static str],
        paths: &'static [&'static str],
        handler: Handler,
    ) -> Self {
        Self {
            name,
            methods,
            paths,
            dialect: Dialect::OpenAi,
            access: Access::Roles(ANYONE),
            area: None,
            scope: None,
            body: false,
            monitors: false,
            drains: false,
            handler,
            query: &[],
            has_parameters: has_parameters(paths),
            firsts: Segments::of_all(paths),
        }
    }

    /// `POST` with a body: an agent answers.
    #[must_use]
    pub const fn ask(name: &'static str, paths: &'static [&'static str], form: Form) -> Self {
        Self {
            scope: Some(Scope::Inference),
            ..Self::new(name, POST, paths, Handler::Ask(form))
                .with_body()
                .in_dialect(form.dialect)
                .for_roles(&[Role::Client])
                .in_area(Area::Models)
        }
    }

    /// `GET`: a list or a figure.
    #[must_use]
    pub const fn read(name: &'static str, paths: &'static [&'static str], read: Read) -> Self {
        Self::new(name, GET, paths, Handler::Read(read))
    }

    /// `POST` with a body: a change of the hub.
    #[must_use]
    pub const fn change(
        name: &'static str,
        paths: &'static [&'static str],
        prepare: Prepare,
    ) -> Self {
        Self::new(name, POST, paths, Handler::Change(prepare)).with_body()
    }

    /// `POST` without a body: an order of an operator.
    #[must_use]
    pub const fn order(name: &'static str, paths: &'static [&'static str], order: Order) -> Self {
        Self::new(name, POST, paths, Handler::Order(order)).for_roles(&[Role::Operator])
    }

    /// `GET`: figures of the running program.
    #[must_use]
    pub const fn report(
        name: &'static str,
        paths: &'static [&'static str],
        report: Report,
    ) -> Self {
        Self::new(name, GET, paths, Handler::Report(report)).monitoring()
    }

    /// A route that the engine answers by itself.
    #[must_use]
    pub const fn engine(
        name: &'static str,
        methods: &'static [&'static str],
        paths: &'static [&'static str],
        handler: Handler,
    ) -> Self {
        Self::new(name, methods, paths, handler).open()
    }

    /// With other methods.
    #[must_use]
    pub const fn by(self, methods: &'static [&'static str]) -> Self {
        Self { methods, ..self }
    }

    /// For requests whose query has one of these parameters.
    #[must_use]
    pub const fn with_query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    /// `POST`, with a body.
    #[must_use]
    pub const fn by_post(self) -> Self {
        self.by(POST).with_body()
    }

    /// With a body that is to be read.
    #[must_use]
    pub const fn with_body(self) -> Self {
        Self { body: true, ..self }
    }

    /// In that dialect.
    #[must_use]
    pub const fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// For keys with one of these roles.
    #[must_use]
    pub const fn for_roles(self, roles: &'static [Role]) -> Self {
        let access = Access::Roles(roles);
        Self { access, ..self }
    }

    /// For keys with one of these roles, and for every program on this machine.
    #[must_use]
    pub const fn for_roles_from_afar(self, roles: &'static [Role]) -> Self {
        let access = Access::RolesFromAfar(roles);
        Self { access, ..self }
    }

    /// For keys that are allowed this area.
    #[must_use]
    pub const fn in_area(self, area: Area) -> Self {
        Self {
            area: Some(area),
            ..self
        }
    }

    /// For everyone.
    #[must_use]
    pub const fn open(self) -> Self {
        let access = Access::Open;
        Self { access, ..self }
    }

    /// Served by the listener of `listen.metrics` too.
    #[must_use]
    pub const fn monitoring(self) -> Self {
        Self {
            monitors: true,
            ..self
        }
    }

    /// Served while the provider drains: it tells of that, or open work needs it.
    #[must_use]
    pub const fn while_draining(self) -> Self {
        Self {
            drains: true,
            ..self
        }
    }

    /// Returns the form in which its request is read; `None` when no agent answers.
    #[must_use]
    pub const fn form(&self) -> Option<&Form> {
        match &self.handler {
            Handler::Ask(form) => Some(form),
            Handler::Read(_)
            | Handler::Change(_)
            | Handler::Report(_)
            | Handler::Order(_)
            | Handler::Respond(_)
            | Handler::Upgrade(_)
            | Handler::Preflight => None,
        }
    }

    /// The pattern among its paths that a path fits, without `/v1` in both.
    pub(super) fn pattern_of(&self, path: &str) -> Option<&'static str> {
        let patterns = self.paths.iter().map(|pattern| bare(pattern));
        let mut patterns = patterns.filter(|pattern| {
            if self.has_parameters {
                Parameters::fits(pattern, path)
            } else {
                *pattern == path
            }
        });
        patterns.next()
    }
}

/// A path without the `/v1` before it, with which and without which each route is answered.
pub(super) fn bare(path: &str) -> &str {
    match path.strip_prefix("/v1").unwrap_or(path) {
        "" => "/",
        rest if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// First segments of paths, without `/v1`, each in one of 64 sets: where two are in different sets, their paths differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segments(u64);

impl Segments {
    /// Number of sets.
    pub(super) const SETS: usize = 64;

    /// That of a path, with or without `/v1`.
    pub(super) const fn of(path: &str) -> Self {
        let mut rest = match path.as_bytes() {
            [b'/', b'v', b'1', b'/', rest @ ..] | [b'/', rest @ ..] => rest,
            other => other,
        };
        // FNV-1a, whose highest bits depend on every byte.
        let mut hash: u32 = 0x811c_9dc5;
        while let [byte, more @ ..] = rest {
            match *byte {
                b'/' => break,
                // It may be any segment.
                b'{' => return Self(u64::MAX),
                byte => hash = (hash ^ byte as u32).wrapping_mul(0x0100_0193),
            }
            rest = more;
        }
        Self(1 << (hash >> 26))
    }

    const fn of_all(mut paths: &[&str]) -> Self {
        let mut all = 0;
        while let [path, rest @ ..] = paths {
            all |= Self::of(path).0;
            paths = rest;
        }
        Self(all)
    }

    /// True when one may be in this set.
    pub(super) const fn has(self, set: usize) -> bool {
        self.0 >> set & 1 == 1
    }

    /// The first set with one of them.
    pub(super) const fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }
}

const fn has_parameters(mut paths: &[&str]) -> bool {
    while let [path, rest @ ..] = paths {
        let mut bytes = path.as_bytes();
        while let [byte, more @ ..] = bytes {
            if *byte == b'{' {
                return true;
            }
            bytes = more;
        }
        paths = rest;
    }
    false
}
