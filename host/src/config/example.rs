//! The example of a configuration, which `config example` prints and from which errors take right forms.

use super::parse::{Format, parse};
use super::tree::{Entry, Form, Node, Origin, Segment, Value};
use std::path::Path;

/// A configuration with every key, its default and a comment. It has no effect as it stands.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// Returns the example in which the keys without a default have effect too: a comment that begins with `#` and a key is one
/// of them, or with `#` and two blanks where the key goes on.
pub(crate) fn uncommented() -> String {
    let uncomment = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let (blanks, rest) = line.split_at_checked(indent).unwrap_or_default();
        let prose =
            |rest: &str| rest.is_empty() || rest.starts_with(' ') && !rest.starts_with("  ");
        match rest.strip_prefix('#') {
            Some(rest) if !prose(rest) => format!("{blanks}{rest}\n"),
            _ => format!("{line}\n"),
        }
    };
    EXAMPLE.lines().map(uncomment).collect()
}

/// Returns the right form of the section or list at `path`, as the language of the file at `origin` has it. `None` for what
/// the example does not hold.
pub(crate) fn form(path: &[Segment], origin: Option<&Origin>) -> Option<String> {
    let root = parse("example", &uncommented(), Format::Yaml, &mut Vec::new()).ok()?;
    let first = |segment: &Segment| match segment {
        Segment::Key(key) => Segment::Key(key.clone()),
        // The example has one item of each list.
        Segment::Index(_) => Segment::Index(0),
    };
    let path: Vec<Segment> = path.iter().map(first).collect();
    let style = match origin {
        Some(Origin::File { name, .. }) => Format::of(Path::new(&**name)),
        Some(Origin::Variable(_) | Origin::DotEnv { .. } | Origin::Flag(_)) | None => None,
    };
    let style = style.unwrap_or(Format::Yaml);
    let mut text = String::new();
    if let Some(Segment::Key(key)) = path.last() {
        write_key(key, style, &mut text);
    }
    write(root.at(&path)?, style, &mut text);
    Some(format!("`{text}`"))
}

fn write_key(key: &str, style: Format, text: &mut String) {
    text.push_str(&match style {
        Format::Yaml => format!("{key}: "),
        Format::Toml => format!("{key} = "),
        Format::Json => format!("\"{key}\": "),
    });
}

/// Writes a value on one line: of a section the entries that have no default or else the first, of a list the first item.
fn write(node: &Node, style: Format, text: &mut String) {
    match &node.value {
        Value::Scalar { text: word, form } => {
            let bare = word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            let number = word.bytes().all(|byte| byte.is_ascii_digit());
            if *form == Form::Plain && (number || bare && style == Format::Yaml) {
                text.push_str(word);
            } else {
                text.push_str(&format!("\"{word}\""));
            }
        }
        Value::List(items) => {
            text.push('[');
            if let Some(item) = items.first() {
                write(item, style, text);
            }
            text.push(']');
        }
        Value::Map(entries) => {
            text.push_str("{ ");
            let mut separator = "";
            for Entry { key, node, .. } in entries.iter().take(shown(entries)) {
                text.push_str(separator);
                separator = ", ";
                write_key(key, style, text);
                write(node, style, text);
            }
            text.push_str(" }");
        }
        Value::Refused => {}
    }
}

/// Returns the number of entries that show the form of a section: two where the second one is needed too.
fn shown(entries: &[Entry]) -> usize {
    let is_name = entries.first().is_some_and(|entry| entry.key == "name");
    if is_name { 2 } else { 1 }
}
