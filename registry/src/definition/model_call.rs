//! Tools of kind `prompt`: one question to a model.

use crate::failure::Failure;
use crate::json::{Fields, ObjectWriter, array, element};
use crate::need::AskNeed;
use crate::template::{Count, Stop, Template, Tree};
use minijinja::Value;

/// Parameters that would change what the answer is.
const NOT_PARAMETERS: [&str; 6] = ["model", "messages", "stream", "n", "tools", "functions"];

/// Roles that a message may have.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Roles and contents of messages.
pub(crate) type Messages = Box<[(&'static str, Template)]>;

/// One question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ModelCall {
    model: Template,
    messages: Messages,
    parameters: Option<Tree>,
}

/// Reads messages: `[{role, content}]`, whose contents are templates.
pub(crate) fn messages(
    fields: &Fields<'_>,
    count: &mut Count,
) -> Result<Option<Messages>, Failure> {
    let Some(list) = fields.list("messages")? else {
        return Ok(None);
    };
    let path = fields.at("messages");
    let mut messages = Vec::new();
    for (at, message) in list.into_iter().enumerate() {
        let message = Fields::read(message, &element(&path, at), &["role", "content"])?;
        let role = message.needed("role")?;
        let Some(role) = ROLES.into_iter().find(|it| *it == role) else {
            let message_text = format!("`role` must be one of {}", ROLES.join(", "));
            return Err(message.wrong("role", message_text));
        };
        let content = message.needed("content")?;
        let content = Template::read(&content, &message.at("content"), count)?;
        messages.push((role, content));
    }
    if messages.is_empty() {
        return Err(fields.wrong("messages", "`messages` must have at least one message"));
    }
    Ok(Some(messages.into()))
}

/// Reads the field `parameters`.
pub(crate) fn parameters(fields: &Fields<'_>, count: &mut Count) -> Result<Option<Tree>, Failure> {
    let Some(value) = fields.object("parameters")? else {
        return Ok(None);
    };
    let path = fields.at("parameters");
    for (name, _) in Fields::any(value, &path)?.members() {
        if NOT_PARAMETERS.contains(&name) {
            let message = format!("`{name}` is no parameter; leave it out");
            return Err(Failure::wrong_at(format!("{path}.{name}"), message));
        }
    }
    Tree::read(value, &path, count).map(Some)
}

impl ModelCall {
    pub(crate) const FIELDS: [&str; 4] = ["model", "prompt", "messages", "parameters"];

    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let mut count = Count::default();
        let model = fields.needed("model")?;
        let model = Template::read(&model, &fields.at("model"), &mut count)?;
        let listed = messages(fields, &mut count)?;
        let messages = match (fields.text("prompt")?, listed) {
            (Some(prompt), None) => {
                let prompt = Template::read(&prompt, &fields.at("prompt"), &mut count)?;
                [("user", prompt)].into()
            }
            (None, Some(messages)) => messages,
            (None, None) => return Err(fields.missing("prompt")),
            (Some(_), Some(_)) => {
                let message = "`prompt` is one message of the user; leave it or `messages` out";
                return Err(fields.wrong("prompt", message));
            }
        };
        let parameters = parameters(fields, &mut count)?;
        Ok(Self {
            model,
            messages,
            parameters,
        })
    }

    /// The model, when it is the same for all arguments.
    pub(crate) fn literal_model(&self) -> Option<&str> {
        self.model.literal()
    }

    pub(crate) fn need(&self, scope: &Value, depth: u8) -> Result<AskNeed, Stop> {
        let model = self.model.text(scope).map_err(|it| it.of("model"))?;
        let mut messages = Vec::new();
        for (at, (role, content)) in self.messages.iter().enumerate() {
            let text = content.text(scope);
            let text = text.map_err(|it| it.of(&format!("messages[{at}].content")))?;
            let mut message = ObjectWriter::new();
            messages.push(message.text("role", role).text("content", &text).finish());
        }
        let parameters = self.parameters.as_ref();
        let parameters =
            parameters.map(|it| it.render(scope).map_err(|trouble| trouble.of("parameters")));
        Ok(AskNeed {
            model,
            messages: array(messages),
            parameters: parameters.transpose()?,
            depth,
        })
    }
}
