//! JSON-RPC messages, in any pieces.

use mcp_local_provider_core::rpc::{Message, NotAMessage, read_each, replace};
use mcp_local_provider_core::text::JsonValue;
use mcp_local_provider_core::wire::lines::{Line, Lines};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// A line over this is too long.
const LIMIT: usize = 4096;

/// Reads what another reader of JSON finds; ids and tokens that are replaced change, and nothing else does; and
/// however the bytes are cut, the same lines come out of them.
///
/// The first byte is the length of the pieces.
pub fn json_rpc(data: &[u8]) {
    let [piece, bytes @ ..] = data else {
        return;
    };
    let cut = |length: usize| {
        let mut lines = Lines::new(LIMIT);
        let mut found: Vec<Option<Vec<u8>>> = Vec::new();
        for piece in bytes.chunks(length.max(1)) {
            lines.push(piece, |line| {
                found.push(match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                });
            });
        }
        found
    };
    let lines = cut(bytes.len());
    assert_eq!(lines, cut(usize::from(*piece)));
    for line in lines.iter().flatten() {
        match std::str::from_utf8(line) {
            Ok(text) => {
                one(text);
                let mut count = 0;
                read_each(text, |_, _| count += 1);
                assert!(count > 0, "{text}");
            }
            Err(_) => assert!(Message::read_line(line).is_err()),
        }
    }
}

fn one(text: &str) {
    let message = Message::read(text);
    let members = serde_json::from_str::<HashMap<String, &RawValue>>(text);
    let (Ok(message), Ok(members)) = (&message, &members) else {
        if let Err(NotAMessage::Noise) = message {
            assert!(!text.contains("\"jsonrpc\""), "{text}");
        }
        // A name may have half a surrogate pair, which is no text for the other reader.
        let other = serde_json::from_str::<&RawValue>(text);
        assert!(message.is_err() || other.is_ok(), "{text}");
        return;
    };
    let member = |name: &str| {
        let raw = members.get(name).map(|raw| raw.get());
        raw.filter(|raw| *raw != "null")
    };
    match message {
        Message::Request { id, call } => {
            assert_eq!(Some(id.get()), member("id"), "{text}");
            let method = serde_json::from_str::<Value>(members["method"].get());
            if let Ok(method) = method {
                assert_eq!(method, *call.method, "{text}");
            }
            assert_eq!(call.params.map(JsonValue::get), member("params"), "{text}");
            changed(text, *id, call.progress_token);
        }
        Message::Notification(call) => {
            assert_eq!(member("id"), None, "{text}");
            assert_eq!(call.params.map(JsonValue::get), member("params"), "{text}");
        }
        Message::Response { id, outcome } => {
            assert_eq!(Some(id.get()), member("id"), "{text}");
            match outcome {
                Ok(result) => assert_eq!(result.map(JsonValue::get), member("result"), "{text}"),
                Err(_) => assert!(member("error").is_some(), "{text}"),
            }
            changed(text, *id, None);
        }
    }
}

/// Replaces the id, and the token where there is one.
fn changed(text: &str, id: JsonValue<'_>, token: Option<JsonValue<'_>>) {
    let place = |value: JsonValue<'_>| value.get().as_ptr().addr();
    let mut places = vec![(id, "\"changed\"")];
    places.extend(token.map(|token| (token, "12345")));
    places.sort_by_key(|(value, _)| place(*value));
    let mut out = String::new();
    replace(&mut out, text, &places);
    let removed: usize = places.iter().map(|(old, _)| old.get().len()).sum();
    let added: usize = places.iter().map(|(_, new)| new.len()).sum();
    assert_eq!(out.len(), text.len() - removed + added, "{text}");
    match Message::read(&out) {
        Ok(Message::Request { id, call }) => {
            assert_eq!(id.get(), "\"changed\"", "{out}");
            let now = call.progress_token.map(JsonValue::get);
            assert_eq!(now, token.map(|_| "12345"), "{out}");
        }
        Ok(Message::Response { id, .. }) => assert_eq!(id.get(), "\"changed\"", "{out}"),
        Ok(Message::Notification(_)) | Err(_) => panic!("{text} became {out}"),
    }
}
