//! Values that complete an argument of a prompt.

use super::result::ToolResult;
use super::text_of;
use crate::definition::{Completing, Prompt, Type};
use crate::failure::Failure;
use crate::json::{ObjectWriter, array, quoted};
use mcp_local_provider_core::text::JsonValue;

/// Values of one answer.
const MOST: usize = 100;

/// Values that complete an argument.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// At most 100 of them.
    pub values: Vec<String>,
    /// All that there are.
    pub total: usize,
}

impl Values {
    fn of(all: impl Iterator<Item = String>) -> Self {
        let mut values = Self::default();
        for value in all {
            values.total += 1;
            if values.values.len() < MOST {
                values.values.push(value);
            }
        }
        values
    }

    /// The values that a tool has found: `values` of its structured content, else each line of its text.
    pub(crate) fn of_tool(result: &ToolResult) -> Result<Self, Failure> {
        if result.is_error {
            let why = text_of(&result.content);
            return Err(Failure::bad_answer(format!(
                "the tool that completes failed: {why}"
            )));
        }
        let structured = result.structured.as_deref().and_then(JsonValue::read);
        if let Some(list) = structured.and_then(|it| it.member("values")) {
            let texts = list.elements().into_iter();
            return Ok(Self::of(
                texts.filter_map(|it| Some(it.text()?.into_owned())),
            ));
        }
        let text = text_of(&result.content);
        let lines = text.lines().filter(|it| !it.is_empty());
        Ok(Self::of(lines.map(str::to_owned)))
    }

    fn members(&self, has_more: &str) -> String {
        let mut members = ObjectWriter::new();
        members.json("values", &array(self.values.iter().map(|it| quoted(it))));
        members.plain("total", self.total);
        members
            .plain(has_more, self.total > self.values.len())
            .finish()
    }

    /// `POST /prompts/{name}/complete`.
    #[must_use]
    pub fn rest(&self) -> String {
        self.members("has_more")
    }

    /// The result of `completion/complete`.
    #[must_use]
    pub fn mcp(&self) -> String {
        format!("{{\"completion\":{}}}", self.members("hasMore"))
    }
}

/// Ways to complete an argument.
pub(crate) enum Completed {
    Values(Values),
    /// A tool of the registry knows.
    Tool(Box<str>),
}

/// Completes an argument of a prompt.
///
/// # Errors
/// The prompt has no such argument.
pub(crate) fn complete(prompt: &Prompt, name: &str, begin: &str) -> Result<Completed, Failure> {
    let argument = prompt.arguments.iter().find(|it| *it.name == *name);
    let argument = argument.ok_or_else(|| {
        let message = format!("the prompt has no argument {}", quoted(name));
        Failure::wrong_at("argument.name", message)
    })?;
    let fits = |values: &[Box<str>]| {
        let begin = begin.to_lowercase();
        let fits = values
            .iter()
            .filter(|it| it.to_lowercase().starts_with(&begin));
        Completed::Values(Values::of(fits.map(|it| it.to_string())))
    };
    Ok(match (&argument.complete, &argument.is) {
        (Some(Completing::Tool(tool)), _) => Completed::Tool(tool.clone()),
        (Some(Completing::Values(values)), _) | (None, Type::Enum(values)) => fits(values),
        (None, Type::Boolean) => fits(&["false".into(), "true".into()]),
        (None, Type::Text | Type::Number | Type::Integer) => Completed::Values(Values::default()),
    })
}
