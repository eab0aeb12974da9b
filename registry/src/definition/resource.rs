//! Resources: what people can read, under a URI or a template of URIs.

use super::http::{Pairs, Url, headers};
use crate::failure::Failure;
use crate::json::{Fields, ObjectWriter, compact};
use crate::limits::Limits;
use crate::permits::Permits;
use crate::template::{Count, Template};
use crate::uri::is_uri;
use crate::uri_template::UriTemplate;
use data_encoding::BASE64;
use mcp_local_provider_core::text::JsonValue;
use std::sync::Arc;
use std::time::Duration;

const FIELDS: [&str; 8] = [
    "uri",
    "uri_template",
    "name",
    "title",
    "description",
    "mime_type",
    "ttl",
    "kind",
];
const KINDS: [&str; 4] = ["text", "blob", "file", "http"];
/// Characters of a name.
const NAME: usize = 256;
/// The longest time for which a copy may be kept.
const MOST: Duration = Duration::from_secs(300);

/// Places where a resource comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The definition has the text; that of a template of URIs is a template itself.
    Text(Option<Template>),
    /// The definition has the bytes.
    Blob,
    File(Template),
    Http {
        url: Url,
        headers: Pairs,
    },
}

/// One resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// Its URI, or its URI template.
    pub(crate) uri: Arc<str>,
    pub(crate) template: Option<UriTemplate>,
    pub(crate) mime_type: Option<Arc<str>>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) source: Source,
    /// As REST lists it: without its content.
    pub(crate) shown: Box<str>,
    /// As MCP lists it.
    pub(crate) listed: Box<str>,
}

impl Resource {
    /// Reads a definition.
    pub(crate) fn read(
        json: JsonValue<'_>,
        permits: &dyn Permits,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let kind = Fields::any(json, "")?.needed("kind")?;
        let known: &[&str] = match &*kind {
            "text" => &["text"],
            "blob" => &["blob"],
            "file" => &["path"],
            "http" => &["url", "headers"],
            _ => {
                let message = format!("`kind` must be one of {}", KINDS.join(", "));
                return Err(Failure::wrong_at("kind", message));
            }
        };
        let fields = Fields::read_of(json, "", &[&FIELDS, known])?;
        let (uri, template) = match (fields.text("uri")?, fields.text("uri_template")?) {
            (Some(uri), None) => (uri, None),
            (None, Some(template)) => {
                let read = UriTemplate::read(&template);
                let read = read.map_err(|why| fields.wrong("uri_template", why))?;
                (template, Some(read))
            }
            (None, None) => return Err(fields.missing("uri")),
            (Some(_), Some(_)) => {
                let message = "a resource has a `uri` or a `uri_template`, not both";
                return Err(fields.wrong("uri_template", message));
            }
        };
        if !is_uri(&uri) {
            let field = if template.is_some() {
                "uri_template"
            } else {
                "uri"
            };
            let message = format!("`{field}` must be a URI such as docs://readme, without blanks");
            return Err(fields.wrong(field, message));
        }
        let name = fields.needed("name")?;
        if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
            let message = format!("`name` must have 1 to {NAME} characters and no controls");
            return Err(fields.wrong("name", message));
        }
        let title = fields.text("title")?;
        let description = fields.text("description")?;
        let mime_type = fields.text("mime_type")?;
        if mime_type.as_ref().is_some_and(|it| !is_media_type(it)) {
            let message = "`mime_type` must be a media type such as text/markdown";
            return Err(fields.wrong("mime_type", message));
        }
        let mut count = Count::default();
        let (source, size) = Source::read(&fields, &kind, &mut count, template.is_some(), permits)?;
        if size.is_some_and(|size| size > limits.resource_bytes) {
            let most = limits.resource_bytes;
            let message = format!("a resource may have {most} bytes (registry.resource_bytes)");
            return Err(Failure::too_large(message).at(kind.into_owned()));
        }
        let mime_type: Option<Arc<str>> = match (mime_type, &source) {
            (Some(mime_type), _) => Some(mime_type.as_ref().into()),
            (None, Source::Text(_)) => Some("text/plain".into()),
            (None, Source::Blob) => Some("application/octet-stream".into()),
            (None, Source::File(_) | Source::Http { .. }) => None,
        };
        let mut shown = ObjectWriter::new();
        for (name, value) in fields.members() {
            if !matches!(name, "text" | "blob") {
                shown.json(name, &compact(value.get()));
            }
        }
        if let Some(size) = size {
            shown.plain("size", size);
        }
        let mut listed = ObjectWriter::new();
        let field = if template.is_some() {
            "uriTemplate"
        } else {
            "uri"
        };
        listed.text(field, &uri);
        listed.text("name", &name);
        listed.maybe("title", title.as_deref());
        listed.maybe("description", description.as_deref());
        listed.maybe("mimeType", mime_type.as_deref());
        if let (Some(size), None) = (size, &template) {
            listed.plain("size", size);
        }
        Ok(Self {
            uri: uri.as_ref().into(),
            template,
            mime_type,
            ttl: fields.duration("ttl", MOST)?,
            source,
            shown: shown.finish().into(),
            listed: listed.finish().into(),
        })
    }
}

impl Source {
    /// Reads the fields of a kind; gives the bytes that it has, where the definition has them.
    fn read(
        fields: &Fields<'_>,
        kind: &str,
        count: &mut Count,
        is_template: bool,
        permits: &dyn Permits,
    ) -> Result<(Self, Option<usize>), Failure> {
        Ok(match kind {
            "text" => {
                let text = fields.needed("text")?;
                let size = Some(text.len());
                let template =
                    is_template.then(|| Template::read(&text, &fields.at("text"), count));
                (Self::Text(template.transpose()?), size)
            }
            "blob" => {
                let blob = fields.needed("blob")?;
                let bytes = BASE64.decode(blob.as_bytes()).map_err(|_| {
                    fields.wrong("blob", "`blob` must be base64 (RFC 4648) with its padding")
                })?;
                (Self::Blob, Some(bytes.len()))
            }
            "file" => {
                let path = fields.needed("path")?;
                let template = Template::read(&path, &fields.at("path"), count)?;
                if template.literal().is_none() && !is_template {
                    return Err(fields.wrong("path", "a `uri` has no arguments for a template"));
                }
                let literal = path.split('{').next().unwrap_or_default();
                // Of a template, the folder that is certain.
                let certain = match template.literal() {
                    Some(path) => path,
                    None => literal.rsplit_once('/').map_or("", |(folder, _)| folder),
                };
                let permitted = permits.file(certain);
                permitted.map_err(|why| fields.wrong("path", why))?;
                (Self::File(template), None)
            }
            // The names of kinds were looked at before.
            _ => {
                let url = Url::read(fields, count, permits)?;
                let headers = headers(fields, count)?;
                let literal =
                    url.is_literal() && headers.iter().all(|(_, it)| it.literal().is_some());
                if !literal && !is_template {
                    return Err(fields.wrong("url", "a `uri` has no arguments for a template"));
                }
                (Self::Http { url, headers }, None)
            }
        })
    }
}

fn is_media_type(text: &str) -> bool {
    let token = |it: &str| {
        let good = |it: u8| it.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&it);
        !it.is_empty() && it.bytes().all(good)
    };
    let bare = text.split(';').next().unwrap_or_default().trim();
    let graphic = text.bytes().all(|it| it.is_ascii_graphic() || it == b' ');
    let parts = bare.split_once('/');
    graphic && parts.is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}
