//! OpenAI's legacy Completions API: a text to continue, or with a suffix a gap to fill. Editors complete code with it, and with
//! Mistral's API for the same, whose answers have the form of chat completions.

use super::request::{self, Chat};
use super::response::{write_head, write_usage};
use crate::config::Limits;
use crate::dialect::body::{self, Path, Value, raw_fields};
use crate::dialect::{
    Answer, Dialect, Encoder, Opening, Parsed, Timing, fields, write_error, write_number,
};
use crate::error::{Code, Refusal};
use crate::invocation::{Finish, Invocation, Task, Usage};
use crate::text::{Joiner, JsonStr, JsonValue};
use crate::time::Instant;
use crate::wire::Records;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

/// OpenAI allows four stop sequences, but editors send every special token of their templates.
const STOPS: usize = 32;

raw_fields! {
    /// The body of a completion request.
    Completion {
        model: "model",
        prompt: "prompt",
        suffix: "suffix",
        echo: "echo",
        stream: "stream",
        stream_options: "stream_options",
        max_tokens: "max_tokens",
        temperature: "temperature",
        top_p: "top_p",
        presence_penalty: "presence_penalty",
        frequency_penalty: "frequency_penalty",
        seed: "seed",
        random_seed: "random_seed",
        n: "n",
        best_of: "best_of",
        logprobs: "logprobs",
        stop: "stop",
        user: "user",
        logit_bias: "logit_bias",
    }
}

/// Reads the body of `POST /v1/completions`. The prompt is a string or a list of at most 32, which are answered one after the
/// other; with `suffix` the text between the two is asked for.
///
/// # Errors
/// What is wrong with the request, with the field's path as `param`; see [`Limits`] for `content_bytes` and `json_depth`.
pub fn completion_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    read(body, limits, &COMPLETION)
}

/// Reads the body of `POST /v1/fim/completions`, Mistral's API to fill in the middle, which Continue completes code with.
///
/// # Errors
/// As [`completion_request`].
pub fn fim_request<'a>(body: &'a str, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    read(body, limits, &FIM)
}

fn read<'a>(body: &'a str, limits: &Limits, form: &'static Form) -> Result<Parsed<'a>, Refusal> {
    let completion: Completion<'a> = body::read(body, limits)?;
    let model = fields::model(completion.model)?;
    let (prompt, more, digest_of) = prompts(completion.prompt, form.prompts, limits)?;
    let path = Path::root("suffix");
    let suffix = path.find(completion.suffix);
    let suffix = suffix.map(|value| value.string()).transpose()?;
    let suffix = suffix.filter(|suffix| !suffix.is_empty());
    fields::check_bytes(suffix.into_iter(), path, limits)?;
    let stream = request::boolean("stream", completion.stream)?.unwrap_or(false);
    let include_usage = request::include_usage(completion.stream_options)?;
    let echo = request::boolean("echo", completion.echo)?.unwrap_or(false);
    if let Some(best_of) = Path::root("best_of").find(completion.best_of)
        && best_of.integer()? != 1
    {
        return Err(best_of.expected("1, as an agent gives one answer"));
    }
    let shared = Chat {
        max_tokens: completion.max_tokens,
        temperature: completion.temperature,
        top_p: completion.top_p,
        presence_penalty: completion.presence_penalty,
        frequency_penalty: completion.frequency_penalty,
        // Mistral's name for it.
        seed: completion.seed.or(completion.random_seed),
        n: completion.n,
        stop: completion.stop,
        user: completion.user,
        logit_bias: completion.logit_bias,
        ..Chat::default()
    };
    let mut parameters = request::parameters(&shared, STOPS)?;
    if let Some(value) = Path::root("logprobs").find(completion.logprobs) {
        // A number here, where the chat API has a flag and a number.
        match value.integer()? {
            count @ 0..=5 => parameters.top_logprobs = u64::try_from(count).ok(),
            _ => return Err(value.expected("a whole number from 0 to 5")),
        }
        parameters.logprobs = Some(true);
    }
    let echo = match echo {
        true => core::iter::once(prompt)
            .chain(more.iter().copied())
            .collect(),
        false => Vec::new(),
    };
    Ok(Parsed {
        invocation: Invocation {
            model,
            task: Task::Completion { prompt, suffix },
            stream,
            parameters,
        },
        encoder: Box::new(TextEncoder::new(form, include_usage, &echo)),
        more,
        stream,
        digest_of,
        load_only: false,
    })
}

/// The first prompt, those that follow it, and the JSON of all as the client sent it.
type Prompts<'a> = (JsonStr<'a>, Vec<JsonStr<'a>>, &'a str);

/// Reads a prompt, or a list of at most `most`.
fn prompts<'a>(
    raw: Option<JsonValue<'a>>,
    most: usize,
    limits: &Limits,
) -> Result<Prompts<'a>, Refusal> {
    const EXPECTED: &str = "a string or a list of strings";
    let path = Path::root("prompt");
    let value = path.need(raw, EXPECTED)?;
    fields::no_tokens(&value)?;
    let texts = match value.first() {
        b'"' => Vec::from([value.string()?]),
        b'[' => {
            let list = value.list()?;
            if list.len() > most {
                return Err(path.wrong(format!(
                    "expected at most {most}, found {} prompts",
                    list.len()
                )));
            }
            let texts = list.into_iter().enumerate().map(|(at, raw)| {
                let path = path.index(at);
                Value { raw, path }.string()
            });
            texts.collect::<Result<Vec<_>, _>>()?
        }
        _ => return Err(value.expected(EXPECTED)),
    };
    fields::check_bytes(texts.iter().copied(), path, limits)?;
    let mut texts = texts.into_iter();
    let Some(first) = texts.next() else {
        return Err(path.wrong("expected one prompt, found none"));
    };
    Ok((first, texts.collect(), value.raw.get()))
}

/// The JSON round the text of an answer, in one of the two APIs.
struct Form {
    /// The `object` of a chunk and of a whole answer.
    objects: [&'static str; 2],
    /// Start of the choice of a chunk and of a whole answer, up to the text.
    choices: [&'static [u8]; 2],
    /// Bytes between the text and the number of the choice, where it stands behind the text, and from there to the
    /// `finish_reason`.
    behind: [&'static [u8]; 2],
    /// Prompts of one request.
    prompts: usize,
    /// True when the last chunk of a stream has the usage, asked for or not.
    usage_at_end: bool,
}

impl Form {
    /// Bytes between the text of a choice and its `finish_reason`.
    fn behind(&self, choice: u64) -> Vec<u8> {
        let [text, number] = self.behind;
        let mut behind = text.to_vec();
        if !text.is_empty() {
            write_number(&mut behind, choice);
        }
        behind.extend_from_slice(number);
        behind
    }
}

static COMPLETION: Form = Form {
    objects: ["text_completion"; 2],
    choices: [b"{\"text\":\""; 2],
    behind: [b"\",\"index\":", b",\"logprobs\":null,\"finish_reason\":"],
    prompts: 32,
    usage_at_end: false,
};

/// Every delta has a content: Continue appends what it finds there, even nothing.
static FIM: Form = Form {
    objects: ["chat.completion.chunk", "chat.completion"],
    choices: [
        b"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"",
        b"{\"index\":0,\"message\":{\"role\":\"assistant\",\"tool_calls\":null,\"content\":\"",
    ],
    behind: [b"", b"\"},\"finish_reason\":"],
    prompts: 1,
    usage_at_end: true,
};

/// Writes a text completion, streamed or whole.
///
/// The API has fields for text and nothing else: a refusal is text, what the model thinks aloud and its calls of tools are
/// left out.
pub(super) struct TextEncoder {
    form: &'static Form,
    include_usage: bool,
    /// Start of each answer's text: the prompt, escaped and mended, when the client wants it back.
    echo: VecDeque<Vec<u8>>,
    /// Number of the choice that is being answered.
    choice: u64,
    /// Bytes between the text and the `finish_reason` of that choice.
    behind: Vec<u8>,
    /// Choices of a whole answer that are complete.
    done: Vec<u8>,
    /// Bytes that every chunk starts with, up to its text.
    head: Vec<u8>,
    /// Offset in `head` at which the choices start.
    choices: usize,
}

impl core::fmt::Debug for TextEncoder {
    /// The prompt is never shown.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TextEncoder")
            .field("include_usage", &self.include_usage)
            .finish_non_exhaustive()
    }
}

impl TextEncoder {
    fn new(form: &'static Form, include_usage: bool, echo: &[JsonStr<'_>]) -> Self {
        Self {
            form,
            include_usage: include_usage && !form.usage_at_end,
            echo: echo.iter().copied().map(mended).collect(),
            choice: 0,
            behind: form.behind(0),
            done: Vec::new(),
            head: Vec::new(),
            choices: 0,
        }
    }

    /// The end of one choice, and the next one.
    fn advance(&mut self) {
        self.choice += 1;
        self.behind = self.form.behind(self.choice);
        self.echo.pop_front();
    }

    /// Begins the text of a choice with its prompt, when the client wants that back.
    fn echo(&self, out: &mut Records<'_>) {
        if let Some(echo) = self.echo.front().filter(|echo| !echo.is_empty()) {
            self.text(echo, out);
        }
    }

    /// A choice of a whole answer.
    fn choice(&self, answer: &Answer, finish: Finish, out: &mut Vec<u8>) {
        let [_, choice] = self.form.choices;
        out.extend_from_slice(choice);
        if let Some(echo) = self.echo.front() {
            out.extend_from_slice(echo);
        }
        out.extend_from_slice(&answer.content);
        out.extend_from_slice(&answer.refusal);
        self.finish(finish, out);
    }

    fn close(&self, record: &mut Vec<u8>) {
        record.extend_from_slice(if self.include_usage {
            b",\"usage\":null}"
        } else {
            b"}"
        });
    }

    /// Writes the bytes behind the text of a choice, up to its end.
    fn finish(&self, finish: Finish, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.behind);
        out.push(b'"');
        out.extend_from_slice(finish_reason(finish).as_bytes());
        out.extend_from_slice(b"\"}");
    }

    #[inline]
    fn text(&self, text: &[u8], out: &mut Records<'_>) {
        let record = out.begin(None);
        record.reserve(self.head.len() + text.len() + self.behind.len() + 32);
        record.extend_from_slice(&self.head);
        record.extend_from_slice(text);
        record.extend_from_slice(&self.behind);
        record.extend_from_slice(b"null}]");
        self.close(record);
        out.end();
    }
}

/// A text of the client's as one of ours: without halves of pairs and line ends that readers trip over.
fn mended(text: JsonStr<'_>) -> Vec<u8> {
    let (mut joiner, mut scratch) = (Joiner::default(), Vec::new());
    let mut mended = joiner.mend(text, &mut scratch).to_vec();
    mended.extend_from_slice(joiner.finish());
    mended
}

/// The API knows no calls of tools.
const fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::ToolCalls => Finish::Stop.as_str(),
        Finish::Stop | Finish::StopSequence(_) | Finish::Length | Finish::ContentFilter => {
            finish.as_str()
        }
    }
}

impl Encoder for TextEncoder {
    fn open(&mut self, opening: &Opening<'_>, out: &mut Records<'_>) {
        self.head.clear();
        let [object, _] = self.form.objects;
        let [choice, _] = self.form.choices;
        write_head(opening, "cmpl-", object, &mut self.head);
        self.head.extend_from_slice(b"\"choices\":[");
        self.choices = self.head.len();
        self.head.extend_from_slice(choice);
        self.echo(out);
    }

    #[inline]
    fn content(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.text(text, out);
    }

    fn reasoning(&mut self, _now: Instant, _text: &[u8], _out: &mut Records<'_>) {}

    fn refusal(&mut self, _now: Instant, text: &[u8], out: &mut Records<'_>) {
        self.text(text, out);
    }

    fn tool_call(
        &mut self,
        _now: Instant,
        _index: u32,
        _id: &[u8],
        _name: &[u8],
        _arguments: &[u8],
        _out: &mut Records<'_>,
    ) {
    }

    fn end(
        &mut self,
        _now: Instant,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Records<'_>,
    ) {
        let record = out.begin(None);
        record.extend_from_slice(&self.head);
        self.finish(finish, record);
        record.push(b']');
        if self.form.usage_at_end {
            record.push(b',');
            write_usage(usage, record);
        }
        self.close(record);
        out.end();
        if self.include_usage {
            let record = out.begin(None);
            record.extend_from_slice(self.head.get(..self.choices).unwrap_or_default());
            record.extend_from_slice(b"],");
            write_usage(usage, record);
            record.push(b'}');
            out.end();
        }
        out.begin(None).extend_from_slice(b"[DONE]");
        out.end();
    }

    fn next(&mut self, finish: Finish, answer: Option<&Answer>, out: &mut Records<'_>) {
        if let Some(answer) = answer {
            let mut done = core::mem::take(&mut self.done);
            self.choice(answer, finish, &mut done);
            done.push(b',');
            self.done = done;
            self.advance();
            return;
        }
        let record = out.begin(None);
        record.extend_from_slice(&self.head);
        self.finish(finish, record);
        record.push(b']');
        self.close(record);
        out.end();
        self.advance();
        self.echo(out);
    }

    fn held(&self) -> usize {
        self.done.len()
    }

    fn keep_alive(&mut self, _now: Instant, out: &mut Records<'_>) {
        out.comment("keep-alive");
    }

    fn failed(&mut self, _now: Instant, code: Code, message: &str, out: &mut Records<'_>) {
        write_error(Dialect::OpenAi, None, code, message, None, out.begin(None));
        out.end();
    }

    fn whole(
        &mut self,
        opening: &Opening<'_>,
        answer: &Answer,
        finish: Finish,
        usage: Usage,
        _timing: &Timing,
        out: &mut Vec<u8>,
    ) {
        let [_, object] = self.form.objects;
        write_head(opening, "cmpl-", object, out);
        out.extend_from_slice(b"\"choices\":[");
        out.extend_from_slice(&self.done);
        self.choice(answer, finish, out);
        out.extend_from_slice(b"],");
        write_usage(usage, out);
        out.push(b'}');
    }
}
