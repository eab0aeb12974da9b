//! Sessions whose agent is away.

use super::*;

#[test]
fn a_session_whose_agent_died_waits_for_that_agent_and_no_other() {
    let mut bench = plain();
    let (first, _, token) = bench.agent("m");
    bench.hub.disconnected(bench.now, first, &mut bench.out);
    let second = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "another".into(),
        models: vec!["n".into()],
        ..Default::default()
    };
    bench.register(second, registration);
    assert_eq!(
        bench.ask("m", None).unwrap_err().code(),
        Code::NoAgent,
        "known, but nobody answers for it now"
    );
    assert_eq!(
        bench.ask("o", None).unwrap_err().code(),
        Code::ModelNotFound
    );
    let back = bench.connect(&token).unwrap();
    let ticket = bench.granted("m");
    assert_eq!(ticket.link, back);
    bench.settle(ticket);
    let ticket = bench.granted("n");
    assert_eq!(ticket.link, second);
    bench.settle(ticket);
}

#[test]
fn an_agent_that_comes_back_without_its_token_replaces_its_own_session() {
    let mut bench = plain();
    let (first, old, _) = bench.agent("m");
    bench.hub.disconnected(bench.now, first, &mut bench.out);
    let (second, new, _) = bench.agent("m");
    assert_ne!(old, new);
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, ticket.session()), (second, &new));
    bench.settle(ticket);
    let slot = bench.hub.sessions().find(old.as_str()).unwrap();
    let status = bench.hub.sessions().get(slot).unwrap().status;
    assert_eq!(status, sessions::Status::Revoked);
}

fn registration(agent_id: &str) -> Registration {
    Registration {
        agent_id: agent_id.into(),
        ..Registration::default()
    }
}

impl Bench {
    fn over_http(
        &mut self,
        key: &str,
        registration: Registration,
    ) -> Result<(SessionId, Option<String>), Refusal> {
        let caller = self.caller(key);
        let (now, out) = (self.now, &mut self.out);
        let registered = self
            .hub
            .register_by_control(now, &caller, registration, out)?;
        let session = self.hub.sessions().get(registered.0).unwrap();
        Ok((session.id.clone(), registered.1))
    }

    fn dial(&mut self, token: &str) -> LinkId {
        let hello = Hello {
            token: Some(token),
            dialled: Some(Dialled::default()),
        };
        self.hub.connect(self.now, hello, &mut self.out).unwrap()
    }

    fn carrier(&self, session: &SessionId) -> Option<LinkId> {
        let slot = self.hub.sessions().find(session.as_str()).unwrap();
        self.hub.sessions().get(slot).unwrap().link
    }
}

#[test]
fn a_session_over_http_is_its_own_agents_or_nobodys() {
    let mut bench = plain();
    let (link, ..) = bench.agent("another");
    let (session, token) = bench.over_http("bridge", registration("m")).unwrap();
    assert_eq!(bench.carrier(&session), None, "{link:?} is another agent's");
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    // An agent that has not registered itself yet.
    let fresh = bench.connect("bridge").unwrap();
    assert_eq!(bench.carrier(&session), Some(fresh));
    let ticket = bench.granted("m");
    let agent = crate::link::Registration {
        agent_id: "third".into(),
        ..Default::default()
    };
    bench
        .hub
        .handle_notice(bench.now, fresh, Notice::Register(agent), &mut bench.out);
    assert_eq!(bench.carrier(&session), None, "it was not for this one");
    assert!(!ticket.permit.holds());
    let ends = |command: &Command| matches!(command, Command::EndSession { session: ended, .. } if *ended == session);
    assert!(bench.commands(fresh).iter().any(ends));
    bench.settle(ticket);
    let own = bench.connect(&token.unwrap()).unwrap();
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, ticket.session()), (own, &session));
    bench.settle(ticket);
    // Another key's link is none either.
    bench.hub.disconnected(bench.now, own, &mut bench.out);
    bench.connect("other-bridge").unwrap();
    bench.dial("other-bridge");
    assert_eq!(bench.carrier(&session), None);
    bench.pass(Duration::from_secs(300));
    assert_eq!(
        bench.status(&session),
        Status::Expired,
        "its own time to live"
    );
}

#[test]
fn a_session_over_http_goes_to_its_keys_bridge_where_no_agent_has_it() {
    let mut bench = plain();
    let mut config = bench.hub.config().clone();
    config.default_bridge = Some(digest(b"other-bridge"));
    bench.hub.reload(bench.now, config, &mut bench.out);
    let default = bench.dial("other-bridge");
    let bridge = bench.dial("bridge");
    let agent = bench.connect("bridge").unwrap();
    let (session, token) = bench.over_http("bridge", registration("m")).unwrap();
    assert_eq!(bench.carrier(&session), Some(agent));
    bench.hub.disconnected(bench.now, agent, &mut bench.out);
    assert_eq!(bench.carrier(&session), Some(bridge));
    let own = bench.connect(&token.unwrap()).unwrap();
    assert_eq!(bench.carrier(&session), Some(own));
    bench.hub.disconnected(bench.now, bridge, &mut bench.out);
    bench.hub.disconnected(bench.now, own, &mut bench.out);
    assert_eq!(bench.carrier(&session), None, "not {default:?}");
}

#[test]
fn the_default_bridge_has_what_was_registered_without_a_key() {
    let mut bench = plain();
    let mut config = bench.hub.config().clone();
    config.default_bridge = Some(digest(b"bridge"));
    config.auth_required = false;
    bench.hub.reload(bench.now, config, &mut bench.out);
    let (early, _) = bench.over_http("anyone", registration("m")).unwrap();
    assert_eq!(bench.carrier(&early), None);
    let bridge = bench.dial("bridge");
    let (late, _) = bench.over_http("anyone", registration("n")).unwrap();
    let carriers = [early, late].map(|session| bench.carrier(&session));
    assert_eq!(carriers, [Some(bridge); 2]);
}

#[test]
fn each_registration_over_http_is_a_session() {
    let mut bench = plain();
    let (first, _) = bench.over_http("bridge", registration("m")).unwrap();
    let (second, _) = bench.over_http("bridge", registration("m")).unwrap();
    assert_ne!(first, second);
    let registered = [&first, &second].map(|session| bench.status(session));
    assert_eq!(registered, [Status::Active; 2]);
    // Nor does an agent that registers on its link take one of them for its own.
    let (_, third, _) = bench.agent("m");
    assert_eq!(bench.hub.sessions().live(), 3, "{third}");
}

#[test]
fn two_sessions_have_two_tokens() {
    let mut bench = plain();
    let with_token = || Registration {
        session_token: Some(digest(b"a token that a bridge made")),
        ..registration("m")
    };
    let (first, _) = bench.over_http("bridge", with_token()).unwrap();
    for key in ["bridge", "other-bridge"] {
        let refusal = bench.over_http(key, with_token()).unwrap_err();
        assert_eq!(
            (refusal.status(), refusal.param()),
            (409, Some("session_token"))
        );
    }
    bench.control("bridge", &first, Action::Revoke).unwrap();
    bench.over_http("bridge", with_token()).unwrap();
    assert_eq!(bench.hub.sessions().live(), 1);
}

#[test]
fn a_bridge_that_registers_its_session_again_goes_on_with_it() {
    let mut bench = plain();
    let named = |models: &[&str]| Registration {
        session_id: SessionId::new("s-1"),
        models: models.iter().map(|name| (*name).into()).collect(),
        ..registration("agent")
    };
    let (session, old) = bench.over_http("bridge", named(&["m", "n"])).unwrap();
    let link = bench.connect(&old.clone().unwrap()).unwrap();
    let ticket = bench.granted("m");
    bench.pass(Duration::from_secs(200));
    bench.out.commands.clear();
    let (again, new) = bench.over_http("bridge", named(&["m", "o"])).unwrap();
    assert_eq!((&again, bench.hub.sessions().live()), (&session, 1));
    assert!(ticket.permit.holds(), "open answers are kept");
    assert_eq!(bench.carrier(&session), Some(link));
    bench.settle(ticket);
    let ticket = bench.granted("o");
    bench.settle(ticket);
    assert_eq!(bench.ask("n", None).unwrap_err().status(), 404);
    assert_eq!(bench.connect(&old.unwrap()).unwrap_err().status(), 401);
    let next = bench.connect(&new.unwrap()).unwrap();
    assert_eq!(bench.carrier(&session), Some(next));
    bench.hub.disconnected(bench.now, next, &mut bench.out);
    // Its time to live counts anew.
    bench.pass(Duration::from_secs(200));
    bench.over_http("bridge", named(&["m"])).unwrap();
    bench.pass(Duration::from_secs(299));
    assert_eq!(bench.status(&session), Status::Active);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.status(&session), Status::Expired);
    // One that has ended begins anew.
    bench.over_http("bridge", named(&["m"])).unwrap();
    assert_eq!(bench.status(&session), Status::Active);

    let refusal = bench.over_http("other-bridge", named(&["m"])).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.param()),
        (409, Some("session_id"))
    );
    bench.control("bridge", &session, Action::Revoke).unwrap();
    bench.over_http("bridge", named(&["m"])).unwrap();
    bench.control("operator", &session, Action::Revoke).unwrap();
    let refusal = bench.over_http("bridge", named(&["m"])).unwrap_err();
    assert!(refusal.message().contains("operator"), "{refusal}");
}

#[test]
fn what_an_operator_ends_stays_ended_though_its_bridge_had_ended_it_before() {
    let mut bench = plain();
    let named = || Registration {
        session_id: SessionId::new("s-1"),
        ..registration("m")
    };
    let (id, _) = bench.over_http("bridge", named()).unwrap();
    bench.control("bridge", &id, Action::Revoke).unwrap();
    bench.over_http("bridge", named()).unwrap();
    bench.control("bridge", &id, Action::Revoke).unwrap();
    bench.control("operator", &id, Action::Revoke).unwrap();
    let refusal = bench.over_http("bridge", named()).unwrap_err();
    assert_eq!(refusal.code(), Code::Conflict);
    assert!(
        refusal.message().contains("ended by an operator"),
        "{refusal}"
    );
}
