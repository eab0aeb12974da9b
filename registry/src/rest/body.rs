//! Bodies of requests that run something.

use super::{Answer, Shown, Step};
use crate::definition::{MOST, Prompt};
use crate::failure::Failure;
use crate::json::{Fields, read_body, to_value};
use crate::registry::Registry;
use crate::registry::entry::Definition;
use crate::run::{Completed, PromptRun, ToolRun, Work, complete};
use crate::store::Kind;
use mcp_local_provider_core::text::JsonValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The fields of a body, which may be empty.
fn fields<'b>(body: &'b [u8], known: &[&str]) -> Result<Fields<'b>, Failure> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    Fields::read(read_body(body)?, "", known)
}

/// `{arguments?, timeout?}`.
pub(super) fn execution(body: &[u8]) -> Result<(Value, Option<Duration>), Failure> {
    let fields = fields(body, &["arguments", "timeout"])?;
    let arguments = fields.object("arguments")?;
    let arguments = arguments.map(|it| to_value(it, "arguments"));
    let arguments = arguments.unwrap_or_else(|| Ok(Value::Object(Map::new())))?;
    Ok((arguments, fields.duration("timeout", MOST)?))
}

/// `{to?}`: `file`, or `env:NAME`.
pub(super) fn rekey(body: &[u8]) -> Result<Option<String>, Failure> {
    let fields = fields(body, &["to"])?;
    Ok(fields.text("to")?.map(Cow::into_owned))
}

/// `{session_id?}`.
pub(super) fn session(body: &[u8]) -> Result<Option<String>, Failure> {
    let fields = fields(body, &["session_id"])?;
    let session = fields.text("session_id")?;
    Ok(session.map(Cow::into_owned))
}

impl Registry {
    /// A run of a tool.
    pub(crate) fn execution(
        &self,
        name: &str,
        arguments: Value,
        timeout: Option<Duration>,
    ) -> Result<Work, Failure> {
        let run = ToolRun::new(self.tool_set(name)?, arguments, timeout, 0)?;
        Ok(Work::tool(run))
    }

    pub(crate) fn prompt(&self, name: &str) -> Result<Arc<Prompt>, Failure> {
        let (_, entry) = self.find(Kind::Prompt, name)?;
        match &entry.definition {
            Definition::Prompt(prompt) => Ok(prompt.clone()),
            Definition::Tool(_) | Definition::Resource(_) | Definition::Integration(_) => Err(
                Failure::not_found("prompt_not_found", "there is no such prompt"),
            ),
        }
    }

    /// `{arguments?, resources?}`.
    pub(super) fn generation(&self, name: &str, body: &[u8]) -> Result<Work, Failure> {
        let prompt = self.prompt(name)?;
        let fields = fields(body, &["arguments", "resources"])?;
        let arguments = fields.object("arguments")?;
        let arguments = arguments.map(|it| to_value(it, "arguments")).transpose()?;
        let scope = prompt.scope(arguments.as_ref().and_then(Value::as_object), false)?;
        let uris = fields.texts("resources")?.unwrap_or_default();
        for (at, uri) in uris.iter().enumerate() {
            if self.resource(uri).is_none() {
                let message = format!("there is no resource {}", crate::json::quoted(uri));
                let failure = Failure::not_found("resource_not_found", message);
                return Err(failure.at(format!("resources[{at}]")));
            }
        }
        let uris = uris.into_iter().map(std::borrow::Cow::into_owned);
        PromptRun::new(prompt, scope, uris.collect()).map(Work::prompt)
    }

    /// `{argument: {name, value}, context?}`.
    pub(super) fn completion(&self, name: &str, body: &[u8]) -> Result<Step, Failure> {
        let prompt = self.prompt(name)?;
        let fields = fields(body, &["argument", "context"])?;
        let argument = fields.object("argument")?;
        let argument = argument.ok_or_else(|| fields.missing("argument"))?;
        let argument = Fields::read(argument, "argument", &["name", "value"])?;
        let (name, value) = (argument.needed("name")?, argument.needed("value")?);
        let context = fields.object("context")?;
        Ok(match self.completed(&prompt, &name, &value, context)? {
            Ok(values) => Step::Answer(Answer::json(200, values.rest())),
            Err(work) => Step::Run(work, Shown::PLAIN),
        })
    }

    /// Completes an argument: with values, or by a run. The tool gets `{name, value, context}`.
    pub(crate) fn completed(
        &self,
        prompt: &Prompt,
        name: &str,
        value: &str,
        context: Option<JsonValue<'_>>,
    ) -> Result<Result<crate::run::Values, Work>, Failure> {
        let tool = match complete(prompt, name, value)? {
            Completed::Values(values) => return Ok(Ok(values)),
            Completed::Tool(tool) => tool,
        };
        let context = context.map(|it| to_value(it, "context")).transpose()?;
        let mut arguments = Map::new();
        arguments.insert("name".to_owned(), name.into());
        arguments.insert("value".to_owned(), value.into());
        if let Some(context) = context {
            arguments.insert("context".to_owned(), context);
        }
        let run = ToolRun::new(self.tool_set(&tool)?, Value::Object(arguments), None, 0)?;
        Ok(Err(Work::values(run)))
    }
}
