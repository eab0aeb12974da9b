//! Exports that are read and written.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn record(kind: Kind, name: &str, json: &str, secrets: &[(&str, &str)]) -> Record {
    let secrets = secrets.iter();
    Record {
        key: Key {
            kind,
            name: name.into(),
        },
        value: Some(Value {
            json: json.into(),
            secrets: secrets
                .map(|(field, text)| ((*field).into(), Secret::new(*text)))
                .collect(),
        }),
    }
}

#[test]
fn an_export_is_read_as_it_was_written() {
    let entries = [
        record(
            Kind::Integration,
            "i",
            "{\n \"a\": \"b\\n\" }",
            &[("/model/api_key", "sk-\"1\n"), ("/x\"~1", "é")],
        ),
        record(Kind::Tool, "now", "{}", &[]),
        record(Kind::ResourceTemplate, "a://{b}", "{}", &[]),
        record(Kind::Resource, "a://b", "{}", &[]),
        record(Kind::Prompt, "p\"", "{}", &[]),
    ];
    let text = write_export(&entries, true);
    assert_eq!(text.lines().count(), 6);
    let read = read_export(&text).unwrap();
    let mut names: Vec<&str> = read.iter().map(|it| &*it.record.key.name).collect();
    assert_eq!(names, ["now", "a://b", "a://{b}", "p\"", "i"]);
    names.clear();
    let integration = read.last().unwrap().clone();
    let secrets = &entries[0].value.as_ref().unwrap().secrets;
    assert_eq!(&integration.record.value.as_ref().unwrap().secrets, secrets);

    let text = write_export(&entries, false);
    assert!(!text.contains("sk-"), "{text}");
    let read = read_export(&text).unwrap();
    let integration = read.last().unwrap().clone();
    assert_eq!(integration.withheld.len(), 2);
    let there = entries[0].value.clone();
    let kept = integration.clone().onto(there.as_ref()).value.unwrap();
    assert_eq!(&kept.secrets, secrets);
    assert_eq!(integration.onto(None).value.unwrap().secrets, []);
}

#[test]
fn wrong_lines_of_an_export_are_named() {
    let head = "{\"format\":\"mcp-local-provider-registry\",\"version\":1}";
    let said = |lines: &str| {
        read_export(&format!("{head}\n{lines}"))
            .unwrap_err()
            .to_string()
    };
    for (lines, expected) in [
        ("nonsense", "line 2: it is no JSON object"),
        ("\n[]", "line 3: it is no JSON object"),
        (
            "{\"name\":\"a\",\"value\":{}}",
            "line 2: `kind` is missing, or is no text",
        ),
        (
            "{\"kind\":\"a\",\"name\":\"a\",\"value\":{}}",
            "line 2: `kind` must be one of tool, resource, resource_template, prompt, integration",
        ),
        (
            "{\"kind\":\"tool\",\"name\":\"\",\"value\":{}}",
            "line 2: `name` must have from 1 to 8192 bytes",
        ),
        (
            "{\"kind\":\"tool\",\"name\":\"a\",\"value\":1}",
            "line 2: `value` is missing, or is no JSON object",
        ),
        (
            "{\"kind\":\"tool\",\"name\":\"a\",\"value\":{},\"b\":1}",
            "line 2: `b` is no member of an entry",
        ),
        (
            "{\"kind\":\"tool\",\"name\":\"a\",\"value\":{}}\n{\"kind\":\"tool\",\"name\":\"a\",\"value\":{}}",
            "line 3: it has the name of line 2; names must differ",
        ),
        (
            "{\"kind\":\"tool\",\"name\":\"a\",\"value\":{},\"secrets\":{\"/a\":1}}",
            "line 2: a secret must be text or null",
        ),
    ] {
        assert_eq!(said(lines), expected);
    }
    assert!(
        read_export("")
            .unwrap_err()
            .to_string()
            .starts_with("this is no export")
    );
    assert!(
        read_export("{}")
            .unwrap_err()
            .to_string()
            .starts_with("this is no export")
    );
    let later = head.replace(":1}", ":2}");
    assert_eq!(read_export(&later), Err(ExportError::Version(2)));
    let many = "x\n".repeat(100);
    assert_eq!(said(&many).lines().count(), 20);
}
