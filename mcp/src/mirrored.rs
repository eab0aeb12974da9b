//! Arguments of tools that clients repeat in headers, so that those who pass a call on need not read it (revision 2026-07-28, "Custom
//! Headers from Tool Parameters"): where a property of a tool's `inputSchema` has `"x-mcp-header": "Region"`, the header
//! `Mcp-Param-Region` says what that argument says.

use crate::header_text;
use crate::refusal::{Reason, Refusal};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use mcp_local_provider_core::budget::ENTRY_CHARGE;
use mcp_local_provider_core::rpc::Call;
use mcp_local_provider_core::text::JsonValue;

/// Prefix of the headers, in lower case.
const PREFIX: &str = "mcp-param-";

/// The member of a property's schema that names its header.
const MARK: &str = "x-mcp-header";

/// Bytes of names that are kept of the tools of one server. What a tool beyond them repeats is not known.
const BYTES: usize = 256 << 10;

/// Deepest place in a schema at which a header may be named.
const DEPTH: usize = 32;

/// Greatest number that every program reads in the same way: 2^53 - 1.
const SAFE: f64 = 9_007_199_254_740_991.0;

/// Keywords with a schema or several, through which a header may not be named.
const SCHEMAS: [&str; 15] = [
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "unevaluatedItems",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
];

/// Keywords with schemas under names, through which a header may not be named.
const NAMED_SCHEMAS: [&str; 4] = [
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];

/// Pages of a list of tools that are read for these headers.
const PAGES: u32 = 100;

/// The cursor of the page behind one, the last of `read`, as JSON; `None` behind the last page.
pub(crate) fn next_page<'r>(result: JsonValue<'r>, read: u32) -> Option<&'r str> {
    let next = result.member("nextCursor").filter(|next| !next.is_null());
    next.filter(|_| read < PAGES).map(JsonValue::get)
}

/// The headers of a request that repeat arguments.
#[derive(Clone, Default)]
pub struct Given(Option<Arc<[Header]>>);

/// Name without its prefix, in lower case, and value; `None` for one that is no text.
type Header = (Box<str>, Option<Box<str>>);

impl fmt::Debug for Given {
    /// Without the values, which are arguments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.headers().iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Given {
    /// Picks them from the headers of a request, by names in any case.
    pub fn pick<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let own = headers.filter_map(|(name, value)| {
            let (prefix, rest) = name.split_at_checked(PREFIX.len())?;
            let value = core::str::from_utf8(value).ok();
            prefix
                .eq_ignore_ascii_case(PREFIX)
                .then(|| (rest.to_ascii_lowercase().into(), value.map(Box::from)))
        });
        let own: Vec<Header> = own.collect();
        Self((!own.is_empty()).then(|| own.into()))
    }

    fn headers(&self) -> &[Header] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// An argument that is repeated.
#[derive(Debug)]
struct Argument {
    /// Name of the header behind its prefix, in lower case.
    header: Box<str>,
    /// Names of the properties that lead to it.
    path: Box<[Box<str>]>,
}

/// The arguments that the tools of a server repeat.
#[derive(Default, Debug)]
pub struct Tools {
    by_name: BTreeMap<Box<str>, Box<[Argument]>>,
    bytes: usize,
}

impl Tools {
    /// Returns true when no tool repeats anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Notes the tools of a result of `tools/list`. Returns those whose definitions are invalid, with the reason; they repeat nothing.
    pub fn learn<'t>(&mut self, result: JsonValue<'t>) -> Vec<(JsonValue<'t>, &'static str)> {
        let tools = result.member("tools").map(JsonValue::elements);
        let tools = tools.unwrap_or_default().into_iter();
        let invalid = tools.filter_map(|tool| Some((tool, self.learn_one(tool).err()?)));
        invalid.collect()
    }

    fn learn_one(&mut self, tool: JsonValue<'_>) -> Result<(), &'static str> {
        let Some(name) = tool.member("name").and_then(JsonValue::text) else {
            return Ok(());
        };
        if let Some(old) = self.by_name.remove(&*name) {
            self.bytes = self.bytes.saturating_sub(charge(&name, &old));
        }
        // Few tools have any.
        if memchr::memmem::find(tool.get().as_bytes(), MARK.as_bytes()).is_none() {
            return Ok(());
        }
        let mut arguments = Vec::new();
        if let Some(schema) = tool.member("inputSchema") {
            read(schema, Some(&mut Vec::new()), DEPTH, &mut arguments)?;
        }
        let cost = charge(&name, &arguments);
        if !arguments.is_empty() && self.bytes.saturating_add(cost) <= BYTES {
            self.bytes += cost;
            self.by_name.insert(name.into(), arguments.into());
        }
        Ok(())
    }

    fn of(&self, call: &Call<'_>) -> &[Argument] {
        if self.is_empty() || call.method != "tools/call" {
            return &[];
        }
        let name = call.params.and_then(|params| params.member("name")?.text());
        name.and_then(|name| self.by_name.get(&*name))
            .map_or(&[], |arguments| arguments)
    }

    /// Returns the headers of a call: names in lower case, and values.
    #[must_use]
    pub fn headers(&self, call: &Call<'_>) -> Vec<(String, String)> {
        let headers = self.of(call).iter().filter_map(|argument| {
            let value = argument.value(call)?;
            let name = format!("{PREFIX}{}", argument.header);
            Some((name, header_text::encode(&value.text)))
        });
        headers.collect()
    }

    /// Holds the headers of a call against its arguments.
    ///
    /// # Errors
    /// One is missing, or says something else.
    pub fn check(&self, call: &Call<'_>, given: &Given) -> Result<(), Refusal> {
        for argument in self.of(call) {
            let name = &argument.header;
            let mismatch = |what: &str| {
                let message = format!("the header {PREFIX}{name} {what}");
                Err(Refusal::new(Reason::HeaderMismatch, message))
            };
            if argument.is_ambiguous(call) {
                return mismatch("says what its argument says, which is there twice");
            }
            let mut own = given.headers().iter().filter(|(other, _)| other == name);
            let Some(value) = argument.value(call) else {
                match own.next() {
                    None => continue,
                    Some(_) => return mismatch("has a value, and its argument has none"),
                }
            };
            let first = own.next();
            if first.is_none() {
                return mismatch("is missing");
            }
            for (_, text) in first.into_iter().chain(own) {
                let text = text.as_deref().map(str::trim);
                match text.and_then(header_text::decode) {
                    None => return mismatch("is neither ASCII nor base64 of UTF-8"),
                    Some(text) if !value.is_said_by(&text) => {
                        return mismatch("says something else than its argument");
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// The value of an argument.
struct Value<'c> {
    text: Cow<'c, str>,
    is_number: bool,
}

impl Argument {
    /// True where a name on its way stands twice in a call: programs differ in the one that they take.
    fn is_ambiguous(&self, call: &Call<'_>) -> bool {
        let mut value = call.params.and_then(|params| params.member("arguments"));
        self.path.iter().any(|name| {
            let members = value.map(JsonValue::members).unwrap_or_default();
            let mut named = members.iter().filter(|(other, _)| other.is(name));
            value = named.next().map(|(_, value)| *value);
            named.next().is_some()
        })
    }

    /// Its value in a call; `None` where it has none that can be repeated.
    fn value<'c>(&self, call: &Call<'c>) -> Option<Value<'c>> {
        let mut value = call.params?.member("arguments")?;
        for name in &self.path {
            value = value.member(name)?;
        }
        let raw = value.get();
        let (text, is_number) = match raw.as_bytes().first()? {
            b'"' => (value.text()?, false),
            b'{' | b'[' | b'n' => return None,
            b't' | b'f' => (raw.into(), false),
            // 1.0 is a whole number in JSON Schema.
            _ => match raw.split_once('.') {
                Some((whole, rest)) if rest.bytes().all(|digit| digit == b'0') => {
                    (whole.into(), true)
                }
                Some(_) | None => (raw.into(), true),
            },
        };
        Some(Value { text, is_number })
    }
}

impl Value<'_> {
    /// True when a header says the same. Numbers are compared as such.
    fn is_said_by(&self, header: &str) -> bool {
        let is_equal = || {
            let (header, own): (f64, f64) = (header.parse().ok()?, self.text.parse().ok()?);
            let is_safe = (-SAFE..=SAFE).contains(&own);
            Some(is_safe && header.total_cmp(&own).is_eq())
        };
        header == self.text || (self.is_number && is_equal() == Some(true))
    }
}

/// Reads the headers that a schema names. `path` leads to it; `None` where a header may not be named.
fn read(
    schema: JsonValue<'_>,
    mut path: Option<&mut Vec<Box<str>>>,
    depth: usize,
    out: &mut Vec<Argument>,
) -> Result<(), &'static str> {
    if !schema.get().starts_with('{') {
        return Ok(());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err("its schema is too deep");
    };
    for (name, value) in schema.members() {
        if name.is(MARK) {
            let path = path.as_deref().filter(|path| !path.is_empty());
            let path = path.ok_or("a header is named where no chain of `properties` leads to")?;
            let header = header_of(schema, value, out)?;
            out.push(Argument {
                header,
                path: path.clone().into(),
            });
        } else if name.is("properties") {
            for (property, schema) in value.members() {
                match path.as_deref_mut() {
                    None => read(schema, None, depth, out)?,
                    Some(path) => {
                        path.push(property.decode().into());
                        read(schema, Some(path), depth, out)?;
                        path.pop();
                    }
                }
            }
        } else if SCHEMAS.iter().any(|keyword| name.is(keyword)) {
            read(value, None, depth, out)?;
            for schema in value.elements() {
                read(schema, None, depth, out)?;
            }
        } else if NAMED_SCHEMAS.iter().any(|keyword| name.is(keyword)) {
            for (_, schema) in value.members() {
                read(schema, None, depth, out)?;
            }
        }
    }
    Ok(())
}

/// The name of the header that a property's schema has, in lower case.
fn header_of(
    schema: JsonValue<'_>,
    mark: JsonValue<'_>,
    known: &[Argument],
) -> Result<Box<str>, &'static str> {
    let header = mark.text().map(|header| header.to_ascii_lowercase());
    let is_token = |header: &String| {
        let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !header.is_empty() && header.bytes().all(is_one)
    };
    let header = header
        .filter(is_token)
        .ok_or("its name of a header is none")?;
    if known.iter().any(|other| *other.header == *header) {
        return Err("it names a header twice");
    }
    // The specification has no `number`, but the conformance suite names headers for it.
    let is_primitive = |kind: &JsonValue<'_>| {
        let kind = kind.text();
        matches!(
            kind.as_deref(),
            Some("string" | "integer" | "boolean" | "number")
        )
    };
    let is_null = |kind: &JsonValue<'_>| kind.text().as_deref() == Some("null");
    let fits = schema.member("type").is_some_and(|kind| {
        let kinds = kind.elements();
        let mut others = kinds.iter().filter(|kind| !is_null(kind)).peekable();
        is_primitive(&kind) || (others.peek().is_some() && others.all(is_primitive))
    });
    if !fits {
        return Err(
            "it names a header for an argument that is neither string, integer nor boolean",
        );
    }
    Ok(header.to_string().into())
}

/// Bytes of memory that a tool takes.
fn charge(name: &str, arguments: &[Argument]) -> usize {
    let of = |argument: &Argument| {
        let path = argument
            .path
            .iter()
            .map(|name| name.len() + size_of::<Box<str>>());
        size_of::<Argument>() + argument.header.len() + path.sum::<usize>()
    };
    name.len() + arguments.iter().map(of).sum::<usize>() + ENTRY_CHARGE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use mcp_local_provider_core::rpc::Message;

    fn tool(schema: &str) -> String {
        format!(r#"{{"tools":[{{"name":"sql","inputSchema":{schema}}}]}}"#)
    }

    fn learn(schema: &str) -> Result<Tools, &'static str> {
        let text = tool(schema);
        let mut tools = Tools::default();
        match tools.learn(JsonValue::read(&text).unwrap()).first() {
            None => Ok(tools),
            Some((_, why)) => Err(why),
        }
    }

    fn with_call<R>(arguments: &str, call: impl FnOnce(&Call<'_>) -> R) -> R {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"sql","arguments":{arguments}}}}}"#
        );
        match Message::read(&text) {
            Ok(Message::Request { call: read, .. }) => call(&read),
            other => panic!("{other:?}"),
        }
    }

    /// The headers that arguments are repeated in, a line each.
    fn headers(tools: &Tools, arguments: &str) -> String {
        let headers = with_call(arguments, |call| tools.headers(call));
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"));
        lines.collect()
    }

    /// The fault of the headers of a call; nothing where they are right.
    fn check(tools: &Tools, arguments: &str, headers: &[(&str, &str)]) -> String {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        let given = Given::pick(headers);
        let checked = with_call(arguments, |call| tools.check(call, &given));
        checked.err().map_or_else(String::new, |refusal| {
            assert_eq!(refusal.reason, Reason::HeaderMismatch);
            refusal.message.to_string()
        })
    }

    const SCHEMA: &str = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "level":{"type":["integer","null"],"x-mcp-header":"Level"},
        "deep":{"type":"object","properties":{"dry":{"type":"boolean","x-mcp-header":"Dry-Run"}}},
        "x-mcp-header":{"type":"string"},
        "query":{"type":"string","default":{"x-mcp-header":"Query"}}}}"#;

    #[test]
    fn arguments_are_repeated_as_their_schema_says() {
        let tools = learn(SCHEMA).unwrap();
        for (arguments, wanted) in [
            (
                r#"{"region":"us-west1","query":"x"}"#,
                "mcp-param-region: us-west1\n",
            ),
            (r#"{"level":-7,"region":null}"#, "mcp-param-level: -7\n"),
            (r#"{"level":42.0}"#, "mcp-param-level: 42\n"),
            (r#"{"level":1.5e1}"#, "mcp-param-level: 1.5e1\n"),
            (r#"{"deep":{"dry":true}}"#, "mcp-param-dry-run: true\n"),
            (
                r#"{"region":" \u4e16"}"#,
                "mcp-param-region: =?base64?IOS4lg==?=\n",
            ),
            (r#"{"region":{"a":1},"deep":7}"#, ""),
            (r#"{"dry":true,"x-mcp-header":"Region"}"#, ""),
            ("[]", ""),
        ] {
            assert_eq!(headers(&tools, arguments), wanted, "{arguments}");
        }
        // It is defined anew.
        let mut tools = tools;
        let text = tool("{}");
        assert_eq!(tools.learn(JsonValue::read(&text).unwrap()), []);
        assert!(tools.is_empty() && tools.bytes == 0);
    }

    #[test]
    fn headers_say_what_the_arguments_say() {
        let tools = learn(SCHEMA).unwrap();
        let right: [(&str, &[(&str, &str)]); 6] = [
            (r#"{"region":"us"}"#, &[("Mcp-Param-Region", "us")]),
            (
                r#"{"region":"us"}"#,
                &[("MCP-PARAM-REGION", "=?base64?dXM=?=")],
            ),
            (r#"{"level":42}"#, &[("mcp-param-level", "42.0")]),
            (r#"{"level":1e2}"#, &[("mcp-param-level", "100")]),
            (r#"{"region":null}"#, &[("mcp-param-other", "\u{1}")]),
            ("{}", &[]),
        ];
        for (arguments, headers) in right {
            assert_eq!(check(&tools, arguments, headers), "", "{arguments}");
        }
        type Wrong<'w> = (&'w str, &'w [(&'w str, &'w str)], &'w str);
        let wrong: [Wrong<'_>; 7] = [
            (r#"{"region":"us"}"#, &[], "region is missing"),
            (
                r#"{"region":"us"}"#,
                &[("mcp-param-region", "eu")],
                "region says something else than its argument",
            ),
            (
                r#"{"region":"1"}"#,
                &[("mcp-param-region", "1.0")],
                "region says something else than its argument",
            ),
            (
                r#"{"region":"us"}"#,
                &[("mcp-param-region", "us"), ("mcp-param-region", "eu")],
                "region says something else than its argument",
            ),
            (
                r#"{"level":9007199254740993}"#,
                &[("mcp-param-level", "9007199254740992")],
                "level says something else than its argument",
            ),
            (
                r#"{"region":null}"#,
                &[("mcp-param-region", "us")],
                "region has a value, and its argument has none",
            ),
            (
                r#"{"region":"us"}"#,
                &[("mcp-param-region", "=?base64?dX?=")],
                "region is neither ASCII nor base64 of UTF-8",
            ),
        ];
        for (arguments, headers, why) in wrong {
            let why = format!("the header mcp-param-{why}");
            assert_eq!(check(&tools, arguments, headers), why, "{arguments}");
        }
    }

    #[test]
    fn a_definition_that_names_headers_where_it_may_not_is_invalid() {
        let place = "a header is named where no chain of `properties` leads to";
        let name = "its name of a header is none";
        let kind = "it names a header for an argument that is neither string, integer nor boolean";
        for (schema, why) in [
            (r#"{"x-mcp-header":"A"}"#, place),
            (
                r#"{"properties":{"a":{"items":{"type":"string","x-mcp-header":"A"}}}}"#,
                place,
            ),
            (
                r#"{"oneOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
                place,
            ),
            (
                r#"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}"#,
                place,
            ),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
                name,
            ),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
                name,
            ),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nb"}}}"#,
                name,
            ),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#,
                name,
            ),
            (
                r#"{"properties":{"a":{"type":"array","x-mcp-header":"A"}}}"#,
                kind,
            ),
            (
                r#"{"properties":{"a":{"type":["null"],"x-mcp-header":"A"}}}"#,
                kind,
            ),
            (r#"{"properties":{"a":{"x-mcp-header":"A"}}}"#, kind),
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
                "it names a header twice",
            ),
        ] {
            assert_eq!(learn(schema).err(), Some(why), "{schema}");
        }
        let mut deep = r#"{"type":"string","x-mcp-header":"A"}"#.to_string();
        for _ in 0..DEPTH {
            deep = format!(r#"{{"properties":{{"a":{deep}}}}}"#);
        }
        assert_eq!(learn(&deep).err(), Some("its schema is too deep"));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut tools = Tools::default();
        let header = "h".repeat(BYTES / 8);
        for number in 0..20 {
            let text = format!(
                r#"{{"tools":[{{"name":"t{number}","inputSchema":{{"properties":{{"a":{{"type":"string","x-mcp-header":"{header}"}}}}}}}}]}}"#
            );
            assert_eq!(tools.learn(JsonValue::read(&text).unwrap()), []);
        }
        assert!(
            tools.by_name.len() == 7 && tools.bytes <= BYTES,
            "{}",
            tools.bytes
        );
    }
}
