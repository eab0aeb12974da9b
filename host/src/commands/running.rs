//! The commands that ask the running program: its models, agents, sessions and state, and orders to it.

use super::Failure;
use super::table::{table, text};
use crate::control::{ControlClient, ControlError};
use crate::printable::printable;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Time that the program has to end beyond what open answers have.
const FAREWELL: Duration = Duration::from_secs(10);
/// Pause between two looks at a program that ends.
const LOOK: Duration = Duration::from_millis(50);
/// Digits of a model's id in a table.
const ID_DIGITS: usize = 12;

/// Lists the models whose names begin with `prefix`.
pub(super) fn list(
    client: &ControlClient,
    prefix: Option<&str>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut answer = client.get("/api/tags")?;
    let models = answer.get_mut("models").and_then(Value::as_array_mut);
    let mut models = models.map(std::mem::take).unwrap_or_default();
    let prefix = prefix.unwrap_or_default();
    models.retain(|model| text(model, "name").starts_with(prefix));
    if as_json {
        return Ok(writeln!(out, "{:#}", json!({ "models": models }))?);
    }
    let rows: Vec<[String; 4]> = models.iter().map(model_row).collect();
    table(["NAME", "ID", "SIZE", "MODIFIED"], &rows, out)?;
    if rows.is_empty() {
        let none = if prefix.is_empty() {
            "there is no model"
        } else {
            "there is no such model"
        };
        writeln!(io::stderr(), "{none}; `ps` shows the agents")?;
    }
    Ok(())
}

/// Returns the row of a model. An agent has no size.
fn model_row(model: &Value) -> [String; 4] {
    let name = text(model, "name");
    let modified = text(model, "modified_at");
    [
        name.strip_suffix(":latest").unwrap_or(&name).to_owned(),
        text(model, "digest").chars().take(ID_DIGITS).collect(),
        "-".to_owned(),
        modified
            .split_once('.')
            .map_or_else(|| modified.clone(), |(seconds, _)| format!("{seconds}Z")),
    ]
}

/// Lists the agents: the processes that the program has started, the bridges that it dials, and those that have connected by
/// themselves.
pub(super) fn processes(
    client: &ControlClient,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let health = client.report("/health/deep")?;
    let sessions = client.get("/control/sessions")?;
    let agents = agents(&health, &sessions);
    if as_json {
        let agents: Vec<Value> = agents.iter().map(Agent::to_json).collect();
        let open = health.pointer("/requests/open");
        let waiting = health.pointer("/requests/waiting");
        let value = json!({ "agents": agents, "open": open, "waiting": waiting });
        return Ok(writeln!(out, "{value:#}")?);
    }
    let rows: Vec<[String; 6]> = agents.iter().map(Agent::row).collect();
    let heads = ["NAME", "KIND", "STATUS", "OPEN", "REQUESTS", "MODELS"];
    if rows.is_empty() {
        return Ok(writeln!(out, "no agent runs or is connected")?);
    }
    Ok(table(heads, &rows, out)?)
}

/// An agent and what it does.
#[derive(Default)]
struct Agent {
    name: String,
    kind: &'static str,
    status: String,
    open: u64,
    requests: u64,
    models: Vec<String>,
}

impl Agent {
    fn row(&self) -> [String; 6] {
        let models = self.models.join(",");
        [
            self.name.clone(),
            self.kind.to_owned(),
            self.status.clone(),
            self.open.to_string(),
            self.requests.to_string(),
            if models.is_empty() {
                "-".to_owned()
            } else {
                models
            },
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "open": self.open,
            "requests": self.requests,
            "models": self.models,
        })
    }

    /// Adds a session of the agent that has not ended.
    fn add(&mut self, session: &Value) {
        let number = |field: &str| session.get(field).and_then(Value::as_u64).unwrap_or(0);
        self.open += number("in_flight");
        self.requests += number("request_count");
        let models = session.get("models").and_then(Value::as_array);
        for model in models.into_iter().flatten().filter_map(Value::as_str) {
            let model = printable(model);
            if !self.models.contains(&model) {
                self.models.push(model);
            }
        }
    }
}

/// Joins the parts of the program that are agents with the sessions of agents.
fn agents(health: &Value, sessions: &Value) -> Vec<Agent> {
    let mut agents: BTreeMap<String, Agent> = BTreeMap::new();
    let parts = health.get("components").and_then(Value::as_object);
    for (part, state) in parts.into_iter().flatten() {
        let (kind, name) = match part.split_once(':') {
            Some(("agent", name)) => ("process", name),
            Some(("bridge", name)) => ("bridge", name),
            Some(_) | None => continue,
        };
        let status = match state.get("message") {
            Some(Value::String(message)) => printable(message),
            Some(_) | None => "running".to_owned(),
        };
        let agent = Agent {
            name: printable(name),
            kind,
            status,
            ..Agent::default()
        };
        agents.insert(agent.name.clone(), agent);
    }
    let sessions = sessions.get("sessions").and_then(Value::as_array);
    for session in sessions.into_iter().flatten() {
        let status = text(session, "status");
        if ["revoked", "expired"].contains(&&*status) {
            continue;
        }
        let name = text(session, "agent_id");
        let agent = agents.entry(name.clone()).or_insert_with(|| Agent {
            name,
            kind: "connection",
            status,
            ..Agent::default()
        });
        agent.add(session);
    }
    agents.into_values().collect()
}

/// Tells whether the program runs, and how it does.
pub(super) fn status(
    program: &str,
    client: &ControlClient,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let health = client.report("/health")?;
    if health.get("status").is_none() {
        return Err(ControlError::Foreign(client.address(), "it tells no health").into());
    }
    // Without an operator's key there is less to tell.
    let deep = match client.report("/health/deep") {
        Ok(deep) => Some(deep),
        Err(error @ ControlError::Unauthorized { .. }) => {
            writeln!(io::stderr(), "{error}")?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    let told = deep.as_ref().unwrap_or(&health);
    if as_json {
        return Ok(writeln!(out, "{told:#}")?);
    }
    writeln!(
        out,
        "{program} {} runs at http://{} for {}",
        text(told, "version"),
        client.address(),
        duration(told.get("uptime_seconds").and_then(Value::as_u64))
    )?;
    writeln!(out, "status    {}", text(told, "status"))?;
    writeln!(out, "sessions  {} active", text(&health, "active_sessions"))?;
    if let Some(requests) = told.get("requests") {
        let figures = ["open", "waiting", "completed", "failed", "cancelled"];
        let figures = figures.map(|name| format!("{} {name}", text(requests, name)));
        writeln!(out, "requests  {}", figures.join(", "))?;
    }
    let parts = told.get("components").and_then(Value::as_object);
    for (name, part) in parts.into_iter().flatten() {
        if let Some(message) = part.get("message").and_then(Value::as_str) {
            writeln!(out, "{:<10}{}", printable(name), printable(message))?;
        }
    }
    Ok(())
}

/// Returns a time for people, in its two largest units.
fn duration(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else {
        return "an unknown time".to_owned();
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Has the program read its configuration again.
pub(super) fn reload(client: &ControlClient, out: &mut dyn Write) -> Result<(), Failure> {
    client.post("/control/reload", &json!({}))?;
    Ok(writeln!(
        out,
        "took the configuration over; the log names what holds from the next start on"
    )?)
}

/// Has the program end, and waits until it has.
pub(super) fn stop(client: &ControlClient, out: &mut dyn Write) -> Result<(), Failure> {
    let patience = match client.post("/control/stop", &json!({})) {
        Ok(answer) => {
            let number = |field: &str| answer.get(field).and_then(Value::as_u64).unwrap_or(0);
            let (open, drain) = (number("open_requests"), number("drain_seconds"));
            if open > 0 {
                writeln!(
                    out,
                    "{open} open requests have {drain} s to end (timeouts.drain); a second `stop` ends them at once"
                )?;
            }
            Duration::from_secs(drain)
        }
        // A second order ends the program before it has answered.
        Err(ControlError::Connection(..) | ControlError::Foreign(..)) => Duration::ZERO,
        Err(error) => return Err(error.into()),
    };
    let until = Instant::now() + patience + FAREWELL;
    while client.is_listening() {
        if Instant::now() > until {
            let message = format!("http://{} still listens", client.address());
            return Err(Failure(message));
        }
        std::thread::sleep(LOOK);
    }
    Ok(writeln!(out, "stopped")?)
}

/// Shows the agents that have registered.
pub(super) fn sessions(
    client: &ControlClient,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.get("/control/sessions")?;
    if as_json {
        Ok(writeln!(out, "{answer:#}")?)
    } else {
        Ok(sessions_table(&answer, out)?)
    }
}

/// Changes a session by `POST /control/VERB`.
pub(super) fn change_session(
    client: &ControlClient,
    verb: &str,
    session: &str,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.post(
        &format!("/control/{verb}"),
        &json!({ "session_id": session }),
    )?;
    let status = text(&answer, "status");
    writeln!(
        out,
        "{session} {}",
        if status == "-" { "done" } else { &status }
    )?;
    Ok(())
}

fn sessions_table(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    let sessions = answer
        .get("sessions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if sessions.is_empty() {
        return writeln!(out, "no agent has registered");
    }
    let fields = [
        "session_id",
        "status",
        "agent_id",
        "label",
        "models",
        "in_flight",
        "request_count",
        "expires_at",
    ];
    let rows: Vec<[String; 8]> = sessions
        .iter()
        .map(|session| fields.map(|field| text(session, field)))
        .collect();
    table(
        [
            "SESSION", "STATUS", "AGENT", "LABEL", "MODELS", "OPEN", "REQUESTS", "EXPIRES",
        ],
        &rows,
        out,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agent_is_one_row_with_all_its_sessions() {
        let health = json!({"components": {
            "http": {"status": "healthy"},
            "agent:claude": {"status": "healthy", "message": null},
            "agent:gemini": {"status": "degraded", "message": "it is being started"},
        }});
        let session = |agent: &str, status: &str, open: u64, model: &str| json!({"agent_id": agent, "status": status, "in_flight": open, "request_count": 2, "models": [model]});
        let sessions = json!({"sessions": [
            session("claude", "active", 1, "claude"), session("claude", "active", 2, "claude/opus"),
            session("claude", "revoked", 0, "old"), session("own", "pending", 0, "m\u{1b}"),
        ]});
        let rows: Vec<String> = agents(&health, &sessions)
            .iter()
            .map(|agent| agent.row().join(" "))
            .collect();
        assert_eq!(
            rows,
            [
                "claude process running 3 4 claude,claude/opus",
                "gemini process it is being started 0 0 -",
                "own connection pending 0 2 m ",
            ]
        );
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let told = [7, 61, 7_260, 90_000].map(|seconds| duration(Some(seconds)));
        assert_eq!(told, ["7 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn sessions_are_a_table_that_no_agent_can_paint_over() {
        let answer = json!({"sessions": [
            {"session_id": "s-1", "status": "active", "agent_id": "a", "label": "An\u{1b}[2J agent", "models": ["m", "n"],
             "in_flight": 2, "request_count": 7, "expires_at": "2026-01-01T00:05:00Z"},
            {"session_id": "s-22", "status": "pending", "agent_id": "b", "label": "", "models": [], "in_flight": 0,
             "request_count": 0},
        ]});
        let mut out = Vec::new();
        sessions_table(&answer, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "SESSION  STATUS   AGENT  LABEL         MODELS  OPEN  REQUESTS  EXPIRES\n\
             s-1      active   a      An [2J agent  m,n     2     7         2026-01-01T00:05:00Z\n\
             s-22     pending  b      -             -       0     0         -\n"
        );
        let mut out = Vec::new();
        sessions_table(&json!({}), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "no agent has registered\n");
    }
}
