//! One frame of an agent.

use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::error::AgentFault;
use mcp_local_provider_core::invocation::{Delivery, Delta};
use mcp_local_provider_core::link::{Ending, FromAgent, Id};
use mcp_local_provider_core::mailbox::{Batch, Mailbox};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Deeper values are left as they are: some fields are not looked into, so they may be of any depth.
const DEPTH: usize = 64;

/// However a frame is written, it is read the same: by the scanner or in full, whatever its blanks, its escapes and the
/// order of its fields. What was read comes out of a mailbox unchanged.
pub fn agent_envelope(data: &[u8]) {
    let Ok(frame) = std::str::from_utf8(data) else {
        return;
    };
    let decoded = websocket::decode(frame, frame.len());
    let meaning = meaning(&decoded);
    if !frame.is_empty() {
        let refused = websocket::decode(frame, frame.len() - 1);
        match &refused {
            Err(AgentFault::TooLarge) => {}
            Err(AgentFault::Answer { id, .. }) => assert!(
                frame.contains(&id.to_string()),
                "a frame over its limit costs an exchange that it does not name: {id}"
            ),
            other => panic!("a frame over its limit was read as {other:?}"),
        }
    }
    // The scanner leaves a frame with an unknown field to the full reading, which ignores it.
    let blanks = [' ', '\t', '\n', '\r'];
    let fields = frame.trim_start_matches(blanks).strip_prefix('{');
    let fields = fields.filter(|fields| fields.trim_start_matches(blanks).starts_with('"'));
    if let Some(fields) = fields {
        let read_in_full = format!("{{\"unknown\":0,{fields}");
        assert_eq!(
            self::meaning(&websocket::decode(&read_in_full, usize::MAX)),
            meaning,
            "{frame:?} with an unknown field"
        );
    }
    let rewritten = serde_json::from_str::<&RawValue>(frame)
        .ok()
        .and_then(|raw| rewrite(raw, 0));
    if let Some(rewritten) = rewritten {
        assert_eq!(
            self::meaning(&websocket::decode(&rewritten, usize::MAX)),
            meaning,
            "{frame:?} written as {rewritten:?}"
        );
    }
    match decoded {
        Ok(FromAgent::Chunk(chunk)) => through_mailbox(&chunk.delta),
        Ok(FromAgent::Result(answer)) => through_mailbox(&answer.delta),
        _ => {}
    }
}

fn through_mailbox(delta: &Delta<'_>) {
    let mut mailbox = Mailbox::new(usize::MAX);
    let mut batch = Batch::new();
    let delivery = Delivery::Delta(delta.clone());
    // Only an empty mailbox wakes its owner, and that is not at stake here.
    let _ = mailbox.push(&delivery);
    mailbox.drain(&mut batch);
    let came: Vec<_> = batch.iter().collect();
    assert!(
        came == [delivery] || (came.is_empty() && delta.is_empty()),
        "a mailbox changed a delta"
    );
}

/// Returns the meaning of a frame, with all text decoded. Of a fault it is the kind and the party at fault.
fn meaning(decoded: &Result<FromAgent<'_>, AgentFault>) -> Value {
    match decoded {
        Ok(FromAgent::Chunk(chunk)) => json!({
            "chunk": id(&chunk.id),
            "index": chunk.index,
            "delta": delta(&chunk.delta),
            "ending": chunk.ending.as_ref().map(ending),
        }),
        Ok(FromAgent::Result(answer)) => json!({
            "result": id(&answer.id),
            "delta": delta(&answer.delta),
            "vectors": answer.vectors,
            "ending": ending(&answer.ending),
        }),
        Ok(FromAgent::Error { id, failure }) => {
            json!({ "error": id.as_ref().map(self::id), "failure": format!("{failure:?}") })
        }
        Ok(FromAgent::Unknown { kind, id }) => {
            json!({ "unknown": kind, "id": id.as_ref().map(self::id) })
        }
        Ok(FromAgent::Ping { timestamp }) => {
            let timestamp = timestamp.map(|raw| serde_json::from_str::<Value>(raw.get()).ok());
            json!({ "ping": timestamp })
        }
        // Nothing of these is kept escaped.
        Ok(other) => json!(format!("{other:?}")),
        Err(fault) => {
            assert!(!fault.to_string().is_empty(), "a fault that says nothing");
            match fault {
                AgentFault::Answer { id, .. } => json!({ "fault": id.to_string() }),
                AgentFault::Malformed(_) => json!("malformed"),
                other => json!(format!("{other:?}")),
            }
        }
    }
}

fn id(id: &Id<'_>) -> Value {
    match id {
        Id::Ours(id) => json!({ "ours": id.to_string() }),
        Id::Foreign(text) => json!({ "foreign": text.decode() }),
    }
}

fn delta(delta: &Delta<'_>) -> Value {
    let calls: Vec<Value> = delta
        .tool_calls
        .iter()
        .map(|call| {
            json!([
                call.index,
                call.id.decode(),
                call.name.decode(),
                call.arguments.decode()
            ])
        })
        .collect();
    json!([
        delta.content.decode(),
        delta.reasoning.decode(),
        delta.refusal.decode(),
        calls
    ])
}

fn ending(ending: &Ending<'_>) -> Value {
    json!(format!("{ending:?}"))
}

/// Writes a value in another way: fields in reverse order, blanks everywhere, every character as an escape. `None` for
/// what has no other way: a field that is repeated, or a name with half a surrogate pair.
fn rewrite(raw: &RawValue, depth: usize) -> Option<String> {
    let text = raw.get();
    if depth > DEPTH {
        return Some(text.to_owned());
    }
    if text.starts_with('{') {
        let Ok(Fields::Distinct(fields)) = serde_json::from_str(text) else {
            return None;
        };
        let fields: Option<Vec<String>> = fields
            .iter()
            .rev()
            .map(|(name, raw)| Some(format!("{} : {}", escape(name), rewrite(raw, depth + 1)?)))
            .collect();
        return Some(format!("{{ {} }}", fields?.join("\t,\n")));
    }
    if text.starts_with('[') {
        let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let elements: Option<Vec<String>> =
            elements.iter().map(|raw| rewrite(raw, depth + 1)).collect();
        return Some(format!("[ {} ]", elements?.join("\r, ")));
    }
    // Text with half a surrogate pair stays as it is, and so does a number.
    let string = serde_json::from_str::<String>(text);
    Some(string.map_or_else(|_| text.to_owned(), |text| escape(&text)))
}

fn escape(text: &str) -> String {
    let units: String = text
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04X}"))
        .collect();
    format!("\"{units}\"")
}

/// An object's fields by name.
enum Fields<'f> {
    Distinct(BTreeMap<String, &'f RawValue>),
    Repeated,
}

impl<'de: 'f, 'f> Deserialize<'de> for Fields<'f> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        let mut repeated = false;
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            repeated |= fields.insert(name, raw).is_some();
        }
        Ok(if repeated {
            Fields::Repeated
        } else {
            Fields::Distinct(fields)
        })
    }
}
