//! Ollama's embeddings: `/api/embed`, and `/api/embeddings` before it.

use super::request;
use crate::config::Limits;
use crate::dialect::body::{self, Path, raw_fields};
use crate::dialect::embedding::{EmbeddingEncoder, Form};
use crate::dialect::{Parsed, fields};
use crate::error::Refusal;
use crate::invocation::{Invocation, Parameters, Task};
use crate::text::{JsonStr, JsonValue};
use alloc::boxed::Box;
use alloc::vec::Vec;

raw_fields! {
    /// The body of both requests; `truncate` and `keep_alive` are accepted and ignored.
    Embed {
        model: "model",
        input: "input",
        prompt: "prompt",
        dimensions: "dimensions",
        options: "options",
    }
}

/// Reads the body of `POST /api/embed`. The input is a string or a list of at most 2,048 of them; without any it is a request to
/// load the model.
///
/// # Errors
/// What is wrong with the request, beginning with the field's path; see [`Limits`] for `content_bytes` and `json_depth`.
pub fn embed_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let request: Embed<'a> = body::read(body, limits)?;
    let value = Path::root("input").find(request.input);
    let input = match &value {
        Some(value) => fields::inputs(value, limits)?,
        None => Vec::new(),
    };
    // An empty string is no input, an empty string in a list is one.
    let nothing = value.is_some_and(|value| value.raw.get() == "\"\"");
    let input = if nothing { Vec::new() } else { input };
    parsed(&request, input, request.input, Form::Embed)
}

/// Reads the body of `POST /api/embeddings`: one `prompt`; without it, it is a request to load the model.
///
/// # Errors
/// As [`embed_request`].
pub fn embeddings_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    let request: Embed<'a> = body::read(body, limits)?;
    let path = Path::root("prompt");
    let prompt = path.find(request.prompt);
    let prompt = prompt.map(|value| value.string()).transpose()?;
    let input: Vec<JsonStr<'a>> = prompt.filter(|text| !text.is_empty()).into_iter().collect();
    fields::check_bytes(input.iter().copied(), path, limits)?;
    parsed(&request, input, request.prompt, Form::Embeddings)
}

fn parsed<'a>(
    request: &Embed<'a>,
    input: Vec<JsonStr<'a>>,
    digest_of: Option<JsonValue<'a>>,
    form: Form,
) -> Result<Parsed<'a>, Refusal> {
    let options = request::parameters(request.options, None, None)?;
    let load_only = input.is_empty();
    Ok(Parsed {
        invocation: Invocation {
            model: fields::model(request.model)?,
            task: Task::Embedding { input },
            stream: false,
            parameters: Parameters {
                num_ctx: options.num_ctx,
                dimensions: fields::dimensions(request.dimensions)?,
                ..Parameters::default()
            },
        },
        encoder: Box::new(EmbeddingEncoder(form)),
        stream: false,
        more: Vec::new(),
        digest_of: digest_of.map_or("", JsonValue::get),
        load_only,
    })
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

    fn embed(body: &str) -> Parsed<'_> {
        embed_request(body, &Limits::default()).unwrap()
    }

    fn embeddings(body: &str) -> Parsed<'_> {
        embeddings_request(body, &Limits::default()).unwrap()
    }

    #[test]
    fn vectors_come_with_times_and_counts() {
        let body = r#"{"model":"m:latest","input":["a",""],"truncate":true,"keep_alive":-1,"options":{"num_ctx":4096,"top_k":1}}"#;
        let parsed = embed(body);
        assert_eq!(parsed.digest_of, r#"["a",""]"#);
        assert_eq!(parsed.invocation.parameters.num_ctx, Some(4096));
        assert!(!parsed.load_only && !parsed.stream);
        assert_eq!(
            vectors(parsed, &["[0.1,0.2]", "[3,4]"]),
            r#"{"model":"m:latest","embeddings":[[0.1,0.2],[3,4]],"total_duration":750000000,"load_duration":0,"prompt_eval_count":9}"#
        );
        let parsed = embed(r#"{"model":"m","input":"a","dimensions":64}"#);
        assert_eq!(parsed.invocation.parameters.dimensions, Some(64));
    }

    #[test]
    fn the_older_route_gives_one_vector() {
        let parsed = embeddings(r#"{"model":"m","prompt":"a"}"#);
        assert_eq!(parsed.digest_of, "\"a\"");
        assert_eq!(
            vectors(parsed, &["[0.1,0.2]"]),
            r#"{"embedding":[0.1,0.2]}"#
        );
    }

    #[test]
    fn nothing_to_embed_loads() {
        for body in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","input":""}"#,
            r#"{"model":"m","input":[]}"#,
        ] {
            let parsed = embed(body);
            assert!(parsed.load_only, "{body}");
            assert!(vectors(parsed, &[]).starts_with(r#"{"model":"m","embeddings":[],"#));
        }
        let parsed = embeddings(r#"{"model":"m","prompt":""}"#);
        assert!(parsed.load_only);
        assert_eq!(vectors(parsed, &[]), r#"{"embedding":[]}"#);
    }

    #[test]
    fn what_is_wrong_is_named() {
        refuses(
            embed_request,
            &Limits::default(),
            &[
                (
                    r#"{"model":"m","input":7}"#,
                    Some("input"),
                    "input: expected a string or a list of strings, found 7",
                ),
                (
                    r#"{"model":"m","input":[1,2]}"#,
                    Some("input"),
                    "input: lists of tokens are not supported, as agents have no tokenizer in common; send text",
                ),
                (
                    r#"{"model":7,"input":"a"}"#,
                    Some("model"),
                    "model: expected a string, found 7",
                ),
            ],
        );
        refuses(
            embeddings_request,
            &Limits::default(),
            &[(
                r#"{"model":"m","prompt":["a"]}"#,
                Some("prompt"),
                "prompt: expected a string, found a list",
            )],
        );
    }
}
