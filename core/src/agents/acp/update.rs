//! `session/update` and the answers to `initialize` and `session/new`, of every version that agents speak.

use super::rpc::text;
use crate::text::JsonStr;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde::Deserialize;
use serde_json::value::RawValue;

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
        meta: Option<&'l RawValue>,
    },
    /// `agent_thought_chunk`.
    Thought(JsonStr<'l>),
    /// `tool_call`, whole.
    Call(&'l RawValue),
    /// More of a tool's call, or a plan: it works.
    Work,
    /// `notice`.
    Notice,
    /// `config_option_update`: all options.
    Options(Option<&'l RawValue>),
    /// `current_mode_update`: the mode that the session is in now.
    Mode(Cow<'l, str>),
    /// `session_info_update`, with its `_meta`.
    Info(Option<&'l RawValue>),
    /// Known, and of no meaning for an answer.
    Other,
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'l> {
    #[serde(borrow)]
    session_id: Option<&'l RawValue>,
    #[serde(borrow)]
    update: Option<&'l RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateMembers<'l> {
    #[serde(borrow)]
    session_update: Option<&'l RawValue>,
    #[serde(borrow)]
    content: Option<&'l RawValue>,
    #[serde(borrow)]
    message_id: Option<&'l RawValue>,
    #[serde(borrow)]
    config_options: Option<&'l RawValue>,
    #[serde(borrow)]
    current_mode_id: Option<&'l RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'l RawValue>,
}

#[derive(Deserialize)]
struct ContentBlock<'l> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'l RawValue>,
    #[serde(borrow)]
    text: Option<&'l RawValue>,
    /// Of a `resource_link`.
    #[serde(borrow)]
    uri: Option<&'l RawValue>,
    /// Of a `resource`.
    #[serde(borrow)]
    resource: Option<&'l RawValue>,
}

impl<'l> ContentBlock<'l> {
    /// Reads its text. No client's API takes anything else in an answer, so the person is told what was there instead.
    fn text(&self) -> JsonStr<'l> {
        let of = |raw: Option<&'l RawValue>| raw.and_then(JsonStr::from_raw);
        let resource = self.resource.and_then(object::<Self>);
        match text(self.kind).as_deref() {
            None | Some("text") => of(self.text).unwrap_or_default(),
            Some("resource_link") => of(self.uri).unwrap_or(NO_TEXT),
            Some("resource") => of(resource.and_then(|resource| resource.text)).unwrap_or(NO_TEXT),
            Some("image") => NO_IMAGE,
            Some("audio") => NO_AUDIO,
            Some(_) => NO_TEXT,
        }
    }
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

impl<'l> SessionUpdate<'l> {
    /// `None` when it names no session or has no update.
    pub(super) fn read(params: &'l RawValue) -> Option<Self> {
        let params: Params<'l> = object(params)?;
        let session = text(params.session_id)?;
        let update: UpdateMembers<'l> = object(params.update?)?;
        let kind = text(update.session_update)?;
        let piece = || {
            update
                .content
                .and_then(object::<ContentBlock<'l>>)
                .map_or_else(JsonStr::default, |block| block.text())
        };
        let update = match &*kind {
            "agent_message_chunk" => Update::Message {
                text: piece(),
                message: text(update.message_id),
                meta: update.meta,
            },
            "agent_thought_chunk" => Update::Thought(piece()),
            "tool_call" => params.update.map_or(Update::Work, Update::Call),
            "tool_call_update" | "plan" | "plan_update" => Update::Work,
            "notice" => Update::Notice,
            "session_info_update" => Update::Info(update.meta),
            "config_option_update" => Update::Options(update.config_options),
            "current_mode_update" => {
                text(update.current_mode_id).map_or(Update::Other, Update::Mode)
            }
            "user_message_chunk" | "available_commands_update" | "usage_update" => Update::Other,
            _ => Update::Unknown,
        };
        Some(Self { session, update })
    }
}

/// Reads an object whose members may have any type; `None` when it is none.
pub(super) fn object<'l, T: Deserialize<'l>>(raw: &'l RawValue) -> Option<T> {
    if !raw.get().starts_with('{') {
        return None;
    }
    serde_json::from_str(raw.get()).ok()
}

/// The elements of an array.
fn list(raw: Option<&RawValue>) -> Vec<&RawValue> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

/// Follows members of nested objects.
pub(super) fn path<'l>(raw: Option<&'l RawValue>, names: &[&str]) -> Option<&'l RawValue> {
    names.iter().try_fold(raw?, |raw, name| {
        if !raw.get().starts_with('{') {
            return None;
        }
        let members: alloc::collections::BTreeMap<Cow<'l, str>, &'l RawValue> =
            serde_json::from_str(raw.get()).ok()?;
        members.get(*name).copied()
    })
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
    pub(super) fn read(result: Option<&RawValue>) -> Self {
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
    pub(super) fn read(result: Option<&RawValue>) -> Self {
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
    pub(super) fn read_options(&mut self, options: Option<&RawValue>) {
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
                    choice.add(text(path(Some(value), &["value"])));
                }
            }
            *slot = Some(choice);
        }
    }
}

/// Reads counts of tokens, prompt and completion, in any of the spellings that agents use.
pub(super) fn tokens(raw: &RawValue) -> Option<(u64, u64)> {
    let members: alloc::collections::BTreeMap<Cow<'_, str>, &RawValue> = object(raw)?;
    let number = |names: &[&str]| {
        let raw = names.iter().find_map(|name| members.get(*name))?;
        raw.get().parse::<u64>().ok()
    };
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
