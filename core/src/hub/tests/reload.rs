//! Effects of another configuration, and the things that it leaves alone.

use super::*;

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
