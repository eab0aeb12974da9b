//! Integrations: a model with the registry's tools, resources and prompts.

use super::model_call::parameters;
use super::tool::bounded;
use crate::failure::Failure;
use crate::json::{Fields, ObjectWriter, compact, quoted};
use crate::name::{self, is_name};
use crate::permits::Permits;
use crate::store::Secret;
use crate::template::Count;
use crate::uri;
use mcp_local_provider_core::text::JsonValue;

const FIELDS: [&str; 10] = [
    "integration_id",
    "name",
    "description",
    "type",
    "model",
    "system",
    "tools",
    "resources",
    "prompts",
    "enabled",
];
const MODEL: [&str; 5] = [
    "provider",
    "model_name",
    "api_key",
    "base_url",
    "parameters",
];
const TYPES: [&str; 5] = ["full", "tool", "resource", "prompt", "model"];
/// Those whose tools, resources and prompts all count.
const WHOLE: &str = "full";
/// Begins the names of models that are integrations.
pub(crate) const SERVED: &str = "integration/";
/// Pointer of the one secret.
const API_KEY: &str = "/model/api_key";
/// The text that stands in its place.
const SET: &str = "set";
/// Entries of one list.
const NAMES: usize = 256;

/// Providers of models.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    /// A model of this program: an agent, or an upstream of the configuration.
    Agent,
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Ollama's API.
    Ollama,
    /// An API like OpenAI's, at `base_url`.
    Custom,
}

impl Provider {
    const ALL: [Self; 5] = [
        Self::Agent,
        Self::OpenAi,
        Self::Anthropic,
        Self::Ollama,
        Self::Custom,
    ];

    /// As definitions have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
            Self::Custom => "custom",
        }
    }
}

/// A secret, with the pointer of its field.
type Sealed = (Box<str>, Secret);

/// One integration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Integration {
    /// Its id: it is the model `integration/ID`.
    pub id: Box<str>,
    /// Its name, for people.
    pub name: Box<str>,
    /// `full`, or the one part of it that counts: `tool`, `resource`, `prompt`, `model`.
    pub part: &'static str,
    /// The provider of its model.
    pub provider: Provider,
    /// The model's name there.
    pub model: Box<str>,
    /// The API's address, where it is not the provider's own.
    pub base_url: Option<Box<str>>,
    /// A JSON object of parameters.
    pub parameters: Option<Box<str>>,
    /// Text of a message of the system before all others.
    pub system: Option<Box<str>>,
    /// Tools of the registry that the model may call.
    pub tools: Box<[Box<str>]>,
    /// Resources of the registry that the model is shown.
    pub resources: Box<[Box<str>]>,
    /// Prompts of the registry that may be asked with.
    pub prompts: Box<[Box<str>]>,
    /// False when it is switched off.
    pub enabled: bool,
}

impl Integration {
    /// Reads a definition. Gives its text without the secret, and the secret.
    pub(crate) fn read(
        json: JsonValue<'_>,
        permits: &dyn Permits,
    ) -> Result<(Self, String, Option<Sealed>), Failure> {
        bounded(json)?;
        let fields = Fields::read(json, "", &FIELDS)?;
        let name = fields.needed("name")?;
        let id = match fields.text("integration_id")? {
            Some(id) if is_name(&id) => id.into_owned(),
            Some(_) => {
                let message = format!("`integration_id` must be {}", name::RULE);
                return Err(fields.wrong("integration_id", message));
            }
            None => name::from_title(&name).ok_or_else(|| {
                let message = "`name` has nothing that an id can be made of; add `integration_id`";
                fields.wrong("name", message)
            })?,
        };
        let part = fields.text("type")?.unwrap_or(WHOLE.into());
        let part = TYPES.into_iter().find(|it| *it == part).ok_or_else(|| {
            let message = format!("`type` must be one of {}", TYPES.join(", "));
            fields.wrong("type", message)
        })?;
        fields.text("description")?;
        let model = fields
            .object("model")?
            .ok_or_else(|| fields.missing("model"))?;
        let model = Fields::read(model, "model", &MODEL)?;
        let provider = model.needed("provider")?;
        let provider = Provider::ALL.into_iter().find(|it| it.as_str() == provider);
        let provider = provider.ok_or_else(|| {
            let names = Provider::ALL.map(Provider::as_str).join(", ");
            model.wrong("provider", format!("`provider` must be one of {names}"))
        })?;
        let model_name = model.needed("model_name")?;
        if model_name.is_empty() || model_name.starts_with(SERVED) {
            let message = "`model_name` must name a model, and no integration";
            return Err(model.wrong("model_name", message));
        }
        let base_url = model.text("base_url")?;
        if let Some(url) = &base_url {
            let origin = uri::origin(url)
                .map_err(|why| model.wrong("base_url", format!("`base_url`: {why}")))?;
            let permitted = permits.http(origin.scheme, origin.host, origin.port);
            permitted.map_err(|why| model.wrong("base_url", why))?;
        } else if provider == Provider::Custom {
            return Err(model.missing("base_url"));
        }
        let api_key = model.text("api_key")?;
        // What was shown comes back when a definition is read, edited and replaced.
        let api_key = api_key.filter(|it| it != SET);
        if provider == Provider::Agent && (api_key.is_some() || base_url.is_some()) {
            let field = if api_key.is_some() {
                "api_key"
            } else {
                "base_url"
            };
            let message = format!("a model of this program needs no `{field}`");
            return Err(model.wrong(field, message));
        }
        let mut count = Count::default();
        parameters(&model, &mut count)?;
        let names = |field: &str| -> Result<Box<[Box<str>]>, Failure> {
            let names = fields.texts(field)?.unwrap_or_default();
            if names.len() > NAMES {
                let message = format!("`{field}` may have {NAMES} names");
                return Err(fields.wrong(field, message));
            }
            Ok(names.iter().map(|it| it.as_ref().into()).collect())
        };
        let integration = Self {
            id: id.as_str().into(),
            name: name.into(),
            part,
            provider,
            model: model_name.into(),
            base_url: base_url.map(Into::into),
            parameters: model
                .object("parameters")?
                .map(|it| compact(it.get()).into()),
            system: fields.text("system")?.map(Into::into),
            tools: names("tools")?,
            resources: names("resources")?,
            prompts: names("prompts")?,
            enabled: fields.flag("enabled")?.unwrap_or(true),
        };
        let mut text = ObjectWriter::new();
        if fields.value("integration_id").is_none() {
            text.text("integration_id", &id);
        }
        for (name, value) in fields.members() {
            if name == "model" {
                let mut inner = ObjectWriter::new();
                for (name, value) in model.members().filter(|(name, _)| *name != "api_key") {
                    inner.json(name, &compact(value.get()));
                }
                text.json(name, &inner.finish());
            } else {
                text.json(name, &compact(value.get()));
            }
        }
        let secret = api_key.map(|key| (API_KEY.into(), Secret::new(key)));
        Ok((integration, text.finish(), secret))
    }

    /// A model of this program without anything of the registry.
    pub(crate) fn of_model(model: &str) -> Self {
        Self {
            id: Box::default(),
            name: Box::default(),
            part: WHOLE,
            provider: Provider::Agent,
            model: model.into(),
            base_url: None,
            parameters: None,
            system: None,
            tools: Box::default(),
            resources: Box::default(),
            prompts: Box::default(),
            enabled: true,
        }
    }

    /// The definition's text, which says that there is a key.
    pub(crate) fn with_key_set(json: &str) -> String {
        let mut text = ObjectWriter::new();
        let members = JsonValue::read(json).map(JsonValue::members);
        for (name, value) in members.unwrap_or_default() {
            if name.is("model") {
                let mut model = ObjectWriter::new();
                for (name, value) in value.members() {
                    model.json(&name.decode(), value.get());
                }
                text.json("model", &model.text("api_key", SET).finish());
            } else {
                text.json(&name.decode(), value.get());
            }
        }
        text.finish()
    }

    /// The model's name for clients.
    #[must_use]
    pub fn model_id(&self) -> String {
        format!("{SERVED}{}", self.id)
    }

    fn counts(&self, part: &str) -> bool {
        self.part == WHOLE || self.part == part
    }

    /// Tools that its model may call.
    #[must_use]
    pub fn shown_tools(&self) -> &[Box<str>] {
        if self.counts("tool") {
            &self.tools
        } else {
            &[]
        }
    }

    /// Resources that its model is shown.
    #[must_use]
    pub fn shown_resources(&self) -> &[Box<str>] {
        if self.counts("resource") {
            &self.resources
        } else {
            &[]
        }
    }

    /// Prompts that it may be asked with.
    #[must_use]
    pub fn shown_prompts(&self) -> &[Box<str>] {
        if self.counts("prompt") {
            &self.prompts
        } else {
            &[]
        }
    }

    /// An error when it is off.
    pub(crate) fn check_enabled(&self) -> Result<(), Failure> {
        if self.enabled {
            return Ok(());
        }
        let message = format!("the integration {} is disabled", quoted(&self.id));
        Err(Failure::disabled(message))
    }
}
