//! The page at `/` for a browser, and how programs are pointed at this one. Nothing of it is secret.

use super::answered::{Answered, Input};
use super::models::known;
use super::openapi::HTML;
use crate::hub::lists::Lists;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Name that Void, its forks and Continue take for a model that calls tools.
pub const TOOLS_ALIAS: &str = "gpt-4o-agent";
/// Parts of names for which Void sends no tools.
const WITHOUT_TOOLS: [&str; 4] = ["claude", "gemini", "qwen", "llama"];

/// Programs that people use, each with its settings: `{url}` is the base URL without `/v1`, `{model}` a model's name, and
/// `{tools}` one that switches tools on, where there is one.
const EDITORS: [(&str, &str); 8] = [
    (
        "Void",
        "OpenAI-Compatible: base URL {url}/v1, model {tools}",
    ),
    ("Zed", "openai_compatible: api_url {url}/v1, model {model}"),
    (
        "Continue",
        "provider openai, apiBase {url}/v1, model {tools}",
    ),
    (
        "Cline",
        "OpenAI Compatible: base URL {url}/v1, model {model}",
    ),
    ("Open WebUI", "OpenAI connection: URL {url}/v1"),
    (
        "aider",
        "OPENAI_API_BASE={url}/v1 OPENAI_API_KEY=KEY aider --model openai/{model}",
    ),
    (
        "Codex CLI",
        "CODEX_OSS_BASE_URL={url}/k/KEY/v1 codex --oss --local-provider ollama -m {model}",
    ),
    (
        "Claude Code",
        "ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=KEY ANTHROPIC_MODEL={model} claude",
    ),
];

/// Settings for programs that are to ask this one.
#[derive(Clone, Debug)]
pub struct Setup<'s> {
    /// Base URL without `/v1`, such as `http://127.0.0.1:8788`.
    pub url: String,
    /// Names that clients may ask for.
    pub models: Vec<&'s str>,
}

impl<'s> Setup<'s> {
    /// Returns the base URL of each API, with the API's name.
    #[must_use]
    pub fn base_urls(&self) -> [(&'static str, String); 3] {
        [
            ("OpenAI API", format!("{}/v1", self.url)),
            (
                "Ollama API",
                format!("{} (without a field for a key: {0}/k/KEY)", self.url),
            ),
            ("Anthropic API", self.url.clone()),
        ]
    }

    /// Returns the model that examples name.
    #[must_use]
    pub fn model(&self) -> &'s str {
        self.models.first().copied().unwrap_or("MODEL")
    }

    /// Returns the model that [`TOOLS_ALIAS`] is to stand for; `None` when a name switches tools on already, or there is no
    /// model.
    #[must_use]
    pub fn lacks_tools(&self) -> Option<&'s str> {
        let first = self.models.first().copied();
        first.filter(|_| self.tools().is_none())
    }

    /// Returns the settings of each known program, after its name.
    pub fn editors(&self) -> impl Iterator<Item = (&'static str, String)> {
        EDITORS.iter().map(|(name, settings)| {
            let settings = settings
                .replace("{url}", &self.url)
                .replace("{model}", self.model())
                .replace("{tools}", self.tools().unwrap_or(self.model()));
            (*name, settings)
        })
    }

    /// The first name that switches tools on in Void and Continue.
    fn tools(&self) -> Option<&'s str> {
        let mut models = self.models.iter().copied();
        models.find(|name| {
            name.starts_with("gpt-4o") && !WITHOUT_TOOLS.iter().any(|part| name.contains(part))
        })
    }
}

/// True for an `Accept` header that names a page before other forms, as browsers do.
pub(super) fn is_preferred(accept: Option<&str>) -> bool {
    let accept = accept.unwrap_or_default();
    let others = ["text/plain", "application/json"];
    let others = others.iter().filter_map(|form| accept.find(form));
    accept
        .find("text/html")
        .is_some_and(|page| others.min().is_none_or(|other| page < other))
}

/// Makes the page for a browser that asks `host`. Only programs on this machine are shown the models.
pub(super) fn page(lists: &Lists, input: &Input<'_>, host: &str) -> Answered {
    let local = input.local;
    let setup = Setup {
        url: format!("http://{host}"),
        models: known(lists, input)
            .filter(|_| local)
            .map(|model| &*model.name)
            .collect(),
    };
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>MCP Local Provider</title><style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2em auto;\
         max-width:60em;padding:0 1em}table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;\
         padding:.3em .8em .3em 0}pre{overflow:auto}</style><h1>MCP Local Provider runs</h1>\
         <p>Programs on this machine can ask your agent as a model. <code>KEY</code> stands for an API key: \
         the first one is in the file <code>client.key</code> of the data directory, and <code>keys add NAME</code> makes more.\
         <h2>Base URLs</h2><table>",
    );
    let row = |page: &mut String, name: &str, text: &str| {
        page.push_str(&format!("<tr><th>{name}<td><code>{}</code>", escaped(text)));
    };
    for (name, url) in setup.base_urls() {
        row(&mut page, name, &url);
    }
    page.push_str("</table><h2>Models</h2><p>");
    if setup.models.is_empty() {
        page.push_str(if local {
            "No agent is connected."
        } else {
            "<code>GET /v1/models</code> lists them, with a key."
        });
    }
    for model in &setup.models {
        page.push_str(&format!("<code>{}</code> ", escaped(model)));
    }
    let (url, model) = (escaped(&setup.url), escaped(setup.model()));
    page.push_str(&format!(
        "<h2>Try it</h2><pre><code>curl -N {url}/v1/chat/completions -H \"Authorization: Bearer KEY\" \\\n  \
         -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'</code></pre>\
         <h2>Programs</h2><table>"
    ));
    for (name, settings) in setup.editors() {
        row(&mut page, name, &settings);
    }
    page.push_str("</table>");
    if let Some(model) = setup.lacks_tools() {
        page.push_str(&format!(
            "<p>Void and Continue decide by a model's name whether to send tools. The configuration can give \
             <code>{0}</code> a name that switches them on: \
             <code>models: {{ aliases: {{ {TOOLS_ALIAS}: {{ model: {0}, context_length: 128000 }} }} }}</code>",
            escaped(model)
        ));
    }
    page.push_str("<p>All routes: <a href=\"docs\">docs</a></html>");
    Answered::Bytes(HTML, page.into_bytes())
}

/// Escapes text for HTML.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_page_and_programs_get_text() {
        for (accept, preferred) in [
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), true),
            (Some("text/html, application/json;q=0.5"), true),
            (Some("application/json, text/html"), false),
            (Some("*/*"), false),
            (None, false),
        ] {
            assert_eq!(is_preferred(accept), preferred, "{accept:?}");
        }
    }

    #[test]
    fn a_name_that_switches_tools_on_is_used_where_there_is_one_and_offered_where_there_is_none() {
        let setup = |models: &[&'static str]| {
            let setup = Setup {
                url: "http://h".into(),
                models: models.to_vec(),
            };
            let void = setup.editors().next().map(|(_, settings)| settings);
            (setup.lacks_tools(), void.unwrap_or_default())
        };
        let void = |name| format!("OpenAI-Compatible: base URL http://h/v1, model {name}");
        let without = (Some("claude"), void("claude"));
        assert_eq!(setup(&["claude", "gpt-4o-claude"]), without);
        assert_eq!(
            setup(&["claude", "gpt-4o-mine"]),
            (None, void("gpt-4o-mine"))
        );
        assert_eq!(setup(&[]), (None, void("MODEL")));
    }

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!(escaped("<a b='c&\">"), "&lt;a b=&#39;c&amp;&quot;&gt;");
    }
}
