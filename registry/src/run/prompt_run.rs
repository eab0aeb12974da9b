//! A prompt that becomes messages, with the resources that are read for it.

use super::Out;
use crate::definition::Prompt;
use crate::failure::Failure;
use crate::json::{ObjectWriter, array, quoted};
use crate::need::{Body, Contents, Need, NeedId, Outcome};
use crate::template::{OUTPUT, Stop};
use minijinja::Value;
use std::fmt;
use std::sync::Arc;

/// Resources that are read for one prompt.
const RESOURCES: usize = 16;
/// Characters of a token, where they are estimated.
const TOKEN: usize = 4;

/// A prompt as messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Generated {
    /// The prompt's name.
    pub prompt: Box<str>,
    /// Its description.
    pub description: Option<Box<str>>,
    /// Roles and texts.
    pub messages: Vec<(&'static str, String)>,
}

impl fmt::Debug for Generated {
    /// Without the messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generated({})", self.prompt)
    }
}

impl Generated {
    fn list(&self) -> String {
        let messages = self.messages.iter().map(|(role, text)| {
            let role = quoted(role);
            let text = quoted(text);
            format!("{{\"role\":{role},\"content\":{{\"type\":\"text\",\"text\":{text}}}}}")
        });
        array(messages)
    }

    /// `POST /prompts/{name}/generate`.
    #[must_use]
    pub fn rest(&self) -> String {
        let characters = self.messages.iter().map(|(_, text)| text.chars().count());
        let tokens = characters.sum::<usize>().div_ceil(TOKEN);
        let mut answer = ObjectWriter::new();
        answer.text("prompt", &self.prompt);
        match &self.description {
            Some(description) => answer.text("description", description),
            None => answer.json("description", "null"),
        };
        answer.json("messages", &self.list());
        answer.plain("estimated_tokens", tokens).finish()
    }

    /// The result of `prompts/get`. It knows the roles `user` and `assistant` alone: a message of the system is the user's there.
    #[must_use]
    pub fn mcp(&self) -> String {
        let mut known = self.clone();
        for (role, _) in known
            .messages
            .iter_mut()
            .filter(|(role, _)| *role == "system")
        {
            *role = "user";
        }
        let mut result = ObjectWriter::new();
        result.maybe("description", self.description.as_deref());
        result.json("messages", &known.list()).finish()
    }
}

/// The run of a prompt.
#[derive(Debug)]
pub struct PromptRun {
    prompt: Arc<Prompt>,
    scope: Value,
    resources: Vec<(String, Option<Contents>)>,
    is_over: bool,
}

impl PromptRun {
    /// Makes a run; `scope` has the arguments.
    pub(crate) fn new(
        prompt: Arc<Prompt>,
        scope: Value,
        resources: Vec<String>,
    ) -> Result<Self, Failure> {
        if resources.len() > RESOURCES {
            let message = format!("`resources` may have {RESOURCES} URIs");
            return Err(Failure::wrong_at("resources", message));
        }
        Ok(Self {
            prompt,
            scope,
            resources: resources.into_iter().map(|uri| (uri, None)).collect(),
            is_over: false,
        })
    }

    /// Begins it.
    pub fn start(&mut self, out: &mut Out) -> Option<Result<Generated, Failure>> {
        for (at, (uri, _)) in (0..).zip(&self.resources) {
            out.start.push((NeedId(at), Need::Read(uri.clone())));
        }
        self.end()
    }

    /// Takes a resource.
    pub fn handle_outcome(
        &mut self,
        id: NeedId,
        outcome: Outcome,
        out: &mut Out,
    ) -> Option<Result<Generated, Failure>> {
        let at = usize::try_from(id.0).ok()?;
        let is_open = |it: &(String, Option<Contents>)| it.1.is_none();
        if self.is_over || !self.resources.get(at).is_some_and(is_open) {
            return None;
        }
        let failure = match outcome {
            Outcome::Read(Ok(contents)) => match &contents.body {
                Body::Text(_) => {
                    if let Some((_, slot)) = self.resources.get_mut(at) {
                        *slot = Some(contents);
                    }
                    return self.end();
                }
                Body::Bytes(_) => Failure::wrong("the resource is no text"),
            },
            Outcome::Read(Err(failure)) => failure,
            Outcome::TimedOut => Failure::timeout("the resource did not come in time"),
            Outcome::Failed(message) => Failure::bad_answer(message),
            Outcome::Http(_)
            | Outcome::Exited { .. }
            | Outcome::Said(_)
            | Outcome::Called(_)
            | Outcome::File(_)
            | Outcome::TooLarge => Failure::bad_answer("the answer is none of a resource"),
        };
        // The rest of the resources is not needed any more.
        if let Some((_, slot)) = self.resources.get_mut(at) {
            *slot = Some(nothing());
        }
        self.cancel(out);
        Some(Err(failure.at(format!("resources[{at}]"))))
    }

    /// Ends it.
    pub fn cancel(&mut self, out: &mut Out) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        for (at, (_, contents)) in (0..).zip(&self.resources) {
            if contents.is_none() {
                out.end.push(NeedId(at));
            }
        }
    }

    fn end(&mut self) -> Option<Result<Generated, Failure>> {
        if self.is_over || self.resources.iter().any(|(_, it)| it.is_none()) {
            return None;
        }
        self.is_over = true;
        Some(self.generate())
    }

    fn generate(&self) -> Result<Generated, Failure> {
        let mut messages = Vec::new();
        for (_, contents) in &self.resources {
            if let Some(Body::Text(text)) = contents.as_ref().map(|it| &it.body) {
                messages.push(("user", text.to_string()));
            }
        }
        let mut bytes = 0;
        for (at, (role, template)) in self.prompt.messages.iter().enumerate() {
            let what = format!("messages[{at}].content");
            let text = template
                .text(&self.scope)
                .map_err(|it| match it.of(&what) {
                    Stop::Failed(failure) => failure,
                    Stop::Error(message) => Failure::wrong(message).at("arguments"),
                })?;
            bytes += text.len();
            if bytes > OUTPUT {
                let message = format!("the messages became more than {OUTPUT} bytes");
                return Err(Failure::template_limit(message));
            }
            messages.push((role, text));
        }
        Ok(Generated {
            prompt: self.prompt.name.clone(),
            description: self.prompt.description.clone(),
            messages,
        })
    }
}

/// Stands for a resource that is not waited for.
fn nothing() -> Contents {
    Contents {
        uri: "".into(),
        mime_type: "".into(),
        body: Body::Text("".into()),
        etag: "".into(),
        fetched_at: None,
        cached: false,
        stale: false,
    }
}
