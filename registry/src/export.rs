//! Export and import of the registry: JSON lines.
//!
//! The first line is `{"format":"mcp-local-provider-registry","version":1,"secrets":false}`; each further one is an entry,
//! `{"kind":"tool","name":"now","value":{…},"secrets":{"/model/api_key":null}}`. A secret that is `null` is one that was not
//! exported: an import that replaces the entry leaves it as it is.

use crate::store::{Key, Kind, Record, Secret, Value};
use mcp_local_provider_core::rpc::{Json, one_line};
use mcp_local_provider_core::text::{JsonValue, escaped};

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Name of the format, in the first line.
const FORMAT: &str = "mcp-local-provider-registry";
/// Version of the format, in the first line.
const VERSION: u64 = 1;
/// Kinds of entries, as a line names them.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Tool, "tool"),
    (Kind::Resource, "resource"),
    (Kind::ResourceTemplate, "resource_template"),
    (Kind::Prompt, "prompt"),
    (Kind::Integration, "integration"),
];
/// Longest name or URI, in bytes.
const NAME_BYTES: usize = 8192;

/// An entry of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported {
    /// Line in which it stands, from 1 on.
    pub line: usize,
    /// The entry, which is not deleted.
    pub record: Record,
    /// Fields whose secrets were not exported.
    pub withheld: Vec<Box<str>>,
}

impl Exported {
    /// The entry as it is to be stored, with the secrets that were not exported as `there` has them.
    #[must_use]
    pub fn onto(mut self, there: Option<&Value>) -> Record {
        if let Some(value) = &mut self.record.value {
            let there = there.iter().flat_map(|there| &there.secrets);
            let kept = there.filter(|(field, _)| self.withheld.contains(field));
            value.secrets.extend(kept.cloned());
        }
        self.record
    }
}

/// Export that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportError {
    /// The first line is that of no export.
    #[error(
        "this is no export of a registry: its first line is not `{{\"format\":\"{FORMAT}\",…}}`"
    )]
    Format,
    /// It is of a later version.
    #[error(
        "this export has version {0}, and this program reads version {VERSION}; import it with a newer program"
    )]
    Version(u64),
    /// Wrong lines, the first ones of them.
    #[error("{}", told(.0))]
    Lines(Vec<LineError>),
}

/// A wrong line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Its number, from 1 on.
    pub line: usize,
    /// Description of the fault.
    pub reason: String,
}

/// Wrong lines that are told at most.
const TOLD: usize = 20;

fn told(lines: &[LineError]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{line}", if at == 0 { "" } else { "\n" });
    }
    text
}

/// Returns the name of a kind, as exports have it.
#[must_use]
pub fn name_of_kind(kind: Kind) -> &'static str {
    let found = KINDS.iter().find(|(other, _)| *other == kind);
    found.map_or("", |(_, name)| name)
}

/// Writes entries, in the order of their names. Secrets are in it where `secrets` is true. Records of deleted entries are left out.
#[must_use]
pub fn write_export(records: &[Record], secrets: bool) -> String {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut text =
        format!("{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\"secrets\":{secrets}}}\n");
    for record in sorted {
        let Some(value) = &record.value else {
            continue;
        };
        let mut line = Json::new();
        line.raw("{");
        line.member("kind").string(name_of_kind(record.key.kind));
        line.member("name").string(&record.key.name);
        line.member("value").raw(&one_line(&value.json));
        if !value.secrets.is_empty() {
            line.member("secrets").raw("{");
            for (field, secret) in &value.secrets {
                let member = line.member(&escaped(field));
                if secrets {
                    member.string(secret.reveal());
                } else {
                    member.raw("null");
                }
            }
            line.raw("}");
        }
        line.raw("}");
        text.push_str(&line.finish());
        text.push('\n');
    }
    text
}

/// Reads an export. Definitions are not looked into: whoever imports has them checked.
///
/// # Errors
/// When it is none, or lines are wrong or double; nothing of it is to be imported then.
pub fn read_export(text: &str) -> Result<Vec<Exported>, ExportError> {
    let mut lines = (1..).zip(text.lines());
    let head = lines.next().and_then(|(_, line)| JsonValue::read(line));
    let head = head.ok_or(ExportError::Format)?;
    let member = |name| head.member(name);
    if member("format").and_then(JsonValue::text).as_deref() != Some(FORMAT) {
        return Err(ExportError::Format);
    }
    match member("version").and_then(JsonValue::whole) {
        Some(VERSION) => {}
        Some(other) => return Err(ExportError::Version(other)),
        None => return Err(ExportError::Format),
    }
    let mut seen = BTreeMap::new();
    let mut entries = Vec::new();
    let mut wrong = Vec::new();
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let read = entry(line, text).and_then(|entry| {
            let before = seen.insert(entry.record.key.clone(), line);
            before.map_or(Ok(entry), |before| {
                Err(format!(
                    "it has the name of line {before}; names must differ"
                ))
            })
        });
        match read {
            Ok(entry) => entries.push(entry),
            Err(reason) => wrong.push(LineError { line, reason }),
        }
        if wrong.len() == TOLD {
            break;
        }
    }
    if wrong.is_empty() {
        Ok(entries)
    } else {
        Err(ExportError::Lines(wrong))
    }
}

/// Reads one line.
fn entry(line: usize, text: &str) -> Result<Exported, String> {
    let whole = JsonValue::read(text).filter(|it| it.get().starts_with('{'));
    let whole = whole.ok_or("it is no JSON object")?;
    let known = ["kind", "name", "value", "secrets"];
    for (name, _) in whole.members() {
        if !known.iter().any(|known| name.is(known)) {
            let name: String = name.decode().chars().take(50).collect();
            return Err(format!(
                "`{}` is no member of an entry",
                name.escape_debug()
            ));
        }
    }
    let member = |name: &str| whole.member(name);
    let kind = member("kind").and_then(JsonValue::text);
    let kind = kind.ok_or("`kind` is missing, or is no text")?;
    let found = KINDS.iter().find(|(_, name)| *name == kind);
    let names = KINDS.map(|(_, name)| name).join(", ");
    let (kind, _) = found.ok_or(format!("`kind` must be one of {names}"))?;
    let name = member("name").and_then(JsonValue::text);
    let name = name.ok_or("`name` is missing, or is no text")?;
    if name.is_empty() || name.len() > NAME_BYTES {
        return Err(format!("`name` must have from 1 to {NAME_BYTES} bytes"));
    }
    let value = member("value").filter(|value| value.get().starts_with('{'));
    let value = value.ok_or("`value` is missing, or is no JSON object")?;
    let mut secrets = Vec::new();
    let mut withheld = Vec::new();
    if let Some(all) = member("secrets") {
        if !all.get().starts_with('{') {
            return Err("`secrets` must be a JSON object".to_owned());
        }
        for (field, secret) in all.members() {
            let field: Box<str> = field.decode().into();
            if !field.starts_with('/') {
                return Err(
                    "`secrets` has JSON pointers as names, such as `/model/api_key`".to_owned(),
                );
            }
            match secret.text() {
                Some(secret) => secrets.push((field, Secret::new(secret))),
                None if secret.is_null() => withheld.push(field),
                None => return Err("a secret must be text or null".to_owned()),
            }
        }
    }
    Ok(Exported {
        line,
        record: Record {
            key: Key {
                kind: *kind,
                name: name.into(),
            },
            value: Some(Value {
                json: value.get().into(),
                secrets,
            }),
        },
        withheld,
    })
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
