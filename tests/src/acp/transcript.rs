//! Transcripts of ACP agents that people can read: `agent> …`, `client> …`, `process> …` and `time> …` happen, everything
//! else is what comes of it and is written anew by [`play`].
//!
//! | line | meaning |
//! |---|---|
//! | `profile> name = value` | at the top: what is known of the agent |
//! | `process> started`, `process> exited code 3` | what the supervisor tells |
//! | `process> uses 3 600` | it is measured: 3 processes, 600 MiB |
//! | `agent> {…}` | a line of the process; `$session/prompt` is the id of the last request of that method |
//! | `client> text`, `client> {…}` | a new client asks with one message, or with a request body |
//! | `key> 1` | whoever asks from now on shows the key with this number |
//! | `hub> status reason` | the hub tells the state of the agent's last session, and why |
//! | `hub> refuses 2` | the hub refuses the next two registrations |
//! | `client> gone 1` | the first client goes away |
//! | `http> {…}`, `http> 2 {…}` | the agent posts to the last MCP server that a `session/new` named, or to the second |
//! | `http> gone 1` | the connection of the first call is lost |
//! | `time> 5s` | time passes |

use super::{Bench, NAME};
use mcp_local_provider_core::agents::acp::tools::ToolAnswer;
use mcp_local_provider_core::agents::acp::{
    Config, HiddenError, Load, Profile, SystemPrompt, UsageRule,
};
use mcp_local_provider_core::id::{Authority, KeyId};
use std::collections::BTreeMap;
use std::time::Duration;

const INPUTS: [&str; 10] = [
    "#", "profile>", "process>", "agent>", "hub>", "key>", "keys>", "client>", "http>", "time>",
];

/// Plays the inputs of a transcript and returns all of it as it should be.
///
/// # Panics
/// Panics at a line that is not understood, and when an invariant is broken.
#[must_use]
pub fn play(script: &str) -> String {
    let inputs: Vec<&str> = script
        .lines()
        .filter(|line| INPUTS.iter().any(|input| line.starts_with(input)) || line.is_empty())
        .collect();
    let mut profile = Profile::new(NAME);
    let mut config = Config::new("/empty");
    for line in &inputs {
        if let Some(setting) = line.strip_prefix("profile> ") {
            set(&mut profile, &mut config, setting);
        }
    }
    let mut stage = Stage {
        bench: Bench::new(profile, config),
        ids: BTreeMap::new(),
        shown: Vec::new(),
        registrations: 0,
        servers: Vec::new(),
        replies: BTreeMap::new(),
        out: String::new(),
    };
    for line in inputs {
        stage.out.push_str(line);
        stage.out.push('\n');
        if let Some((who, what)) = line.split_once("> ").filter(|_| !line.starts_with('#')) {
            stage.happen(who, what);
            stage.show();
        }
    }
    stage.out
}

fn set(profile: &mut Profile, config: &mut Config, setting: &str) {
    let (name, value) = setting.split_once(" = ").expect("profile> name = value");
    match name {
        "system" => {
            profile.system = match value {
                "override" => SystemPrompt::Override,
                "append" => SystemPrompt::Append,
                _ => SystemPrompt::Text,
            }
        }
        "default_system" => profile.default_system = Some(value.into()),
        "meta" => profile.session_meta = Some(value.into()),
        "mode" => profile.mode = Some(value.into()),
        "model" => profile.model = Some(value.into()),
        "usage" => {
            profile.usage = match value {
                "turn" => UsageRule::Turn,
                "last call" => UsageRule::LastCall,
                "session" => UsageRule::Session,
                "quota" => UsageRule::Quota,
                "chunk meta" => UsageRule::ChunkMeta,
                _ => UsageRule::None,
            }
        }
        "hidden_error" => {
            profile.hidden_error = match value {
                "thread status" => HiddenError::ThreadStatus,
                prefix => HiddenError::Prefix(vec![prefix.into()]),
            }
        }
        "login" => profile.login = value.into(),
        "tool_timeout" => config.tool_timeout = Duration::from_secs(value.parse().unwrap()),
        "tools_url" => config.tools_url = Some(value.into()),
        "sessions_per_process" => config.sessions_per_process = value.parse().unwrap(),
        "keep" => config.sessions.keep = value.parse().unwrap(),
        "idle" => config.sessions.idle = Duration::from_secs(value.parse().unwrap()),
        "memory" => config.sessions.memory = value.parse::<u64>().unwrap() << 20,
        "session_directories" => config.session_directories = value == "on",
        "reuse" => config.reuse = value == "on",
        other => panic!("no setting is called {other}"),
    }
}

struct Stage {
    bench: Bench,
    /// The last request of each method that was written.
    ids: BTreeMap<String, String>,
    /// Progress of each client: bytes of text and of thought, tool calls, the end.
    shown: Vec<(usize, usize, usize, bool)>,
    registrations: usize,
    /// Name and bearer of each MCP server.
    servers: Vec<(String, String)>,
    /// Bytes of each HTTP answer that were shown.
    replies: BTreeMap<u64, usize>,
    out: String,
}

impl Stage {
    fn happen(&mut self, who: &str, what: &str) {
        let bench = &mut self.bench;
        match (who, what.split_once(' ').unwrap_or((what, ""))) {
            ("profile", _) => {}
            ("process", ("started", _)) => bench.started(),
            ("process", ("exited", status)) => bench.exited(status),
            ("process", ("complains", line)) => bench.call(|agent, now, out, link| {
                agent.handle_complaint(now, line, out, link);
            }),
            ("process", ("uses", what)) => {
                let (processes, mebibytes) = what.split_once(' ').expect("two numbers");
                let load = Load {
                    processes: processes.parse().unwrap(),
                    memory: mebibytes.parse::<u64>().unwrap() << 20,
                };
                bench.call(|agent, now, out, link| {
                    agent.handle_load(now, load, out, link);
                });
            }
            ("process", ("stop", _)) => {
                bench.call(|agent, now, out, link| agent.stop(now, out, link));
            }
            ("process", ("authenticate", method)) => bench.call(|agent, now, out, link| {
                assert!(agent.authenticate(now, method, out, link));
            }),
            ("agent", _) => {
                let mut line = what.to_owned();
                for (method, id) in self.ids.iter().rev() {
                    line = line.replace(&format!("${method}"), id);
                }
                bench.writes_line(&line);
            }
            ("key", (number, _)) => bench.caller = Authority::Key(KeyId(number.parse().unwrap())),
            ("keys", _) => {
                let kept: Vec<KeyId> = what
                    .split(' ')
                    .map(|key| KeyId(key.parse().unwrap()))
                    .collect();
                bench.call(|agent, now, out, link| {
                    let upheld =
                        |caller: Authority| caller.key().is_some_and(|key| kept.contains(&key));
                    agent.handle_keys(now, &upheld, out, link);
                });
            }
            ("hub", ("refuses", times)) => bench.refusals = times.parse().unwrap(),
            ("hub", (status, reason)) => bench.session_is(status, reason),
            ("client", ("gone", which)) => bench.cancel(which.parse::<usize>().unwrap() - 1),
            ("client", _) if what.starts_with('{') => {
                if let Err(refused) = bench.ask(what) {
                    self.out.push_str(&format!("refused: {refused}\n"));
                }
            }
            ("client", _) => {
                bench.say(what);
            }
            ("http", ("gone", call)) => bench.http_gone(call.parse().unwrap()),
            ("http", _) => {
                let (which, body) = match what.split_once(' ') {
                    Some((which, body)) if which.len() == 1 => {
                        (which.parse::<usize>().unwrap() - 1, body)
                    }
                    _ => (self.servers.len() - 1, what),
                };
                let (name, bearer) = &self.servers[which];
                let (bearer, body) = match body.strip_prefix("badly ") {
                    Some(body) => ("wrong", body),
                    None => (&**bearer, body),
                };
                self.out
                    .push_str(&match bench.http(name, bearer, "POST", body) {
                        ToolAnswer::Whole { status, body } => {
                            format!(
                                "http< {status} {}\n",
                                String::from_utf8(body).unwrap().trim()
                            )
                        }
                        ToolAnswer::Refused(code) => format!("http< {} \n", code.status()),
                        ToolAnswer::Stream(call) => format!("http< call {} waits\n", call.0),
                    });
            }
            ("time", (time, _)) => {
                let seconds: f64 = time.trim_end_matches('s').parse().unwrap();
                bench.pass(Duration::from_secs_f64(seconds));
            }
            _ => panic!("not understood: {who}> {what}"),
        }
    }

    fn show(&mut self) {
        let mut out = Vec::new();
        for order in self.bench.orders.drain(..) {
            out.push(format!("process< {order:?}"));
        }
        for line in self.bench.written.drain(..) {
            let message: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) {
                self.ids.insert(method.into(), id.to_string());
            }
            if let Some(server) = message["params"]["mcpServers"].get(0) {
                let url = server["url"].as_str().unwrap();
                let bearer = server["headers"][0]["value"].as_str().unwrap();
                self.servers.push((
                    url.rsplit('/').next().unwrap().into(),
                    bearer.trim_start_matches("Bearer ").into(),
                ));
            }
            out.push(format!("agent< {}", line.trim_end()));
        }
        for registration in &self.bench.registrations[self.registrations..] {
            out.push(format!(
                "hub< {} with {:?}",
                registration.agent_id, registration.models
            ));
        }
        self.registrations = self.bench.registrations.len();
        for event in self.bench.events.drain(..) {
            out.push(format!("log< {event}"));
        }
        self.shown
            .resize(self.bench.clients.len(), (0, 0, 0, false));
        for (at, (client, shown)) in (1..).zip(self.bench.clients.iter().zip(&mut self.shown)) {
            let (text, reasoning) = (&client.text[shown.0..], &client.reasoning[shown.1..]);
            if !reasoning.is_empty() {
                out.push(format!("client {at}< thinks {reasoning:?}"));
            }
            if !text.is_empty() {
                out.push(format!("client {at}< {text:?}"));
            }
            for (id, name, arguments) in &client.calls[shown.2..] {
                out.push(format!("client {at}< calls {name} {arguments} as {id}"));
            }
            if let Some(end) = client.end.as_ref().filter(|_| !shown.3) {
                out.push(match end {
                    Ok(end) => format!(
                        "client {at}< ends with {}, {}",
                        end.finish.as_str(),
                        end.usage.map_or("tokens not told".into(), |usage| format!(
                            "{} and {} tokens",
                            usage.prompt_tokens, usage.completion_tokens
                        ))
                    ),
                    Err(failure) => format!(
                        "client {at}< fails with {:?}: {}",
                        failure.code, failure.message
                    ),
                });
            }
            *shown = (
                client.text.len(),
                client.reasoning.len(),
                client.calls.len(),
                client.end.is_some(),
            );
        }
        for (call, (bytes, ended)) in &self.bench.replies {
            let shown = self.replies.entry(*call).or_default();
            for line in String::from_utf8_lossy(&bytes[*shown..]).lines() {
                if !line.is_empty() && !line.starts_with("event:") {
                    out.push(format!("http {call}< {line}"));
                }
            }
            if *shown < bytes.len() && *ended {
                out.push(format!("http {call}< ends"));
            }
            *shown = bytes.len();
        }
        for line in out {
            self.out.push_str(&line);
            self.out.push('\n');
        }
    }
}
