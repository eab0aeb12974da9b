//! The form that an answer is to have (`response_format`) as an instruction, for agents that have no such parameter.

use crate::invocation::{Parameters, ResponseFormat};
use crate::text::JsonValue;
use alloc::format;
use alloc::string::String;

/// `response_format` in words; `None` where any text will do.
pub(super) fn instruction(parameters: &Parameters<'_>) -> Option<String> {
    const ANY: &str = "Answer with one JSON object and nothing else.";
    let valid = |schema: &str| {
        format!(
            "Answer with one JSON value and nothing else, without a code fence. It must be valid against this JSON Schema:\n{schema}"
        )
    };
    match parameters.response_format.as_ref()? {
        ResponseFormat::Json => Some(ANY.into()),
        ResponseFormat::Schema(schema) => Some(valid(schema.get())),
        ResponseFormat::OpenAi(format) => {
            let format = JsonValue::read(format.get())?;
            match &*format.member("type")?.text()? {
                "json_object" => Some(ANY.into()),
                "json_schema" => {
                    let schema = format.path(&["json_schema", "schema"])?;
                    Some(valid(schema.get()))
                }
                _ => None,
            }
        }
    }
}
