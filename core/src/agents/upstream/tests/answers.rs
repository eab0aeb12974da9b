//! Answers as this program writes them, and as servers do.

use super::*;
use crate::dialect::answer::finish_of;
use crate::dialect::{Encoder, Opening, Timing, anthropic, ollama, openai};
use crate::invocation::{Finish, Usage};
use crate::text;
use crate::wire::{Framing, Records, split};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use proptest::prelude::*;
use serde_json::Value;

/// One step of an answer, unescaped.
#[derive(Clone, Debug)]
enum Step {
    Content(String),
    Reasoning(String),
    Refusal(String),
    /// A call with its id, and the number of its arguments' bytes that come in the first piece.
    Call(String, Value, usize),
    KeepAlive,
}

fn step() -> impl Strategy<Value = Step> {
    let text = "([ -~]|\n|\u{e9}|\u{1f600}|\u{2028}){1,12}";
    prop_oneof![
        4 => text.prop_map(Step::Content),
        2 => text.prop_map(Step::Reasoning),
        1 => text.prop_map(Step::Refusal),
        1 => Just(Step::KeepAlive),
        2 => ("[a-zA-Z0-9_-]{1,8}", text, any::<i32>(), any::<usize>()).prop_map(
            |(id, text, number, cut)| {
                let arguments = serde_json::json!({ "text": text, "number": number });
                Step::Call(id, arguments, cut)
            }
        ),
    ]
}

const USAGE: Usage = Usage {
    prompt_tokens: 9,
    completion_tokens: 3,
    estimated: false,
};

const NOW: Instant = Instant::from_micros(2_000_000);

fn wall() -> WallClock {
    WallClock::new(Instant::from_micros(1), Duration::from_secs(1_767_225_600))
}

fn timing() -> Timing {
    Timing {
        started: Instant::from_micros(1),
        first_chunk: Some(Instant::from_micros(1_000_000)),
        now: NOW,
    }
}

fn encoder(api: Api) -> Box<dyn Encoder + Send> {
    let limits = Limits::default();
    let message = r#""messages":[{"role":"user","content":"hi"}]"#;
    let parsed = |read: Reader, fields: &str| {
        let body = format!(r#"{{"model":"m",{message}{fields}}}"#);
        read(&body, &limits).unwrap().encoder
    };
    match api {
        Api::OpenAi | Api::Custom => parsed(
            openai::chat_request,
            r#","stream_options":{"include_usage":true}"#,
        ),
        Api::Anthropic => parsed(
            anthropic::messages_request,
            r#","max_tokens":9,"thinking":{"type":"adaptive"}"#,
        ),
        Api::Ollama => parsed(ollama::chat_request, ""),
    }
}

/// The answer that the steps are, as far as the API tells kinds of text apart.
fn folded(api: Api, steps: &[Step]) -> Answer {
    let mut answer = Answer::default();
    let mut calls = 0;
    for step in steps {
        let (channel, text) = match step {
            Step::Content(text) => (&mut answer.content, text),
            Step::Reasoning(text) => (&mut answer.reasoning, text),
            Step::Refusal(text) => match api {
                Api::OpenAi | Api::Custom => (&mut answer.refusal, text),
                Api::Anthropic | Api::Ollama => (&mut answer.content, text),
            },
            Step::Call(id, arguments, _) => {
                let arguments = arguments.to_string();
                let arguments = text::escaped(&arguments);
                let id = format!("{id}{calls}");
                answer.tool_call(calls, id.as_bytes(), b"tool", arguments.as_bytes());
                calls += 1;
                continue;
            }
            Step::KeepAlive => continue,
        };
        text::escape_into(channel, text);
    }
    answer
}

/// The answer as a stream.
fn streamed(api: Api, steps: &[Step], finish: Finish) -> Vec<u8> {
    let mut encoder = encoder(api);
    let framing = match api {
        Api::OpenAi | Api::Custom | Api::Anthropic => Framing::Sse,
        Api::Ollama => Framing::Ndjson,
    };
    let mut bytes = Vec::new();
    let mut out = Records::new(&mut bytes, framing);
    let wall = wall();
    let opening = Opening {
        id: Ids::new(7).next(),
        model: "m",
        created: NOW,
        wall: &wall,
    };
    encoder.open(&opening, &mut out);
    let mut calls = 0;
    for step in steps {
        match step {
            Step::Content(text) => encoder.content(NOW, text::escaped(text).as_bytes(), &mut out),
            Step::Reasoning(text) => {
                encoder.reasoning(NOW, text::escaped(text).as_bytes(), &mut out);
            }
            Step::Refusal(text) => encoder.refusal(NOW, text::escaped(text).as_bytes(), &mut out),
            Step::KeepAlive => encoder.keep_alive(NOW, &mut out),
            Step::Call(id, arguments, cut) => {
                let arguments = arguments.to_string();
                let mut at = cut % (arguments.len() + 1);
                while !arguments.is_char_boundary(at) {
                    at -= 1;
                }
                let (first, second) = arguments.split_at(at);
                let id = format!("{id}{calls}");
                let first = text::escaped(first);
                encoder.tool_call(
                    NOW,
                    calls,
                    id.as_bytes(),
                    b"tool",
                    first.as_bytes(),
                    &mut out,
                );
                let second = text::escaped(second);
                encoder.tool_call(NOW, calls, b"", b"", second.as_bytes(), &mut out);
                calls += 1;
            }
        }
    }
    encoder.end(NOW, finish, USAGE, &timing(), &mut out);
    bytes
}

/// The answer in one body.
fn whole(api: Api, answer: &Answer, finish: Finish) -> Vec<u8> {
    let wall = wall();
    let opening = Opening {
        id: Ids::new(7).next(),
        model: "m",
        created: NOW,
        wall: &wall,
    };
    let mut body = Vec::new();
    encoder(api).whole(&opening, answer, finish, USAGE, &timing(), &mut body);
    body
}

/// Content, thinking, refusal, calls: each text decoded, since one answer can be escaped in several ways.
fn told(answer: &Answer) -> (Vec<String>, Vec<[String; 3]>) {
    let decoded = |text: &[u8]| {
        let text = core::str::from_utf8(text).unwrap();
        JsonStr::from_escaped(text).decode().into_owned()
    };
    let texts = [&answer.content, &answer.reasoning, &answer.refusal];
    let calls = answer.tool_calls.iter().map(|call| {
        let arguments: Value = serde_json::from_str(&decoded(&call.arguments)).unwrap();
        [
            decoded(&call.id),
            decoded(&call.name),
            arguments.to_string(),
        ]
    });
    (texts.map(|text| decoded(text)).into(), calls.collect())
}

fn content_type(api: Api, stream: bool) -> &'static str {
    match (api, stream) {
        (_, false) => JSON,
        (Api::OpenAi | Api::Custom | Api::Anthropic, true) => EVENTS,
        (Api::Ollama, true) => LINES,
    }
}

/// Reads an answer that is cut at some places, and holds it to what was meant.
fn agrees(api: Api, stream: bool, steps: &[Step], finish: Finish, cuts: &[usize]) {
    let answer = folded(api, steps);
    let bytes = if stream {
        streamed(api, steps, finish)
    } else {
        whole(api, &answer, finish)
    };
    let mut reading = Reading::new(api, &chat(stream), limit());
    let head = head(200, Some(content_type(api, stream)));
    let outcome = read(&mut reading, &head, &split(&bytes, cuts), None);
    assert_eq!(told(&outcome.answer), told(&answer), "{api:?} {steps:?}");
    let end = outcome.end();
    assert_eq!(end.usage, Some(USAGE));
    let expected = finish_of(finish, !answer.tool_calls.is_empty());
    assert_eq!(
        finish_of(end.finish, !answer.tool_calls.is_empty()),
        expected
    );
    assert!(reading.has_begun());
}

fn finish() -> impl Strategy<Value = Finish> {
    prop_oneof![
        Just(Finish::Stop),
        Just(Finish::Length),
        Just(Finish::ToolCalls),
        Just(Finish::ContentFilter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_this_program_writes_is_read_as_it_was_meant(
        steps in prop::collection::vec(step(), 0..6),
        finish in finish(),
        cuts in prop::collection::vec(0_usize..4000, 0..6),
    ) {
        for api in APIS {
            for stream in [true, false] {
                agrees(api, stream, &steps, finish, &cuts);
            }
        }
    }
}

#[test]
fn an_answer_may_be_cut_anywhere() {
    let steps = [
        Step::Reasoning("h\u{e9}".to_string()),
        Step::Content("a \u{1f600}\n".to_string()),
        Step::Call("c".into(), serde_json::json!({"a": 1}), 3),
    ];
    for api in APIS {
        for stream in [true, false] {
            let bytes = match stream {
                true => streamed(api, &steps, Finish::Stop),
                false => whole(api, &folded(api, &steps), Finish::Stop),
            };
            for cut in 0..=bytes.len() {
                agrees(api, stream, &steps, Finish::Stop, &[cut]);
            }
        }
    }
}

/// What a server writes, and what is read: content, thinking, calls, why it ended, tokens.
type Case = (
    Api,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Finish,
    u64,
);

#[test]
fn what_servers_write_otherwise_is_read_too() {
    let cases: &[Case] = &[
        // Mistral writes a list of parts where the model thinks.
        (
            Api::Custom,
            JSON,
            r#"{"choices":[{"message":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"yes"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}"#,
            "yes",
            "hm",
            Finish::Stop,
            3,
        ),
        // Blank lines and comments of a proxy, a chunk without choices, a reasoning that is null, no `[DONE]`.
        (
            Api::Custom,
            EVENTS,
            ": PROCESSING\r\n\r\ndata:{\"choices\":[],\"prompt_filter_results\":[]}\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":null},\"finish_reason\":null}],\"usage\":null}\r\n\r\ndata:{\"choices\":[{\"delta\":{\"content\":null},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\r\n\r\n",
            "a",
            "",
            Finish::Length,
            3,
        ),
        // The text of a completion.
        (
            Api::Custom,
            EVENTS,
            "data: {\"choices\":[{\"text\":\"a\",\"index\":0,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n",
            "a",
            "",
            Finish::Stop,
            3,
        ),
        // A whole answer where a stream was asked, and the name of the older kind of call.
        (
            Api::OpenAi,
            JSON,
            r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"function_call"}],"usage":{"prompt_tokens":3}}"#,
            "a",
            "",
            Finish::ToolCalls,
            3,
        ),
        // Ollama's `/api/generate`, whose last line has no end.
        (
            Api::Ollama,
            LINES,
            "{\"response\":\"\",\"thinking\":\"hm\",\"done\":false}\n{\"response\":\"a\",\"done\":false}\n{\"response\":\"\",\"done\":true,\"done_reason\":\"length\",\"prompt_eval_count\":3}",
            "a",
            "hm",
            Finish::Length,
            3,
        ),
        // Tokens of a cache were read by the model too; the stop sequence is the client's second.
        (
            Api::Anthropic,
            EVENTS,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1,\"cache_read_input_tokens\":2,\"cache_creation_input_tokens\":0,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"x\"}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":{}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"HALT\"},\"usage\":{\"output_tokens\":5}}\n\nevent: news\ndata: {\"type\":\"news\"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            "a",
            "",
            Finish::StopSequence(1),
            3,
        ),
    ];
    for (api, content_type, body, content, reasoning, finish, prompt) in cases {
        let outcome = answer(*api, content_type, body);
        let end = outcome.end();
        assert_eq!(outcome.content(), *content, "{body}");
        assert_eq!(outcome.answer.reasoning, reasoning.as_bytes(), "{body}");
        assert!(outcome.answer.tool_calls.is_empty(), "{body}");
        assert_eq!(end.finish, *finish, "{body}");
        assert_eq!(end.usage.unwrap().prompt_tokens, *prompt, "{body}");
    }
}

#[test]
fn calls_are_read_in_every_form() {
    let cases = [
        // Without indices; the arguments as an object.
        (
            Api::Custom,
            JSON,
            r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x": "\""}}},{"id":"b","function":{"name":"g","arguments":""}}]},"finish_reason":"tool_calls"}]}"#,
            [["a", "f", r#"{\"x\": \"\\\"\"}"#], ["b", "g", ""]],
        ),
        (
            Api::Ollama,
            JSON,
            r#"{"message":{"content":"","tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x": "\""}}},{"id":"b","function":{"name":"g"}}]},"done":true,"done_reason":"stop"}"#,
            [["a", "f", r#"{\"x\": \"\\\"\"}"#], ["b", "g", "{}"]],
        ),
        (
            Api::Anthropic,
            JSON,
            r#"{"type":"message","content":[{"type":"tool_use","id":"a","name":"f","input":{"x": "\""}},{"type":"tool_use","id":"b","name":"g","input":{}}],"stop_reason":"tool_use"}"#,
            [["a", "f", r#"{\"x\": \"\\\"\"}"#], ["b", "g", ""]],
        ),
    ];
    for (api, content_type, body, calls) in cases {
        let outcome = answer(api, content_type, body);
        let read = outcome.answer.tool_calls.iter().map(|call| {
            [&call.id, &call.name, &call.arguments].map(|it| core::str::from_utf8(it).unwrap())
        });
        assert_eq!(read.collect::<Vec<_>>(), calls, "{body}");
        assert_eq!(outcome.end().finish, Finish::ToolCalls);
    }
}

#[test]
fn vectors_come_in_the_order_of_their_texts() {
    let body = r#"{"object":"list","data":[{"index":1,"embedding":[3, 4]},{"index":0,"embedding":[1,-2e-3]}],"usage":{"prompt_tokens":9,"total_tokens":9}}"#;
    let outcome = answer(Api::OpenAi, JSON, body);
    assert_eq!(outcome.answer.embeddings, [&b"[1,-2e-3]"[..], b"[3,4]"]);
    assert_eq!(outcome.end().usage.unwrap().prompt_tokens, 9);
    let body = r#"{"model":"m","embeddings":[[1,2],[3]],"prompt_eval_count":9}"#;
    let outcome = answer(Api::Ollama, JSON, body);
    assert_eq!(outcome.answer.embeddings, [&b"[1,2]"[..], b"[3]"]);
    let outcome = answer(Api::Ollama, JSON, r#"{"embedding":[1]}"#);
    assert_eq!(outcome.answer.embeddings, [&b"[1]"[..]]);
    for (api, body) in [
        (Api::OpenAi, r#"{"data":[{"embedding":"AACAPw=="}]}"#),
        (Api::Ollama, r#"{"embeddings":[["a"]]}"#),
    ] {
        let outcome = answer(api, JSON, body);
        let why = "the answer has a vector that is no list of numbers";
        assert_eq!(outcome.failed(), (false, Code::AgentFault, why));
    }
}
