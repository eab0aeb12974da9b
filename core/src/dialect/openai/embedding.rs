//! OpenAI's Embeddings API.

use crate::config::Limits;
use crate::dialect::body::{self, Path, raw_fields};
use crate::dialect::embedding::{EmbeddingEncoder, Form};
use crate::dialect::{Parsed, fields};
use crate::error::Refusal;
use crate::invocation::{Invocation, Parameters, Task};
use crate::text::JsonValue;
use alloc::boxed::Box;
use alloc::vec::Vec;

raw_fields! {
    /// The body of an embedding request.
    Embedding {
        model: "model",
        input: "input",
        encoding_format: "encoding_format",
        dimensions: "dimensions",
        user: "user",
    }
}

/// Reads the body of `POST /v1/embeddings`. The input is a string or a list of at most 2,048 of them.
///
/// # Errors
/// What is wrong with the request, with the field's path as `param`; see [`Limits`] for `content_bytes` and `json_depth`.
pub fn embedding_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let request: Embedding<'a> = body::read(body, limits)?;
    let model = fields::model(request.model)?;
    let path = Path::root("input");
    let value = path.need(request.input, "a string or a list of strings")?;
    let input = fields::inputs(&value, limits)?;
    if input.is_empty() {
        return Err(path.wrong("expected at least one text, found none"));
    }
    let user = Path::root("user").find(request.user);
    Ok(Parsed {
        invocation: Invocation {
            model,
            task: Task::Embedding { input },
            stream: false,
            parameters: Parameters {
                dimensions: fields::dimensions(request.dimensions)?,
                user: user.map(|user| user.string()).transpose()?,
                ..Parameters::default()
            },
        },
        encoder: Box::new(EmbeddingEncoder(form(request.encoding_format)?)),
        stream: false,
        more: Vec::new(),
        digest_of: value.raw.get(),
        load_only: false,
    })
}

fn form(raw: Option<JsonValue<'_>>) -> Result<Form, Refusal> {
    let Some(value) = Path::root("encoding_format").find(raw) else {
        return Ok(Form::OpenAi);
    };
    match &*value.string()?.decode() {
        "float" => Ok(Form::OpenAi),
        "base64" => Ok(Form::OpenAiBase64),
        _ => Err(value.path.wrong("unknown format; expected float or base64")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )]
    use super::*;
    use crate::dialect::tests::{refuses, vectors};
    use alloc::format;

    fn read(body: &str) -> Parsed<'_> {
        embedding_request(body, &Limits::default()).unwrap()
    }

    #[test]
    fn vectors_are_given_back_as_the_agent_wrote_them() {
        let body = r#"{"model":"m","input":["one","two\n"],"dimensions":2,"user":"u"}"#;
        let parsed = read(body);
        assert_eq!(parsed.digest_of, r#"["one","two\n"]"#);
        assert_eq!(parsed.invocation.parameters.dimensions, Some(2));
        let Task::Embedding { input } = &parsed.invocation.task else {
            panic!("not an embedding");
        };
        assert_eq!(input[1].decode(), "two\n");
        assert_eq!(
            vectors(parsed, &["[0.1,-2e-3]", "[3,4]"]),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]},{"object":"embedding","index":1,"embedding":[3,4]}],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}"#
        );
    }

    #[test]
    fn the_official_clients_get_base64() {
        let parsed = read(r#"{"model":"m","input":"one","encoding_format":"base64"}"#);
        assert_eq!(
            vectors(parsed, &["[1.0,-2.5]"]),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAIMA="}],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}"#
        );
    }

    #[test]
    fn what_cannot_be_embedded_is_refused_in_clear_words() {
        let many = format!(r#"{{"model":"m","input":[{}""]}}"#, r#""","#.repeat(2048));
        let tokens = "input: lists of tokens are not supported, as agents have no tokenizer in common; send text";
        let token_list = format!(r#"{{"model":"m","input":[{}1]}}"#, "1,".repeat(3000));
        refuses(
            embedding_request,
            &Limits::default(),
            &[
                (
                    r#"{"model":"m"}"#,
                    Some("input"),
                    "input: missing; expected a string or a list of strings",
                ),
                (
                    r#"{"model":"m","input":{}}"#,
                    Some("input"),
                    "input: expected a string or a list of strings, found an object",
                ),
                (
                    r#"{"model":"m","input":[]}"#,
                    Some("input"),
                    "input: expected at least one text, found none",
                ),
                (
                    r#"{"model":"m","input":["a",null]}"#,
                    Some("input[1]"),
                    "input[1]: expected a string, found null",
                ),
                (r#"{"model":"m","input":[[1, 2]]}"#, Some("input"), tokens),
                (&token_list, Some("input"), tokens),
                (
                    &many,
                    Some("input"),
                    "input: 2049 elements; at most 2048 are allowed",
                ),
                (
                    r#"{"model":"m","input":"a","encoding_format":"int8"}"#,
                    Some("encoding_format"),
                    "encoding_format: unknown format; expected float or base64",
                ),
                (
                    r#"{"model":"m","input":"a","dimensions":0}"#,
                    Some("dimensions"),
                    "dimensions: expected a positive whole number, found 0",
                ),
            ],
        );
    }
}
