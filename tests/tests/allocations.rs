//! Allocations for a chunk on its way from an agent's frame to a client's bytes, and of templates.
#![allow(clippy::unwrap_used, clippy::panic)]

use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::exchange::{Exchange, Flow, Reply};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::Keys;
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut};
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::invocation::{Delivery, Needs};
use mcp_local_provider_core::link::{Deliver, Link, LinkConfig, LinkOut};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_tests::form;
use mcp_local_provider_tests::fuzz_targets::template;
use std::path::Path;
use std::time::Duration;

struct One(Mailbox);

impl Deliver<()> for One {
    fn deliver(&mut self, _to: &(), delivery: &Delivery<'_>) -> Push {
        self.0.push(delivery)
    }
}

/// Allocations of `chunks` chunks after the stream has warmed up, taken by the client `batch` at a time.
fn allocations(endpoint: &'static str, body: &str, chunks: u64, batch: u64) -> u64 {
    let mut now = Instant::from_micros(1);
    let mut hub = Hub::new(
        HubConfig::default(),
        [7; 32],
        now,
        Duration::from_secs(1_767_225_600),
    );
    let mut hub_out = HubOut::default();
    let hello = Hello {
        token: None,
        dialled: None,
    };
    let link_id = hub.connect(now, hello, &mut hub_out).unwrap();
    let config = LinkConfig::new(&hub.config().limits);
    let mut link: Link<()> = Link::new(link_id, &config, now);
    let (mut link_out, mut mailbox) = (LinkOut::new(), One(Mailbox::new(256 << 10)));
    let register = r#"{"type":"register","agent_id":"a","models":["m"]}"#;
    link.handle_message(
        now,
        websocket::decode(register, config.frame_bytes).unwrap(),
        &mut link_out,
        &mut mailbox,
    );
    for notice in link_out.notices.drain(..) {
        hub.handle_notice(now, link_id, notice, &mut hub_out);
    }
    let id = Ids::new(1).next();
    let (mut exchange, intent) = Exchange::parse(
        hub.config(),
        hub.wall(),
        id,
        form(endpoint),
        now,
        body.as_bytes().to_vec(),
    )
    .unwrap();
    let caller = Keys::new(&HubConfig::default())
        .authenticate(None, [127, 0, 0, 1].into())
        .unwrap();
    let info = Box::new(RequestInfo {
        key: Some(caller.name.clone()),
        ..RequestInfo::new(id, now, caller.address, endpoint)
    });
    let ask = Ask {
        model: "m",
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let Admission::Granted(ticket) = hub.admit(now, &caller, &ask).unwrap() else {
        panic!("there is room");
    };
    exchange.start(now, &ticket);
    let invoke = ticket.invoke(id, intent.request.into(), PromptIndex::default());
    link.open(now, invoke, (), &mut link_out).unwrap();
    let frame = |index: u64| {
        format!(
            r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":{index},"delta":{{"content":"some thirty two bytes of an answer"}},"finish_reason":null}}"#
        )
    };
    let warm = 64;
    let frames: Vec<String> = (0..warm + chunks).map(frame).collect();
    let (mut taken, mut reply) = (Batch::new(), Reply::default());
    // The output buffer is the driver's; it is as large here as it will have to be.
    reply.body.reserve(1 << 16);
    let mut run = |frames: &[String]| {
        for some in frames.chunks(usize::try_from(batch).unwrap()) {
            for frame in some {
                now = now + Duration::from_micros(10);
                let message = websocket::decode(frame, config.frame_bytes).unwrap();
                link.handle_message(now, message, &mut link_out, &mut mailbox);
            }
            mailbox.0.drain(&mut taken);
            for delivery in &taken {
                assert_eq!(
                    exchange.handle_delivery(now, &delivery, &mut reply),
                    Flow::Continue
                );
            }
            assert!(!reply.body.is_empty());
            reply.body.clear();
        }
    };
    let (first, rest) = frames.split_at(usize::try_from(warm).unwrap());
    run(first);
    let counted = allocation_counter::measure(|| run(rest)).count_total;
    let outcome = match exchange.handle_client_gone(now) {
        Flow::Cancel(_, outcome) => outcome,
        other => panic!("{other:?}"),
    };
    hub.conclude(now, info, Some(ticket), &outcome, &mut hub_out);
    counted
}

#[test]
fn a_chunk_allocates_nothing_in_steady_state() {
    let openai = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let ollama = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    for (endpoint, body) in [
        ("POST /v1/chat/completions", openai),
        ("POST /api/chat", ollama),
    ] {
        for batch in [1, 16] {
            assert_eq!(
                allocations(endpoint, body, 1024, batch),
                0,
                "{} by {batch}",
                endpoint
            );
        }
    }
}

/// Bytes that what a template becomes may take at once.
const TEMPLATE: u64 = 64 << 20;

#[test]
fn no_template_of_the_corpus_takes_much_memory() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/template");
    for input in std::fs::read_dir(corpus).unwrap() {
        let path = input.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let most = allocation_counter::measure(|| template(&data)).bytes_max;
        assert!(most < TEMPLATE, "{}: {most} bytes", path.display());
    }
}
