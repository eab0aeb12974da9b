#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod bridges;
mod expected;
mod fallbacks;
mod figures;
mod integrations;
mod lifecycle;
mod limits;
mod lists;
mod models;
mod orphans;
mod reload;
mod suitable;
mod upstreams;
mod waiting;

use super::audit::RequestInfo;
use super::keys::{Caller, digest};
use super::sessions::{Action, Registration, Status};
use super::*;
use crate::config::{Alias, Key, Limits, Role, SessionPolicy};
use crate::error::{Code, Refusal};
use crate::id::{Ids, SessionId, WaitId};
use crate::invocation::Needs;
use crate::link::{CloseCode, Notice, Registered, SessionStatus};
use crate::scope::Scope;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use core::net::IpAddr;

const HOME: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

/// A hub, its clock, and everything that it has asked for.
struct Bench {
    hub: Hub,
    now: Instant,
    ids: Ids,
    out: HubOut,
}

fn key(name: &str, role: Role) -> Key {
    Key::new(name, digest(name.as_bytes()), role)
}

fn bench(limits: Limits, sessions: SessionPolicy) -> Bench {
    let config = HubConfig {
        limits: Limits {
            requests_per_minute: 6000,
            burst: 6000,
            ..limits
        },
        sessions,
        auth_required: true,
        keys: vec![
            key("editor", Role::Client),
            key("chat", Role::Client),
            key("bridge", Role::Bridge),
            key("other-bridge", Role::Bridge),
            key("operator", Role::Operator),
        ],
        aliases: vec![Alias {
            name: "my-gpt-4o".into(),
            model: "m".into(),
            context_length: Some(9),
            fallback: Vec::new(),
        }],
        ..HubConfig::default()
    };
    let now = Instant::from_micros(1_000);
    Bench {
        hub: Hub::new(config, [7; 32], now, Duration::from_secs(1_767_225_600)),
        now,
        ids: Ids::new(1),
        out: HubOut::default(),
    }
}

impl Bench {
    fn connect(&mut self, token: &str) -> Result<LinkId, Refusal> {
        let hello = Hello {
            token: Some(token),
            dialled: None,
        };
        self.hub.connect(self.now, hello, &mut self.out)
    }

    fn register(
        &mut self,
        link: LinkId,
        registration: crate::link::Registration,
    ) -> (SessionId, String) {
        self.hub.handle_notice(
            self.now,
            link,
            Notice::Register(registration),
            &mut self.out,
        );
        match self.commands(link).pop() {
            Some(Command::Registered(Registered {
                session,
                token: Some(token),
                ..
            })) => (session, token),
            other => panic!("{other:?}"),
        }
    }

    fn agent(&mut self, model: &str) -> (LinkId, SessionId, String) {
        let link = self.connect("bridge").unwrap();
        let registration = crate::link::Registration {
            agent_id: "agent".into(),
            models: vec![model.into()],
            ..Default::default()
        };
        let (session, token) = self.register(link, registration);
        (link, session, token)
    }

    fn commands(&mut self, link: LinkId) -> Vec<Command> {
        let (own, others) = core::mem::take(&mut self.out.commands)
            .into_iter()
            .partition(|(to, _)| *to == link);
        self.out.commands = others;
        own.into_iter().map(|(_, command)| command).collect()
    }

    fn caller(&self, key: &str) -> Caller {
        self.hub.keys().authenticate(Some(key), HOME).unwrap()
    }

    fn ask(&mut self, model: &str, session: Option<&str>) -> Result<Admission, Refusal> {
        self.ask_for(model, session, Needs::default())
    }

    fn ask_for(
        &mut self,
        model: &str,
        session: Option<&str>,
        needs: Needs,
    ) -> Result<Admission, Refusal> {
        let ask = Ask {
            model,
            session,
            prompts: 1,
            tokens: 1,
            scope: Scope::Inference,
            needs,
        };
        self.ask_as("editor", &ask)
    }

    fn ask_as(&mut self, key: &str, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let caller = self.caller(key);
        self.hub.admit(self.now, &caller, ask)
    }

    fn granted(&mut self, model: &str) -> Ticket {
        match self.ask(model, None) {
            Ok(Admission::Granted(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, wait: WaitId) -> Claim {
        self.hub.claim(self.now, wait)
    }

    fn settle(&mut self, ticket: Ticket) {
        self.conclude(Some(ticket), &Outcome::new(Verdict::Completed, 200, 0));
    }

    fn conclude(&mut self, ticket: Option<Ticket>, outcome: &Outcome) {
        let route = "POST /v1/chat/completions";
        let mut info = RequestInfo::new(self.ids.next(), self.now, HOME, route);
        info.key = Some("editor".into());
        self.hub
            .conclude(self.now, Box::new(info), ticket, outcome, &mut self.out);
    }

    fn control(
        &mut self,
        key: &str,
        session: &SessionId,
        action: Action,
    ) -> Result<Status, Refusal> {
        let caller = self.caller(key);
        self.hub.control(
            self.now,
            Requester::Caller(&caller),
            session.as_str(),
            action,
            &mut self.out,
        )
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.hub.handle_timeout(self.now, &mut self.out);
        if let Some(timeout) = self.hub.poll_timeout() {
            assert!(timeout.at > self.now, "{timeout:?}");
        }
    }

    fn status(&self, session: &SessionId) -> Status {
        let slot = self.hub.sessions().find(session.as_str()).unwrap();
        self.hub.sessions().get(slot).unwrap().status
    }
}

fn plain() -> Bench {
    bench(Limits::default(), SessionPolicy::default())
}

#[test]
fn nobody_there_is_told_apart_from_nobody_of_that_name() {
    let mut bench = plain();
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    bench.agent("m");
    assert_eq!(
        bench.ask("n", None).unwrap_err().code(),
        Code::ModelNotFound
    );
    for name in ["m", "m:latest", "my-gpt-4o", "my-gpt-4o:latest"] {
        let ticket = bench.granted(name);
        assert_eq!(&*ticket.model, "m", "{name}");
        bench.settle(ticket);
    }
    assert_eq!(bench.hub.metrics().open, 0);
}

#[test]
fn the_session_with_the_fewest_open_exchanges_answers() {
    let mut bench = plain();
    let (first, first_session, _) = bench.agent("m");
    let (second, ..) = bench.agent("m");
    let (one, two) = (bench.granted("m"), bench.granted("m"));
    assert_ne!(one.link, two.link);
    assert!([first, second].contains(&one.link));
    let third = match bench.ask("m", Some(first_session.as_str())) {
        Ok(Admission::Granted(ticket)) => ticket,
        other => panic!("{other:?}"),
    };
    assert_eq!(third.link, first);
    let fourth = bench.granted("m");
    assert_eq!(fourth.link, second);
    assert_eq!(
        bench.ask("m", Some("nobody")).unwrap_err().code(),
        Code::SessionNotFound
    );
    for ticket in [one, two, third, fourth] {
        bench.settle(ticket);
    }
}

#[test]
fn what_does_not_fit_waits_in_line_and_then_gives_up() {
    let limits = Limits {
        exchanges: 1,
        queue_length: 2,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("m");
    let first = bench.granted("m");
    let mut waits = Vec::new();
    for _ in 0..2 {
        match bench.ask("m", None) {
            Ok(Admission::Queued(wait)) => waits.push(wait),
            other => panic!("{other:?}"),
        }
    }
    let refusal = bench.ask("m", None).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.retry_after_seconds()),
        (503, Some(5))
    );
    assert!(matches!(bench.claim(waits[0]), Claim::Waiting));
    bench.settle(first);
    assert_eq!(core::mem::take(&mut bench.out.woken), [waits[0]]);
    assert!(matches!(bench.claim(waits[1]), Claim::Waiting));
    let Claim::Granted(second) = bench.claim(waits[0]) else {
        panic!("the first in line goes first");
    };
    bench.pass(Duration::from_secs(5));
    assert_eq!(core::mem::take(&mut bench.out.woken), [waits[1]]);
    assert!(matches!(bench.claim(waits[1]), Claim::Refused(refusal) if refusal.status() == 503));
    bench.settle(second);
    assert_eq!(
        (bench.hub.metrics().open, bench.hub.metrics().queued),
        (0, 0)
    );
}

#[test]
fn a_waiting_client_that_leaves_gives_its_place_back() {
    let limits = Limits {
        exchanges: 1,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("m");
    let first = bench.granted("m");
    let Ok(Admission::Queued(wait)) = bench.ask("m", None) else {
        panic!("queued");
    };
    bench.settle(first);
    let unclaimed = bench.hub.leave(bench.now, wait);
    assert!(bench.hub.leave(bench.now, wait).is_none());
    bench.conclude(unclaimed, &Outcome::left());
    assert_eq!(bench.hub.metrics().cancelled, 1);
    assert_eq!(bench.hub.metrics().open, 0);
    let ticket = bench.granted("m");
    bench.settle(ticket);
    assert_eq!(bench.hub.metrics().unsettled, 0);
}

#[test]
fn a_ticket_that_is_dropped_is_counted_as_a_fault() {
    let mut bench = plain();
    bench.agent("m");
    drop(bench.granted("m"));
    assert_eq!(bench.hub.metrics().unsettled, 1);
}

#[test]
fn a_lost_link_leaves_its_session_for_its_time_to_live() {
    let mut bench = plain();
    let (link, session, token) = bench.agent("m");
    bench.pass(Duration::from_secs(10_000));
    assert_eq!(
        bench.status(&session),
        Status::Active,
        "a connected agent stays registered"
    );
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    bench.pass(Duration::from_secs(299));
    let again = bench.connect(&token).unwrap();
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, ticket.session()), (again, &session));
    bench.settle(ticket);
    bench.hub.disconnected(bench.now, again, &mut bench.out);
    bench.pass(Duration::from_secs(300));
    assert_eq!(bench.status(&session), Status::Expired);
    let refusal = bench.connect(&token).unwrap_err();
    assert_eq!(refusal.status(), 403, "{refusal}");
    assert!(refusal.message().contains("expired"), "{refusal}");
}

#[test]
fn a_second_link_of_a_session_replaces_the_first() {
    let mut bench = plain();
    let (bridge, session, token) = bench.agent("m");
    let first = bench.connect(&token).unwrap();
    assert!(
        matches!(&bench.commands(bridge)[..], [Command::EndSession { session: ended, .. }] if *ended == session)
    );
    let second = bench.connect(&token).unwrap();
    assert_eq!(bench.commands(first), [Command::Close(CloseCode::Replaced)]);
    bench.hub.disconnected(bench.now, first, &mut bench.out);
    let ticket = bench.granted("m");
    assert_eq!(ticket.link, second);
    bench.settle(ticket);
}

#[test]
fn a_person_approves_where_the_owner_wants_it() {
    let policy = SessionPolicy {
        manual_approval: true,
        ..SessionPolicy::default()
    };
    let mut bench = bench(Limits::default(), policy);
    let (link, session, _) = bench.agent("m");
    assert_eq!(bench.status(&session), Status::Pending);
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    assert_eq!(
        bench
            .control("bridge", &session, Action::Approve)
            .unwrap_err()
            .status(),
        403
    );
    assert_eq!(
        bench
            .control("editor", &session, Action::Approve)
            .unwrap_err()
            .status(),
        403
    );
    assert_eq!(
        bench
            .control("operator", &session, Action::Approve)
            .unwrap(),
        Status::Active
    );
    assert!(matches!(
        &bench.commands(link)[..],
        [Command::SessionStatus(SessionStatus {
            status: "active",
            reason: "approved",
            ..
        })]
    ));
    let ticket = bench.granted("m");
    assert_eq!(
        bench
            .control("operator", &session, Action::Suspend)
            .unwrap(),
        Status::Suspended
    );
    assert!(matches!(
        &bench.commands(link)[..],
        [
            Command::SessionStatus(SessionStatus {
                status: "suspended",
                ..
            }),
            Command::EndSession { .. }
        ]
    ));
    bench.settle(ticket);
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    assert_eq!(
        bench
            .control("operator", &session, Action::Approve)
            .unwrap_err()
            .status(),
        409
    );
    assert_eq!(
        bench.control("operator", &session, Action::Resume).unwrap(),
        Status::Active
    );
    assert_eq!(
        bench
            .control("other-bridge", &session, Action::Revoke)
            .unwrap_err()
            .status(),
        403
    );
    assert_eq!(
        bench.control("bridge", &session, Action::Revoke).unwrap(),
        Status::Revoked
    );
    assert_eq!(
        bench
            .control("operator", &session, Action::Resume)
            .unwrap_err()
            .status(),
        409
    );
    let unknown = SessionId::new("nobody").unwrap();
    assert_eq!(
        bench
            .control("operator", &unknown, Action::Revoke)
            .unwrap_err()
            .status(),
        404
    );
}

#[test]
fn a_revoked_session_closes_the_link_that_its_token_opened() {
    let mut bench = plain();
    let (_, session, token) = bench.agent("m");
    let own = bench.connect(&token).unwrap();
    bench.out.commands.clear();
    bench.control("operator", &session, Action::Revoke).unwrap();
    assert!(matches!(
        bench.commands(own).last(),
        Some(Command::Close(CloseCode::Policy))
    ));
    let refusal = bench.connect(&token).unwrap_err();
    assert_eq!(refusal.status(), 403, "{refusal}");
    assert!(refusal.message().contains("revoked"), "{refusal}");
}

#[test]
fn a_session_that_has_answered_often_enough_answers_no_more() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    bench.register(
        link,
        crate::link::Registration {
            agent_id: "m".into(),
            max_requests: Some(2),
            max_concurrency: Some(1),
            ..Default::default()
        },
    );
    let first = bench.granted("m");
    assert!(matches!(bench.ask("m", None), Ok(Admission::Queued(_))));
    bench.settle(first);
    assert!(
        !bench.out.woken.is_empty(),
        "the one that waited has the second and last"
    );
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
}

#[test]
fn nobody_waits_for_a_full_session_while_another_is_free() {
    let mut bench = plain();
    let (_, free, _) = bench.agent("m");
    let held = [bench.granted("m"), bench.granted("m")];
    let link = bench.connect("bridge").unwrap();
    bench.register(
        link,
        crate::link::Registration {
            agent_id: "one-at-a-time".into(),
            models: vec!["m".into()],
            max_concurrency: Some(1),
            ..Default::default()
        },
    );
    let narrow = bench.granted("m");
    assert_ne!(*narrow.session(), free, "the idle one comes first");
    // It has fewer exchanges open than the other, but takes no more.
    let next = bench.granted("m");
    assert_eq!(*next.session(), free);
    for ticket in held.into_iter().chain([narrow, next]) {
        bench.settle(ticket);
    }
}

#[test]
fn wrong_values_of_a_registration_are_named() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    for (registration, field) in [
        (crate::link::Registration::default(), "agent_id"),
        (
            crate::link::Registration {
                agent_id: "a".into(),
                ttl_seconds: Some(0),
                ..Default::default()
            },
            "ttl_seconds",
        ),
        (
            crate::link::Registration {
                agent_id: "a".into(),
                ttl_seconds: Some(86_401),
                ..Default::default()
            },
            "ttl_seconds",
        ),
        (
            crate::link::Registration {
                agent_id: "a".into(),
                models: vec!["a b".into()],
                ..Default::default()
            },
            "models",
        ),
    ] {
        bench.hub.handle_notice(
            bench.now,
            link,
            Notice::Register(registration),
            &mut bench.out,
        );
        let commands = bench.commands(link);
        assert!(
            matches!(&commands[..], [Command::Error { message, .. }] if message.starts_with(field)),
            "{field}: {commands:?}"
        );
    }
}

#[test]
fn who_may_connect_as_an_agent() {
    let mut bench = plain();
    assert_eq!(bench.connect("nobody").unwrap_err().status(), 401);
    assert_eq!(bench.connect("editor").unwrap_err().status(), 403);
    let hello = Hello {
        token: None,
        dialled: None,
    };
    assert_eq!(
        bench
            .hub
            .connect(bench.now, hello, &mut bench.out)
            .unwrap_err()
            .status(),
        401
    );
    assert!(bench.connect("bridge").is_ok());
}

#[test]
fn sessions_registered_over_http_are_carried_by_the_link_of_the_same_bridge() {
    let mut bench = plain();
    let caller = bench.caller("bridge");
    let registration = Registration {
        session_id: SessionId::new("s-1"),
        agent_id: "m".into(),
        ..Registration::default()
    };
    let (_, token) = bench
        .hub
        .register_by_control(bench.now, &caller, registration.clone(), &mut bench.out)
        .unwrap();
    assert!(token.is_some());
    let again = bench
        .hub
        .register_by_control(bench.now, &caller, registration, &mut bench.out);
    assert!(again.is_ok(), "it goes on");
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::NoAgent);
    let link = bench.connect("bridge").unwrap();
    let ticket = bench.granted("m");
    assert_eq!((ticket.link, ticket.session().as_str()), (link, "s-1"));
    bench.settle(ticket);
}

#[test]
fn the_audit_tells_who_did_what_and_never_a_token() {
    let mut bench = plain();
    let (_, _, token) = bench.agent("m");
    let ticket = bench.granted("m");
    bench.settle(ticket);
    let mut lines = Vec::new();
    for record in &bench.out.records {
        record.write(&bench.hub.wall(), &mut lines);
        lines.push(b'\n');
    }
    let lines = String::from_utf8(lines).unwrap();
    for (line, wanted) in lines.lines().zip([
        "\"event\":\"link\"",
        "\"what\":\"registered\"",
        "\"event\":\"request\"",
    ]) {
        assert!(line.contains(wanted), "{line}");
    }
    assert_eq!(lines.lines().count(), 3);
    assert!(!lines.contains(&token) && lines.contains("\"key\":\"bridge\""));
}

#[test]
fn a_draining_hub_admits_nothing_and_lets_the_rest_end() {
    let mut bench = plain();
    bench.agent("m");
    let ticket = bench.granted("m");
    bench.hub.drain(bench.now, &mut bench.out);
    assert_eq!(bench.ask("m", None).unwrap_err().code(), Code::Draining);
    bench.settle(ticket);
    assert_eq!(bench.hub.metrics().open, 0);
}
