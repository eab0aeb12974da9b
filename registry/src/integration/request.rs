//! Bodies of `POST /completions`: what a completion asks whom.

use super::IntegrationSet;
use crate::definition::SERVED;
use crate::failure::Failure;
use crate::json::{Fields, compact, quoted, read_body, to_value};
use crate::registry::Registry;
use crate::run::{Out, PromptRun};
use mcp_local_provider_core::text::JsonValue;
use serde_json::Value;
use std::fmt;

/// A completion that is asked for.
#[derive(Clone)]
pub struct CompletionRequest {
    /// The integration that answers, as it is now; `None` for a model alone.
    pub integration: Option<IntegrationSet>,
    /// The model that is asked: the integration's, or that of the body.
    pub model: String,
    /// A JSON array of messages.
    pub messages: String,
    /// A JSON object of parameters; `None` for none.
    pub parameters: Option<String>,
    /// True when the caller does not wait.
    pub background: bool,
}

impl fmt::Debug for CompletionRequest {
    /// Without the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionRequest")
            .field("model", &self.model)
            .field("background", &self.background)
            .finish_non_exhaustive()
    }
}

/// True when a body of `POST /completions` is the registry's: it names an integration, or has messages. Others are OpenAI's.
#[must_use]
pub fn is_registrys(body: &[u8]) -> bool {
    let value = std::str::from_utf8(body).ok().and_then(JsonValue::read);
    let has = |name| value.and_then(|it| it.member(name)).is_some();
    has("integration_id") || has("messages")
}

impl Registry {
    /// Reads the body of `POST /completions` or `/completions/stream`.
    ///
    /// # Errors
    /// A field is wrong, or there is no such integration or prompt.
    pub fn completion_request(&self, body: &[u8]) -> Result<CompletionRequest, Failure> {
        let known = [
            "integration_id",
            "model",
            "messages",
            "prompt",
            "arguments",
            "parameters",
            "background",
        ];
        let fields = Fields::read(read_body(body)?, "", &known)?;
        let (integration, model) = match (fields.text("integration_id")?, fields.text("model")?) {
            (Some(id), None) => {
                let set = self.integration_set(&id)?;
                let model = set.integration.model.to_string();
                (Some(set), model)
            }
            (None, Some(model)) => match model.strip_prefix(SERVED) {
                Some(id) => {
                    let set = self.integration_set(id)?;
                    let model = set.integration.model.to_string();
                    (Some(set), model)
                }
                None => (None, model.into_owned()),
            },
            (None, None) => return Err(fields.missing("integration_id")),
            (Some(_), Some(_)) => {
                let message = "an integration has its own model; leave `model` out";
                return Err(fields.wrong("model", message));
            }
        };
        let messages = match (fields.list("messages")?, fields.text("prompt")?) {
            (Some(list), None) if list.is_empty() => {
                return Err(fields.wrong("messages", "`messages` must have at least one message"));
            }
            (Some(list), None) => {
                if fields.value("arguments").is_some() {
                    return Err(fields.wrong("arguments", "`arguments` are those of a `prompt`"));
                }
                crate::json::array(list.into_iter().map(|it| compact(it.get())))
            }
            (None, Some(prompt)) => {
                let Some(set) = &integration else {
                    let message =
                        "a prompt with arguments is one of an integration: add `integration_id`";
                    return Err(fields.wrong("prompt", message));
                };
                let arguments = fields.object("arguments")?;
                let arguments = arguments.map(|it| to_value(it, "arguments"));
                self.prompted(set, &prompt, arguments.transpose()?)?
            }
            (None, None) => return Err(fields.missing("messages")),
            (Some(_), Some(_)) => {
                let message = "send `messages`, or a `prompt` with its `arguments`, not both";
                return Err(fields.wrong("prompt", message));
            }
        };
        let parameters = fields.object("parameters")?;
        Ok(CompletionRequest {
            integration,
            model,
            messages,
            parameters: parameters.map(|it| compact(it.get())),
            background: fields.flag("background")?.unwrap_or(false),
        })
    }

    /// The messages that one of an integration's prompts becomes.
    fn prompted(
        &self,
        set: &IntegrationSet,
        name: &str,
        arguments: Option<Value>,
    ) -> Result<String, Failure> {
        let own = set.integration.shown_prompts();
        if !own.iter().any(|it| **it == *name) {
            let known = own.join(", ");
            let message = format!(
                "the integration has no prompt {}; it has: {known}. Text goes into `messages`",
                quoted(name)
            );
            return Err(Failure::not_found("prompt_not_found", message).at("prompt"));
        }
        let prompt = self.prompt(name)?;
        let scope = prompt.scope(arguments.as_ref().and_then(Value::as_object), false)?;
        let mut run = PromptRun::new(prompt, scope, Vec::new())?;
        let ended = run.start(&mut Out::default());
        let generated =
            ended.unwrap_or_else(|| Err(Failure::wrong("the prompt needs resources")))?;
        let messages = generated.messages.iter().map(|(role, text)| {
            format!("{{\"role\":{},\"content\":{}}}", quoted(role), quoted(text))
        });
        Ok(crate::json::array(messages))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::Limits;
    use crate::permits::Anything;
    use crate::store::Kind;
    use serde_json::json;

    #[test]
    fn a_body_asks_an_integration_or_a_model() {
        let mut registry = Registry::new(Limits::default());
        let mut make = |kind, json: Value| {
            registry
                .create(kind, json.to_string().as_bytes(), &Anything)
                .unwrap();
        };
        let prompt = |name: &str| json!({"name": name, "template": "Say {{ n }}", "arguments": [{"name": "n", "required": true}]});
        make(Kind::Prompt, json!([prompt("p"), prompt("other")]));
        let model = json!({"provider": "agent", "model_name": "m"});
        make(
            Kind::Integration,
            json!([
                {"name": "h", "model": model, "prompts": ["p"]},
                {"name": "off", "model": model, "enabled": false},
            ]),
        );
        let read = |body: Value| registry.completion_request(body.to_string().as_bytes());
        let messages = json!([{"role": "user", "content": "hi"}]);
        for (body, asked) in [
            (
                json!({"integration_id": "h", "messages": messages}),
                r#"[{"content":"hi","role":"user"}]"#,
            ),
            (
                json!({"model": "integration/h", "messages": messages}),
                r#"[{"content":"hi","role":"user"}]"#,
            ),
            (
                json!({"model": "m", "messages": messages}),
                r#"[{"content":"hi","role":"user"}]"#,
            ),
            (
                json!({"integration_id": "h", "prompt": "p", "arguments": {"n": "x"}}),
                r#"[{"role":"user","content":"Say x"}]"#,
            ),
        ] {
            let request = read(body).unwrap();
            assert_eq!(
                (request.model.as_str(), request.messages.as_str()),
                ("m", asked)
            );
        }
        for (body, status, param) in [
            (json!({"messages": messages}), 400, Some("integration_id")),
            (
                json!({"integration_id": "none", "messages": messages}),
                404,
                None,
            ),
            (
                json!({"integration_id": "off", "messages": messages}),
                409,
                None,
            ),
            (
                json!({"integration_id": "h", "model": "m", "messages": messages}),
                400,
                Some("model"),
            ),
            (json!({"integration_id": "h"}), 400, Some("messages")),
            (
                json!({"integration_id": "h", "messages": []}),
                400,
                Some("messages"),
            ),
            (
                json!({"integration_id": "h", "prompt": "other"}),
                404,
                Some("prompt"),
            ),
            (
                json!({"integration_id": "h", "prompt": "p"}),
                400,
                Some("arguments.n"),
            ),
            (
                json!({"model": "m", "prompt": "p", "arguments": {}}),
                400,
                Some("prompt"),
            ),
            (
                json!({"integration_id": "h", "prompt": "p", "messages": messages}),
                400,
                Some("prompt"),
            ),
            (
                json!({"integration_id": "h", "messages": messages, "stream": true}),
                400,
                Some("stream"),
            ),
        ] {
            let failure = read(body.clone()).unwrap_err();
            assert_eq!(
                (failure.status, failure.param.as_deref()),
                (status, param),
                "{body}"
            );
        }
        assert!(is_registrys(br#"{"model":"m","messages":[]}"#));
        assert!(!is_registrys(br#"{"model":"m","prompt":"x"}"#));
    }
}
