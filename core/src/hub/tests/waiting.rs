//! Requests that wait for capacity.

use super::*;
use crate::hub::routing::Unrouted;
use crate::invocation::Needs;
use proptest::prelude::*;

const MODELS: [&str; 3] = ["a", "b", "c"];

/// Requests that wait, tickets that are held, and agents.
struct Line {
    bench: Bench,
    /// Requests without an answer: the model that each wants, and the agent whose session it names, if any.
    waiting: BTreeMap<WaitId, (usize, Option<usize>)>,
    tickets: Vec<Ticket>,
    /// Each agent's token, name and link.
    agents: Vec<(String, SessionId, Option<LinkId>)>,
}

impl Line {
    /// Each agent answers for its own model and for the next one's.
    fn new() -> Self {
        let limits = Limits {
            exchanges: 4,
            queue_length: 64,
            queue_wait: Duration::from_secs(5),
            ..Limits::default()
        };
        let mut bench = bench(limits, SessionPolicy::default());
        let mut agents = Vec::new();
        for at in 0..MODELS.len() {
            let link = bench.connect("bridge").unwrap();
            let registration = crate::link::Registration {
                agent_id: MODELS[at].into(),
                models: vec![MODELS[at].into(), MODELS[(at + 1) % MODELS.len()].into()],
                max_concurrency: Some(1 + u64::try_from(at).unwrap()),
                max_requests: Some(12),
                ..Default::default()
            };
            let (session, token) = bench.register(link, registration);
            agents.push((token, session, Some(link)));
        }
        Self {
            bench,
            waiting: BTreeMap::new(),
            tickets: Vec::new(),
            agents,
        }
    }

    fn ask(&mut self, model: usize, named: Option<usize>) {
        let session = named.map(|agent| self.agents[agent].1.clone());
        let session = session.as_ref().map(SessionId::as_str);
        match self.bench.ask(MODELS[model], session) {
            Ok(Admission::Granted(ticket)) => self.tickets.push(ticket),
            Ok(Admission::Queued(wait)) => {
                self.waiting.insert(wait, (model, named));
            }
            Err(_) => {}
        }
    }

    fn settle(&mut self, at: usize) {
        if !self.tickets.is_empty() {
            let ticket = self.tickets.swap_remove(at % self.tickets.len());
            self.bench.settle(ticket);
        }
    }

    fn lose(&mut self, agent: usize) {
        if let Some(link) = self.agents[agent].2.take() {
            let bench = &mut self.bench;
            bench.hub.disconnected(bench.now, link, &mut bench.out);
        }
    }

    fn come_back(&mut self, agent: usize) {
        let (token, _, link) = &mut self.agents[agent];
        if link.is_none() {
            *link = self.bench.connect(token).ok();
        }
    }

    fn leave(&mut self, at: usize) {
        let leaving = self.waiting.keys().nth(at % self.waiting.len().max(1));
        if let Some(wait) = leaving.copied() {
            self.waiting.remove(&wait);
            let bench = &mut self.bench;
            assert!(bench.hub.leave(bench.now, wait).is_none());
        }
    }

    /// Those that were woken take their answers. Nobody else has one, nobody was passed over by one that came later and
    /// wants the same, and nobody waits for what is free or cannot come.
    fn check(&mut self) {
        let mut granted = Vec::new();
        for wait in core::mem::take(&mut self.bench.out.woken) {
            let want = self.waiting.remove(&wait).unwrap();
            match self.bench.claim(wait) {
                Claim::Granted(ticket) => {
                    granted.push((wait, want));
                    self.tickets.push(ticket);
                }
                Claim::Refused(_) => {}
                Claim::Waiting => panic!("woken for nothing"),
            }
        }
        let waits: Vec<WaitId> = self.waiting.keys().copied().collect();
        for wait in waits {
            assert!(matches!(self.bench.claim(wait), Claim::Waiting));
            let (model, named) = self.waiting[&wait];
            for (before, want) in &granted {
                assert!(*want != (model, named) || *before < wait, "passed over");
            }
            let session = named.map(|agent| self.agents[agent].1.clone());
            let ask = Ask {
                model: MODELS[model],
                session: session.as_ref().map(SessionId::as_str),
                prompts: 1,
                tokens: 1,
                scope: Scope::Inference,
                needs: Needs::default(),
            };
            let routed = self.bench.hub.route(&ask);
            assert!(matches!(routed, Err(Unrouted::Busy(_))), "{ask:?} waits");
        }
        let metrics = self.bench.hub.metrics();
        assert_eq!(
            (metrics.open, metrics.queued),
            (self.tickets.len(), self.waiting.len())
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Option<usize>),
    Settle(usize),
    Lose(usize),
    ComeBack(usize),
    Leave(usize),
    Suspend(usize),
    Resume(usize),
    Pass(u64),
    Reload(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let agent = 0..MODELS.len();
    prop_oneof![
        6 => (0..MODELS.len(), prop::option::weighted(0.3, agent.clone())).prop_map(|(model, agent)| Step::Ask(model, agent)),
        4 => any::<usize>().prop_map(Step::Settle),
        1 => agent.clone().prop_map(Step::Lose),
        1 => agent.clone().prop_map(Step::ComeBack),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => agent.clone().prop_map(Step::Suspend),
        1 => agent.prop_map(Step::Resume),
        1 => (0u64..4).prop_map(Step::Pass),
        1 => (1usize..8).prop_map(Step::Reload),
    ]
}

proptest! {
    #[test]
    fn nobody_waits_for_what_is_free_and_nobody_is_passed_over(steps in prop::collection::vec(step(), 1..120)) {
        let mut line = Line::new();
        for step in steps {
            match step {
                Step::Ask(model, named) => line.ask(model, named),
                Step::Settle(at) => line.settle(at),
                Step::Lose(agent) => line.lose(agent),
                Step::ComeBack(agent) => line.come_back(agent),
                Step::Leave(at) => line.leave(at),
                Step::Suspend(agent) => {
                    let session = line.agents[agent].1.clone();
                    let _ = line.bench.control("operator", &session, Action::Suspend);
                }
                Step::Resume(agent) => {
                    let session = line.agents[agent].1.clone();
                    let _ = line.bench.control("operator", &session, Action::Resume);
                }
                Step::Pass(seconds) => line.bench.pass(Duration::from_secs(seconds)),
                Step::Reload(exchanges) => {
                    let mut config = line.bench.hub.config().clone();
                    config.limits.exchanges = exchanges;
                    let bench = &mut line.bench;
                    bench.hub.reload(bench.now, config, &mut bench.out);
                }
            }
            line.check();
        }
        let mut bench = line.bench;
        bench.hub.drain(bench.now, &mut bench.out);
        prop_assert_eq!(bench.out.woken.len(), line.waiting.len());
        for wait in line.waiting.into_keys() {
            prop_assert!(matches!(bench.claim(wait), Claim::Refused(_)));
        }
        line.tickets.into_iter().for_each(|ticket| bench.settle(ticket));
        prop_assert_eq!(bench.hub.metrics().open, 0);
        prop_assert!(bench.hub.queue.is_bare(), "{:?}", bench.hub.queue);
    }
}

#[test]
fn a_free_place_goes_to_the_longest_wait_whatever_it_wants() {
    let limits = Limits {
        exchanges: 1,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    for model in MODELS {
        bench.agent(model);
    }
    let mut held = bench.granted("a");
    let wanted = ["c", "a", "b", "a", "c"];
    let waits = wanted.map(|model| match bench.ask(model, None) {
        Ok(Admission::Queued(wait)) => wait,
        other => panic!("{other:?}"),
    });
    for (wait, model) in waits.into_iter().zip(wanted) {
        bench.settle(held);
        assert_eq!(core::mem::take(&mut bench.out.woken), [wait]);
        let Claim::Granted(ticket) = bench.claim(wait) else {
            panic!("it was woken");
        };
        assert_eq!(&*ticket.model, model);
        held = ticket;
    }
    bench.settle(held);
}

/// A hub with room for one request, and the request that has it.
fn one_at_a_time() -> (Bench, Ticket) {
    let limits = Limits {
        exchanges: 1,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    bench.agent("a");
    let held = bench.granted("a");
    (bench, held)
}

impl Bench {
    /// A request of a key that has to wait.
    fn queued_as(&mut self, key: &str) -> WaitId {
        let ask = Ask {
            model: "a",
            session: None,
            prompts: 1,
            tokens: 1,
            scope: Scope::Inference,
            needs: Needs::default(),
        };
        match self.ask_as(key, &ask) {
            Ok(Admission::Queued(wait)) => wait,
            other => panic!("{other:?}"),
        }
    }

    fn claimed(&mut self, wait: WaitId) -> Ticket {
        match self.claim(wait) {
            Claim::Granted(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }
}

/// The order in which requests are granted, by their numbers. Of each: how many are granted before it asks, and its key.
fn granted_in_turn(asking: &[(usize, &str)]) -> Vec<usize> {
    let (mut bench, mut held) = one_at_a_time();
    let mut waits = BTreeMap::new();
    let mut order = Vec::new();
    let mut asking = asking.iter().enumerate().peekable();
    while order.len() < waits.len() || asking.peek().is_some() {
        // Each asks after so many were granted.
        while let Some((number, (_, key))) = asking.next_if(|(_, (after, _))| *after <= order.len())
        {
            waits.insert(bench.queued_as(key), number);
        }
        bench.settle(held);
        let [wait] = core::mem::take(&mut bench.out.woken)[..] else {
            panic!("one place is free");
        };
        order.push(waits[&wait]);
        held = bench.claimed(wait);
    }
    bench.settle(held);
    assert!(bench.hub.queue.is_bare(), "{:?}", bench.hub.queue);
    order
}

#[test]
fn a_key_with_many_requests_keeps_no_other_waiting_for_all_of_them() {
    let many = [(0, "editor"); 4];
    let all = [&many[..], &[(0, "chat"), (0, "chat")]].concat();
    assert_eq!(granted_in_turn(&all), [0, 4, 1, 5, 2, 3]);
    // One that asks again and again has its turn each time, and no more.
    let all = [&many[..], &[(0, "chat"), (2, "chat"), (4, "chat")]].concat();
    assert_eq!(granted_in_turn(&all), [0, 4, 1, 5, 2, 6, 3]);
}

#[test]
fn requests_that_left_the_queue_cost_their_key_no_turn() {
    let (mut bench, mut held) = one_at_a_time();
    let first = bench.queued_as("chat");
    for left in ["editor"; 3].map(|key| bench.queued_as(key)) {
        assert!(bench.hub.leave(bench.now, left).is_none());
    }
    let others = ["editor", "chat"].map(|key| bench.queued_as(key));
    for wait in [first].into_iter().chain(others) {
        bench.settle(held);
        assert_eq!(core::mem::take(&mut bench.out.woken), [wait]);
        held = bench.claimed(wait);
    }
    bench.settle(held);
}

proptest! {
    /// First come, first served within a key; and who asks once waits for one request of each other key at most.
    #[test]
    fn each_key_is_served_in_its_order_and_in_turn(keys in prop::collection::vec(prop::sample::select(vec!["editor", "chat", "operator"]), 1..24)) {
        let asking: Vec<_> = keys.iter().map(|key| (0, *key)).collect();
        let order = granted_in_turn(&asking);
        let count = |numbers: &[usize], key: &str| numbers.iter().filter(|number| keys[**number] == key).count();
        for (at, number) in order.iter().enumerate() {
            let (before, own) = (&order[..at], keys[*number]);
            prop_assert!(before.iter().all(|earlier| keys[*earlier] != own || earlier < number));
            for other in &keys {
                let all = keys.iter().filter(|key| *key == other).count();
                let served = count(before, other);
                prop_assert!(served == all || served >= count(before, own), "{order:?} of {keys:?}");
            }
        }
    }
}

#[test]
fn those_whose_last_agent_goes_are_told_at_once() {
    let mut bench = plain();
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "one-at-a-time".into(),
        models: vec!["m".into()],
        max_concurrency: Some(1),
        ..Default::default()
    };
    bench.register(link, registration);
    let ticket = bench.granted("m");
    let Ok(Admission::Queued(wait)) = bench.ask("m:latest", None) else {
        panic!("it is full");
    };
    bench.hub.disconnected(bench.now, link, &mut bench.out);
    assert_eq!(core::mem::take(&mut bench.out.woken), [wait]);
    assert!(
        matches!(bench.claim(wait), Claim::Refused(refusal) if refusal.code() == Code::NoAgent)
    );
    bench.settle(ticket);
}

#[test]
fn each_waits_for_what_it_wants_itself() {
    let mut bench = plain();
    let mut agent = |model: &str| {
        let link = bench.connect("bridge").unwrap();
        let registration = crate::link::Registration {
            agent_id: model.into(),
            models: vec![model.into()],
            max_concurrency: Some(1),
            ..Default::default()
        };
        bench.register(link, registration).0
    };
    let sessions = [agent("m"), agent("m"), agent("n")];
    let held: Vec<Ticket> = ["m", "m", "n"].map(|model| bench.granted(model)).into();
    let mut waits = Vec::new();
    for (model, session) in [("m", Some(0)), ("m", Some(1)), ("n", None)] {
        let session = session.map(|at: usize| sessions[at].as_str());
        match bench.ask(model, session) {
            Ok(Admission::Queued(wait)) => {
                waits.push((wait, session.unwrap_or(sessions[2].as_str())))
            }
            other => panic!("{other:?}"),
        }
    }
    // The last of them is free first.
    for ticket in held.into_iter().rev() {
        let freed = ticket.session().clone();
        bench.settle(ticket);
        waits.retain(|(wait, session)| match bench.claim(*wait) {
            Claim::Granted(ticket) => {
                assert_eq!(
                    (ticket.session().as_str(), freed.as_str()),
                    (*session, *session)
                );
                bench.settle(ticket);
                false
            }
            Claim::Waiting => {
                assert_ne!(freed.as_str(), *session);
                true
            }
            other @ Claim::Refused(_) => panic!("{other:?}"),
        });
    }
    assert!(waits.is_empty());
}

#[test]
fn another_configuration_may_have_what_waits_answered() {
    let limits = Limits {
        exchanges: 10,
        ..Limits::default()
    };
    let mut bench = bench(limits, SessionPolicy::default());
    let link = bench.connect("bridge").unwrap();
    let registration = crate::link::Registration {
        agent_id: "narrow".into(),
        models: vec!["m".into()],
        max_concurrency: Some(1),
        ..Default::default()
    };
    bench.register(link, registration);
    bench.agent("n");
    let held = bench.granted("my-gpt-4o");
    let Ok(Admission::Queued(wait)) = bench.ask("my-gpt-4o", None) else {
        panic!("it is busy");
    };
    bench.configure(|config| config.aliases[0].model = "n".into());
    let Claim::Granted(ticket) = bench.claim(wait) else {
        panic!("another model answers for the alias");
    };
    assert_eq!(&*ticket.model, "n");
    bench.settle(ticket);
    bench.settle(held);
}
