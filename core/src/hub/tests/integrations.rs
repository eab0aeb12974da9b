//! Integrations of the registry, which no session answers.

use super::*;
use crate::invocation::{Kind, Usage};

fn integration(
    bench: &Bench,
    model: &str,
    kind: Kind,
) -> Option<Result<alloc::sync::Arc<str>, Refusal>> {
    let ask = Ask {
        model,
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs {
            kind,
            ..Needs::default()
        },
    };
    bench.hub.integration(&bench.caller("editor"), &ask)
}

#[test]
fn an_integration_is_found_by_every_name_and_is_charged_by_the_round() {
    let mut bench = plain();
    assert!(integration(&bench, "integration/a", Kind::Text).is_none());
    let all = [
        ("integration/a".into(), true),
        ("integration/b".into(), false),
    ];
    bench.hub.set_integrations(bench.now, all);
    bench.configure(|config| config.default_model = Some("integration/a".into()));
    for name in ["integration/a", "integration/a:latest", "default", ""] {
        let found = integration(&bench, name, Kind::Text).unwrap().unwrap();
        assert_eq!(&*found, "integration/a");
    }
    let refusal = |kind, name| integration(&bench, name, kind).unwrap().unwrap_err().code();
    assert_eq!(refusal(Kind::Text, "integration/b"), Code::Disabled);
    assert_eq!(
        refusal(Kind::Embedding, "integration/a"),
        Code::InvalidRequest
    );
    assert_eq!(
        refusal(Kind::Insertion, "integration/a"),
        Code::InvalidRequest
    );
    let lists = bench.hub.lists();
    assert!(lists.model("integration/a").is_some() && lists.model("integration/b").is_none());
    let caller = bench.caller("editor");
    let payer = crate::hub::limiter::Payer::new(caller.authority, caller.address);
    let before = bench.hub.standing(bench.now, payer).remaining_tokens;
    bench.hub.charge_round(bench.now, &caller, 40).unwrap();
    assert_eq!(
        bench.hub.standing(bench.now, payer).remaining_tokens,
        before - 40
    );
    let used = Usage {
        prompt_tokens: 10,
        ..Usage::default()
    };
    bench.hub.settle_round(bench.now, &caller, 40, used);
    assert_eq!(
        bench.hub.standing(bench.now, payer).remaining_tokens,
        before - 10
    );
    // A session that is named is asked itself.
    let (_, session, _) = bench.agent("m");
    let ask = Ask {
        model: "integration/a",
        session: Some(session.as_str()),
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    assert!(
        bench
            .hub
            .integration(&bench.caller("editor"), &ask)
            .is_none()
    );
    bench.hub.set_integrations(bench.now, []);
    assert!(integration(&bench, "integration/a", Kind::Text).is_none());
}
