//! Entries of the registry: definitions that were read, with their texts.

use crate::definition::{Integration, Prompt, Resource, Tool};
use crate::failure::Failure;
use crate::json::compact;
use crate::limits::Limits;
use crate::permits::Permits;
use crate::store::{Key, Kind, Record, Secret, Value};
use mcp_local_provider_core::text::JsonValue;
use std::borrow::Cow;
use std::sync::Arc;

/// A definition that was read.
#[derive(Clone, Debug)]
pub(crate) enum Definition {
    Tool(Arc<Tool>),
    Resource(Arc<Resource>),
    Prompt(Arc<Prompt>),
    Integration(Arc<Integration>),
}

/// One entry.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The definition without its secrets, as it was given, without blanks.
    pub(crate) json: Box<str>,
    pub(crate) secrets: Vec<(Box<str>, Secret)>,
    pub(crate) definition: Definition,
}

impl std::fmt::Debug for Entry {
    /// Without its text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({} bytes)", self.json.len())
    }
}

/// Name of a kind for people, and the code of an error about one that is not there.
pub(crate) const fn word(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Tool => ("tool", "tool_not_found"),
        Kind::Resource | Kind::ResourceTemplate => ("resource", "resource_not_found"),
        Kind::Prompt => ("prompt", "prompt_not_found"),
        Kind::Integration => ("integration", "integration_not_found"),
    }
}

impl Entry {
    /// Reads a definition of this kind; a resource may turn out to be a template.
    ///
    /// `before` is the entry in whose place it comes.
    pub(crate) fn read(
        kind: Kind,
        json: JsonValue<'_>,
        permits: &dyn Permits,
        limits: &Limits,
        before: Option<&Self>,
    ) -> Result<(Key, Self), Failure> {
        let mut secrets = Vec::new();
        let (kind, name, json, definition) = match kind {
            Kind::Tool => {
                let tool = Tool::read(json, permits)?;
                let name = tool.name.clone();
                let definition = Definition::Tool(tool.into());
                (kind, name, compact(json.get()), definition)
            }
            Kind::Resource | Kind::ResourceTemplate => {
                let resource = Resource::read(json, permits, limits)?;
                let name = resource.uri.as_ref().into();
                let kind = match resource.template {
                    Some(_) => Kind::ResourceTemplate,
                    None => Kind::Resource,
                };
                let definition = Definition::Resource(resource.into());
                (kind, name, compact(json.get()), definition)
            }
            Kind::Prompt => {
                let prompt = Prompt::read(json)?;
                let name = prompt.name.clone();
                let definition = Definition::Prompt(prompt.into());
                (kind, name, compact(json.get()), definition)
            }
            Kind::Integration => {
                let (integration, text, secret) = Integration::read(json, permits)?;
                let name = integration.id.clone();
                match (secret, before) {
                    (Some(secret), _) => secrets.push(secret),
                    (None, Some(before)) => secrets.clone_from(&before.secrets),
                    (None, None) => {}
                }
                let definition = Definition::Integration(integration.into());
                (kind, name, text, definition)
            }
        };
        let json = json.into();
        let key = Key { kind, name };
        let entry = Self {
            json,
            secrets,
            definition,
        };
        Ok((key, entry))
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// As lists and answers show it.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        match &self.definition {
            Definition::Tool(_) | Definition::Prompt(_) => Cow::Borrowed(&self.json),
            Definition::Resource(resource) => Cow::Borrowed(&resource.shown),
            Definition::Integration(_) if self.secrets.is_empty() => Cow::Borrowed(&self.json),
            Definition::Integration(_) => Cow::Owned(Integration::with_key_set(&self.json)),
        }
    }

    /// As a store has it.
    pub(crate) fn record(&self, key: &Key) -> Record {
        Record {
            key: key.clone(),
            value: Some(Value {
                json: self.json.clone(),
                secrets: self.secrets.clone(),
            }),
        }
    }

    /// The entries that it refers to, each with the field that does.
    pub(crate) fn references(&self) -> Vec<(String, Key)> {
        let key = |kind, name: &str| Key {
            kind,
            name: name.into(),
        };
        match &self.definition {
            Definition::Tool(tool) => {
                let (_, steps) = tool.action.steps();
                let steps = steps.iter().enumerate();
                let steps = steps.map(|(at, step)| (tool.place(at), key(Kind::Tool, &step.tool)));
                steps.collect()
            }
            Definition::Resource(_) => Vec::new(),
            Definition::Prompt(prompt) => {
                let tools = prompt.tools().into_iter();
                tools
                    .map(|(place, tool)| (place, key(Kind::Tool, tool)))
                    .collect()
            }
            Definition::Integration(integration) => {
                let parts = [
                    ("tools", Kind::Tool, &integration.tools),
                    ("resources", Kind::Resource, &integration.resources),
                    ("prompts", Kind::Prompt, &integration.prompts),
                ];
                let each = parts.into_iter().flat_map(|(field, kind, names)| {
                    let names = names.iter().enumerate();
                    names.map(move |(at, name)| (format!("{field}[{at}]"), key(kind, name)))
                });
                each.collect()
            }
        }
    }
}
