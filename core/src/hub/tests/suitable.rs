//! Requests go to agents that may and can answer them, and of these to those that declare what they bring.

use super::*;
use crate::invocation::Kind;
use crate::scope::Scopes;
use crate::supports::{Capabilities, Supports};

const VECTORS: Needs = Needs {
    kind: Kind::Embedding,
    images: false,
    tools: false,
};

/// An agent of a model that supports this.
fn agent(bench: &mut Bench, model: &str, supports: Supports) -> SessionId {
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "able".into(),
        models: vec![model.into()],
        supports,
        ..Default::default()
    };
    bench.register(link, registration).0
}

fn able(capabilities: Capabilities) -> Supports {
    Supports::declared(Scope::Inference.into(), capabilities)
}

/// An agent that makes embeddings.
fn embedder(bench: &mut Bench, model: &str) -> SessionId {
    let capabilities = Capabilities {
        embeddings: true,
        ..Capabilities::default()
    };
    agent(bench, model, able(capabilities))
}

/// The session that answers what needs this.
fn answers(bench: &mut Bench, needs: Needs) -> (SessionId, Ticket) {
    match bench.ask_for("m", None, needs) {
        Ok(Admission::Granted(ticket)) => (ticket.session().clone(), ticket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_without_the_scope_hides_no_other_however_idle() {
    let mut bench = plain();
    let other = agent(
        &mut bench,
        "m",
        Supports::declared(Scopes::from(vec!["other".into()]), Capabilities::default()),
    );
    let refusal = bench.ask("m", None).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (403, Code::ScopeDenied));
    let (_, able, _) = bench.agent("m");
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let (session, ticket) = answers(&mut bench, Needs::default());
        assert_eq!(session, able);
        tickets.push(ticket);
    }
    let refusal = bench.ask("m", Some(other.as_str())).unwrap_err();
    assert_eq!(refusal.code(), Code::ScopeDenied);
    for ticket in tickets {
        bench.settle(ticket);
    }
}

#[test]
fn whoever_declares_what_is_brought_goes_first_and_else_anybody() {
    let mut bench = plain();
    let (_, plain, _) = bench.agent("m");
    let images = Needs {
        images: true,
        ..Needs::default()
    };
    let tools = Needs {
        tools: true,
        ..Needs::default()
    };
    let (session, ticket) = answers(&mut bench, images);
    assert_eq!(session, plain, "nobody declares to read images");
    bench.settle(ticket);
    let declared = |vision, tools| Capabilities {
        vision,
        tools,
        ..Capabilities::default()
    };
    let sees = agent(&mut bench, "m", able(declared(true, false)));
    let calls = agent(&mut bench, "m", able(declared(false, true)));
    let mut tickets = Vec::new();
    for _ in 0..3 {
        for (needs, first) in [(images, &sees), (tools, &calls)] {
            let (session, ticket) = answers(&mut bench, needs);
            assert_eq!(session, *first, "however busy");
            tickets.push(ticket);
        }
    }
    let (session, ticket) = answers(&mut bench, Needs::default());
    assert_eq!(session, plain, "the one with the least to do");
    tickets.push(ticket);
    for ticket in tickets {
        bench.settle(ticket);
    }
}

#[test]
fn a_suffix_is_not_asked_of_those_who_take_words_only() {
    let mut bench = plain();
    agent(&mut bench, "m", Supports::words(Capabilities::default()));
    let insertion = Needs {
        kind: Kind::Insertion,
        ..Needs::default()
    };
    let refusal = bench.ask_for("m", None, insertion).unwrap_err();
    assert_eq!((refusal.status(), refusal.param()), (400, Some("suffix")));
    let (_, unsaid, _) = bench.agent("m");
    let (session, ticket) = answers(&mut bench, insertion);
    assert_eq!(session, unsaid);
    let inserts = Capabilities {
        insert: true,
        ..Capabilities::default()
    };
    let declared = agent(&mut bench, "m", able(inserts));
    for _ in 0..2 {
        let (session, ticket) = answers(&mut bench, insertion);
        assert_eq!(session, declared);
        bench.settle(ticket);
    }
    bench.settle(ticket);
}

#[test]
fn vectors_are_asked_of_those_who_make_them_however_busy() {
    let mut bench = plain();
    let (_, writer, _) = bench.agent("m");
    let refusal = bench.ask_for("m", None, VECTORS).unwrap_err();
    assert_eq!((refusal.status(), refusal.param()), (400, Some("model")));
    assert!(refusal.message().contains("capability `embeddings`"));

    let embedder = embedder(&mut bench, "m");
    let mut tickets = Vec::new();
    for _ in 0..3 {
        match bench.ask_for("m", None, VECTORS) {
            Ok(Admission::Granted(ticket)) => {
                assert_eq!(*ticket.session(), embedder, "the other one is idle");
                tickets.push(ticket);
            }
            other => panic!("{other:?}"),
        }
    }
    let refusal = bench
        .ask_for("m", Some(writer.as_str()), VECTORS)
        .unwrap_err();
    assert_eq!(refusal.status(), 400);
    let text = bench.granted("m");
    assert_eq!(*text.session(), writer);
    bench.settle(text);
    for ticket in tickets {
        bench.settle(ticket);
    }
    bench
        .control("operator", &embedder, Action::Suspend)
        .unwrap();
    assert_eq!(bench.ask_for("m", None, VECTORS).unwrap_err().status(), 400);
    assert_eq!(bench.ask_for("n", None, VECTORS).unwrap_err().status(), 404);
}

#[test]
fn who_wants_another_kind_of_answer_of_the_same_model_is_kept_waiting_by_nobody_before_it() {
    let mut bench = plain();
    let embeds = Capabilities {
        embeddings: true,
        ..Capabilities::default()
    };
    let [_, writer] = [able(embeds), Supports::default()].map(|supports| {
        let link = bench.connect("bridge").unwrap();
        let registration = crate::link::Registration {
            agent_id: "busy".into(),
            models: vec!["m".into()],
            max_concurrency: Some(1),
            supports,
            ..Default::default()
        };
        bench.register(link, registration).0
    });
    let held = [VECTORS, Needs::default()].map(|needs| answers(&mut bench, needs));
    let [_, text] =
        [VECTORS, Needs::default()].map(|needs| match bench.ask_for("m", None, needs) {
            Ok(Admission::Queued(wait)) => wait,
            other => panic!("{other:?}"),
        });
    let [(_, vectors), (session, ticket)] = held;
    assert_eq!(session, writer);
    bench.settle(ticket);
    assert_eq!(core::mem::take(&mut bench.out.woken), [text]);
    let Claim::Granted(ticket) = bench.claim(text) else {
        panic!("the writer is free");
    };
    assert_eq!(*ticket.session(), writer);
    bench.settle(ticket);
    bench.settle(vectors);
}
