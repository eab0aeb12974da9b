//! JSON values with templates in their strings.

use super::Count;
use super::engine::{Bounded, Template, Trouble};
use crate::failure::Failure;
use crate::json::{element, member, quoted};
use mcp_local_provider_core::text::JsonValue;
use minijinja::Value;

/// A JSON value whose strings are templates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tree {
    /// JSON as it is.
    Plain(Box<str>),
    /// A string.
    Text(Template),
    /// An array.
    List(Box<[Tree]>),
    /// An object; names are no templates, and are JSON strings here.
    Object(Box<[(Box<str>, Tree)]>),
}

impl Tree {
    /// Reads a value, whose place in the definition is `path`.
    pub(crate) fn read(
        value: JsonValue<'_>,
        path: &str,
        count: &mut Count,
    ) -> Result<Self, Failure> {
        if !value.get().contains('{') {
            return Ok(Self::Plain(crate::json::compact(value.get()).into()));
        }
        if let Some(text) = value.text() {
            let template = Template::read(&text, path, count)?;
            return Ok(match template.literal() {
                Some(_) => Self::Plain(value.get().into()),
                None => Self::Text(template),
            });
        }
        if value.get().starts_with('[') {
            let list = value.elements().into_iter().enumerate();
            let list = list.map(|(at, value)| Self::read(value, &element(path, at), count));
            return Ok(Self::List(list.collect::<Result<_, _>>()?));
        }
        let members = value.members().into_iter().map(|(name, value)| {
            let name = name.decode();
            let tree = Self::read(value, &member(path, &name), count)?;
            Ok((quoted(&name).into(), tree))
        });
        Ok(Self::Object(members.collect::<Result<_, Failure>>()?))
    }

    /// Gives the JSON that it becomes.
    pub(crate) fn render(&self, scope: &Value) -> Result<String, Trouble> {
        let mut out = Bounded::default();
        self.write(scope, &mut out)?;
        Ok(out.into_text())
    }

    fn write(&self, scope: &Value, out: &mut Bounded) -> Result<(), Trouble> {
        match self {
            Self::Plain(json) => out.push(json),
            Self::Text(template) => template.json(scope, out),
            Self::List(list) => {
                out.push("[")?;
                for (at, tree) in list.iter().enumerate() {
                    out.push(if at > 0 { "," } else { "" })?;
                    tree.write(scope, out)?;
                }
                out.push("]")
            }
            Self::Object(members) => {
                out.push("{")?;
                for (at, (name, tree)) in members.iter().enumerate() {
                    out.push(if at > 0 { "," } else { "" })?;
                    out.push(name)?;
                    out.push(":")?;
                    tree.write(scope, out)?;
                }
                out.push("}")
            }
        }
    }
}
