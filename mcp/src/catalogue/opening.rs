//! The answers of several servers to `initialize`, as one.

use super::kinds::Kind;
use crate::revision::Revision;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use mcp_local_provider_core::rpc::Json;
use mcp_local_provider_core::text::{JsonStr, JsonValue};

/// Arrays and objects within each other that are united; of what stands deeper the first counts.
const DEPTH: usize = 8;

/// Unites the results of `initialize` of several servers, each with the server's name. The revision is the oldest of theirs,
/// which all of them speak.
///
/// A list of the whole changes when a server comes that was down, so that `listChanged` is true for each list. `is_whole` is
/// false when a server is down: it is taken to have tools, prompts and resources.
#[must_use]
pub fn united(results: &[(&str, JsonValue<'_>)], is_whole: bool) -> String {
    let mut json = Json::new();
    json.raw("{");
    json.member("protocolVersion")
        .string(revision(results).as_str());
    json.member("capabilities").raw("{");
    let capabilities = results
        .iter()
        .filter_map(|(_, result)| result.member("capabilities"));
    let capabilities: Vec<JsonValue<'_>> = capabilities.collect();
    let mut names = names_of(&capabilities);
    for kind in [Kind::Tools, Kind::Prompts, Kind::Resources] {
        let name = kind.capability();
        if !is_whole && !names.iter().any(|known| known.is(name)) {
            names.push(JsonStr::from_escaped(name));
        }
    }
    for name in names {
        let changes = Kind::ANNOUNCED
            .into_iter()
            .any(|kind| name.is(kind.capability()));
        let of_all = members_named(&capabilities, name);
        json.member(name.as_escaped());
        if changes {
            json.raw("{\"listChanged\":true");
            for inner in names_of(&of_all)
                .into_iter()
                .filter(|inner| !inner.is("listChanged"))
            {
                json.member(inner.as_escaped());
                unite(&members_named(&of_all, inner), DEPTH, &mut json);
            }
            json.raw("}");
        } else {
            unite(&of_all, DEPTH, &mut json);
        }
    }
    json.raw("}");
    json.member("serverInfo").raw(concat!(
        "{\"name\":\"mcp-local-provider\",\"version\":\"",
        env!("CARGO_PKG_VERSION"),
        "\"}"
    ));
    if let Some(instructions) = instructions(results) {
        json.member("instructions").raw(&instructions);
    }
    json.raw("}");
    json.finish()
}

/// The oldest revision.
fn revision(results: &[(&str, JsonValue<'_>)]) -> Revision {
    let named = results.iter().filter_map(|(_, result)| {
        let version = result.member("protocolVersion")?.text()?;
        Revision::named(&version)
    });
    named.min().unwrap_or(Revision::UNSAID)
}

/// Each server's instructions under its name. `None` when there are none.
fn instructions(results: &[(&str, JsonValue<'_>)]) -> Option<String> {
    let given = results.iter().filter_map(|(server, result)| {
        let text = result.member("instructions")?.as_str()?;
        (!text.is_empty()).then_some((*server, text))
    });
    let mut json = Json::new();
    for (at, (server, text)) in given.enumerate() {
        json.raw(if at == 0 { "\"# " } else { "\\n\\n# " });
        // It needs no escape.
        json.raw(server);
        json.raw("\\n\\n");
        json.raw(text.as_escaped());
    }
    json.raw("\"");
    let text = json.finish();
    (text.len() > 1).then_some(text)
}

/// The names of the members of all of these objects, each once, in the order of their first.
fn names_of<'t>(objects: &[JsonValue<'t>]) -> Vec<JsonStr<'t>> {
    let mut names: Vec<(JsonStr<'t>, Box<str>)> = Vec::new();
    for (name, _) in objects.iter().flat_map(|object| object.members()) {
        let text = name.decode();
        if !names.iter().any(|(_, known)| **known == *text) {
            names.push((name, text.into()));
        }
    }
    names.into_iter().map(|(name, _)| name).collect()
}

fn members_named<'t>(objects: &[JsonValue<'t>], name: JsonStr<'_>) -> Vec<JsonValue<'t>> {
    let name = name.decode();
    let found = objects.iter().filter_map(|object| object.member(&name));
    found.collect()
}

/// Objects become one with the members of all, `true` of one is true of all, and of anything else the first counts.
fn unite(values: &[JsonValue<'_>], depth: usize, json: &mut Json) {
    let Some(first) = values.first() else {
        return json.raw("{}");
    };
    let all_are = |test: fn(JsonValue<'_>) -> bool| values.iter().all(|value| test(*value));
    if values.len() == 1 || depth == 0 {
        json.raw(first.get());
    } else if all_are(|value| value.get().starts_with('{')) {
        json.raw("{");
        for name in names_of(values) {
            json.member(name.as_escaped());
            unite(&members_named(values, name), depth - 1, json);
        }
        json.raw("}");
    } else if values.iter().any(|value| value.get() == "true") {
        json.raw("true");
    } else {
        json.raw(first.get());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::format;

    fn of(results: &[(&str, &str)], is_whole: bool) -> String {
        let read = |(name, text): &(_, &'static str)| (*name, JsonValue::read(text).unwrap());
        let leaked: Vec<(&str, &'static str)> = results
            .iter()
            .map(|(name, text)| (*name, &*Box::leak(Box::<str>::from(*text))))
            .collect();
        let read: Vec<_> = leaked.iter().map(read).collect();
        let text = united(&read, is_whole);
        assert!(JsonValue::read(&text).is_some(), "{text}");
        text
    }

    #[test]
    fn capabilities_are_united_and_instructions_stand_under_their_servers() {
        let text = of(
            &[
                (
                    "files",
                    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":false,"x":[1.0]},"resources":{"subscribe":false},"experimental":{"a":{"n":1e2}}},"serverInfo":{"name":"f"},"instructions":"Read \"all\"."}"#,
                ),
                (
                    "search",
                    r#"{"protocolVersion":"2025-06-18","capabilities":{"logging":{},"tools":{},"resources":{"subscribe":true},"experimental":{"b":true}},"instructions":"Ask."}"#,
                ),
                (
                    "quiet",
                    r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#,
                ),
            ],
            true,
        );
        assert_eq!(
            text,
            format!(
                r##"{{"protocolVersion":"2025-06-18","capabilities":{{"tools":{{"listChanged":true,"x":[1.0]}},"resources":{{"listChanged":true,"subscribe":true}},"experimental":{{"a":{{"n":1e2}},"b":true}},"logging":{{}}}},"serverInfo":{{"name":"mcp-local-provider","version":"{}"}},"instructions":"# files\n\nRead \"all\".\n\n# search\n\nAsk."}}"##,
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn a_server_that_is_down_may_have_any_list() {
        let text = of(
            &[(
                "a",
                r#"{"protocolVersion":"x","capabilities":{"tools":{}}}"#,
            )],
            false,
        );
        let value = JsonValue::read(&text).unwrap();
        assert_eq!(
            value.member("capabilities").unwrap().get(),
            r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true}}"#
        );
        assert_eq!(value.member("instructions"), None);
        assert_eq!(
            value.member("protocolVersion").unwrap().get(),
            "\"2025-03-26\""
        );
    }
}
