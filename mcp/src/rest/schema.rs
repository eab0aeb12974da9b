//! JSON Schemas of tools as components of one OpenAPI document: `$defs` become components, and what refers to them, or to an `$anchor`,
//! refers to the place in the document.

use super::failure::quoted;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use mcp_local_provider_core::text::JsonValue;

/// Place of components in the document.
const PLACE: &str = "#/components/schemas/";

/// Kinds of values of a keyword.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A schema, or a list of schemas.
    Schemas,
    /// Schemas by names.
    Named,
    /// The same, which move to the components.
    Definitions,
    /// Something that refers.
    Reference,
    /// Nothing that counts in a document of several schemas: which of them is meant is settled.
    Nothing,
    /// Anything else.
    Data,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "prefixItems"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Holds::Schemas,
        "dependencies" | "dependentSchemas" | "patternProperties" | "properties" => Holds::Named,
        "$defs" | "definitions" => Holds::Definitions,
        "$ref" => Holds::Reference,
        "$anchor" | "$id" | "$schema" => Holds::Nothing,
        _ => Holds::Data,
    }
}

/// The schemas of a document, by their names.
#[derive(Default)]
pub(super) struct Components {
    names: BTreeSet<String>,
    schemas: Vec<(String, String)>,
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Components({})", self.schemas.len())
    }
}

/// One schema with its definitions, before it is written.
#[derive(Default)]
struct Moving {
    /// Name of the component that the whole schema becomes.
    root: String,
    /// Names of the components that definitions become, by their JSON Pointers (RFC 6901) in the schema.
    definitions: BTreeMap<String, String>,
    /// JSON Pointers of schemas by their anchors.
    anchors: BTreeMap<String, String>,
}

impl Components {
    /// Adds a schema as it is.
    pub(super) fn put(&mut self, name: &str, schema: &str) {
        self.names.insert(name.into());
        self.schemas.push((name.into(), schema.into()));
    }

    /// Adds a schema that may have definitions. Gives the reference to it.
    pub(super) fn add(&mut self, name: &str, schema: JsonValue<'_>) -> String {
        let mut moving = Moving {
            root: self.free(name),
            ..Moving::default()
        };
        self.find(schema, "", &mut moving);
        let written = self.write(schema, "", &moving);
        self.schemas.push((moving.root.clone(), written));
        format!("{PLACE}{}", moving.root)
    }

    /// Returns the members of `components.schemas`, as JSON.
    pub(super) fn members(&self) -> String {
        let members = self.schemas.iter();
        let members = members.map(|(name, schema)| format!("\"{name}\":{schema}"));
        members.collect::<Vec<_>>().join(",")
    }

    /// A name that no component has, in the letters that one may have.
    fn free(&mut self, name: &str) -> String {
        let may = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let name: String = name.chars().map(|c| if may(c) { c } else { '_' }).collect();
        let mut free = name.clone();
        let mut number = 2;
        while !self.names.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }

    /// Finds definitions and anchors of a schema at this place.
    fn find(&mut self, schema: JsonValue<'_>, at: &str, moving: &mut Moving) {
        for (keyword, value) in schema.members() {
            let keyword = keyword.decode();
            let place = format!("{at}/{keyword}");
            match holds(&keyword) {
                Holds::Schemas => {
                    self.find(value, &place, moving);
                    for (element, number) in value.elements().into_iter().zip(0..) {
                        self.find(element, &format!("{place}/{number}"), moving);
                    }
                }
                Holds::Named => {
                    for (name, schema) in value.members() {
                        self.find(schema, &step(&place, &name.decode()), moving);
                    }
                }
                Holds::Definitions => {
                    for (name, schema) in value.members() {
                        let name = name.decode();
                        let place = step(&place, &name);
                        let component = self.free(&format!("{}_{name}", moving.root));
                        moving.definitions.insert(place.clone(), component);
                        self.find(schema, &place, moving);
                    }
                }
                Holds::Nothing if keyword == "$anchor" => {
                    if let Some(anchor) = value.text() {
                        moving.anchors.insert(anchor.into_owned(), at.into());
                    }
                }
                Holds::Reference | Holds::Nothing | Holds::Data => {}
            }
        }
    }

    /// Writes a schema without its definitions, which become components.
    fn write(&mut self, schema: JsonValue<'_>, at: &str, moving: &Moving) -> String {
        if schema.get().starts_with('[') {
            let elements = schema.elements().into_iter().zip(0..);
            let elements: Vec<String> = elements
                .map(|(element, number)| self.write(element, &format!("{at}/{number}"), moving))
                .collect();
            return format!("[{}]", elements.join(","));
        }
        if !schema.get().starts_with('{') {
            return schema.get().to_string();
        }
        let mut members: Vec<String> = Vec::new();
        for (keyword, value) in schema.members() {
            let written = format!("\"{}\"", keyword.as_escaped());
            let keyword = keyword.decode();
            let place = format!("{at}/{keyword}");
            let value = match holds(&keyword) {
                Holds::Schemas => self.write(value, &place, moving),
                Holds::Named if value.get().starts_with('{') => {
                    let named = value.members().into_iter().map(|(name, schema)| {
                        let place = step(&place, &name.decode());
                        let schema = self.write(schema, &place, moving);
                        format!("\"{}\":{schema}", name.as_escaped())
                    });
                    format!("{{{}}}", named.collect::<Vec<_>>().join(","))
                }
                Holds::Definitions => {
                    for (name, schema) in value.members() {
                        let place = step(&place, &name.decode());
                        let schema = self.write(schema, &place, moving);
                        if let Some(name) = moving.definitions.get(&place) {
                            self.schemas.push((name.clone(), schema));
                        }
                    }
                    continue;
                }
                Holds::Reference => match value.text() {
                    Some(reference) => quoted(&moving.reference(&reference)),
                    None => value.get().into(),
                },
                Holds::Nothing => continue,
                Holds::Named | Holds::Data => value.get().into(),
            };
            members.push(format!("{written}:{value}"));
        }
        format!("{{{}}}", members.join(","))
    }
}

impl Moving {
    /// Reference in the document that one within the schema becomes. One that leads elsewhere stays.
    fn reference(&self, reference: &str) -> String {
        let Some(fragment) = reference.strip_prefix('#') else {
            return reference.into();
        };
        let fragment = decoded(fragment);
        let pointer = if fragment.is_empty() || fragment.starts_with('/') {
            &fragment
        } else if let Some(pointer) = self.anchors.get(&fragment) {
            pointer
        } else {
            return reference.into();
        };
        let inside = |definition: &str| {
            let rest = pointer.strip_prefix(definition)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_string())
        };
        let definitions = self.definitions.iter();
        let found = definitions
            .filter_map(|(definition, name)| Some((definition.len(), name, inside(definition)?)))
            .max_by_key(|(length, ..)| *length);
        match found {
            Some((_, name, rest)) => format!("{PLACE}{name}{rest}"),
            None => format!("{PLACE}{}{pointer}", self.root),
        }
    }
}

/// A JSON Pointer, one step further.
fn step(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Decodes the escapes of a URI's fragment (RFC 3986, 2.1). One that is malformed stays as it is.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits
            .and_then(|digits| core::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
