//! One step: something that a client, an agent, the network, an operator or the clock does.

use super::setup::Caller;
use super::words::STOPS;
use super::{Asked, CALLS, World};
use crate::agent;
use crate::client::Client;
use crate::driver::{Answered, Asking};
use arbitrary::{Result, Unstructured};
use mcp_local_provider_core::invocation::estimate_tokens;
use mcp_local_provider_core::scope::Scope;
use mcp_local_provider_core::time::Instant;

/// Models that agents answer for and clients ask for.
const MODELS: [&str; 6] = ["alpha", "alpha", "alpha:latest", "beta", "beta", "nothing"];

impl World {
    pub(super) fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.began = self.now();
        let drawn = u.arbitrary()?;
        let step: u8 = match self.often {
            Some(often) if u.ratio(1, 4)? => often,
            Some(_) | None => drawn,
        };
        match step {
            // Nothing, so that an input of zeros is the smallest.
            0 => return Ok(()),
            1..=22 => self.ask(u)?,
            23..=24 => self.send_body(u)?,
            25..=104 => self.answer(u)?,
            105..=154 => self.arrive(u)?,
            155..=170 => self.disturb(u)?,
            175..=180 => self.misbehave(u)?,
            181..=196 => self.read(u)?,
            197..=201 => self.hang_up(u)?,
            202..=203 => self.connect(u)?,
            204..=211 => self.come_back(u)?,
            212 => self.die(u)?,
            171..=174 | 213 => self.operate(u)?,
            215..=226 => self.pass_time(u)?,
            227..=232 => self.suspend(u)?,
            233..=239 => self.jitter(u)?,
            240 => self.step_calendar(u)?,
            241..=243 => self.hold_commands(),
            244..=251 => {
                self.driver.release_command();
            }
            214 | 252 => self.reconfigure(u)?,
            253 => self.register_over_http(u)?,
            _ => self.stop_reading(u)?,
        }
        self.serve_and_notice();
        Ok(())
    }

    /// Serves what needs no step of its own: clients that read, and agents that notice the end of their connection.
    pub(super) fn serve_and_notice(&mut self) {
        self.driver.flow();
        for actor in &mut self.actors {
            if actor
                .link
                .is_some_and(|link| !self.driver.wires[&link].alive)
            {
                actor.disconnected();
            }
        }
    }

    /// A client asks.
    fn ask(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.asked.len() >= CALLS {
            return Ok(());
        }
        let caller = u.choose_index(self.callers.len())?;
        let route = *u.choose(&[
            "POST /v1/chat/completions",
            "POST /api/chat",
            "POST /api/generate",
            "POST /v1/messages",
            "POST /v1/completions",
            "POST /v1/embeddings",
            "POST /api/embed",
        ])?;
        let (stream, eager): (bool, bool) = (u.ratio(3, 4)?, u.ratio(3, 4)?);
        let model = *u.choose(&MODELS)?;
        let stops: Vec<String> = if u.ratio(1, 4)? {
            STOPS.iter().map(|stop| (*stop).to_owned()).collect()
        } else {
            Vec::new()
        };
        let session = if u.ratio(1, 8)? {
            let sessions: Vec<&String> = self
                .actors
                .iter()
                .flat_map(|actor| &actor.sessions)
                .collect();
            if sessions.is_empty() {
                Some("nobody".to_owned())
            } else {
                Some((*u.choose(&sessions)?).clone())
            }
        } else {
            None
        };
        let stop = serde_json::to_string(&stops).unwrap();
        let tools = u.ratio(1, 4)? && route == "POST /v1/chat/completions";
        let brought = match tools {
            true => r#","tools":[{"type":"function","function":{"name":"now"}}]"#,
            false => "",
        };
        let vectors = matches!(route, "POST /v1/embeddings" | "POST /api/embed").then_some(2);
        let body = match route {
            "POST /v1/chat/completions" => format!(
                r#"{{"model":"{model}","stream":{stream},"stop":{stop},"messages":[{{"role":"user","content":"a question"}}],"max_tokens":20{brought}}}"#
            ),
            "POST /v1/embeddings" | "POST /api/embed" => {
                format!(r#"{{"model":"{model}","input":["one","two"]}}"#)
            }
            "POST /v1/messages" => format!(
                r#"{{"model":"{model}","stream":{stream},"stop_sequences":{stop},"thinking":{{"type":"enabled","budget_tokens":1024}},"messages":[{{"role":"user","content":"a question"}}],"max_tokens":2000}}"#
            ),
            "POST /v1/completions" => format!(
                r#"{{"model":"{model}","stream":{stream},"stop":{stop},"prompt":"a question","max_tokens":20}}"#
            ),
            "POST /api/chat" => format!(
                r#"{{"model":"{model}","stream":{stream},"options":{{"stop":{stop}}},"messages":[{{"role":"user","content":"a question"}}]}}"#
            ),
            _ => format!(
                r#"{{"model":"{model}","stream":{stream},"options":{{"stop":{stop}}},"prompt":"a question"}}"#
            ),
        };
        let (late, chunked, keeps) = (u.ratio(1, 8)?, u.ratio(1, 4)?, u.ratio(1, 2)?);
        let piece = *u.choose(&[0, 0, 0, 7, 60])?;
        let most = match route {
            "POST /v1/messages" => 2000,
            "POST /v1/chat/completions" | "POST /v1/completions" => 20,
            _ => 0,
        };
        let prompt = if vectors.is_some() {
            "onetwo"
        } else {
            "a question"
        };
        let text = prompt.len() + brought.len().saturating_sub(",\"tools\":[]".len());
        let mut asked = Asked {
            caller,
            authority: self.authority(caller),
            route,
            model,
            session,
            stops,
            tokens: estimate_tokens(text) + most,
            tools,
            vectors,
            busy: false,
        };
        asked.busy = self.lacks_room(&asked);
        let suitable = self.suitable(&asked);
        let Caller {
            key,
            address,
            listener,
        } = self.callers[caller];
        let bearer = key.map(|key| format!("Bearer {key}"));
        let headers: Vec<(&str, &str)> = [
            ("authorization", bearer.as_deref()),
            ("x-mcp-session", asked.session.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        self.driver.eager = eager;
        let answered = self.driver.http(&Asking {
            headers: &headers,
            listener,
            address,
            late,
            chunked,
            piece,
            keeps,
            ..Asking::new(route, &body)
        });
        let id = self.driver.last_id();
        self.tell(|| {
            format!("{id} asks {route}, stream {stream}, eager {eager}, {asked:?}: {answered:?}")
        });
        let (free, authority) = (asked.session.is_none(), asked.authority);
        self.asked.insert(id, asked);
        match answered {
            Answered::Call(at) => {
                assert!(authority.is_some(), "{id} is let in without a key");
                self.check_chosen(at, free && tools && suitable.with_tools);
                if !late {
                    assert!(!self.driver.is_draining(), "{id} begins while it drains");
                    self.pays(id);
                }
            }
            Answered::Answer(answer) => {
                let mut client = Client::default();
                client.head(&answer.head);
                client.feed(&answer.body);
                client.finish();
                assert!(client.error.is_some(), "{id} is answered by nobody");
                let said = String::from_utf8_lossy(&answer.body);
                let lost = said.contains("no_agent") && free && self.is_starting(model);
                assert!(!lost || self.driver.is_draining(), "{id} is not waited for");
                let unsuited = said.contains("scope_denied") && free;
                assert!(!unsuited || !suitable.any, "{id} is refused: {said}");
                let status = answer.head.status();
                let refused = status == 401 || status == 429 && authority.is_none();
                assert_eq!(refused, authority.is_none(), "{id} is told {said}");
                self.check_limited(id, &answer.head, &client);
            }
        }
        Ok(())
    }

    /// A call is answered by a session that may and can do so, and where it is to, by one that calls tools.
    fn check_chosen(&self, at: usize, tools: bool) {
        let Some((_, session)) = self.driver.calls[at].answers() else {
            return;
        };
        let asked = &self.asked[&self.driver.calls[at].id];
        let (model, vectors) = (asked.model, asked.vectors.is_some());
        self.driver.look(|hub| {
            let slot = hub.sessions().find(session.as_str());
            if let Some(session) = slot.and_then(|slot| hub.sessions().get(slot)) {
                let may = session.supports.scopes.allow(Scope::Inference);
                assert!(may, "{} is asked without the scope", session.id);
                let model = model.trim_end_matches(":latest");
                let own = session.models.iter().any(|name| **name == *model);
                assert!(own, "{} is asked for {model}", session.id);
                let gives = session.supports.capabilities.embeddings || !vectors;
                assert!(gives, "{} is asked, which gives no vectors", session.id);
                let calls = session.supports.capabilities.tools || !tools;
                assert!(calls, "{} is asked, which calls no tools", session.id);
            }
        });
    }

    /// The body of a request comes, whose head came before.
    fn send_body(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let sending = |at: &usize| self.driver.calls[*at].is_sending();
        let late: Vec<usize> = (0..self.driver.calls.len()).filter(sending).collect();
        if !late.is_empty() {
            let at = *u.choose(&late)?;
            self.complete(at);
        }
        Ok(())
    }

    /// The body of a call comes.
    pub(super) fn complete(&mut self, at: usize) {
        let id = self.driver.calls[at].id;
        self.settle_payments();
        let busy = self.lacks_room(&self.asked[&id]);
        let drains = self.driver.is_draining();
        let taken = self.driver.send_body(at);
        self.tell(|| format!("the body of {id} comes; it is let in: {taken}"));
        assert!(!drains || !taken, "{id} begins while it drains");
        let asked = self.asked.get_mut(&id).expect("a call was asked");
        asked.busy = busy;
        if taken {
            let asked = &self.asked[&id];
            assert!(self.is_upheld(asked), "{id} is let in without its key");
            self.pays(id);
        } else {
            let call = &self.driver.calls[at];
            if let Some(head) = call.head.clone() {
                let client = call.client.clone();
                self.check_limited(id, &head, &client);
            }
        }
    }

    /// An agent reads, and goes on with one of its jobs.
    fn answer(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.choose_index(self.actors.len())?;
        let actor = &mut self.actors[which];
        let Some(link) = actor.link else {
            return Ok(());
        };
        if u.arbitrary()? {
            self.driver.read_piece(link);
        }
        let wire = self.driver.wires.get_mut(&link).expect("links stay known");
        actor.read(wire);
        if !actor.jobs.is_empty() {
            let at = u.choose_index(actor.jobs.len())?;
            let before = actor.flight.len();
            actor.work(at, &mut self.said, u)?;
            let sent: Vec<_> = self.actors[which].flight.range(before..).cloned().collect();
            self.tell(|| format!("agent {which} sends {sent:?}"));
        }
        Ok(())
    }

    /// Frames of an agent arrive, one or all.
    fn arrive(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.choose_index(self.actors.len())?;
        let all: bool = u.arbitrary()?;
        let count = if all { usize::MAX } else { 1 };
        self.deliver(which, count);
        Ok(())
    }

    pub(super) fn deliver(&mut self, which: usize, count: usize) {
        let actor = &mut self.actors[which];
        let count = count.min(actor.flight.len());
        let sent: Vec<_> = actor.flight.drain(..count).collect();
        let Some(link) = actor.link else {
            return;
        };
        self.tell(|| format!("agent {which}'s {sent:?} arrive"));
        let frames = sent.iter().map(|sent| sent.text.as_str());
        self.driver.receive_all(link, frames);
    }

    /// The network repeats a frame, or lets one overtake another.
    fn disturb(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.choose_index(self.actors.len())?;
        let flight = &mut self.actors[which].flight;
        if flight.is_empty() {
            return Ok(());
        }
        let at = u.choose_index(flight.len())?;
        if !flight[at].indexed {
            return Ok(());
        }
        let repeat: bool = u.arbitrary()?;
        if repeat {
            let again = flight[at].clone();
            let place = u.int_in_range(at..=flight.len())?;
            flight.insert(place, again);
        } else if flight.get(at + 1).is_some_and(|next| next.indexed) {
            flight.swap(at, at + 1);
        }
        self.tell(|| format!("agent {which}'s frame {at} is disturbed, repeated {repeat}"));
        Ok(())
    }

    /// An agent sends what it must not.
    fn misbehave(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.choose_index(self.actors.len())?;
        let actor = &self.actors[which];
        let Some(link) = actor.link else {
            return Ok(());
        };
        let some_id = agent::guess(u.int_in_range(1..=u64::try_from(CALLS).unwrap())?);
        let open = self
            .driver
            .call(some_id)
            .is_some_and(|call| !call.is_over());
        let frame = match u.int_in_range(0..=11u8)? {
            // About an exchange that is not open here. Of another one these would be an answer.
            0 if !open => agent::chunk(some_id, 0, "late"),
            1 if !open => agent::result(some_id, "late"),
            2 if !open => agent::failed(some_id, "internal"),
            // The wrong types fail the exchange that they are about.
            3 => format!("{{\"type\":\"model_stream_chunk\",\"id\":\"{some_id}\",\"delta\":[]}}"),
            4 => format!("{{\"type\":\"model_result\",\"id\":\"{some_id}\"}}"),
            5 => "{\"type\":\"model_stream_chunk\",\"id\":\"mine\",\"delta\":{}}".to_owned(),
            6 => "{\"type\":\"teapot\",\"id\":7}".to_owned(),
            7 => "{\"type\":\"ping\",\"timestamp\":[1, 2]}".to_owned(),
            8 => "no JSON".to_owned(),
            9 => "x".repeat(5000),
            10 => {
                self.tell(|| format!("agent {which} sends a binary frame"));
                self.driver.receive_binary(link);
                return Ok(());
            }
            _ => {
                let mine = actor.sessions.last().map_or("mine", String::as_str);
                format!("{{\"type\":\"unregister\",\"session_id\":\"{mine}\"}}")
            }
        };
        self.tell(|| {
            format!(
                "agent {which} misbehaves: {}",
                &frame[..frame.len().min(100)]
            )
        });
        let times = if u.ratio(1, 8)? { 16 } else { 1 };
        for _ in 0..times {
            self.driver.receive(link, &frame);
        }
        Ok(())
    }

    /// A client that reads slowly reads.
    fn read(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.driver.calls.is_empty() {
            let at = u.choose_index(self.driver.calls.len())?;
            self.tell(|| format!("call {at} reads"));
            self.driver.serve(at);
        }
        Ok(())
    }

    /// A client goes away.
    fn hang_up(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let waiting = u.ratio(1, 2)?;
        let calls = self.driver.calls.iter().enumerate();
        let calls = calls.filter(|(_, call)| !call.is_over() && (!waiting || call.is_waiting()));
        let calls: Vec<usize> = calls.map(|(at, _)| at).collect();
        if !calls.is_empty() {
            let at = *u.choose(&calls)?;
            let half: bool = u.arbitrary()?;
            self.tell(|| format!("call {at} goes away, half of it {half}"));
            self.driver.client_gone(at, half);
        }
        Ok(())
    }

    /// The way from the hub to the links is blocked, or free again.
    fn hold_commands(&mut self) {
        self.holds = !self.holds;
        self.tell(|| format!("commands are held: {}", self.holds));
        self.driver.hold_commands(self.holds);
    }

    /// A connection is lost.
    fn die(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let links: Vec<_> = self.driver.wires.keys().copied().collect();
        if !links.is_empty() {
            let link = *u.choose(&links)?;
            self.tell(|| format!("{link:?} is lost"));
            self.driver.lose(link);
        }
        Ok(())
    }

    /// Time passes: to the least timeout, or only a part of the way.
    fn pass_time(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let part = u.int_in_range(0..=3u64)?;
        let Some(timeout) = self.driver.next_timeout() else {
            return Ok(());
        };
        if part == 0 {
            self.tell(|| format!("{timeout:?} is due"));
            self.driver.advance();
        } else if timeout > self.now() {
            let left = timeout.as_micros() - self.now().as_micros();
            let now = Instant::from_micros(self.now().as_micros() + left * part / 4);
            self.tell(|| format!("time passes, part {part}"));
            self.driver.pass(now);
            self.driver.prod();
        }
        // Agents that are there show it.
        for actor in &self.actors {
            if let Some(link) = actor.link.filter(|link| self.driver.wires[link].is_read()) {
                self.driver.alive(link);
            }
        }
        Ok(())
    }

    /// Something happens on a thread whose clock reading is old.
    fn jitter(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let now = self.now();
        let back = u.int_in_range(0..=500_000)?;
        let stale = Instant::from_micros(now.as_micros().saturating_sub(back));
        self.driver.outside().set_now(stale);
        self.tell(|| "the clock goes back".to_owned());
        let stepped = match u.int_in_range(0..=2u8)? {
            0 => self.ask(u),
            1 => self.arrive(u),
            _ => self.hang_up(u),
        };
        self.driver.outside().set_now(now);
        stepped
    }

    /// An agent stops reading, reads a piece, or reads all again.
    fn stop_reading(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let which = u.choose_index(self.actors.len())?;
        let room = match u.int_in_range(0..=5)? {
            0 => Some(0),
            1 | 2 => Some(1),
            _ => None,
        };
        if let Some(link) = self.actors[which].link {
            self.driver.set_room(link, room);
        }
        self.tell(|| format!("agent {which} reads {room:?}"));
        Ok(())
    }
}
