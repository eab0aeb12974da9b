//! ACP agents: what they were seen to do, played to the real machine as people can read it in `acp/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p mcp-local-provider-tests --test acp` writes the outputs anew; look at the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::agents::acp::{Config, Profile};
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut};
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::invocation::{CancelReason, Delivery, Delta, End, Finish, Needs};
use mcp_local_provider_core::link::{Notice, Registration};
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::supports::{Capabilities, Supports};
use mcp_local_provider_core::text::JsonStr;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_tests::acp::script::{Conversation, Script};
use mcp_local_provider_tests::acp::turmoil::{EVENTS, Turmoil};
use mcp_local_provider_tests::acp::{Bench, NAME, transcript};
use mcp_local_provider_tests::form;
use proptest::prelude::*;
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
fn answered(body: &str, supports: Supports, pieces: &[&str]) -> (String, String, Flow) {
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
        dialled: None,
    };
    let link = hub.connect(now, hello, &mut out).unwrap();
    let registration = Registration {
        agent_id: "echo".into(),
        models: vec!["echo".into()],
        supports,
        ..Registration::default()
    };
    hub.handle_notice(now, link, Notice::Register(registration), &mut out);
    let id = Ids::new(1).next();
    let (mut exchange, intent) = Exchange::parse(
        hub.config(),
        hub.wall(),
        id,
        form("POST /v1/chat/completions"),
        now,
        body.as_bytes().to_vec(),
    )
    .unwrap();
    let caller = hub
        .keys()
        .authenticate(None, [127, 0, 0, 1].into())
        .unwrap();
    let info = Box::new(RequestInfo {
        key: Some(caller.name.clone()),
        bytes_in: 1,
        prompt: Some(digest(intent.request.prompt().as_bytes())),
        ..RequestInfo::new(id, now, caller.address, "POST /v1/chat/completions")
    });
    let ask = Ask {
        model: "echo",
        session: None,
        prompts: intent.prompts(),
        tokens: intent.tokens,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let Admission::Granted(ticket) = hub.admit(now, &caller, &ask).unwrap() else {
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
    hub.conclude(now, info, Some(ticket), &outcome, &mut out);
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
    let words = || Supports::words(Capabilities::default());
    let body = r#"{"model":"echo","temperature":0.2,"seed":1,"top_p":1,"logprobs":true,"max_tokens":2,"stop":"END",
        "tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required","messages":[{"role":"user","content":"x"}]}"#;
    let pieces = ["12", r"34\u00e9", "6789", "END"];
    let (ignored, answer, flow) = answered(body, words(), &pieces);
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
    let (_, answer, flow) = answered(body, words(), &["12END34"]);
    assert!(answer.contains(r#""content":"12""#), "{answer}");
    assert!(matches!(flow, Flow::Cancel(CancelReason::StopSequence, _)));

    // The caller's tools are served where the agent takes them; an agent that takes everything is left alone.
    let tools = Supports::words(Capabilities {
        tools: true,
        ..Capabilities::default()
    });
    assert!(answered(body, tools, &[]).0.ends_with("tool_choice"));
    let (ignored, answer, _) = answered(body, Supports::default(), &pieces);
    assert_eq!(ignored, "");
    assert!(answer.contains("6789"), "{answer}");
}

fn lively(reuse: bool) -> (Bench, Script) {
    let mut config = Config::new("/empty");
    config.reuse = reuse;
    config.sessions.keep = 32;
    config.tools_url = Some("http://127.0.0.1:1/agents/mcp/".into());
    (Bench::new(Profile::new(NAME), config), Script::default())
}

/// Twenty conversations that take turns, ten requests each; what each was answered.
fn conversations(reuse: bool) -> (Vec<Vec<String>>, u64) {
    let (mut bench, mut agent) = lively(reuse);
    agent.rest(&mut bench);
    let mut all: Vec<_> = (0..20).map(Conversation::new).collect();
    for _ in 0..10 {
        // Two are under way at once.
        for pair in all.chunks_mut(2) {
            for one in pair.iter_mut() {
                one.ask(&mut bench);
            }
            while pair.iter().any(|one| one.client.is_some()) {
                agent.rest(&mut bench);
                bench.pass(Duration::from_millis(200));
                for one in pair.iter_mut() {
                    let waited = one.client.is_some();
                    one.hear(&bench);
                    let called = one.client.is_none() && waited && one.wants_more();
                    if called {
                        one.ask(&mut bench);
                    }
                }
            }
        }
    }
    let answers = all.into_iter().map(|one| one.answers).collect();
    (answers, bench.agent.counters().reused)
}

#[test]
fn a_conversation_goes_on_the_same_in_its_session_and_in_a_new_one() {
    let (kept, reused) = conversations(true);
    let (told, never) = conversations(false);
    assert_eq!(kept, told);
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 200);
    assert!(kept[3][9].contains("turn 10 of CANARY-3"), "{}", kept[3][9]);
    assert!(reused > 100 && never < reused, "{reused} of {never}");
}

/// Every order of seven things, with what must hold after each, and the way back to order from wherever they lead.
#[test]
fn whatever_happens_everybody_is_answered_once_and_hears_nothing_of_the_other() {
    const LENGTH: u32 = 4;
    for tools in [false, true] {
        for run in 0..7u32.pow(LENGTH) {
            let mut turmoil = Turmoil::new(tools, tools, 3);
            let mut rest = run;
            for _ in 0..LENGTH {
                turmoil.happen(u8::try_from(rest % 7).unwrap());
                rest /= 7;
            }
            turmoil.heal();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_for_longer_too(tools: bool, never_closes: bool, keep in 0usize..5, events in proptest::collection::vec(0..EVENTS, 0..120)) {
        let mut turmoil = Turmoil::new(tools, never_closes, keep);
        for event in events {
            turmoil.happen(event);
        }
        turmoil.heal();
    }
}
