//! Prompts: messages that arguments are put into.

use super::model_call::{Messages, messages};
use super::tool::bounded;
use crate::failure::Failure;
use crate::json::{Fields, ObjectWriter, array, compact, element};
use crate::name::{self, is_name};
use crate::template::{Count, Template};
use mcp_local_provider_core::text::JsonValue;
use serde_json::Value;

const FIELDS: [&str; 6] = [
    "name",
    "title",
    "description",
    "arguments",
    "messages",
    "template",
];
const ARGUMENT: [&str; 7] = [
    "name",
    "description",
    "type",
    "values",
    "required",
    "default",
    "complete",
];
const TYPES: [&str; 5] = ["string", "number", "integer", "boolean", "enum"];
/// Arguments of one prompt.
const ARGUMENTS: usize = 64;
/// Values of one argument.
const VALUES: usize = 1000;

/// Types of arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    Text,
    Number,
    Integer,
    Boolean,
    Enum(Box<[Box<str>]>),
}

/// Sources of values that complete an argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Completing {
    Values(Box<[Box<str>]>),
    Tool(Box<str>),
}

/// One argument.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Argument {
    pub(crate) name: Box<str>,
    pub(crate) is: Type,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
    pub(crate) complete: Option<Completing>,
}

/// One prompt.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) name: Box<str>,
    pub(crate) description: Option<Box<str>>,
    pub(crate) arguments: Box<[Argument]>,
    pub(crate) messages: Messages,
    /// As MCP lists it.
    pub(crate) listed: Box<str>,
}

impl Prompt {
    /// Reads a definition.
    pub(crate) fn read(json: JsonValue<'_>) -> Result<Self, Failure> {
        bounded(json)?;
        let fields = Fields::read(json, "", &FIELDS)?;
        let name = fields.needed("name")?;
        if !is_name(&name) {
            return Err(fields.wrong("name", format!("`name` must be {}", name::RULE)));
        }
        let title = fields.text("title")?;
        let description = fields.text("description")?;
        let mut arguments: Vec<Argument> = Vec::new();
        let mut listed_arguments = Vec::new();
        let list = fields.list("arguments")?.unwrap_or_default();
        if list.len() > ARGUMENTS {
            let message = format!("a prompt may have {ARGUMENTS} arguments");
            return Err(fields.wrong("arguments", message));
        }
        for (at, json) in list.into_iter().enumerate() {
            let place = element("arguments", at);
            let argument = Fields::read(json, &place, &ARGUMENT)?;
            let read = Argument::read(&argument)?;
            if arguments.iter().any(|it| it.name == read.name) {
                let message = format!("two arguments have the name `{}`", read.name);
                return Err(argument.wrong("name", message));
            }
            let mut listed = ObjectWriter::new();
            listed.text("name", &read.name);
            listed.maybe("description", argument.text("description")?.as_deref());
            listed.plain("required", read.required);
            listed_arguments.push(listed.finish());
            arguments.push(read);
        }
        let mut count = Count::default();
        let listed = messages(&fields, &mut count)?;
        let messages = match (listed, fields.text("template")?) {
            (Some(messages), None) => messages,
            (None, Some(template)) => {
                [("user", Template::read(&template, "template", &mut count)?)].into()
            }
            (None, None) => return Err(fields.missing("messages")),
            (Some(_), Some(_)) => {
                let message = "`template` is one message of the user; leave it or `messages` out";
                return Err(fields.wrong("template", message));
            }
        };
        let mut listed = ObjectWriter::new();
        listed.text("name", &name);
        listed.maybe("title", title.as_deref());
        listed.maybe("description", description.as_deref());
        listed.json("arguments", &array(&listed_arguments));
        Ok(Self {
            name: name.into(),
            description: description.map(Into::into),
            arguments: arguments.into(),
            messages,
            listed: listed.finish().into(),
        })
    }

    /// Tools that complete its arguments, each with the field that names it.
    pub(crate) fn tools(&self) -> Vec<(String, &str)> {
        let arguments = self.arguments.iter().enumerate();
        let tools = arguments.filter_map(|(at, it)| match &it.complete {
            Some(Completing::Tool(tool)) => {
                Some((format!("arguments[{at}].complete.tool"), &**tool))
            }
            Some(Completing::Values(_)) | None => None,
        });
        tools.collect()
    }

    /// Gives the values that its templates see.
    ///
    /// # Errors
    /// An argument is unknown, missing, or of another type. `lenient` takes texts for numbers and truth values, as MCP sends them.
    pub(crate) fn scope(
        &self,
        given: Option<&serde_json::Map<String, Value>>,
        lenient: bool,
    ) -> Result<minijinja::Value, Failure> {
        let place = |name: &str| format!("arguments.{name}");
        let known: Vec<&str> = self.arguments.iter().map(|it| &*it.name).collect();
        for name in given.into_iter().flatten().map(|(name, _)| name) {
            if !known.contains(&&**name) {
                let list = known.join(", ");
                let message = format!("the prompt has no argument `{name}`; it has: {list}");
                return Err(Failure::wrong_at(place(name), message));
            }
        }
        let mut values = serde_json::Map::new();
        for argument in &self.arguments {
            let given = given.and_then(|it| it.get(&*argument.name));
            let value = match given.filter(|it| !it.is_null()) {
                Some(value) => argument.take(value, lenient)?,
                None => match &argument.default {
                    Some(default) => default.clone(),
                    None if argument.required => {
                        let message = format!("the argument `{}` is missing", argument.name);
                        return Err(Failure::wrong_at(place(&argument.name), message));
                    }
                    None => continue,
                },
            };
            values.insert(argument.name.to_string(), value);
        }
        Ok(crate::template::value(&Value::Object(values)))
    }
}

impl Argument {
    fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let name = fields.needed("name")?;
        let letters = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let first = name
            .chars()
            .next()
            .is_some_and(|it| it.is_ascii_alphabetic() || it == '_');
        if !first || name.len() > 64 || !name.chars().all(letters) {
            let message = "`name` must be a letter, then letters, digits and `_`, at most 64: templates use it";
            return Err(fields.wrong("name", message));
        }
        let values = fields.texts("values")?;
        let is = match (fields.text("type")?.as_deref(), values) {
            (Some("enum"), Some(values)) if !values.is_empty() && values.len() <= VALUES => {
                Type::Enum(values.iter().map(|it| it.as_ref().into()).collect())
            }
            (Some("enum"), _) => {
                let message = format!("an enum needs 1 to {VALUES} `values`");
                return Err(fields.wrong("values", message));
            }
            (_, Some(_)) => return Err(fields.wrong("values", "only an enum has `values`")),
            (None | Some("string"), None) => Type::Text,
            (Some("number"), None) => Type::Number,
            (Some("integer"), None) => Type::Integer,
            (Some("boolean"), None) => Type::Boolean,
            (Some(_), None) => {
                let message = format!("`type` must be one of {}", TYPES.join(", "));
                return Err(fields.wrong("type", message));
            }
        };
        let complete = match fields.value("complete") {
            None => None,
            Some(list) if list.get().starts_with('[') => {
                let values = fields.texts("complete")?.unwrap_or_default();
                if values.len() > VALUES {
                    let message = format!("`complete` may have {VALUES} values");
                    return Err(fields.wrong("complete", message));
                }
                let values = values.iter().map(|it| it.as_ref().into());
                Some(Completing::Values(values.collect()))
            }
            Some(object) => {
                let object = Fields::read(object, &fields.at("complete"), &["tool"])?;
                Some(Completing::Tool(object.needed("tool")?.into()))
            }
        };
        let mut argument = Self {
            name: name.into(),
            is,
            required: fields.flag("required")?.unwrap_or(false),
            default: None,
            complete,
        };
        if let Some(default) = fields.value("default") {
            let value: Value = serde_json::from_str(&compact(default.get())).unwrap_or_default();
            let taken = argument.take(&value, false);
            argument.default = Some(taken.map_err(|it| fields.wrong("default", it.message))?);
        }
        Ok(argument)
    }

    fn take(&self, value: &Value, lenient: bool) -> Result<Value, Failure> {
        let parsed = value.as_str().filter(|_| lenient && self.is != Type::Text);
        let parsed = parsed.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let value = match (&self.is, parsed) {
            (Type::Number | Type::Integer | Type::Boolean, Some(parsed)) => parsed,
            (_, _) => value.clone(),
        };
        let (good, what) = match &self.is {
            Type::Text => (value.is_string(), "a string".to_owned()),
            Type::Number => (value.is_number(), "a number".to_owned()),
            Type::Integer => {
                let whole = value.as_f64().is_some_and(|it| it.fract() == 0.0);
                (whole, "a whole number".to_owned())
            }
            Type::Boolean => (value.is_boolean(), "true or false".to_owned()),
            Type::Enum(values) => {
                let known = values.iter().any(|it| value.as_str() == Some(it));
                (known, format!("one of {}", values.join(", ")))
            }
        };
        if good {
            return Ok(value);
        }
        let name = &self.name;
        let message = format!("the argument `{name}` must be {what}");
        Err(Failure::wrong_at(format!("arguments.{name}"), message))
    }
}
