//! The machines driven by hand: one agent, one client, and time that passes when this program says so.
//!
//! The agent says one word and falls silent. The client gets a sign of life every 15 seconds, and after 60 seconds an error
//! and the end of its stream; the agent gets one `model_cancel`. All of it takes no time at all.
#![allow(clippy::print_stdout)]

use core::error::Error;
use core::time::Duration;
use mcp_local_provider_core::config::HubConfig;
use mcp_local_provider_core::{Admission, Ask, Hello, Hub, HubOut, RequestInfo, Scope, Verdict};
use mcp_local_provider_core::{Batch, Delivery, Mailbox, Push};
use mcp_local_provider_core::{
    Deliver, Link, LinkConfig, LinkOut, PromptIndex, ToAgent, websocket,
};
use mcp_local_provider_core::{Exchange, Flow, Head, Listener, Reply, accept};
use mcp_local_provider_core::{Ids, Instant};

/// The one mailbox that there is.
struct One(Mailbox);

impl Deliver<()> for One {
    fn deliver(&mut self, _to: &(), delivery: &Delivery<'_>) -> Push {
        self.0.push(delivery)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut now = Instant::from_micros(0);
    let calendar = Duration::from_secs(1_767_225_600);
    let mut hub = Hub::new(HubConfig::default(), [7; 32], now, calendar);
    let mut hub_out = HubOut::default();

    // An agent connects and registers.
    let hello = Hello {
        token: None,
        dialled: None,
    };
    let link_id = hub.connect(now, hello, &mut hub_out)?;
    let config = LinkConfig::new(&hub.config().limits);
    let mut link: Link<()> = Link::new(link_id, &config, now);
    let (mut link_out, mut mailbox) = (LinkOut::new(), One(Mailbox::new(256 << 10)));
    let register = r#"{"type":"register","agent_id":"me","models":["my-model"]}"#;
    let message = websocket::decode(register, config.frame_bytes)?;
    link.handle_message(now, message, &mut link_out, &mut mailbox);
    for notice in link_out.notices.drain(..) {
        hub.handle_notice(now, link_id, notice, &mut hub_out);
    }
    for (_, command) in hub_out.commands.drain(..) {
        link.handle_command(now, command, &mut link_out, &mut mailbox);
    }

    // A client asks.
    let head = Head {
        method: "POST",
        target: "/v1/chat/completions",
        host: Some("localhost"),
        origin: None,
        authorization: None,
        api_key: None,
        user_agent: None,
        fetch_site: None,
        accept: None,
        agent: None,
        address: [127, 0, 0, 1].into(),
        forwarding: Default::default(),
    };
    let accepted =
        accept(hub.config(), &hub.keys(), Listener::All, &head).map_err(|denied| denied.refusal)?;
    let form = accepted.route.form().ok_or("an agent answers this route")?;
    let caller = accepted.caller.ok_or("this route has a caller")?;
    let body =
        br#"{"model":"my-model","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let id = Ids::new(7).next();
    let (mut exchange, intent) =
        Exchange::parse(hub.config(), hub.wall(), id, form, now, body.to_vec())?;
    let info = RequestInfo::new(id, now, caller.address, accepted.route.name);
    let ask = Ask {
        model: intent.request.model(),
        session: None,
        prompts: intent.prompts(),
        tokens: intent.tokens,
        scope: Scope::Inference,
        needs: intent.needs,
    };
    let Admission::Granted(ticket) = hub.admit(now, &caller, &ask)? else {
        return Err("there is room for one".into());
    };
    exchange.start(now, &ticket);
    let invoke = ticket.invoke(id, intent.request.into(), PromptIndex::default());
    link.open(now, invoke, (), &mut link_out)
        .map_err(|(closed, ())| closed)?;
    for message in link_out.messages.drain(..) {
        // Its WebSocket would write this.
        let _frame = websocket::encode(&message, &hub.wall());
    }

    // The agent says one word, which the client gets.
    let chunk = format!(
        r#"{{"type":"model_stream_chunk","id":"{id}","chunk_index":0,"delta":{{"content":"Well"}},"finish_reason":null}}"#
    );
    let message = websocket::decode(&chunk, config.frame_bytes)?;
    link.handle_message(now, message, &mut link_out, &mut mailbox);
    let (mut batch, mut reply) = (Batch::new(), Reply::default());
    mailbox.0.drain(&mut batch);
    for delivery in &batch {
        let flow = exchange.handle_delivery(now, &delivery, &mut reply);
        assert_eq!(flow, Flow::Continue);
    }
    assert_eq!(reply.head.take().map(|head| head.status), Some(200));

    // Nothing follows: time passes from deadline to deadline.
    let (why, outcome) = loop {
        print!(
            "{:>3} s\n{}",
            now.as_micros() / 1_000_000,
            String::from_utf8_lossy(&reply.body)
        );
        reply.body.clear();
        now = exchange
            .poll_timeout()
            .ok_or("an open exchange has a deadline")?
            .at;
        match exchange.handle_timeout(now, &mut reply) {
            Flow::Continue | Flow::Next(_) => {} // one prompt has no next
            Flow::Cancel(why, outcome) => break (why, outcome),
            Flow::Done(_) => return Err("the agent is to be told".into()),
        }
    };
    print!(
        "{:>3} s\n{}",
        now.as_micros() / 1_000_000,
        String::from_utf8_lossy(&reply.body)
    );
    link.cancel(now, id, why, &mut link_out);
    hub.conclude(now, Box::new(info), Some(ticket), &outcome, &mut hub_out);

    assert_eq!(now, Instant::from_micros(60_000_000));
    assert!(matches!(outcome.verdict, Verdict::Failed(_)));
    assert!(
        matches!(link_out.messages.front(), Some(ToAgent::Cancel(cancelled, _)) if *cancelled == id)
    );
    assert_eq!(hub.metrics().failed, 1);
    Ok(())
}
