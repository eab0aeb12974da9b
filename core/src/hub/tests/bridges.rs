//! Sessions that the configuration gives to bridges, and the form in which agents are asked.

use super::*;
use crate::invocation::InvokeForm;

fn registration() -> Registration {
    Registration {
        agent_id: "behind".into(),
        models: vec!["b".into()],
        ttl_seconds: Some(100),
        ..Registration::default()
    }
}

impl Bench {
    fn dial_configured(
        &mut self,
        token: Option<&str>,
        registration: &Registration,
    ) -> Result<LinkId, Refusal> {
        self.dial_named("old", token, registration)
    }

    fn dial_named(
        &mut self,
        name: &str,
        token: Option<&str>,
        registration: &Registration,
    ) -> Result<LinkId, Refusal> {
        let dialled = Dialled {
            name,
            form: InvokeForm::Flat,
            session: Some(registration),
        };
        let hello = Hello {
            token,
            dialled: Some(dialled),
        };
        self.hub.connect(self.now, hello, &mut self.out)
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.hub.handle_timeout(self.now, &mut self.out);
    }
}

#[test]
fn a_configured_bridge_has_its_session_whenever_it_is_connected() {
    for token in [None, Some("bridge")] {
        for renew_while_connected in [true, false] {
            let mut bench = bench(
                Limits::default(),
                SessionPolicy {
                    manual_approval: true,
                    renew_while_connected,
                    ..SessionPolicy::default()
                },
            );
            let link = bench.dial_configured(token, &registration()).unwrap();
            bench.wait(1_000);
            let ticket = bench.granted("b");
            assert_eq!(ticket.link, link);
            let session = ticket.session().clone();
            bench.settle(ticket);

            // It is back before its time to live is over, and goes on.
            bench.hub.disconnected(bench.now, link, &mut bench.out);
            assert_eq!(
                bench.ask("b", None).unwrap_err().code(),
                Code::NoAgent,
                "nobody else answers"
            );
            let another = bench.connect("bridge").unwrap();
            assert!(bench.ask("b", None).is_err(), "nor does another's link");
            bench.wait(99);
            let link = bench.dial_configured(token, &registration()).unwrap();
            let ticket = bench.granted("b");
            assert_eq!((ticket.link, ticket.session()), (link, &session));
            bench.settle(ticket);

            // It comes back later than that.
            bench.hub.disconnected(bench.now, link, &mut bench.out);
            bench.hub.disconnected(bench.now, another, &mut bench.out);
            bench.wait(101);
            assert_eq!(bench.hub.sessions().live(), 0);
            let link = bench.dial_configured(token, &registration()).unwrap();
            let ticket = bench.granted("b");
            assert_eq!(ticket.link, link);
            assert_ne!(*ticket.session(), session);
            bench.settle(ticket);
        }
    }
}

#[test]
fn a_configured_session_is_for_no_bridge_of_another_name() {
    let mut bench = plain();
    let link = bench.dial_configured(None, &registration()).unwrap();
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    let other = Registration {
        agent_id: "other".into(),
        models: vec!["o".into()],
        ..registration()
    };
    let link = bench.dial_named("new", None, &other).unwrap();
    assert_eq!(bench.ask("b", None).unwrap_err().code(), Code::NoAgent);
    let ticket = bench.granted("o");
    assert_eq!(ticket.link, link);
    bench.settle(ticket);
}

#[test]
fn a_configured_session_keeps_its_name() {
    let mut bench = plain();
    let named = Registration {
        session_id: SessionId::new("mine"),
        ..registration()
    };
    for wait in [1, 101, 1] {
        let link = bench.dial_configured(None, &named).unwrap();
        let ticket = bench.granted("b");
        assert_eq!(ticket.session().as_str(), "mine");
        bench.settle(ticket);
        bench.hub.disconnected(bench.now, link, &mut bench.out);
        bench.wait(wait);
    }
    // An operator has ended it: the bridge is not connected without it.
    let link = bench.dial_configured(None, &named).unwrap();
    let operator = bench.caller("operator");
    let by = Requester::Caller(&operator);
    bench
        .hub
        .control(bench.now, by, "mine", Action::Revoke, &mut bench.out)
        .unwrap();
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    let refused = bench.dial_configured(None, &named).unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    assert!(bench.hub.links.is_empty());
}

#[test]
fn an_agent_is_asked_in_the_form_of_its_registration_else_of_its_bridge() {
    let mut bench = plain();
    let link = bench.dial_configured(None, &registration()).unwrap();
    let ticket = bench.granted("b");
    assert_eq!(ticket.form, InvokeForm::Flat);
    bench.settle(ticket);
    let nested = crate::link::Registration {
        agent_id: "nested".into(),
        form: Some(InvokeForm::Nested),
        ..Default::default()
    };
    bench.register(link, nested);
    let ticket = bench.granted("nested");
    assert_eq!(ticket.form, InvokeForm::Nested);
    bench.settle(ticket);

    let link = bench.connect("bridge").unwrap();
    let flat = crate::link::Registration {
        agent_id: "flat".into(),
        form: Some(InvokeForm::Flat),
        ..Default::default()
    };
    let (_, token) = bench.register(link, flat);
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    bench.connect(&token).unwrap();
    let ticket = bench.granted("flat");
    assert_eq!(
        ticket.form,
        InvokeForm::Flat,
        "of the session, on each link"
    );
    bench.settle(ticket);
}
