//! Transcripts that people can read: what a client and an agent send, and what each of them gets, in order.
//!
//! A line `client> …`, `agent> …`, `operator> …` or `time> …` is something that happens; `config> …` at the top changes the
//! defaults. A line `client< …` or `agent< …` is what comes of it. [`play`] keeps the first kind, drops the second and
//! writes it anew.
//!
//! | line | meaning |
//! |---|---|
//! | `client> POST /v1/…`, then headers, then a body on one line | a request |
//! | `client> gone`, `client> stops reading`, `client> reads` | what the client does with its connection |
//! | `agent> {…}` | a text frame; the n-th request's id is `00c0ffee` and twelve digits |
//! | `agent> binary`, `agent> lost`, `agent> alive`, `agent> connects` | what else an agent's connection does |
//! | `operator> revoke`, `suspend`, `resume`, `drain` | what is done to the first session, or to the program |
//! | `time> 250ms`, `time> 4s` | time passes, timers are served |

use crate::agent;
use crate::driver::{Answered, Asking, Call, Driver};
use crate::response::{Answer, Head};
use mcp_local_provider_core::config::{Alias, HubConfig, Key, Role};
use mcp_local_provider_core::hub::Hub;
use mcp_local_provider_core::hub::keys::digest;
use mcp_local_provider_core::hub::sessions::Action;
use mcp_local_provider_core::id::LinkId;
use mcp_local_provider_engine::Client;
use mcp_local_provider_engine::converse::Frame;
use std::time::Duration;

/// Plays the inputs of a transcript and returns all of it as it should be.
///
/// # Panics
/// Panics at a line that is not understood, and when an invariant is broken.
#[must_use]
pub fn play(script: &str) -> String {
    perform(script).out
}

/// Plays the inputs of a transcript and returns what became of its requests, but for those that were answered at once.
///
/// # Panics
/// As [`play`].
#[must_use]
pub fn calls(script: &str) -> Vec<Call> {
    perform(script).driver.calls
}

fn perform(script: &str) -> Stage {
    let inputs: Vec<&str> = script
        .lines()
        .filter(|line| !line.starts_with("client<") && !line.starts_with("agent<"))
        .collect();
    let (config, connects) = config(script);
    let mut stage = Stage::new(config, connects);
    let mut lines = inputs.iter().copied().peekable();
    while let Some(line) = lines.next() {
        stage.told(line);
        if let Some(request) = line
            .strip_prefix("client> ")
            .filter(|text| is_request(text))
        {
            let mut request = vec![request];
            while let Some(more) = lines.peek().and_then(|line| line.strip_prefix("client> ")) {
                stage.told(lines.next().unwrap_or_default());
                request.push(more);
            }
            stage.request(&request);
        } else if let Some((who, what)) = line.split_once("> ") {
            stage.happen(who, what);
        }
        stage.show();
        stage.driver.check();
    }
    stage
}

/// The configuration of a transcript, and whether an agent is connected before it begins.
///
/// # Panics
/// Panics at a setting that is not known.
#[must_use]
pub fn config(script: &str) -> (HubConfig, bool) {
    let mut config = HubConfig::default();
    let mut connects = true;
    for setting in script
        .lines()
        .filter_map(|line| line.strip_prefix("config> "))
    {
        connects &= set(&mut config, setting);
    }
    (config, connects)
}

/// True for the first line of a request, without `client> `.
#[must_use]
pub fn is_request(text: &str) -> bool {
    ["GET ", "POST ", "DELETE ", "HEAD ", "OPTIONS "]
        .iter()
        .any(|method| text.starts_with(method))
}

/// Changes the configuration; false for "no agent".
fn set(config: &mut HubConfig, setting: &str) -> bool {
    if setting == "no agent" {
        return false;
    }
    let (name, value) = setting.split_once(" = ").expect("config> name = value");
    let number = || value.parse::<usize>().expect("a whole number");
    let small = || u32::try_from(number()).unwrap();
    let limits = &mut config.limits;
    match name {
        "requests_per_minute" => (limits.requests_per_minute, limits.burst) = (small(), small()),
        "exchanges" => limits.exchanges = number(),
        "queue_length" => limits.queue_length = number(),
        "queue_wait" => limits.queue_wait = Duration::from_secs(number() as u64),
        "mailbox_bytes" => limits.mailbox_bytes = number(),
        "answer_bytes" => limits.answer_bytes = number(),
        "messages" => limits.messages = number(),
        "default_model" => config.default_model = Some(value.to_owned()),
        "alias" => {
            let (name, model) = value.split_once(" for ").expect("alias = name for model");
            config.aliases.push(Alias {
                name: name.to_owned(),
                model: model.to_owned(),
                context_length: None,
                fallback: Vec::new(),
            });
        }
        "key" => {
            let role = match value {
                "bridge" => Role::Bridge,
                "operator" => Role::Operator,
                _ => Role::Client,
            };
            config.auth_required = true;
            config
                .keys
                .push(Key::new(value, digest(value.as_bytes()), role));
        }
        other => panic!("no setting is called {other}"),
    }
    true
}

struct Stage {
    driver: Driver,
    link: Option<LinkId>,
    out: String,
    /// Progress of each call: its head, bytes of its body, its end.
    shown: Vec<(bool, usize, bool)>,
    eager: bool,
    /// The connection that the client keeps between its requests.
    _client: Option<Client>,
}

impl Stage {
    fn new(config: HubConfig, connects: bool) -> Self {
        let driver = Driver::new(config);
        let mut stage = Self {
            _client: driver.idle_client(),
            driver,
            link: None,
            out: String::new(),
            shown: Vec::new(),
            eager: true,
        };
        if connects {
            stage.connect();
            // What every transcript begins with is shown in none but those that are about it.
            stage.wire_frames();
        }
        stage.driver.flow();
        stage
    }

    fn told(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn line(&mut self, who: &str, text: &str) {
        self.out.push_str(who);
        if !text.is_empty() {
            self.out.push(' ');
            self.out.push_str(text);
        }
        self.out.push('\n');
    }

    fn connect(&mut self) {
        let token = self.driver.config.auth_required.then_some("bridge");
        let link = self.driver.connect(token).expect("the agent may connect");
        self.link = Some(link);
        self.driver
            .receive(link, &agent::register("agent", &["model"], None));
        self.driver.flow();
    }

    fn request(&mut self, lines: &[&str]) {
        let body = lines.iter().find(|line| line.starts_with('{'));
        let headers: Vec<(String, &str)> = lines[1..]
            .iter()
            .take_while(|line| !line.starts_with('{'))
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        self.driver.eager = self.eager;
        let answered = self.driver.http(&Asking {
            headers: &headers,
            ..Asking::new(lines[0], body.unwrap_or(&""))
        });
        match answered {
            Answered::Call(_) => {}
            Answered::Answer(answer) => self.answer(&answer),
        }
        self.driver.flow();
    }

    fn answer(&mut self, answer: &Answer) {
        self.head(&answer.head);
        self.body(&answer.body);
        self.line("client<", "(end)");
    }

    fn head(&mut self, head: &Head) {
        self.line("client<", &head.status().to_string());
        head.headers(|name, value| {
            let value = String::from_utf8_lossy(value);
            self.line("client<", &format!("{name}: {value}"));
        });
        self.line("client<", "");
    }

    fn body(&mut self, bytes: &[u8]) {
        for line in std::str::from_utf8(bytes).expect("UTF-8").lines() {
            self.line("client<", line);
        }
    }

    fn happen(&mut self, who: &str, what: &str) {
        let last = self.driver.calls.len().saturating_sub(1);
        let link = || self.link.expect("an agent is connected");
        match (who, what) {
            ("config", _) => {}
            ("client", "gone") => self.driver.client_gone(last, false),
            ("client", "stops reading") => self.eager = false,
            ("client", "reads") => self.driver.serve(last),
            ("agent", "binary") => self.driver.receive_binary(link()),
            ("agent", "lost") => self.driver.lose(link()),
            ("agent", "alive") => self.driver.alive(link()),
            ("agent", "connects") => self.connect(),
            ("agent", frame) => self.driver.receive(link(), frame),
            ("operator", "drain") => self.driver.shutdown(),
            ("operator", action) => {
                let action = match action {
                    "revoke" => Action::Revoke,
                    "suspend" => Action::Suspend,
                    "resume" => Action::Resume,
                    other => panic!("an operator cannot {other}"),
                };
                let first = |hub: &Hub| {
                    let session = hub.sessions().iter().next().expect("a session");
                    session.id.to_string()
                };
                let session = self.driver.look(first);
                self.driver
                    .control(&session, action)
                    .expect("the state allows it");
            }
            ("time", text) => self.pass(text),
            _ => panic!("{who}> {what} is not understood"),
        }
        self.driver.flow();
    }

    fn pass(&mut self, text: &str) {
        let time = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(millis), _) => Duration::from_millis(millis.parse().unwrap()),
            (None, Some(seconds)) => Duration::from_secs(seconds.parse().unwrap()),
            (None, None) => panic!("{text} is no time"),
        };
        let until = self.driver.now() + time;
        while self
            .driver
            .next_timeout()
            .is_some_and(|timeout| timeout <= until)
        {
            self.driver.advance();
        }
        self.driver.pass(until);
    }

    fn wire_frames(&mut self) -> Vec<Frame> {
        let wires = self.driver.wires.values_mut();
        wires.flat_map(|wire| wire.inbox.drain(..)).collect()
    }

    /// Shows what has come of it since the last time.
    fn show(&mut self) {
        for frame in self.wire_frames() {
            match frame {
                Frame::Text(text) => self.line("agent<", &text),
                Frame::Ping => self.line("agent<", "(ping)"),
            }
        }
        if let Some(wire) = self.link.and_then(|link| self.driver.wires.get_mut(&link))
            && let Some(code) = wire.closed.take()
        {
            self.line(
                "agent<",
                &format!("(closed: {} {})", code.code(), code.reason()),
            );
        }
        self.shown
            .resize(self.driver.calls.len(), (false, 0, false));
        for at in 0..self.driver.calls.len() {
            let (head_shown, bytes_shown, end_shown) = self.shown[at];
            let call = &self.driver.calls[at];
            let head = call.head.clone().filter(|_| !head_shown);
            let body = call.sent[bytes_shown..].to_vec();
            let ends = call.is_over() && !end_shown;
            let gone = call.gone;
            self.shown[at] = (
                call.head.is_some(),
                bytes_shown + body.len(),
                end_shown || ends,
            );
            if let Some(head) = &head {
                self.head(head);
            }
            self.body(&body);
            if ends && !gone {
                self.line("client<", "(end)");
            }
        }
    }
}
