//! Answers of any server: however a response is split it says the same, ends once, and takes bounded memory.

use mcp_local_provider_core::agents::upstream::{Api, Reading, ResponseHead};
use mcp_local_provider_core::invocation::{Invocation, Task};
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_core::{Delivery, Parameters, Request};

const APIS: [Api; 3] = [Api::OpenAi, Api::Anthropic, Api::Ollama];
const TYPES: [Option<&str>; 4] = [
    Some("text/event-stream"),
    Some("application/x-ndjson"),
    Some("application/json"),
    None,
];
const STATUSES: [u16; 3] = [200, 400, 529];

/// What a response says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    content: String,
    reasoning: String,
    calls: String,
    vectors: Vec<String>,
    ends: Vec<String>,
}

fn request() -> Request {
    Request::of(&Invocation {
        model: "m".into(),
        task: Task::Completion {
            prompt: JsonStr::EMPTY,
            suffix: None,
        },
        stream: true,
        parameters: Parameters {
            stop: vec!["END".to_owned()],
            ..Parameters::default()
        },
    })
}

fn read<'s>(
    api: Api,
    head: &ResponseHead<'_>,
    limit: usize,
    parts: impl Iterator<Item = &'s [u8]>,
) -> Read {
    let mut read = Read::default();
    let mut reading = Reading::new(api, &request(), limit);
    let mut troubles = Vec::new();
    let mut take = |delivery: &Delivery<'_>| {
        assert!(read.ends.is_empty(), "{delivery:?} follows the end");
        match delivery {
            Delivery::Delta(delta) => {
                read.content += delta.content.as_escaped();
                read.reasoning += delta.reasoning.as_escaped();
                for call in &delta.tool_calls {
                    let texts = [call.id, call.name, call.arguments].map(JsonStr::as_escaped);
                    read.calls += &format!("{}{texts:?}", call.index);
                }
            }
            Delivery::Embedding(vector) => read.vectors.push((*vector).to_owned()),
            end @ (Delivery::End(_) | Delivery::Failed(_)) => read.ends.push(format!("{end:?}")),
        }
    };
    troubles.extend(reading.head(head).err());
    for part in parts {
        troubles.extend(reading.bytes(part, &mut take).err());
        // A vector grows to at most twice of what is in it.
        let most = 2 * limit.max(64 << 10) + 64;
        assert!(reading.held() <= most, "{} bytes", reading.held());
    }
    troubles.extend(reading.end(&mut take).err());
    assert!(reading.is_over());
    for trouble in troubles {
        assert!(read.content.is_empty() && read.vectors.is_empty());
        assert!(trouble.refusal("up").status() >= 400);
        read.ends.push(format!("{trouble:?}"));
    }
    assert_eq!(read.ends.len(), 1, "{:?}", read.ends);
    read
}

/// Reads a response in one part, in bytes and in parts as the head of `data` says: one byte for its API, its type and its status,
/// one for the limit, two for the lengths.
///
/// # Panics
/// Panics when the parts matter, or an answer ends twice or not at all.
pub fn upstream(data: &[u8]) {
    let Some(([form, limit, lengths @ ..], body)) = data.split_first_chunk::<4>() else {
        return;
    };
    let form = usize::from(*form);
    let (api, content_type) = (APIS[form % 3], TYPES[form / 3 % 4]);
    let head = ResponseHead {
        status: STATUSES[form / 12 % 3],
        content_type,
        content_encoding: None,
        retry_after: None,
    };
    // Steps of 16 bytes, so that most answers fit.
    let limit = usize::from(*limit) * 16;
    let whole = read(api, &head, limit, std::iter::once(body));
    assert_eq!(whole, read(api, &head, limit, body.chunks(1)));
    let mut rest = body;
    let mut lengths = lengths.iter().cycle();
    let parts = std::iter::from_fn(|| {
        let length = usize::from(*lengths.next()?).min(rest.len());
        let (part, after) = rest.split_at(length.max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    });
    assert_eq!(whole, read(api, &head, limit, parts));
}
