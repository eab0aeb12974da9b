//! JSON Schemas of arguments and results (draft 2020-12), without what they could fetch.

use crate::failure::Failure;
#[cfg(feature = "schema")]
use crate::failure::Mismatch;
use mcp_local_provider_core::text::JsonValue;
use serde_json::Value;
#[cfg(feature = "schema")]
use std::sync::Arc;

/// Bytes that a schema may have.
const LONGEST: usize = 64 << 10;
/// Errors of one check that are told.
#[cfg(feature = "schema")]
const TOLD: usize = 20;
/// Bytes of a compiled pattern.
#[cfg(feature = "schema")]
const PATTERN: usize = 256 << 10;
/// Characters of one error that are told: it quotes the value.
#[cfg(feature = "schema")]
const MESSAGE: usize = 200;

/// A schema that is compiled.
#[derive(Clone)]
pub(crate) enum Schema {
    /// `{"type":"object"}`.
    Object,
    #[cfg(feature = "schema")]
    Full(Arc<jsonschema::Validator>),
}

impl std::fmt::Debug for Schema {
    /// Without its text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Compiles a schema of an object, whose place in the definition is `path`.
    pub(crate) fn read(json: JsonValue<'_>, path: &str) -> Result<Self, Failure> {
        if json.get().len() > LONGEST {
            let message = format!("a schema may have {LONGEST} bytes");
            return Err(Failure::wrong_at(path, message));
        }
        let schema: Value = serde_json::from_str(json.get())
            .map_err(|_| Failure::wrong_at(path, "the schema is not JSON"))?;
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            let message = format!("`{path}` must have \"type\": \"object\"");
            return Err(Failure::wrong_at(format!("{path}.type"), message));
        }
        if schema.as_object().is_some_and(|it| it.len() == 1) {
            return Ok(Self::Object);
        }
        Self::compile(&schema, path)
    }

    #[cfg(not(feature = "schema"))]
    fn compile(_schema: &Value, path: &str) -> Result<Self, Failure> {
        let message = "this build checks no JSON Schema beyond {\"type\":\"object\"}; use a build with the cargo feature `schema`";
        Err(Failure::not_in_build(message).at(path))
    }

    #[cfg(feature = "schema")]
    fn compile(schema: &Value, path: &str) -> Result<Self, Failure> {
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(PATTERN)
            .dfa_size_limit(PATTERN);
        let options = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_pattern_options(patterns);
        let compiled = options.build(schema).map_err(|error| {
            let place = error.instance_path().to_string();
            let at = if place.is_empty() { "its top" } else { &place };
            let message = format!("the JSON Schema is wrong at {at}: {}", shown(&error));
            Failure::wrong_at(path, message)
        })?;
        Ok(Self::Full(Arc::new(compiled)))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The schema refuses it.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Failure> {
        match self {
            Self::Object if value.is_object() => Ok(()),
            Self::Object => Err(Failure::wrong_at(
                "arguments",
                "`arguments` must be an object",
            )),
            #[cfg(feature = "schema")]
            Self::Full(schema) => {
                if schema.is_valid(value) {
                    return Ok(());
                }
                let errors = schema.iter_errors(value).take(TOLD);
                let errors = errors.map(|error| Mismatch {
                    path: error.instance_path().to_string(),
                    message: shown(&error),
                });
                Err(Failure::arguments(errors.collect()))
            }
        }
    }
}

/// An error's text, not too long.
#[cfg(feature = "schema")]
fn shown(error: &jsonschema::ValidationError<'_>) -> String {
    let text = error.to_string();
    match text.char_indices().nth(MESSAGE) {
        None => text,
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}
