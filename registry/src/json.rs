//! JSON texts: strings as JSON writes them, objects whose fields are taken one by one, texts without blanks.

use crate::failure::Failure;
use mcp_local_provider_core::text::{JsonValue, escape_into, within};
use std::borrow::Cow;
use std::time::Duration;

/// Letters of a field's name that may be wrong for it to be recognised.
const MISTAKES: u8 = 2;

/// Nesting of arguments.
const NESTING: usize = 64;

/// Text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    escape_into(&mut out, text);
    out.push(b'"');
    // What was written is UTF-8.
    String::from_utf8(out).unwrap_or_else(|_| "\"\"".to_owned())
}

/// The same JSON without blanks between its parts: one line.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for letter in json.chars() {
        if inside {
            out.push(letter);
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = false,
                _ => {}
            }
        } else if !matches!(letter, ' ' | '\n' | '\r' | '\t') {
            inside = letter == '"';
            out.push(letter);
        }
    }
    out
}

/// A JSON object, member by member.
#[derive(Debug)]
pub(crate) struct ObjectWriter(String);

impl ObjectWriter {
    pub(crate) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Adds a member whose value is JSON.
    pub(crate) fn json(&mut self, name: &str, value: &str) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.json(name, &quoted(value))
    }

    /// Adds a text that may be absent.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a number, or a truth value.
    pub(crate) fn plain(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.json(name, &value.to_string())
    }

    pub(crate) fn finish(&mut self) -> String {
        self.0.push('}');
        std::mem::take(&mut self.0)
    }
}

/// JSON values as an array.
pub(crate) fn array<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> String {
    let mut out = "[".to_owned();
    for value in values {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(value.as_ref());
    }
    out.push(']');
    out
}

/// The place of a member.
pub(crate) fn member(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The place of an element.
pub(crate) fn element(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

/// Reads a whole body.
///
/// # Errors
/// It is not UTF-8, or not JSON.
pub(crate) fn read_body(body: &[u8]) -> Result<JsonValue<'_>, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::wrong("the body is not UTF-8"))?;
    JsonValue::read(text)
        .ok_or_else(|| Failure::wrong("the body is not JSON, or is nested more than 128 deep"))
}

/// Reads JSON for a schema and for templates, which call themselves for each level.
///
/// # Errors
/// It is nested too deep.
pub(crate) fn to_value(json: JsonValue<'_>, path: &str) -> Result<serde_json::Value, Failure> {
    let (mut depth, mut deepest, mut inside, mut escaped) = (0_usize, 0, false, false);
    for byte in json.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if deepest > NESTING {
        let message = format!("`{path}` may be nested {NESTING} deep");
        return Err(Failure::wrong_at(path, message));
    }
    serde_json::from_str(json.get())
        .map_err(|_| Failure::wrong_at(path, format!("`{path}` has a number that is too large")))
}

/// The fields of an object. One that is `null` is absent; one that is unknown, or there twice, is refused.
#[derive(Debug)]
pub(crate) struct Fields<'t> {
    members: Vec<(Cow<'t, str>, JsonValue<'t>)>,
    path: String,
}

impl<'t> Fields<'t> {
    /// Reads an object, whose place is `path`.
    pub(crate) fn read(value: JsonValue<'t>, path: &str, known: &[&str]) -> Result<Self, Failure> {
        Self::read_of(value, path, &[known])
    }

    /// Reads an object whose known fields are in several lists.
    pub(crate) fn read_of(
        value: JsonValue<'t>,
        path: &str,
        known: &[&[&str]],
    ) -> Result<Self, Failure> {
        let fields = Self::any(value, path)?;
        let all = || known.iter().copied().flatten().copied();
        for (name, _) in &fields.members {
            if all().any(|known| known == name) {
                continue;
            }
            let near = all().find(|known| within(MISTAKES, name.as_bytes(), known.as_bytes()));
            let hint = match near {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known are {}", all().collect::<Vec<_>>().join(", ")),
            };
            let place = member(path, name);
            return Err(Failure::wrong_at(
                place,
                format!("unknown field `{name}`{hint}"),
            ));
        }
        Ok(fields)
    }

    /// Reads an object with names of any kind.
    pub(crate) fn any(value: JsonValue<'t>, path: &str) -> Result<Self, Failure> {
        if !value.get().starts_with('{') {
            return Err(must_be(path, "an object"));
        }
        let mut members: Vec<(Cow<'t, str>, JsonValue<'t>)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (name, value) in value.members() {
            let name = name.decode();
            if !seen.insert(name.clone()) {
                let place = member(path, &name);
                return Err(Failure::wrong_at(place, format!("`{name}` is there twice")));
            }
            members.push((name, value));
        }
        let path = path.to_owned();
        Ok(Self { members, path })
    }

    /// The place of a field.
    pub(crate) fn at(&self, name: &str) -> String {
        member(&self.path, name)
    }

    /// An error about a field.
    pub(crate) fn wrong(&self, name: &str, message: impl Into<String>) -> Failure {
        Failure::wrong_at(self.at(name), message)
    }

    /// An error about a field that is missing.
    pub(crate) fn missing(&self, name: &str) -> Failure {
        self.wrong(name, format!("the field `{name}` is missing"))
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, JsonValue<'t>)> {
        self.members.iter().map(|(name, value)| (&**name, *value))
    }

    pub(crate) fn value(&self, name: &str) -> Option<JsonValue<'t>> {
        let found = self.members.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value).filter(|it| !it.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'t, str>>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let text = value.text();
        text.map(Some)
            .ok_or_else(|| must_be(&self.at(name), "a string"))
    }

    pub(crate) fn needed(&self, name: &str) -> Result<Cow<'t, str>, Failure> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.value(name).map(JsonValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(must_be(&self.at(name), "true or false")),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<JsonValue<'t>>, Failure> {
        match self.value(name) {
            Some(value) if !value.get().starts_with('{') => {
                Err(must_be(&self.at(name), "an object"))
            }
            value => Ok(value),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<Vec<JsonValue<'t>>>, Failure> {
        match self.value(name) {
            None => Ok(None),
            Some(value) if value.get().starts_with('[') => Ok(Some(value.elements())),
            Some(_) => Err(must_be(&self.at(name), "an array")),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<Cow<'t, str>>>, Failure> {
        let Some(list) = self.list(name)? else {
            return Ok(None);
        };
        let texts = list.into_iter().enumerate().map(|(at, value)| {
            let place = || element(&self.at(name), at);
            value.text().ok_or_else(|| must_be(&place(), "a string"))
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// A duration: a number of seconds, or a text with a unit; at most `most`.
    pub(crate) fn duration(&self, name: &str, most: Duration) -> Result<Option<Duration>, Failure> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let read = match value.text() {
            Some(text) => read_duration(&text),
            None => seconds(value.get()),
        };
        let wrong = || {
            let message = format!(
                "`{name}` must be a duration such as 30 (seconds), \"500ms\", \"30s\" or \"5m\", more than 0 and at most {}s",
                most.as_secs()
            );
            self.wrong(name, message)
        };
        let read = read.filter(|read| !read.is_zero() && *read <= most);
        read.map(Some).ok_or_else(wrong)
    }
}

/// An error about a value that has the wrong type.
pub(crate) fn must_be(path: &str, what: &str) -> Failure {
    if path.is_empty() {
        Failure::wrong(format!("the body must be {what}"))
    } else {
        Failure::wrong_at(path, format!("`{path}` must be {what}"))
    }
}

fn seconds(number: &str) -> Option<Duration> {
    let seconds: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn read_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * factor).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_loses_its_blanks_and_keeps_those_in_strings() {
        let text = "{ \"a\" :\n [1, \"x \\\" y\\\\\" ] }";
        assert_eq!(compact(text), "{\"a\":[1,\"x \\\" y\\\\\"]}");
    }

    #[test]
    fn a_field_that_is_unknown_or_there_twice_is_refused_by_name() {
        let known = ["timeout", "name"];
        let read = |text| Fields::read(JsonValue::read(text).unwrap(), "tool", &known);
        let failure = read(r#"{"tiemout":1}"#).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("tool.tiemout"));
        assert!(failure.message.contains("`timeout`"), "{}", failure.message);
        let failure = read(r#"{"name":1,"n\u0061me":2}"#).unwrap_err();
        assert!(failure.message.contains("twice"), "{}", failure.message);
        assert!(read("[]").is_err());
        assert!(read(r#"{"name":null}"#).unwrap().value("name").is_none());
    }

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        for (text, millis) in [
            ("30", Some(30_000)),
            ("0.5", Some(500)),
            ("\"30s\"", Some(30_000)),
            ("\"250ms\"", Some(250)),
            ("\"5m\"", Some(300_000)),
            ("\"5\"", Some(5_000)),
            ("301", None),
            ("0", None),
            ("-1", None),
            ("\"5 years\"", None),
            ("[]", None),
            ("1e400", None),
            ("\"\"", None),
        ] {
            let object = format!("{{\"ttl\":{text}}}");
            let fields = Fields::any(JsonValue::read(&object).unwrap(), "").unwrap();
            let read = fields.duration("ttl", Duration::from_secs(300));
            let expected = millis.map(|it| Some(Duration::from_millis(it)));
            assert_eq!(read.ok(), expected, "{text}");
        }
    }
}
