//! REST of the registry: what each request becomes, an answer, a change or a run.

mod answer;
mod body;
mod query;

pub use answer::{Answer, Shown};

use crate::export::{read_export, write_export};
use crate::failure::Failure;
use crate::permits::Permits;
use crate::registry::Registry;
use crate::registry::entry::Entry;
use crate::registry::{Changed, own_field};
use crate::run::Work;
use crate::store::{Key, Kind, Record};
use crate::uri;
use query::Query;

/// Routes. Reading and running are for role client with `allow: registry`, the others for role admin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// `GET /tools` and so on; `GET /resources/templates` is that of [`Kind::ResourceTemplate`].
    List(Kind),
    /// `POST /tools` and so on.
    Create(Kind),
    /// `GET /tools/{name}` and so on; of [`Kind::Resource`] it reads the resource.
    Show(Kind),
    /// `PUT /tools/{name}` and so on.
    Replace(Kind),
    /// `DELETE /tools/{name}` and so on.
    Delete(Kind),
    /// `POST /tools/{name}/execute`.
    Execute,
    /// `POST /prompts/{name}/generate`.
    Generate,
    /// `POST /prompts/{name}/complete`.
    Complete,
    /// `GET /registry/export`, with `?secrets=true` the secrets too: role admin.
    Export,
    /// `POST /registry/rekey {to?}`: role admin.
    Rekey,
    /// `POST /registry/import`, with `?replace=true` in the place of what exists.
    Import,
    /// `POST /resources/{uri}/subscribe`.
    Subscribe,
    /// `DELETE /resources/{uri}/subscribe`.
    Unsubscribe,
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// Its route.
    pub route: Route,
    /// The name or URI of the path, percent-decoded; empty where the route has none.
    pub name: &'r str,
    /// The query of the URL, without `?`.
    pub query: &'r str,
    /// The body.
    pub body: &'r [u8],
    /// `If-None-Match`.
    pub if_none_match: Option<&'r str>,
}

impl std::fmt::Debug for Request<'_> {
    /// Without the body.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// Outcome of a request at once.
#[derive(Debug)]
pub enum Step {
    /// It is answered.
    Answer(Answer),
    /// It is a change: give its records to the store, and answer when they are durable.
    Change(Changed, Answer),
    /// All secrets are to be sealed with a new key of this source, or of the present one: have the store do it.
    Rekey(Option<String>),
    /// It is a run: drive it to its end, which is answered in this form.
    Run(Work, Shown),
    /// It wants to be told of changes of the resource: as events, or in this session of MCP.
    Subscribe(Option<String>),
    /// This session of MCP is to be told no more.
    Unsubscribe(String),
}

impl Registry {
    /// Handles a request.
    ///
    /// # Errors
    /// It is refused. [`Answer::of`] writes the failure.
    pub fn rest(&mut self, request: &Request<'_>, permits: &dyn Permits) -> Result<Step, Failure> {
        let name = request.name;
        match request.route {
            Route::List(kind) => self.list(kind, request.query).map(Step::Answer),
            Route::Create(kind) => {
                let changed = self.create(kind, request.body, permits)?;
                let location = match changed.keys.as_slice() {
                    [key] if !request.body.trim_ascii_start().starts_with(b"[") => {
                        Some(location(key))
                    }
                    _ => None,
                };
                let mut answer = Answer::json(201, changed.body.clone());
                answer.location = location;
                Ok(Step::Change(changed, answer))
            }
            Route::Replace(kind) => {
                let changed = self.replace(kind, name, request.body, permits)?;
                let answer = Answer::json(200, changed.body.clone());
                Ok(Step::Change(changed, answer))
            }
            Route::Delete(kind) => {
                let force = Query::read(request.query)?.flag("force")?;
                let changed = self.delete(kind, name, force)?;
                let answer = Answer::json(200, changed.body.clone());
                Ok(Step::Change(changed, answer))
            }
            Route::Show(Kind::Resource | Kind::ResourceTemplate) => {
                if self.resource(name).is_none() {
                    // A template itself can be looked at, but not read.
                    let (_, entry) = self.find(Kind::ResourceTemplate, name)?;
                    let shown = entry.shown().into_owned();
                    return Ok(Step::Answer(Answer::json(200, shown)));
                }
                let known = request.if_none_match.map(str::to_owned);
                let work = Work::read(name.to_owned());
                Ok(Step::Run(work, Shown::resource(known)))
            }
            Route::Show(kind @ (Kind::Tool | Kind::Prompt | Kind::Integration)) => {
                let (_, entry) = self.find(kind, name)?;
                let shown = entry.shown().into_owned();
                Ok(Step::Answer(Answer::json(200, shown)))
            }
            Route::Execute => {
                let (arguments, timeout) = body::execution(request.body)?;
                let work = self.execution(name, arguments, timeout)?;
                Ok(Step::Run(work, Shown::PLAIN))
            }
            Route::Generate => {
                let work = self.generation(name, request.body)?;
                Ok(Step::Run(work, Shown::PLAIN))
            }
            Route::Complete => self.completion(name, request.body),
            Route::Export => {
                let secrets = Query::read(request.query)?.flag("secrets")?;
                let records: Vec<Record> = self.records().collect();
                let mut answer = Answer::json(200, write_export(&records, secrets));
                answer.is_lines = true;
                Ok(Step::Answer(answer))
            }
            Route::Rekey => body::rekey(request.body).map(Step::Rekey),
            Route::Import => {
                let replace = Query::read(request.query)?.flag("replace")?;
                let text = std::str::from_utf8(request.body);
                let text = text.map_err(|_| Failure::wrong("an export is text in UTF-8"))?;
                let entries = read_export(text).map_err(|it| Failure::wrong(it.to_string()))?;
                let (changed, _) = self.import(entries, replace, permits)?;
                let answer = Answer::json(200, changed.body.clone());
                Ok(Step::Change(changed, answer))
            }
            Route::Subscribe => {
                let session = body::session(request.body)?;
                match self.resource(name) {
                    Some(_) => Ok(Step::Subscribe(session)),
                    None => Err(no_resource(name)),
                }
            }
            Route::Unsubscribe => {
                let session = body::session(request.body)?;
                let missing = || {
                    let message = "`session_id` is missing; a stream ends when its client leaves";
                    Failure::wrong_at("session_id", message)
                };
                session.map(Step::Unsubscribe).ok_or_else(missing)
            }
        }
    }

    fn list(&self, kind: Kind, query: &str) -> Result<Answer, Failure> {
        let query = Query::read(query)?;
        let limit = query.limit()?;
        let cursor = query.text("cursor");
        let shown = |entry: &Entry| Some(entry.shown().into());
        let page = self.page(kind, limit, cursor, shown)?;
        Ok(Answer::json(200, page.rest(list_name(kind))))
    }
}

fn no_resource(uri: &str) -> Failure {
    let message = format!("there is no resource {}", crate::json::quoted(uri));
    Failure::not_found("resource_not_found", message)
}

/// The member of a list's answer.
const fn list_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tools",
        Kind::Resource => "resources",
        Kind::ResourceTemplate => "resource_templates",
        Kind::Prompt => "prompts",
        Kind::Integration => "integrations",
    }
}

/// The path of an entry.
fn location(key: &Key) -> String {
    let folder = match key.kind {
        Kind::ResourceTemplate => "resources",
        Kind::Tool | Kind::Resource | Kind::Prompt | Kind::Integration => list_name(key.kind),
    };
    format!("/{folder}/{}", uri::encode(&key.name))
}

/// The field that names an entry of a kind, in bodies and answers.
#[must_use]
pub const fn name_field(kind: Kind) -> &'static str {
    own_field(kind)
}

#[cfg(test)]
mod tests;
