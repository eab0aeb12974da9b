//! `Debug` output of the machines holds no prompt, no answer and no token.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mcp_local_provider_core::agents::websocket;
use mcp_local_provider_core::api::{self, Head, Listener};
use mcp_local_provider_core::config::{HubConfig, Key, Role};
use mcp_local_provider_core::exchange::{Exchange, Reply};
use mcp_local_provider_core::hub::audit::RequestInfo;
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::hub::responses::Responses;
use mcp_local_provider_core::hub::{Admission, Ask, Hello, Hub, HubOut};
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::invocation::{Delivery, Needs};
use mcp_local_provider_core::link::{Command, Deliver, Link, LinkConfig, LinkOut, Registered};
use mcp_local_provider_core::mailbox::{Batch, Mailbox, Push};
use mcp_local_provider_core::request::PromptIndex;
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_tests::form;
use std::fmt::Debug;
use std::time::Duration;

const PROMPT: &str = "canary-prompt";
const ANSWER: &str = "canary-answer";
const KEY: &str = "canary-client-key";
const BRIDGE: &str = "canary-bridge-key";
const SEED: [u8; 32] = [0xab; 32];

/// Debug forms, by what they are of.
#[derive(Default)]
struct Forms(Vec<(&'static str, String)>);

impl Forms {
    fn add(&mut self, name: &'static str, value: &dyn Debug) {
        self.0.push((name, format!("{value:?}")));
        self.0.push((name, format!("{value:#?}")));
    }

    fn hold_none_of(&self, secrets: &[&str]) {
        let mut found = Vec::new();
        for secret in secrets {
            // Bytes are shown as numbers.
            let numbers: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
            let (line, lines) = (numbers.join(", "), numbers.join(",\n"));
            for (name, form) in &self.0 {
                let tight: String = form.split(' ').collect();
                if form.contains(secret) || form.contains(&line) || tight.contains(&lines) {
                    found.push(format!("{secret} is in {name}: {form}"));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// Takes deliveries into one mailbox, and their own forms too.
struct Taking<'t> {
    mailbox: Mailbox,
    forms: &'t mut Forms,
}

impl Deliver<()> for Taking<'_> {
    fn deliver(&mut self, (): &(), delivery: &Delivery<'_>) -> Push {
        self.forms.add("a delivery", delivery);
        self.mailbox.push(delivery)
    }
}

#[test]
fn what_is_printed_of_a_machine_holds_no_secret() {
    let mut forms = Forms::default();
    let key = |name: &str, text: &str, role| Key::new(name, digest(text.as_bytes()), role);
    let config = HubConfig {
        keys: vec![
            key("editor", KEY, Role::Client),
            key("bridge", BRIDGE, Role::Bridge),
        ],
        auth_required: true,
        default_bridge: Some(digest(BRIDGE.as_bytes())),
        ..HubConfig::default()
    };
    let now = Instant::ZERO;
    let mut hub = Hub::new(config, SEED, now, Duration::ZERO);
    let (mut out, mut link_out) = (HubOut::default(), LinkOut::new());
    let hello = Hello {
        token: Some(BRIDGE),
        dialled: None,
    };
    forms.add("a hello", &hello);
    let id = hub.connect(now, hello, &mut out).unwrap();
    let mut link: Link<()> = Link::new(id, &LinkConfig::new(&hub.config().limits), now);
    let mut taking = Taking {
        mailbox: Mailbox::new(1 << 20),
        forms: &mut forms,
    };
    let frames = 1 << 20;
    let register = r#"{"type":"register","agent_id":"a","models":["m"]}"#;
    let message = websocket::decode(register, frames).unwrap();
    link.handle_message(now, message, &mut link_out, &mut taking);
    for notice in std::mem::take(&mut link_out.notices) {
        taking.forms.add("a notice", &notice);
        hub.handle_notice(now, id, notice, &mut out);
    }
    taking.forms.add("what the hub wants", &out);
    let mut token = String::new();
    for (_, command) in std::mem::take(&mut out.commands) {
        taking.forms.add("a command", &command);
        if let Command::Registered(Registered {
            token: Some(made), ..
        }) = &command
        {
            token.clone_from(made);
        }
        link.handle_command(now, command, &mut link_out, &mut taking);
    }
    assert_eq!(token.len(), 64);
    taking
        .forms
        .add("what a link wants, with a token", &link_out);

    let target = format!("/k/{KEY}/v1/responses");
    let head = Head {
        method: "POST",
        target: &target,
        host: Some("localhost"),
        origin: None,
        authorization: None,
        api_key: None,
        accept: None,
        user_agent: None,
        fetch_site: None,
        agent: None,
        address: [127, 0, 0, 1].into(),
        forwarding: Default::default(),
    };
    let accepted = api::accept(hub.config(), &hub.keys(), Listener::All, &head).unwrap();
    taking.forms.add("an accepted request", &accepted);
    let caller = accepted.caller.clone().unwrap();
    taking.forms.add("a caller", &caller);
    taking.forms.add("the keys", &hub.keys());
    taking.forms.add("the configuration", hub.config());

    let body =
        format!(r#"{{"model":"m","stream":true,"instructions":"{PROMPT}","input":"{PROMPT}"}}"#);
    let exchange_id = Ids::new(1).next();
    let (mut exchange, intent) = Exchange::parse(
        hub.config(),
        hub.wall(),
        exchange_id,
        form("POST /v1/responses"),
        now,
        body.as_bytes().to_vec(),
    )
    .unwrap();
    taking.forms.add("an intent", &intent);
    taking.forms.add("an exchange", &exchange);
    let mut info = RequestInfo::new(exchange_id, now, head.address, "POST /v1/responses");
    info.prompt = Some(digest(intent.request.prompt().as_bytes()));
    let ask = Ask {
        model: intent.request.model(),
        session: None,
        prompts: intent.prompts(),
        tokens: intent.tokens,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let Admission::Granted(ticket) = hub.admit(now, &caller, &ask).unwrap() else {
        panic!("there is room");
    };
    taking.forms.add("a ticket", &ticket);
    exchange.start(now, &ticket);
    let invoke = ticket.invoke(exchange_id, intent.request.into(), PromptIndex::default());
    taking.forms.add("an invocation", &invoke);
    link.open(now, invoke, (), &mut link_out).unwrap();
    let written = link_out.messages.back();
    let written = written.and_then(|message| websocket::encode(message, &hub.wall()));
    assert!(written.unwrap().contains(PROMPT));
    taking
        .forms
        .add("what a link wants, with an invocation", &link_out);
    for frame in [
        format!(
            r#"{{"type":"model_stream_chunk","id":"{exchange_id}","chunk_index":1,"delta":{{"content":"{ANSWER}"}},"finish_reason":null}}"#
        ),
        format!(
            r#"{{"type":"model_stream_chunk","id":"{exchange_id}","chunk_index":0,"delta":{{"reasoning_content":"{ANSWER}","tool_calls":[{{"index":0,"id":"c","function":{{"name":"f","arguments":"{ANSWER}"}}}}]}},"finish_reason":null}}"#
        ),
        format!(
            r#"{{"type":"model_stream_chunk","id":"{exchange_id}","chunk_index":2,"delta":{{"content":"{ANSWER}"}},"finish_reason":"stop"}}"#
        ),
    ] {
        let message = websocket::decode(&frame, frames).unwrap();
        taking.forms.add("a message", &message);
        link.handle_message(now, message, &mut link_out, &mut taking);
        taking.forms.add("a link", &link);
        let Taking { mailbox, forms } = &mut taking;
        forms.add("a mailbox", mailbox);
    }
    let Taking { mut mailbox, .. } = taking;
    let (mut batch, mut reply) = (Batch::new(), Reply::default());
    mailbox.drain(&mut batch);
    forms.add("a batch", &batch);
    for delivery in &batch {
        // The outcome is for the hub.
        let _ = exchange.handle_delivery(now, &delivery, &mut reply);
        forms.add("an exchange", &exchange);
    }
    assert!(String::from_utf8_lossy(&reply.body).contains(ANSWER));
    forms.add("a reply", &reply);
    let conversation = exchange.conversation().expect("a response is kept");
    forms.add("a conversation", &conversation);
    let mut responses = Responses::default();
    responses.keep(caller.credential, conversation);
    forms.add("kept conversations", &responses);
    forms.add("the hub", &hub);
    assert!(!out.records.is_empty());
    forms.add("audit records", &out.records);
    let seed = String::from_utf8_lossy(&SEED).into_owned();
    assert!(
        !forms
            .0
            .iter()
            .any(|(_, form)| form.contains("171, 171") || form.contains(&seed))
    );
    forms.hold_none_of(&[PROMPT, ANSWER, KEY, BRIDGE, &token]);
    drop(ticket);
}
