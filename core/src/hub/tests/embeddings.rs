//! Requests for vectors go to agents that make them.

use super::*;
use crate::link::Capabilities;

/// An agent that makes embeddings.
fn embedder(bench: &mut Bench, model: &str) -> SessionId {
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "embedder".into(),
        models: vec![model.into()],
        capabilities: Capabilities {
            embeddings: true,
            ..Capabilities::default()
        },
        ..Default::default()
    };
    bench.register(link, registration).0
}

#[test]
fn vectors_are_asked_of_those_who_make_them_however_busy() {
    let mut bench = plain();
    let (_, writer, _) = bench.agent("m");
    let refusal = bench.ask_for("m", None, true).unwrap_err();
    assert_eq!((refusal.status(), refusal.param()), (400, Some("model")));
    assert!(refusal.message().contains("capability `embeddings`"));

    let embedder = embedder(&mut bench, "m");
    let mut tickets = Vec::new();
    for _ in 0..3 {
        match bench.ask_for("m", None, true) {
            Ok(Admission::Granted(ticket)) => {
                assert_eq!(ticket.session, embedder, "the other one is idle");
                tickets.push(ticket);
            }
            other => panic!("{other:?}"),
        }
    }
    let refusal = bench.ask_for("m", Some(writer.as_str()), true).unwrap_err();
    assert_eq!(refusal.status(), 400);
    let text = bench.granted("m");
    assert_eq!(text.session, writer);
    bench.settle(text);
    for ticket in tickets {
        bench.settle(ticket);
    }
    bench
        .control("operator", &embedder, Action::Suspend)
        .unwrap();
    assert_eq!(bench.ask_for("m", None, true).unwrap_err().status(), 400);
    assert_eq!(bench.ask_for("n", None, true).unwrap_err().status(), 404);
}
