//! `session/update` and the answers to `initialize` and `session/new`, of every version that agents speak.

use crate::text::{Cursor, JsonStr, JsonValue};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// One `session/update`.
pub(super) struct SessionUpdate<'l> {
    pub(super) session: Cow<'l, str>,
    pub(super) update: Update<'l>,
}

/// The kinds that mean something here.
pub(super) enum Update<'l> {
    /// `agent_message_chunk`. The text is empty when there is no content.
    Message {
        text: JsonStr<'l>,
        /// Id of the message that it is part of, when the agent gives one.
        message: Option<Cow<'l, str>>,
        meta: Option<JsonValue<'l>>,
    },
    /// `agent_thought_chunk`.
    Thought(JsonStr<'l>),
    /// `tool_call`, whole.
    Call(JsonValue<'l>),
    /// More of a tool's call, or a plan: it works.
    Work,
    /// `notice`.
    Notice,
    /// `config_option_update`: all options.
    Options(Option<JsonValue<'l>>),
    /// `current_mode_update`: the mode that the session is in now.
    Mode(Cow<'l, str>),
    /// `session_info_update`, with its `_meta`.
    Info(Option<JsonValue<'l>>),
    /// Known, and of no meaning for an answer.
    Other,
    Unknown,
}

/// One block of content. No client's API takes anything but text in an answer, so the person is told what was there instead.
fn block<'l>(cursor: &mut Cursor<'l>) -> Option<JsonStr<'l>> {
    let (mut kind, mut text, mut uri, mut resource) = (None, None, None, None);
    if cursor.next() != Some(&b'{') {
        cursor.value()?;
        return Some(JsonStr::EMPTY);
    }
    cursor.object(|cursor, name| {
        let place = match name.as_escaped() {
            "type" => &mut kind,
            "text" => &mut text,
            // Of a `resource_link`.
            "uri" => &mut uri,
            "resource" => &mut resource,
            _ => return cursor.value().map(drop),
        };
        *place = Some(JsonValue::skipped(cursor.value()?));
        Some(())
    })?;
    let of = |value: Option<JsonValue<'l>>| value.and_then(JsonValue::as_str);
    Some(match of(kind).map(JsonStr::as_escaped) {
        None | Some("text") => of(text).unwrap_or_default(),
        Some("resource_link") => of(uri).unwrap_or(NO_TEXT),
        Some("resource") => of(path(resource, &["text"])).unwrap_or(NO_TEXT),
        Some("image") => NO_IMAGE,
        Some("audio") => NO_AUDIO,
        Some(_) => NO_TEXT,
    })
}

const NO_IMAGE: JsonStr<'static> = JsonStr::from_escaped(
    "\\n[The agent answered with an image here, which this API cannot carry.]\\n",
);
const NO_AUDIO: JsonStr<'static> = JsonStr::from_escaped(
    "\\n[The agent answered with audio here, which this API cannot carry.]\\n",
);
const NO_TEXT: JsonStr<'static> = JsonStr::from_escaped(
    "\\n[The agent answered with something other than text here, which this API cannot carry.]\\n",
);

/// Members of `update`.
#[derive(Default)]
struct UpdateMembers<'l> {
    kind: Option<JsonValue<'l>>,
    text: JsonStr<'l>,
    message: Option<JsonValue<'l>>,
    options: Option<JsonValue<'l>>,
    mode: Option<JsonValue<'l>>,
    meta: Option<JsonValue<'l>>,
}

impl<'l> UpdateMembers<'l> {
    fn take(cursor: &mut Cursor<'l>) -> Option<Self> {
        let mut members = Self::default();
        cursor.object(|cursor, name| {
            let place = match name.as_escaped() {
                "content" => {
                    members.text = block(cursor)?;
                    return Some(());
                }
                "sessionUpdate" => &mut members.kind,
                "messageId" => &mut members.message,
                "configOptions" => &mut members.options,
                "currentModeId" => &mut members.mode,
                "_meta" => &mut members.meta,
                _ => return cursor.value().map(drop),
            };
            *place = Some(JsonValue::skipped(cursor.value()?));
            Some(())
        })?;
        Some(members)
    }
}

impl<'l> SessionUpdate<'l> {
    /// `None` when it names no session or has no update.
    pub(super) fn read(params: JsonValue<'l>) -> Option<Self> {
        let (mut session, mut update) = (None, None);
        params.cursor().object(|cursor, name| {
            match name.as_escaped() {
                "sessionId" => session = Some(JsonValue::skipped(cursor.value()?)),
                "update" => {
                    let mut members = None;
                    let whole = cursor.taken(|cursor| {
                        members = Some(UpdateMembers::take(cursor)?);
                        Some(())
                    })?;
                    update = Some((members?, JsonValue::skipped(whole)));
                }
                _ => drop(cursor.value()?),
            }
            Some(())
        })?;
        let session = text(session)?;
        let (members, whole) = update?;
        let UpdateMembers {
            kind,
            text: piece,
            message,
            options,
            mode,
            meta,
        } = members;
        let update = match &*text(kind)? {
            "agent_message_chunk" => Update::Message {
                text: piece,
                message: text(message),
                meta,
            },
            "agent_thought_chunk" => Update::Thought(piece),
            "tool_call" => Update::Call(whole),
            "tool_call_update" | "plan" | "plan_update" => Update::Work,
            "notice" => Update::Notice,
            "session_info_update" => Update::Info(meta),
            "config_option_update" => Update::Options(options),
            "current_mode_update" => text(mode).map_or(Update::Other, Update::Mode),
            "user_message_chunk" | "available_commands_update" | "usage_update" => Update::Other,
            _ => Update::Unknown,
        };
        Some(Self { session, update })
    }
}

/// The text of a string that may be there.
pub(super) fn text(value: Option<JsonValue<'_>>) -> Option<Cow<'_, str>> {
    value.and_then(JsonValue::text)
}

/// The elements of an array that may be there.
pub(super) fn list(value: Option<JsonValue<'_>>) -> Vec<JsonValue<'_>> {
    value.map(JsonValue::elements).unwrap_or_default()
}

/// Follows members of nested objects.
pub(super) fn path<'l>(value: Option<JsonValue<'l>>, names: &[&str]) -> Option<JsonValue<'l>> {
    value?.path(names)
}

/// The abilities and login methods that an agent reports in its answer to `initialize`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Abilities {
    /// The version of the protocol that it wants to speak.
    pub(super) version: u64,
    pub(super) agent: String,
    pub(super) images: bool,
    pub(super) close: bool,
    pub(super) system_prompt: bool,
    pub(super) mcp_http: bool,
    /// Ids and names of the ways to log in.
    pub(super) logins: Vec<(String, String)>,
}

impl Abilities {
    pub(super) fn read(result: Option<JsonValue<'_>>) -> Self {
        let capabilities = path(result, &["agentCapabilities"]);
        let is = |names: &[&str]| path(capabilities, names).is_some_and(|raw| raw.get() == "true");
        let has = |names: &[&str]| {
            path(capabilities, names).is_some_and(|raw| !matches!(raw.get(), "null" | "false"))
        };
        let info = path(result, &["agentInfo"]);
        let name = text(path(info, &["title"]))
            .or_else(|| text(path(info, &["name"])))
            .unwrap_or_default();
        let version = text(path(info, &["version"])).unwrap_or_default();
        Self {
            version: path(result, &["protocolVersion"])
                .and_then(|raw| raw.get().parse().ok())
                .unwrap_or(1),
            agent: shown(&alloc::format!("{name} {version}")),
            images: is(&["promptCapabilities", "image"]),
            close: has(&["sessionCapabilities", "close"]),
            system_prompt: has(&["sessionCapabilities", "systemPrompt"]),
            mcp_http: is(&["mcpCapabilities", "http"]),
            logins: list(path(result, &["authMethods"]))
                .into_iter()
                .take(16)
                .filter_map(|method| {
                    let id = text(path(Some(method), &["id"]))?;
                    let name = text(path(Some(method), &["name"])).unwrap_or_default();
                    Some((id.into_owned(), shown(&name)))
                })
                .collect(),
        }
    }
}

/// A short text of an agent, safe to show.
pub(super) fn shown(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect()
}

/// One choice that a session offers: a model, an effort, a mode.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Choice {
    /// The option's id for `session/set_config_option`; `None` for the older `session/set_model` and `session/set_mode`.
    pub(super) option: Option<String>,
    pub(super) current: Option<String>,
    pub(super) values: Vec<String>,
}

/// Longest name of a value that is taken, in bytes, and how many.
const VALUE_LEN: usize = 200;
const VALUES: usize = 512;

impl Choice {
    fn new(option: Option<String>, current: Option<Cow<'_, str>>) -> Self {
        Self {
            option,
            current: current.map(Cow::into_owned),
            values: Vec::new(),
        }
    }

    fn add(&mut self, value: Option<Cow<'_, str>>) {
        if let Some(value) = value
            && value.len() <= VALUE_LEN
            && self.values.len() < VALUES
        {
            self.values.push(value.into_owned());
        }
    }
}

/// Choices that a session offers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Choices {
    pub(super) model: Option<Choice>,
    pub(super) effort: Option<Choice>,
    pub(super) mode: Option<Choice>,
}

impl Choices {
    /// Reads the answer to `session/new`: options first, the older lists where there is no option.
    pub(super) fn read(result: Option<JsonValue<'_>>) -> Self {
        let mut choices = Self::default();
        choices.read_options(path(result, &["configOptions"]));
        let older = |list_of: &str, names: &str, id: &str, current: &str| {
            let raw = path(result, &[list_of])?;
            let mut choice = Choice::new(None, text(path(Some(raw), &[current])));
            for value in list(path(Some(raw), &[names])) {
                choice.add(text(path(Some(value), &[id])));
            }
            Some(choice)
        };
        if choices.model.is_none() {
            choices.model = older("models", "availableModels", "modelId", "currentModelId");
        }
        if choices.mode.is_none() {
            choices.mode = older("modes", "availableModes", "id", "currentModeId");
        }
        choices
    }

    /// The agent says that the session is in another mode now.
    pub(super) fn set_mode(&mut self, mode: &str) {
        if let Some(choice) = &mut self.mode {
            choice.current = Some(mode.into());
        }
    }

    /// Takes over `configOptions`, which agents repeat whenever one changes.
    pub(super) fn read_options(&mut self, options: Option<JsonValue<'_>>) {
        for raw in list(options) {
            let Some(id) = text(path(Some(raw), &["id"])) else {
                continue;
            };
            let category = text(path(Some(raw), &["category"])).unwrap_or(Cow::Borrowed(&*id));
            let slot = match &*category {
                "model" => &mut self.model,
                "thought_level" | "effort" => &mut self.effort,
                "mode" => &mut self.mode,
                _ => continue,
            };
            let current = text(path(Some(raw), &["currentValue"]));
            let mut choice = Choice::new(Some(id.clone().into_owned()), current);
            for value in list(path(Some(raw), &["options"])) {
                // Options may stand in groups.
                let grouped = list(path(Some(value), &["options"]));
                for value in grouped.iter().chain(grouped.is_empty().then_some(&value)) {
                    choice.add(text(value.member("value")));
                }
            }
            *slot = Some(choice);
        }
    }
}

/// Reads counts of tokens, prompt and completion, in any of the spellings that agents use.
pub(super) fn tokens(raw: JsonValue<'_>) -> Option<(u64, u64)> {
    let number = |names: &[&str]| names.iter().find_map(|name| raw.member(name))?.whole();
    let input = number(&["inputTokens", "input_tokens", "promptTokenCount"])?;
    let output = number(&["outputTokens", "output_tokens", "candidatesTokenCount"])?;
    let total = number(&["totalTokens", "total_tokens", "totalTokenCount"]).unwrap_or(0);
    let cached = number(&["cachedReadTokens"])
        .unwrap_or(0)
        .saturating_add(number(&["cachedWriteTokens"]).unwrap_or(0));
    // Some count what came from the cache within the input, some beside it; the total tells.
    let beside = total >= input.saturating_add(output).saturating_add(cached);
    let prompt = if beside {
        input.saturating_add(cached)
    } else {
        input
    };
    Some((prompt, output))
}
