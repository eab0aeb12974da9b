//! Tools of a server, described from outside: an OpenAPI 3.1 document, and a page for people.

use super::failure::quoted;
use super::schema::Components;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use mcp_local_provider_core::text::JsonValue;

/// The schema of an error.
const FAILURE: &str = r#"{"type":"object","required":["detail"],"properties":{"detail":{"type":"object","required":["message"],"properties":{"message":{"type":"string"},"data":{}}}}}"#;

/// One tool of a list.
struct Tool<'t> {
    name: Cow<'t, str>,
    whole: JsonValue<'t>,
}

impl<'t> Tool<'t> {
    fn text(&self, name: &str) -> Option<Cow<'t, str>> {
        self.whole.member(name).and_then(JsonValue::text)
    }

    /// A member that is an object.
    fn object(&self, name: &str) -> Option<JsonValue<'t>> {
        let value = self.whole.member(name);
        value.filter(|value| value.get().starts_with('{'))
    }
}

/// The tools of a list that have a name, each name once.
fn named(tools: &[Box<str>]) -> Vec<Tool<'_>> {
    let mut names = BTreeSet::new();
    let tools = tools.iter().filter_map(|tool| {
        let whole = JsonValue::read(tool)?;
        let name = whole.member("name")?.text()?;
        Some(Tool { name, whole })
    });
    tools
        .filter(|tool| !tool.name.is_empty() && names.insert(tool.name.to_string()))
        .collect()
}

/// Returns the OpenAPI 3.1 document of a server with these tools.
pub(super) fn description(server: &str, tools: &[Box<str>]) -> String {
    let mut components = Components::default();
    components.put("Failure", FAILURE);
    let mut paths: Vec<String> = Vec::new();
    for tool in named(tools) {
        paths.push(format!(
            "{}:{{\"post\":{}}}",
            quoted(&format!("/tools/{}", encoded(&tool.name))),
            operation(&tool, &mut components)
        ));
    }
    // Relative to the document, so that it is right under `/k/KEY` too.
    let url = quoted(&format!("../{}", encoded(server)));
    let (server, version) = (quoted(server), env!("CARGO_PKG_VERSION"));
    format!(
        "{{\"openapi\":\"3.1.0\",\"info\":{{\"title\":{server},\"version\":\"{version}\"}},\"servers\":[{{\"url\":{url}}}],\
         \"security\":[{{\"bearer\":[]}}],\"paths\":{{{}}},\"components\":{{\"securitySchemes\":{{\"bearer\":{{\"type\":\"http\",\
         \"scheme\":\"bearer\"}}}},\"schemas\":{{{}}}}}}}",
        paths.join(","),
        components.members()
    )
}

fn operation(tool: &Tool<'_>, components: &mut Components) -> String {
    let content =
        |schema: &str| format!("\"content\":{{\"application/json\":{{\"schema\":{schema}}}}}");
    let mut component = |kind: &str, schema| {
        let reference = components.add(&format!("{}_{kind}", tool.name), schema);
        format!("{{\"$ref\":{}}}", quoted(&reference))
    };
    let input = tool.object("inputSchema");
    let needs = input.and_then(|input| input.member("required"));
    let is_needed = needs.is_some_and(|needed| !needed.elements().is_empty());
    let input = input.map(|schema| component("input", schema));
    let input = input.unwrap_or_else(|| "{\"type\":\"object\"}".into());
    let output = tool.object("outputSchema");
    let output = output.map(|schema| component("output", schema));
    let output = output.unwrap_or_else(|| "{}".into());
    let mut members = format!("\"operationId\":{}", quoted(&tool.name));
    let texts = [("summary", "title"), ("description", "description")];
    for (member, of_tool) in texts {
        if let Some(text) = tool.text(of_tool) {
            members.push_str(&format!(",\"{member}\":{}", quoted(&text)));
        }
    }
    format!(
        "{{{members},\"requestBody\":{{\"required\":{is_needed},{}}},\"responses\":{{\"200\":{{\"description\":\"The result.\",{}}},\
         \"default\":{{\"description\":\"Refused or failed.\",{}}}}}}}",
        content(&input),
        content(&output),
        content("{\"$ref\":\"#/components/schemas/Failure\"}"),
    )
}

/// Returns a page that lists the tools. It needs nothing from elsewhere and runs no script.
pub(super) fn page(server: &str, tools: &[Box<str>]) -> String {
    let server = escaped(server);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\
         <title>{server}</title><style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui;margin:2em auto;max-width:60em;\
         padding:0 1em}}pre{{overflow:auto}}</style><h1>{server}</h1><p>Each tool is a route: <code>POST tools/NAME</code> with the \
         arguments as a JSON object. <a href=\"openapi.json\">OpenAPI 3.1</a>"
    );
    for tool in named(tools) {
        let text = tool.text("description").unwrap_or_default();
        let schema = tool.object("inputSchema").map_or("{}", JsonValue::get);
        page.push_str(&format!(
            "<h2><code>{}</code></h2><p>{}<pre><code>{}</code></pre>",
            escaped(&tool.name),
            escaped(&text),
            escaped(schema)
        ));
    }
    page.push_str("</html>");
    page
}

/// A name as a segment of a path (RFC 3986, 2.1).
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to memory cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Text of others as text of the page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
