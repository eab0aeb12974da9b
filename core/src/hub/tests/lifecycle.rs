//! The states of sessions and their time to live.

use super::*;
use crate::hub::sessions::Session;

#[test]
fn the_table_of_transitions() {
    use Action::{
        Approve, Carry, Deny, Expire, Lose, Register, Renew, Resume, Revoke, Suspend, Withdraw,
    };
    let mut table = String::new();
    for status in Status::ALL {
        table.push_str(status.as_str());
        for action in [
            Register, Approve, Deny, Suspend, Resume, Revoke, Withdraw, Renew, Carry, Lose, Expire,
        ] {
            if let Some(next) = status.after(action) {
                table.push_str(&alloc::format!(" {}>{}", action.as_str(), next.as_str()));
            }
        }
        table.push('\n');
    }
    assert_eq!(
        table,
        "pending approve>active deny>revoked withdraw>revoked renew>pending carry>pending lose>pending expire>expired\n\
         active suspend>suspended revoke>revoked withdraw>revoked renew>active carry>active lose>active expire>expired\n\
         suspended resume>active revoke>revoked withdraw>revoked renew>suspended carry>suspended lose>suspended expire>expired\n\
         revoked\n\
         expired\n"
    );
}

impl Bench {
    fn session(&self, id: &SessionId) -> &Session {
        let slot = self.hub.sessions().find(id.as_str()).unwrap();
        self.hub.sessions().get(slot).unwrap()
    }

    fn renew(&mut self, while_connected: bool) {
        let mut config = self.hub.config().clone();
        config.sessions.renew_while_connected = while_connected;
        self.hub.reload(self.now, config, &mut self.out);
    }
}

fn with_renewal(while_connected: bool) -> Bench {
    let policy = SessionPolicy {
        ttl_seconds: 300,
        renew_while_connected: while_connected,
        ..SessionPolicy::default()
    };
    bench(Limits::default(), policy)
}

const TTL: Duration = seconds(300);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn links_that_stop_holding_sessions_start_their_time_to_live() {
    let mut bench = with_renewal(true);
    let (_, held, _) = bench.agent("m");
    let (lost, orphan, _) = bench.agent("n");
    bench.pass(seconds(1_000));
    bench.hub.disconnected(bench.now, lost, &mut bench.out);
    let orphan_ends = bench.now + TTL;
    bench.pass(seconds(100));
    bench.renew(false);
    assert_eq!(bench.session(&held).expires_at, Some(bench.now + TTL));
    assert_eq!(bench.session(&orphan).expires_at, Some(orphan_ends));
    bench.pass(seconds(299));
    assert_eq!(bench.session(&held).status, Status::Active);
    assert_eq!(bench.session(&orphan).status, Status::Expired);
    bench.pass(seconds(1));
    assert_eq!(bench.session(&held).status, Status::Expired);
}

#[test]
fn links_that_begin_to_hold_sessions_stop_their_time_to_live() {
    let mut bench = with_renewal(false);
    let (_, held, _) = bench.agent("m");
    let (lost, orphan, _) = bench.agent("n");
    bench.pass(seconds(100));
    bench.hub.disconnected(bench.now, lost, &mut bench.out);
    let orphan_ends = bench.now + TTL;
    bench.pass(seconds(100));
    bench.renew(true);
    assert_eq!(bench.session(&held).expires_at, None);
    assert_eq!(
        bench.session(&orphan).expires_at,
        Some(orphan_ends),
        "from the loss of its link"
    );
    bench.pass(seconds(10_000));
    assert_eq!(bench.session(&held).status, Status::Active);
    assert_eq!(bench.session(&orphan).status, Status::Expired);
}

#[test]
fn a_pending_session_ends_with_the_key_that_made_it() {
    let policy = SessionPolicy {
        manual_approval: true,
        ..SessionPolicy::default()
    };
    let mut bench = bench(Limits::default(), policy);
    let (_, pending, token) = bench.agent("m");
    assert_eq!(bench.session(&pending).status, Status::Pending);
    let mut config = bench.hub.config().clone();
    config.keys.retain(|key| key.name != "bridge");
    bench.hub.reload(bench.now, config, &mut bench.out);
    assert_eq!(bench.session(&pending).status, Status::Revoked);
    assert_eq!(
        bench.connect(&token).unwrap_err().code(),
        Code::SessionDenied
    );
}

#[test]
fn a_ticket_permits_nothing_once_its_session_may_not_answer_or_has_moved() {
    for action in [Action::Suspend, Action::Revoke] {
        let mut bench = plain();
        let (_, session, _) = bench.agent("m");
        let ticket = bench.granted("m");
        assert!(ticket.permit.holds());
        bench.control("operator", &session, action).unwrap();
        assert!(!ticket.permit.holds(), "{action:?}");
        if action == Action::Suspend {
            bench.control("operator", &session, Action::Resume).unwrap();
            assert!(!ticket.permit.holds(), "it was given before");
            let next = bench.granted("m");
            assert!(next.permit.holds());
            bench.settle(next);
        }
        bench.settle(ticket);
    }
    let mut bench = with_renewal(false);
    let (_, _, token) = bench.agent("m");
    let ticket = bench.granted("m");
    bench.connect(&token).unwrap();
    assert!(!ticket.permit.holds(), "another link carries it");
    let next = bench.granted("m");
    bench.pass(TTL);
    assert!(!next.permit.holds(), "it has expired");
    bench.settle(ticket);
    bench.settle(next);
}

#[test]
fn nobody_attaches_to_a_session_that_is_suspended() {
    let mut bench = plain();
    let (link, session, token) = bench.agent("m");
    bench
        .control("operator", &session, Action::Suspend)
        .unwrap();
    let refusal = bench.connect(&token).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.code()),
        (403, Code::SessionDenied)
    );
    assert!(refusal.message().contains("suspended"), "{refusal}");
    assert_eq!(bench.session(&session).link, Some(link), "it stays there");
    bench.control("operator", &session, Action::Resume).unwrap();
    assert!(bench.connect(&token).is_ok());
}

#[test]
fn a_session_that_is_named_answers_for_its_own_models_alone() {
    let mut bench = plain();
    let (_, session, _) = bench.agent("m");
    bench.agent("n");
    let refusal = bench.ask("n", Some(session.as_str())).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.code()),
        (404, Code::SessionNotFound)
    );
    assert!(refusal.message().contains("`n`"), "{refusal}");
}

#[test]
fn a_registration_is_within_its_limits() {
    let long = |length| alloc::string::String::from_utf8(vec![b'x'; length]).unwrap();
    let good = Registration {
        agent_id: long(256),
        label: Some(long(256)),
        models: vec![long(256); 256],
        ..Registration::default()
    };
    assert!(good.check().is_ok());
    let wrong = |change: &dyn Fn(&mut Registration)| {
        let mut registration = good.clone();
        change(&mut registration);
        let refusal = registration.check().unwrap_err();
        assert_eq!(refusal.status(), 400);
        refusal.param().unwrap().to_string()
    };
    assert_eq!(wrong(&|it| it.agent_id = long(257)), "agent_id");
    assert_eq!(wrong(&|it| it.agent_id = String::new()), "agent_id");
    assert_eq!(wrong(&|it| it.agent_id = "a\tb".into()), "agent_id");
    assert_eq!(wrong(&|it| it.label = Some(long(257))), "label");
    assert_eq!(wrong(&|it| it.label = Some("\n".into())), "label");
    assert_eq!(wrong(&|it| it.models.push("m".into())), "models");
    assert_eq!(wrong(&|it| it.models[255] = long(257)), "models");
    assert_eq!(wrong(&|it| it.models[0] = "a b".into()), "models");
    for (names, is_good) in [(16, true), (17, false)] {
        let mut registration = good.clone();
        registration.supports.scopes = crate::scope::Scopes::from(vec![long(256); names]);
        assert_eq!(registration.check().is_ok(), is_good, "{names} scopes");
    }
    assert_eq!(
        wrong(&|it| it.supports.scopes = crate::scope::Scopes::from(vec![long(257)])),
        "allowed_scopes"
    );
    assert_eq!(wrong(&|it| it.ttl_seconds = Some(0)), "ttl_seconds");
    assert_eq!(wrong(&|it| it.ttl_seconds = Some(86_401)), "ttl_seconds");
    assert_eq!(
        wrong(&|it| it.requests_per_minute = Some(0)),
        "requests_per_minute"
    );
    assert_eq!(wrong(&|it| it.max_concurrency = Some(0)), "max_concurrency");
}

#[test]
fn the_oldest_of_many_that_have_ended_are_forgotten_but_for_those_that_still_answer() {
    const MANY: usize = 300;
    let mut bench = plain();
    let mut tickets = Vec::new();
    for at in 0..MANY {
        let model = alloc::format!("m{at}");
        let (_, session, _) = bench.agent(&model);
        if at == 1 {
            tickets.push(bench.granted(&model));
        }
        bench.control("operator", &session, Action::Revoke).unwrap();
    }
    bench.agent("other");
    assert_eq!(
        bench.hub.sessions().iter().count(),
        257,
        "256 that have ended, and a live one"
    );
    let known = |bench: &mut Bench, at: usize| {
        let refusal = bench.ask(&alloc::format!("m{at}"), None).unwrap_err();
        refusal.code() == Code::NoAgent
    };
    for (at, is_known) in [
        (0, false),
        (1, true),
        (2, false),
        (MANY - 256, false),
        (MANY - 255, true),
        (MANY - 1, true),
    ] {
        assert_eq!(known(&mut bench, at), is_known, "{at}");
        let owners = bench.hub.sessions().owners();
        let is_remembered = owners.remembers(&alloc::format!("m{at}"));
        assert_eq!(is_remembered, is_known, "the model of {at}");
    }
    for ticket in tickets {
        bench.settle(ticket);
    }
}
