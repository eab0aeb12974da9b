//! Tools, of whichever kind.

use super::{Chain, Command, Http, ModelCall, Parallel, ServerCall, Step};
use crate::failure::Failure;
use crate::json::{Fields, ObjectWriter, compact, quoted};
use crate::name::{self, is_name};
use crate::permits::Permits;
use crate::schema::Schema;
use mcp_local_provider_core::text::JsonValue;
use std::time::Duration;

/// Bytes of one definition.
const LONGEST: usize = 1 << 20;
/// Time that a run may take where its tool says nothing.
const USUAL: Duration = Duration::from_secs(30);
/// The longest that it may take.
pub(crate) const MOST: Duration = Duration::from_secs(300);

/// Fields of every tool.
const FIELDS: [&str; 9] = [
    "name",
    "title",
    "description",
    "input_schema",
    "output_schema",
    "annotations",
    "kind",
    "timeout",
    "enabled",
];

/// Names of kinds.
const KINDS: [&str; 6] = ["http", "command", "prompt", "gateway", "chain", "parallel"];

/// Work of a tool, by its kind.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Http(Box<Http>),
    Command(Box<Command>),
    Prompt(Box<ModelCall>),
    Gateway(Box<ServerCall>),
    Chain(Chain),
    Parallel(Parallel),
}

impl Action {
    /// Name of the kind.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Command(_) => "command",
            Self::Prompt(_) => "prompt",
            Self::Gateway(_) => "gateway",
            Self::Chain(_) => "chain",
            Self::Parallel(_) => "parallel",
        }
    }

    /// Steps or branches, and the name of their field.
    pub(crate) fn steps(&self) -> (&'static str, &[Step]) {
        match self {
            Self::Http(_) | Self::Command(_) | Self::Prompt(_) | Self::Gateway(_) => ("", &[]),
            Self::Chain(chain) => ("steps", &chain.steps),
            Self::Parallel(parallel) => ("branches", &parallel.branches),
        }
    }
}

/// One tool.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: Box<str>,
    pub(crate) timeout: Duration,
    pub(crate) enabled: bool,
    pub(crate) input: Schema,
    pub(crate) output: Option<Schema>,
    pub(crate) action: Action,
    /// As MCP lists it.
    pub(crate) listed: Box<str>,
}

/// Refuses a definition that is too long.
pub(crate) fn bounded(json: JsonValue<'_>) -> Result<(), Failure> {
    if json.get().len() > LONGEST {
        let message = format!("a definition may have {LONGEST} bytes");
        return Err(Failure::too_large(message));
    }
    Ok(())
}

impl Tool {
    /// Reads a definition.
    pub(crate) fn read(json: JsonValue<'_>, permits: &dyn Permits) -> Result<Self, Failure> {
        bounded(json)?;
        let kind = Fields::any(json, "")?.needed("kind")?;
        let known: &[&str] = match &*kind {
            "http" => &Http::FIELDS,
            "command" => &Command::FIELDS,
            "prompt" => &ModelCall::FIELDS,
            "gateway" => &ServerCall::FIELDS,
            "chain" => &Chain::FIELDS,
            "parallel" => &Parallel::FIELDS,
            _ => {
                let message = format!("`kind` must be one of {}", KINDS.join(", "));
                return Err(Failure::wrong_at("kind", message));
            }
        };
        let fields = Fields::read_of(json, "", &[&FIELDS, known])?;
        let name = fields.needed("name")?;
        if !is_name(&name) {
            return Err(fields.wrong("name", format!("`name` must be {}", name::RULE)));
        }
        let title = fields.text("title")?;
        let description = fields.text("description")?;
        let usual = JsonValue::read("{\"type\":\"object\"}").unwrap_or(json);
        let input_json = fields.object("input_schema")?.unwrap_or(usual);
        let input = Schema::read(input_json, "input_schema")?;
        let output_json = fields.object("output_schema")?;
        let output = output_json.map(|it| Schema::read(it, "output_schema"));
        let annotations = fields.object("annotations")?;
        let action = match &*kind {
            "http" => Action::Http(Http::read(&fields, permits)?.into()),
            "command" => Action::Command(Command::read(&fields, permits)?.into()),
            "prompt" => Action::Prompt(ModelCall::read(&fields)?.into()),
            "gateway" => Action::Gateway(ServerCall::read(&fields)?.into()),
            "chain" => Action::Chain(Chain::read(&fields)?),
            // The names of kinds were looked at before.
            _ => Action::Parallel(Parallel::read(&fields)?),
        };
        let mut listed = ObjectWriter::new();
        listed.text("name", &name);
        listed.maybe("title", title.as_deref());
        listed.maybe("description", description.as_deref());
        listed.json("inputSchema", &compact(input_json.get()));
        if let Some(output) = output_json {
            listed.json("outputSchema", &compact(output.get()));
        }
        if let Some(annotations) = annotations {
            listed.json("annotations", &compact(annotations.get()));
        }
        Ok(Self {
            timeout: fields.duration("timeout", MOST)?.unwrap_or(USUAL),
            enabled: fields.flag("enabled")?.unwrap_or(true),
            input,
            output: output.transpose()?,
            action,
            listed: listed.finish().into(),
            name: name.into(),
        })
    }

    /// The field that names the tool of a step.
    pub(crate) fn place(&self, at: usize) -> String {
        let (field, _) = self.action.steps();
        format!("{field}[{at}].tool")
    }

    /// An error that says that it is off.
    pub(crate) fn check_enabled(&self) -> Result<(), Failure> {
        if self.enabled {
            return Ok(());
        }
        let name = quoted(&self.name);
        let message = format!("the tool {name} is disabled; enable it with PUT /tools");
        Err(Failure::disabled(message))
    }
}
