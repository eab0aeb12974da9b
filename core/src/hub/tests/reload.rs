//! Effects of another configuration, and the things that it leaves alone.

use super::*;
use crate::invocation::Needs;

impl Bench {
    fn reload(&mut self, change: impl FnOnce(&mut HubConfig)) {
        let mut config = self.hub.config().clone();
        change(&mut config);
        self.hub.reload(self.now, config, &mut self.out);
    }
}

fn without(name: &'static str) -> impl FnOnce(&mut HubConfig) {
    move |config| config.keys.retain(|key| key.name != name)
}

#[test]
fn who_loses_the_bridge_key_loses_the_link_and_the_sessions_and_nobody_else_does() {
    let mut bench = plain();
    let (link, session, token) = bench.agent("m");
    let other = bench.connect("other-bridge").unwrap();
    bench.register(
        other,
        crate::link::Registration {
            agent_id: "other".into(),
            models: vec!["n".into()],
            ..Default::default()
        },
    );
    let own = bench.connect(&token).unwrap();
    bench.out.commands.clear();
    bench.reload(without("bridge"));
    let closed = |commands: Vec<Command>| {
        commands
            .iter()
            .any(|command| matches!(command, Command::Close(CloseCode::Policy)))
    };
    assert!(closed(bench.commands(link)), "it showed the key");
    assert!(closed(bench.commands(own)), "its session is revoked");
    assert_eq!(bench.commands(other), [], "another key's");
    let slot = bench.hub.sessions().find(session.as_str()).unwrap();
    let status = bench.hub.sessions().get(slot).unwrap().status;
    assert_eq!(status, crate::hub::sessions::Status::Revoked);
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    let ticket = bench.granted("n");
    bench.settle(ticket);
    assert_eq!(
        bench.connect("bridge").unwrap_err().code(),
        Code::InvalidKey
    );
    assert_eq!(
        bench.connect(&token).unwrap_err().code(),
        Code::SessionDenied
    );
}

fn with_role(name: &'static str, role: Role) -> impl FnOnce(&mut HubConfig) {
    move |config| {
        for key in config.keys.iter_mut().filter(|key| key.name == name) {
            key.role = role;
        }
    }
}

fn closes(command: &Command) -> bool {
    matches!(command, Command::Close(CloseCode::Policy))
}

#[test]
fn a_key_whose_role_changes_loses_its_links_and_sessions() {
    for role in [Role::Client, Role::Operator, Role::Admin] {
        let mut bench = plain();
        let (link, session, token) = bench.agent("m");
        bench.out.commands.clear();
        bench.reload(with_role("bridge", role));
        assert!(bench.commands(link).iter().any(closes), "{role:?}");
        assert_eq!(bench.status(&session), Status::Revoked, "{role:?}");
        let refusal = bench.connect(&token).unwrap_err();
        assert_eq!(refusal.code(), Code::SessionDenied, "{role:?}");
        // What it sent before it is closed comes too late.
        let registration = crate::link::Registration {
            agent_id: "agent".into(),
            ..Default::default()
        };
        let (now, notice) = (bench.now, Notice::Register(registration));
        bench.hub.handle_notice(now, link, notice, &mut bench.out);
        assert_eq!(bench.hub.sessions().live(), 0, "{role:?}");
    }
}

#[test]
fn a_request_that_began_with_a_key_that_is_gone_does_nothing() {
    for change in [None, Some(Role::Admin)] {
        let mut bench = plain();
        let (_, session, _) = bench.agent("m");
        let callers = ["editor", "other-bridge", "operator"].map(|key| bench.caller(key));
        for name in ["editor", "other-bridge", "operator"] {
            match change {
                None => bench.reload(without(name)),
                Some(role) => bench.reload(with_role(name, role)),
            }
        }
        let [editor, bridge, operator] = callers;
        let ask = Ask {
            model: "m",
            session: None,
            prompts: 1,
            tokens: 1,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        let refusal = bench.hub.admit(bench.now, &editor, &ask).unwrap_err();
        assert_eq!((refusal.status(), refusal.code()), (401, Code::InvalidKey));
        let registration = Registration {
            agent_id: "late".into(),
            ..Registration::default()
        };
        let (now, out) = (bench.now, &mut bench.out);
        let registered = bench
            .hub
            .register_by_control(now, &bridge, registration, out);
        assert_eq!(registered.unwrap_err().status(), 401);
        let by = Requester::Caller(&operator);
        let id = session.as_str();
        let revoked = bench.hub.control(now, by, id, Action::Revoke, out);
        assert_eq!(revoked.unwrap_err().status(), 401);
        assert_eq!(bench.hub.sessions().live(), 1);
        assert_eq!(bench.status(&session), Status::Active);
    }
}

#[test]
fn requests_of_a_key_that_is_gone_wait_no_longer() {
    for change in [None, Some(Role::Admin)] {
        let limits = Limits {
            exchanges: 1,
            ..Limits::default()
        };
        let mut bench = bench(limits, SessionPolicy::default());
        bench.agent("m");
        let first = bench.granted("m");
        let wait = |bench: &mut Bench| match bench.ask("m", None) {
            Ok(Admission::Queued(wait)) => wait,
            other => panic!("{other:?}"),
        };
        let waits = [wait(&mut bench), wait(&mut bench)];
        bench.reload(|config| config.limits.queue_length = 7);
        assert_eq!(bench.out.woken, [], "it has changed, but not for them");
        match change {
            None => bench.reload(without("editor")),
            Some(role) => bench.reload(with_role("editor", role)),
        }
        assert_eq!(bench.out.woken, waits);
        for wait in waits {
            let Claim::Refused(refusal) = bench.claim(wait) else {
                panic!("it waits on");
            };
            assert_eq!(refusal.status(), 401, "{refusal}");
            assert!(refusal.message().contains("`editor`"), "{refusal}");
        }
        bench.settle(first);
        assert_eq!(bench.hub.metrics().queued, 0);
    }
}

#[test]
fn nobody_stays_who_came_when_no_key_was_required() {
    let mut bench = plain();
    bench.reload(|config| config.auth_required = false);
    let link = bench.connect("whatever").unwrap();
    let registration = |agent_id: &str| crate::link::Registration {
        agent_id: agent_id.into(),
        ..Default::default()
    };
    let (session, token) = bench.register(link, registration("stranger"));
    let own = bench.connect(&token).unwrap();
    let keyed = bench.connect("bridge").unwrap();
    let (kept, _) = bench.register(keyed, registration("kept"));
    bench.out.commands.clear();
    bench.reload(|config| config.auth_required = true);
    for link in [link, own] {
        assert!(bench.commands(link).iter().any(closes), "{link:?}");
    }
    assert_eq!(bench.commands(keyed), [], "it showed a key");
    assert_eq!(bench.status(&session), Status::Revoked);
    assert_eq!(bench.status(&kept), Status::Active);
    assert_eq!(bench.connect(&token).unwrap_err().status(), 403);
}

#[test]
fn what_stays_keeps_its_link_and_what_it_has_used() {
    let mut bench = plain();
    let (link, ..) = bench.agent("m");
    bench.reload(|config| {
        config.limits.requests_per_minute = 60;
        config.limits.burst = 2;
        config.aliases.clear();
        config.keys.insert(0, key("late", Role::Client));
    });
    assert_eq!(bench.commands(link), []);
    let tickets = [bench.granted("m"), bench.granted("m")];
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::RateLimited);
    tickets.into_iter().for_each(|ticket| bench.settle(ticket));
    // Again with other keys before it: the bucket is the key's own, wherever it stands in the list.
    bench.reload(without("late"));
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::RateLimited);
    bench.reload(|config| config.limits.burst = 6000);
    let ticket = bench.granted("m");
    bench.settle(ticket);
    assert_eq!(
        bench.ask("my-gpt-4o", None).unwrap_err().code(),
        Code::ModelNotFound
    );
}

#[test]
fn keys_stay_required_while_others_can_reach_a_socket() {
    let mut bench = plain();
    bench.reload(|config| {
        config.exposed = Some("0.0.0.0:8788".parse().unwrap());
        config.auth_required = false;
    });
    assert!(bench.hub.keys().authenticate(None, HOME).is_err());
    assert_eq!(bench.connect("whatever").unwrap_err().status(), 401);
    bench.reload(|config| config.exposed = None);
    assert!(bench.hub.keys().authenticate(None, HOME).is_ok());
}

#[test]
fn a_program_that_waits_without_a_key_is_refused_once_one_is_required_of_it() {
    let limits = Limits {
        exchanges: 1,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("m");
    let first = bench.granted("m");
    let caller = bench.hub.keys().local(HOME).unwrap();
    let ask = Ask {
        model: "m",
        session: None,
        prompts: 1,
        tokens: 1,
        scope: Scope::Inference,
        needs: Needs::default(),
    };
    let wait = match bench.hub.admit(bench.now, &caller, &ask) {
        Ok(Admission::Queued(wait)) => wait,
        other => panic!("{other:?}"),
    };
    bench.reload(|config| config.limits.queue_length = 7);
    assert_eq!(bench.out.woken, [], "it has changed, but not for it");
    bench.reload(|config| config.ollama_auth_required = true);
    assert_eq!(bench.out.woken, [wait]);
    let Claim::Refused(refusal) = bench.claim(wait) else {
        panic!("it waits on");
    };
    assert_eq!(refusal.status(), 401, "{refusal}");
    assert!(refusal.message().contains("a key is required"), "{refusal}");
    let refusal = bench.hub.admit(bench.now, &caller, &ask).unwrap_err();
    assert_eq!(refusal.status(), 401, "{refusal}");
    bench.settle(first);
}
