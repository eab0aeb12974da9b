//! ACP agents: what they were seen to do, played to the real machine as people can read it in `acp/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mcp-local-provider-tests --test acp` writes the outputs anew; look at the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::api::Endpoint;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut};
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::invocation::{CancelReason, Delivery, Delta, End, Finish};
use mcp_local_provider_core::link::{Capabilities, Notice, Registration};
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_tests::acp::transcript;
use std::path::Path;
use std::time::Duration;

#[test]
fn every_transcript_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("acp");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 5, "transcripts are missing");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for path in paths {
        eprintln!("{}", path.display());
        let expected = std::fs::read_to_string(&path).unwrap();
        let played = transcript::play(&expected);
        if update {
            std::fs::write(&path, played).unwrap();
        } else {
            for (number, (was, is)) in (1..).zip(expected.lines().zip(played.lines())) {
                assert_eq!(was, is, "{}:{number}", path.display());
            }
            assert_eq!(expected.len(), played.len(), "{}", path.display());
        }
    }
}

/// One exchange with an agent that is asked in words only: the headers and the body of its whole answer, and what the
/// agent was told to end it.
fn answered(body: &str, capabilities: Capabilities, pieces: &[&str]) -> (String, String, Flow) {
    let now = Instant::from_micros(1);
    let mut hub = Hub::new(
        HubConfig::default(),
        [7; 32],
        now,
        Duration::from_secs(1_767_225_600),
    );
    let mut out = HubOut::default();
    let hello = Hello {
        token: None,
        dialled: false,
    };
    let link = hub.connect(now, hello, &mut out).unwrap();
    let registration = Registration {
        agent_id: "echo".into(),
        models: vec!["echo".into()],
        capabilities,
        ..Registration::default()
    };
    hub.handle_notice(now, link, Notice::Register(registration), &mut out);
    let id = Ids::new(1).next();
    let (mut exchange, intent) = Exchange::parse(
        hub.config(),
        hub.wall(),
        id,
        Endpoint::ChatCompletions,
        now,
        body.as_bytes(),
    )
    .unwrap();
    let caller = hub
        .keys()
        .authenticate(None, [127, 0, 0, 1].into())
        .unwrap();
    let info = RequestInfo {
        exchange: id,
        started: now,
        key: Some(caller.name.clone()),
        address: caller.address,
        user_agent: None,
        endpoint: Endpoint::ChatCompletions.name(),
        bytes_in: 1,
        prompt: Some(intent.prompt),
    };
    let ask = Ask {
        model: "echo",
        session: None,
        tokens: intent.tokens,
        scope: "inference",
        embeddings: false,
    };
    let Admission::Granted(ticket) = hub.admit(now, &caller, info, &ask).unwrap() else {
        panic!("queued");
    };
    exchange.start(now, &ticket);
    let mut reply = Reply::default();
    let mut flow = Flow::Continue;
    for piece in pieces {
        let delta = Delta {
            content: JsonStr::from_escaped(piece),
            ..Delta::default()
        };
        flow = exchange.handle_delivery(now, &Delivery::Delta(delta), &mut reply);
        if flow != Flow::Continue {
            break;
        }
    }
    if flow == Flow::Continue {
        let end = End {
            finish: Finish::Stop,
            usage: None,
        };
        flow = exchange.handle_delivery(now, &Delivery::End(end), &mut reply);
    }
    let (Flow::Cancel(_, outcome) | Flow::Done(outcome)) = flow else {
        panic!("it goes on");
    };
    hub.settle(now, ticket, outcome, &mut out);
    let mut ignored = String::new();
    reply.head.unwrap().headers(|name, value| {
        if name == "x-ignored-parameters" {
            ignored = String::from_utf8(value.to_vec()).unwrap();
        }
    });
    (ignored, String::from_utf8(reply.body).unwrap(), flow)
}

#[test]
fn what_an_agent_cannot_do_is_done_here_or_told() {
    let words = Capabilities {
        words_only: true,
        ..Capabilities::default()
    };
    let body = r#"{"model":"echo","temperature":0.2,"seed":1,"top_p":1,"logprobs":true,"max_tokens":2,"stop":"END",
        "tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","messages":[{"role":"user","content":"x"}]}"#;
    let pieces = ["12", r"34\u00e9", "6789", "END"];
    let (ignored, answer, flow) = answered(body, words, &pieces);
    assert_eq!(
        ignored,
        "temperature, top_p, seed, logprobs, tool_choice, tools"
    );
    // Eight bytes for two tokens.
    assert!(answer.contains(r#""content":"1234é67""#), "{answer}");
    assert!(answer.contains(r#""finish_reason":"length""#), "{answer}");
    assert!(answer.contains(r#""estimated":true"#), "{answer}");
    assert!(matches!(flow, Flow::Cancel(CancelReason::MaxTokens, _)));

    // Within the limit, a stop sequence is a stop sequence.
    let (_, answer, flow) = answered(body, words, &["12END34"]);
    assert!(answer.contains(r#""content":"12""#), "{answer}");
    assert!(matches!(flow, Flow::Cancel(CancelReason::StopSequence, _)));

    // The caller's tools are served where the agent takes them; an agent that takes everything is left alone.
    let tools = Capabilities {
        tools: true,
        ..words
    };
    assert!(answered(body, tools, &[]).0.ends_with("tool_choice"));
    let (ignored, answer, _) = answered(body, Capabilities::default(), &pieces);
    assert_eq!(ignored, "");
    assert!(answer.contains("6789"), "{answer}");
}
