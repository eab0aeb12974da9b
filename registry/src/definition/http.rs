//! Tools of kind `http`: one request to a host that the configuration lists.

use crate::failure::Failure;
use crate::json::{Fields, member, must_be};
use crate::need::HttpNeed;
use crate::permits::Permits;
use crate::template::{Count, Stop, Template, Tree};
use crate::uri;
use mcp_local_provider_core::text::JsonValue;
use minijinja::Value;

/// Methods that may be asked with.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// Headers that are the connection's, not the request's.
const OF_CONNECTION: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
];

/// Names and values of headers, or of a query.
pub(crate) type Pairs = Box<[(Box<str>, Template)]>;

/// A URL whose scheme, host and port are literal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Url {
    template: Template,
    /// Bytes of scheme, host and port.
    origin: usize,
}

impl Url {
    /// Reads the field `url`.
    pub(crate) fn read(
        fields: &Fields<'_>,
        count: &mut Count,
        permits: &dyn Permits,
    ) -> Result<Self, Failure> {
        let source = fields.needed("url")?;
        let template = Template::read(&source, &fields.at("url"), count)?;
        let literal = source.split(['{']).next().unwrap_or_default();
        let origin = uri::origin(literal).map_err(|why| {
            let message = format!("`url` is wrong: {why}");
            fields.wrong("url", message)
        })?;
        // A template right behind the host could go on with it.
        let whole = origin.length < literal.len() || literal.len() == source.len();
        if !whole {
            let message = "scheme, host and port of `url` must be literal: write a `/` behind them before the first template";
            return Err(fields.wrong("url", message));
        }
        let permitted = permits.http(origin.scheme, origin.host, origin.port);
        permitted.map_err(|why| fields.wrong("url", why))?;
        let origin = origin.length;
        Ok(Self { template, origin })
    }

    /// True when it is the same for all arguments.
    pub(crate) fn is_literal(&self) -> bool {
        self.template.literal().is_some()
    }

    /// Gives the URL.
    pub(crate) fn render(&self, scope: &Value) -> Result<String, Stop> {
        let text = self.template.text(scope).map_err(|it| it.of("url"))?;
        let url = uri::mend(&text);
        let same = uri::origin(&url).is_ok_and(|it| it.length == self.origin)
            && url.get(..self.origin) == self.template.source().get(..self.origin);
        if same {
            Ok(url)
        } else {
            Err(Stop::Error(
                "the template `url` changes the host".to_owned(),
            ))
        }
    }
}

/// Reads the field `headers`: an object of texts.
pub(crate) fn headers(fields: &Fields<'_>, count: &mut Count) -> Result<Pairs, Failure> {
    let Some(value) = fields.object("headers")? else {
        return Ok(Box::default());
    };
    let path = fields.at("headers");
    let mut headers = Vec::new();
    for (name, value) in Fields::any(value, &path)?.members() {
        let place = member(&path, name);
        let text = value.text().ok_or_else(|| must_be(&place, "a string"))?;
        let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
        if name.is_empty() || !name.bytes().all(token) {
            let message = format!("`{name}` is no name of a header");
            return Err(Failure::wrong_at(place, message));
        }
        if OF_CONNECTION.contains(&&*name.to_ascii_lowercase()) {
            let message = format!("the header `{name}` is the connection's; leave it out");
            return Err(Failure::wrong_at(place, message));
        }
        headers.push((name.into(), Template::read(&text, &place, count)?));
    }
    Ok(headers.into())
}

/// Gives the headers.
pub(crate) fn render_headers(
    headers: &[(Box<str>, Template)],
    scope: &Value,
) -> Result<Vec<(Box<str>, String)>, Stop> {
    let headers = headers.iter().map(|(name, template)| {
        let value = template.text(scope);
        let value = value.map_err(|it| it.of(&format!("headers.{name}")))?;
        if value.chars().any(|it| it.is_control() && it != '\t') {
            let message = format!("the value of the header `{name}` has a control character");
            return Err(Stop::Error(message));
        }
        Ok((name.clone(), value.trim().to_owned()))
    });
    headers.collect()
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Http {
    method: Box<str>,
    url: Url,
    headers: Pairs,
    query: Pairs,
    body: Option<Tree>,
}

impl Http {
    pub(crate) const FIELDS: [&str; 5] = ["method", "url", "headers", "query", "body"];

    pub(crate) fn read(fields: &Fields<'_>, permits: &dyn Permits) -> Result<Self, Failure> {
        let mut count = Count::default();
        let method = fields.text("method")?.unwrap_or("GET".into());
        if !METHODS.contains(&&*method) {
            let message = format!("`method` must be one of {}", METHODS.join(", "));
            return Err(fields.wrong("method", message));
        }
        let url = Url::read(fields, &mut count, permits)?;
        let headers = headers(fields, &mut count)?;
        let mut query = Vec::new();
        if let Some(value) = fields.object("query")? {
            let path = fields.at("query");
            for (name, value) in Fields::any(value, &path)?.members() {
                let place = member(&path, name);
                let text = match value.text() {
                    Some(text) => text,
                    None if value.get().starts_with(['{', '[']) => {
                        return Err(must_be(&place, "a string, a number or a truth value"));
                    }
                    None => value.get().into(),
                };
                query.push((name.into(), Template::read(&text, &place, &mut count)?));
            }
        }
        let body = fields.value("body");
        let body = body.map(|body| Tree::read(body, &fields.at("body"), &mut count));
        Ok(Self {
            method: method.into(),
            url,
            headers,
            query: query.into(),
            body: body.transpose()?,
        })
    }

    pub(crate) fn need(&self, scope: &Value) -> Result<HttpNeed, Stop> {
        let mut url = self.url.render(scope)?;
        let fragment = url.find('#').unwrap_or(url.len());
        url.truncate(fragment);
        for (name, template) in &self.query {
            let value = template.text(scope);
            let value = value.map_err(|it| it.of(&format!("query.{name}")))?;
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&uri::encode(name));
            url.push('=');
            url.push_str(&uri::encode(&value));
        }
        let mut headers = render_headers(&self.headers, scope)?;
        let mut body = None;
        if let Some(tree) = &self.body {
            let json = tree.render(scope).map_err(|it| it.of("body"))?;
            // A text is sent as it is, anything else as JSON.
            let text = JsonValue::read(&json).and_then(JsonValue::text);
            let media = if text.is_some() {
                "text/plain; charset=utf-8"
            } else {
                "application/json"
            };
            let has = headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            if !has {
                headers.push(("Content-Type".into(), media.to_owned()));
            }
            body = Some(text.map_or_else(|| json.clone(), |text| text.into_owned()));
        }
        Ok(HttpNeed {
            method: self.method.clone(),
            url,
            headers,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::permits::Anything;

    fn read(json: &str) -> Result<Http, Failure> {
        Http::read(
            &Fields::any(JsonValue::read(json).unwrap(), "").unwrap(),
            &Anything,
        )
    }

    fn need(json: &str, args: serde_json::Value) -> Result<HttpNeed, Stop> {
        let scope = crate::template::value(&serde_json::json!({ "args": args }));
        read(json).unwrap().need(&scope)
    }

    #[test]
    fn scheme_host_and_port_are_literal() {
        for bad in [
            "{{ args.url }}",
            "https://{{ args.host }}/",
            "https://a.{{ args.host }}/",
            "https://a.b{{ args.path }}",
            "https://a.b:{{ args.port }}/",
            "{{ 'https' }}://a.b/",
            "https://{% if args.x %}a{% else %}b{% endif %}/",
            "https://a.b{# #}/",
            "file:///etc/passwd",
            "https://user:pass@a.b/",
        ] {
            let failure = read(&format!("{{\"url\":{bad:?}}}")).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some("url"), "{bad}");
        }
        let json = r#"{"url":"https://a.b/{{ args.p }}"}"#;
        for path in [
            "../x",
            "@evil",
            "//evil",
            "\\evil",
            "?x",
            "#y",
            "a b\r\nHost: x",
            "é",
        ] {
            let need = need(json, serde_json::json!({ "p": path })).unwrap();
            let origin = uri::origin(&need.url).unwrap();
            assert_eq!((origin.host, origin.port), ("a.b", 443), "{}", need.url);
            assert!(
                need.url.bytes().all(|it| it.is_ascii_graphic()),
                "{}",
                need.url
            );
        }
    }

    #[test]
    fn a_request_has_its_query_its_headers_and_its_body() {
        let json = r#"{"method":"POST","url":"https://a.b/c?d=1#e","headers":{"X-A":"{{ args.a }}"},
            "query":{"q":"{{ args.q }}","n":5},"body":{"n":"{{ args.n }}"}}"#;
        let made = need(json, serde_json::json!({"a": "x", "q": "a&b=c", "n": 1})).unwrap();
        assert_eq!(made.url, "https://a.b/c?d=1&q=a%26b%3Dc&n=5");
        assert_eq!(made.body.as_deref(), Some(r#"{"n":1}"#));
        let json_type = ("Content-Type".into(), "application/json".to_owned());
        assert_eq!(made.headers, [("X-A".into(), "x".to_owned()), json_type]);
        let split = need(json, serde_json::json!({"a": "x\r\nY: z", "q": "", "n": 1}));
        assert!(matches!(split, Err(Stop::Error(_))), "{split:?}");
        let text = r#"{"method":"PUT","url":"https://a/","body":"x {{ args.a }}"}"#;
        let made = need(text, serde_json::json!({"a": 1})).unwrap();
        assert_eq!(made.body.as_deref(), Some("x 1"));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (json, param) in [
            (r#"{"method":"GET"}"#, "url"),
            (r#"{"method":"get","url":"https://a/"}"#, "method"),
            (
                r#"{"url":"https://a/","headers":{"Host":"b"}}"#,
                "headers.Host",
            ),
            (
                r#"{"url":"https://a/","headers":{"a b":"b"}}"#,
                "headers.a b",
            ),
            (r#"{"url":"https://a/","headers":{"a":1}}"#, "headers.a"),
            (r#"{"url":"https://a/","query":{"a":[]}}"#, "query.a"),
            (r#"{"url":"https://a/","body":{"a":["{{"]}}"#, "body.a[0]"),
        ] {
            let failure = read(json).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(param), "{json}");
        }
    }
}
