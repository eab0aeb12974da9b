//! Results of tools: what an outcome becomes, as MCP content, and how REST and MCP show it.

use crate::definition::Tool;
use crate::failure::Failure;
use crate::json::{ObjectWriter, array, compact, quoted};
use crate::need::{ANSWER_BYTES, Exit, HttpAnswer, Outcome};
use data_encoding::BASE64;
use mcp_local_provider_core::text::JsonValue;
use std::fmt;
use std::time::Duration;

/// Bytes of standard error that are told.
const COMPLAINT: usize = 4 << 10;

/// End of one step of a chain, or of one branch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepStatus {
    /// It went well.
    Ok,
    /// It failed.
    Error,
    /// Its condition was false, or it was not needed any more.
    Skipped,
}

impl StepStatus {
    /// As answers have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// One step of a chain, or one branch, once it is over.
#[derive(Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Its id in the definition.
    pub id: Box<str>,
    /// Its end.
    pub status: StepStatus,
    /// Blocks of MCP content, each as JSON.
    pub content: Vec<Box<str>>,
    /// Time that it took.
    pub duration: Duration,
}

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ToolResult {
    /// Blocks of MCP content, each as JSON.
    pub content: Vec<Box<str>>,
    /// A JSON object.
    pub structured: Option<Box<str>>,
    /// The tool failed: the content says why.
    pub is_error: bool,
    /// Steps of a chain, or branches.
    pub steps: Option<Vec<StepReport>>,
    /// Time that the run took.
    pub duration: Duration,
}

impl fmt::Debug for StepReport {
    /// Without the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepReport({}, {:?})", self.id, self.status)
    }
}

impl fmt::Debug for ToolResult {
    /// Without the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolResult")
            .field("is_error", &self.is_error)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

/// A block of text.
pub(crate) fn text_block(text: &str) -> Box<str> {
    format!("{{\"type\":\"text\",\"text\":{}}}", quoted(text)).into()
}

/// The texts of blocks, one line after another.
pub(crate) fn text_of(content: &[Box<str>]) -> String {
    let texts = content.iter().filter_map(|block| {
        let block = JsonValue::read(block)?;
        let is_text = block.member("type")?.as_str()?.is("text");
        block.member("text").filter(|_| is_text)?.text()
    });
    texts.collect::<Vec<_>>().join("\n")
}

impl ToolResult {
    /// One text.
    pub(crate) fn text(text: &str) -> Self {
        let content = vec![text_block(text)];
        Self {
            content,
            ..Self::default()
        }
    }

    /// One text that says why the tool failed.
    pub(crate) fn error(text: &str) -> Self {
        let is_error = true;
        Self {
            is_error,
            ..Self::text(text)
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let steps = self.steps.iter().flatten();
        let steps = steps.flat_map(|step| &step.content);
        let blocks = self.content.iter().chain(steps).map(|it| it.len());
        blocks.sum::<usize>() + self.structured.as_ref().map_or(0, |it| it.len())
    }

    /// `POST /tools/{name}/execute`.
    #[must_use]
    pub fn rest(&self, tool: &str) -> String {
        let mut answer = ObjectWriter::new();
        answer.text("tool", tool);
        answer.json("content", &array(&self.content));
        if let Some(structured) = &self.structured {
            answer.json("structured_content", structured);
        }
        answer.plain("is_error", self.is_error);
        answer.plain("duration_ms", self.duration.as_millis());
        if let Some(steps) = &self.steps {
            let steps = steps.iter().map(|step| {
                let mut shown = ObjectWriter::new();
                shown.text("id", &step.id);
                shown.text("status", step.status.as_str());
                shown.json("content", &array(&step.content));
                shown.plain("duration_ms", step.duration.as_millis());
                shown.finish()
            });
            answer.json("steps", &array(steps));
        }
        answer.finish()
    }

    /// The result of `tools/call`, as a JSON object without `resultType` and `_meta`.
    #[must_use]
    pub fn mcp(&self) -> String {
        let mut result = ObjectWriter::new();
        result.json("content", &array(&self.content));
        if let Some(structured) = &self.structured {
            result.json("structuredContent", structured);
        }
        result.plain("isError", self.is_error);
        result.finish()
    }
}

/// Makes a result of what came of a tool's need.
///
/// # Errors
/// There is no result: it took too long, or is too large, or is none.
pub(crate) fn result_of(tool: &Tool, outcome: Outcome) -> Result<ToolResult, Failure> {
    let result = match outcome {
        Outcome::Http(answer) => of_http(answer, tool.output.is_some()),
        Outcome::Exited {
            exit,
            stdout,
            stderr,
        } => {
            let text = String::from_utf8_lossy(&stdout);
            match exit {
                Exit::Code(0) => of_text(&text, tool.output.is_some()),
                Exit::Code(code) => failed_command(&format!("exit code {code}"), &text, &stderr),
                Exit::Signal(signal) => {
                    failed_command(&format!("ended by signal {signal}"), &text, &stderr)
                }
            }
        }
        Outcome::Said(text) => of_text(&text, tool.output.is_some()),
        Outcome::Called(result) => of_call(&result)?,
        Outcome::Failed(message) => ToolResult::error(&message),
        Outcome::TooLarge => return Err(too_large()),
        Outcome::TimedOut => {
            return Err(Failure::timeout("no answer came in time"));
        }
        Outcome::Read(_) | Outcome::File(_) => {
            return Err(Failure::bad_answer("the answer is none of a tool"));
        }
    };
    if result.bytes() > ANSWER_BYTES {
        return Err(too_large());
    }
    Ok(match &tool.output {
        Some(schema) if !result.is_error => conforming(result, schema),
        Some(_) | None => result,
    })
}

/// The error for what is over [`ANSWER_BYTES`].
pub(crate) fn too_large() -> Failure {
    Failure::bad_answer(format!("the answer has more than {ANSWER_BYTES} bytes"))
}

/// Holds a result to the schema that its tool promises.
fn conforming(result: ToolResult, schema: &crate::schema::Schema) -> ToolResult {
    let structured = result.structured.as_deref();
    let Some(structured) = structured.and_then(|it| serde_json::from_str(it).ok()) else {
        return ToolResult::error(
            "the answer is no JSON object, but the tool has an output_schema",
        );
    };
    match schema.check(&structured) {
        Ok(()) => result,
        Err(failure) => {
            let why: Vec<String> = failure
                .errors
                .iter()
                .map(|it| format!("{}: {}", it.path, it.message))
                .collect();
            let why = why.join("; ");
            ToolResult::error(&format!("the answer is not as output_schema says: {why}"))
        }
    }
}

/// The text when it is a JSON object.
fn object(text: &str) -> Option<Box<str>> {
    let value = JsonValue::read(text)?;
    let object = value.get().starts_with('{');
    object.then(|| compact(value.get()).into())
}

fn of_text(text: &str, structured: bool) -> ToolResult {
    let structured = structured.then(|| object(text)).flatten();
    ToolResult {
        structured,
        ..ToolResult::text(text)
    }
}

fn failed_command(end: &str, stdout: &str, stderr: &[u8]) -> ToolResult {
    let from = stderr.len().saturating_sub(COMPLAINT);
    let complaint = String::from_utf8_lossy(stderr.get(from..).unwrap_or_default());
    let texts = [end, stdout.trim_end(), complaint.trim_end()];
    let texts: Vec<&str> = texts.into_iter().filter(|it| !it.is_empty()).collect();
    ToolResult::error(&texts.join("\n"))
}

fn of_http(answer: HttpAnswer, structured: bool) -> ToolResult {
    let media = answer.content_type.unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let media = media.to_ascii_lowercase();
    let failed = answer.status >= 300;
    let result = match String::from_utf8(answer.body) {
        Ok(text) if !(media.starts_with("image/") || media.starts_with("audio/")) || failed => {
            let is_json = media == "application/json" || media.ends_with("+json");
            of_text(&text, structured || is_json)
        }
        Ok(text) => of_bytes(text.as_bytes(), &media),
        Err(bytes) => of_bytes(bytes.as_bytes(), &media),
    };
    if !failed {
        return result;
    }
    let status = answer.status;
    let said = text_of(&result.content);
    let text = match said.trim() {
        "" => format!("HTTP status {status}"),
        said => format!("HTTP status {status}: {said}"),
    };
    ToolResult::error(&text)
}

fn of_bytes(bytes: &[u8], media: &str) -> ToolResult {
    let data = BASE64.encode(bytes);
    let kind = media.split('/').next().unwrap_or_default();
    let block = match kind {
        "image" | "audio" => format!(
            "{{\"type\":\"{kind}\",\"data\":\"{data}\",\"mimeType\":{}}}",
            quoted(media)
        ),
        _ => {
            let media = if media.is_empty() {
                "application/octet-stream"
            } else {
                media
            };
            format!(
                "{{\"type\":\"resource\",\"resource\":{{\"uri\":\"about:blank\",\"mimeType\":{},\"blob\":\"{data}\"}}}}",
                quoted(media)
            )
        }
    };
    ToolResult {
        content: vec![block.into()],
        ..ToolResult::default()
    }
}

fn of_call(result: &str) -> Result<ToolResult, Failure> {
    let bad = || Failure::bad_answer("the server's answer is no result of a tool");
    let result = JsonValue::read(result).ok_or_else(bad)?;
    let content = result.member("content").ok_or_else(bad)?;
    if !content.get().starts_with('[') {
        return Err(bad());
    }
    let content = content.elements().into_iter();
    let structured = result.member("structuredContent");
    let structured = structured.filter(|it| it.get().starts_with('{'));
    Ok(ToolResult {
        content: content.map(|it| compact(it.get()).into()).collect(),
        structured: structured.map(|it| compact(it.get()).into()),
        is_error: result
            .member("isError")
            .is_some_and(|it| it.get() == "true"),
        ..ToolResult::default()
    })
}
