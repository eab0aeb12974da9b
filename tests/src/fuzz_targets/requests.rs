//! Bodies of clients' requests.

use crate::agent::{self, Heard};
use crate::driver::{Answered, Driver, EPOCH};
use crate::form;
use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::error::{Code, Refusal};
use mcp_local_provider_core::exchange::{Exchange, Flow, Intent, Reply};
use mcp_local_provider_core::id::{Authority, SessionId};
use mcp_local_provider_core::invocation::{Delivery, Delta, End, Finish, InvokeForm};
use mcp_local_provider_core::link::{Invoke, Permits, ToAgent};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::text::{JsonStr, escape_into};
use mcp_local_provider_core::time::{Instant, WallClock};
use mcp_local_provider_engine::converse::Frame;
use serde_json::Value;

/// Characters that an agent says back.
const ECHO: usize = 200;

/// A body of `POST /v1/chat/completions`: it is refused with reasons, or answered from the first byte to the last.
pub fn openai_request(data: &[u8]) {
    request("POST /v1/chat/completions", data);
}

/// A body of `POST /api/chat` and `POST /api/generate`.
pub fn ollama_request(data: &[u8]) {
    request("POST /api/chat", data);
    request("POST /api/generate", data);
}

fn request(endpoint: &'static str, data: &[u8]) {
    if let Some(accepted) = read(endpoint, data) {
        let body = std::str::from_utf8(data).expect("a body that was read");
        answer(endpoint, body, &accepted);
    }
}

/// A body of `POST /v1/messages` and `POST /v1/messages/count_tokens`.
pub fn anthropic_request(data: &[u8]) {
    for endpoint in ["POST /v1/messages", "POST /v1/messages/count_tokens"] {
        let Some(accepted) = read(endpoint, data) else {
            continue;
        };
        let (mut exchange, intent) = parse(endpoint, data).expect("it was read before");
        let load_only = intent.load_only;
        let session = SessionId::new("s-1").unwrap();
        let message = ToAgent::Invoke {
            invoke: Box::new(Invoke {
                id: agent::guess(1),
                permit: Permits::default().issue(session, Authority::Anyone),
                label: "agent".into(),
                model: accepted.model.as_str().into(),
                form: InvokeForm::Nested,
                request: intent.request.into(),
                prompt: PromptIndex::default(),
            }),
            at: Instant::ZERO,
        };
        let wall = WallClock::new(Instant::ZERO, EPOCH);
        let frame = Frame::Text(websocket::encode(&message, &wall).unwrap());
        assert!(matches!(Heard::read(&frame), Heard::Invoke { .. }));
        let mut reply = Reply::default();
        if load_only {
            exchange.load(Instant::ZERO, "m", &mut reply);
        } else {
            let mut escaped = Vec::new();
            let body = std::str::from_utf8(data).expect("a body that was read");
            let text: String = body.chars().take(ECHO).collect();
            escape_into(&mut escaped, &text);
            let delta = Delivery::Delta(Delta {
                content: JsonStr::from_escaped(std::str::from_utf8(&escaped).unwrap()),
                ..Delta::default()
            });
            let end = Delivery::End(End {
                finish: Finish::Stop,
                usage: None,
            });
            let mut flow = exchange.handle_delivery(Instant::ZERO, &delta, &mut reply);
            if flow == Flow::Continue {
                flow = exchange.handle_delivery(Instant::ZERO, &end, &mut reply);
            }
            assert_ne!(flow, Flow::Continue, "an answer without an end");
        }
        assert_eq!(reply.head.map(|head| head.status), Some(200));
        let text = String::from_utf8(reply.body).expect("answers are UTF-8");
        if accepted.stream {
            let mut kind = "";
            for line in text.lines().filter(|line| !line.is_empty()) {
                match line.split_once(": ").expect("a field of an event") {
                    ("event", name) => kind = name,
                    ("data", json) => {
                        let value: Value = serde_json::from_str(json).expect("events are JSON");
                        assert_eq!(value["type"], kind, "an event by two names");
                    }
                    (field, _) => panic!("the field {field}"),
                }
            }
            assert_eq!(kind, "message_stop", "the last event");
        } else {
            let _: Value = serde_json::from_str(&text).expect("a whole answer is JSON");
        }
    }
}

/// Values of a body that the test compares.
struct Accepted {
    model: String,
    stops: Vec<String>,
    stream: bool,
    load_only: bool,
}

fn parse(endpoint: &str, data: &[u8]) -> Result<(Exchange, Intent), Refusal> {
    let wall = WallClock::new(Instant::ZERO, EPOCH);
    let id = agent::guess(1);
    Exchange::parse(
        &HubConfig::default(),
        wall,
        id,
        form(endpoint),
        Instant::ZERO,
        data.to_vec(),
    )
}

/// Reads a body; refuses it in any case, as for want of an agent.
fn read(endpoint: &'static str, data: &[u8]) -> Option<Accepted> {
    let mut reply = Reply::default();
    let (refusal, accepted) = match parse(endpoint, data) {
        Ok((mut exchange, intent)) => {
            let refusal = Refusal::new(Code::NoAgent, "no agent is connected");
            let _ = exchange.refuse(Instant::ZERO, &refusal, &mut reply);
            let accepted = Accepted {
                model: intent.request.model().to_owned(),
                stops: intent.request.invocation().parameters.stop,
                stream: intent.request.is_streamed(),
                load_only: intent.load_only,
            };
            (refusal, Some(accepted))
        }
        Err(refusal) => {
            reply.refuse(agent::guess(1), form(endpoint).dialect, &refusal);
            assert!((400..500).contains(&refusal.status()), "{refusal:?}");
            (refusal, None)
        }
    };
    assert!(!refusal.message().is_empty(), "a refusal without reasons");
    assert_ne!(refusal.param(), Some(""), "a field without a name");
    let head = reply.head.expect("a refusal has a head");
    assert_eq!(head.status, form(endpoint).dialect.status(refusal.code()));
    let body: Value = serde_json::from_slice(&reply.body).expect("a refusal is JSON");
    let error = &body["error"];
    let message = error.as_str().or_else(|| error["message"].as_str());
    assert!(message.is_some_and(|message| !message.is_empty()), "{body}");
    accepted
}

/// An agent that has the model says the body back, and the client sees that up to the first stop sequence.
fn answer(endpoint: &'static str, body: &str, accepted: &Accepted) {
    let mut driver = Driver::new(HubConfig::default());
    let link = driver.connect(None).expect("a link");
    driver.receive(link, &agent::register("agent", &[&accepted.model], None));
    driver.flow();
    let Answered::Call(at) = driver.ask(endpoint, body) else {
        // Nothing is asked of a model, or nobody answers for it.
        driver.check();
        return;
    };
    assert!(!accepted.load_only, "a model was asked for nothing");
    let inbox = driver.wires[&link].inbox.iter();
    let heard: Vec<Heard> = inbox.map(Heard::read).collect();
    let id = driver.calls[at].id;
    let invoked = matches!(heard.last(), Some(Heard::Invoke { id: of, stream, .. }) if *of == id && *stream == accepted.stream);
    assert!(invoked, "{heard:?}");
    let text: Vec<char> = body.chars().take(ECHO).collect();
    let mut index = 0;
    for piece in text.chunks(1 + text.len() % 7) {
        let piece: String = piece.iter().collect();
        driver.receive(link, &agent::chunk(id, index, &piece));
        driver.flow();
        index += 1;
    }
    driver.receive(link, &agent::end(id, index));
    driver.flow();
    let text: String = text.into_iter().collect();
    let call = &driver.calls[at];
    assert!(call.client.done, "an answer without an end");
    assert_eq!(call.client.error, None);
    assert_eq!(call.client.content, cut(&text, &accepted.stops));
    assert_eq!(call.client.finish.as_deref(), Some("stop"));
    driver.check();
}

/// The text before the stop sequence that is complete first.
fn cut<'t>(text: &'t str, stops: &[String]) -> &'t str {
    stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()).map(|at| (at + stop.len(), at)))
        .min()
        .map_or(text, |(_, at)| &text[..at])
}
