//! The list `agents` in the tree: agents that a word stands for, the choice by `--agent`, and names that differ.

use super::PRESETS;
use super::agent_command;
use super::error::{ConfigError, Problem, nearest};
use super::shorthand;
use super::tree::{Entry, Form, Node, Origin, Segment, Value};

/// Writes out the words that stand for agents (see [`agent`]), and the commands that are one text.
pub(crate) fn expand(agents: &mut Node, problems: &mut Vec<Problem>) {
    shorthand::expand_list(agents);
    let mut wrong = Vec::new();
    for (at, item) in each(agents).into_iter().enumerate() {
        let expanded = match item.text().map(str::to_owned) {
            Some(word) if !item.is_null() => agent(&word, &item.origin).map(|agent| *item = agent),
            Some(_) | None => expand_command(item),
        };
        if let Err(message) = expanded {
            problems.push(Problem {
                origin: Some(item.origin.clone()),
                path: format!("agents[{at}]"),
                message,
            });
            wrong.push(at);
        }
    }
    for at in wrong {
        agents.refuse(&[Segment::Index(at)]);
    }
}

/// Returns the entries of `agents`, which may be a section whose keys are numbers.
fn each(agents: &mut Node) -> Vec<&mut Node> {
    match &mut agents.value {
        Value::List(items) => items.iter_mut().collect(),
        Value::Map(entries) => entries.iter_mut().map(|entry| &mut entry.node).collect(),
        Value::Scalar { .. } | Value::Refused => Vec::new(),
    }
}

/// Splits a command that is one text as a shell does.
fn expand_command(agent: &mut Node) -> Result<(), String> {
    let Some(command) = agent.get_mut("command") else {
        return Ok(());
    };
    if let Some(text) = command.text().filter(|_| !command.is_null()) {
        let words = shorthand::words(text)?;
        command.value = list(&words, &command.origin);
    }
    Ok(())
}

fn list(words: &[String], origin: &Origin) -> Value {
    let text = |word| Node::scalar(word, Form::Quoted, origin.clone());
    Value::List(words.iter().map(text).collect())
}

/// Makes the entry of the agent that a word stands for: `PRESET`, `COMMAND` or `NAME=COMMAND`.
fn agent(word: &str, origin: &Origin) -> Result<Node, String> {
    let text = |text: &str| Node::scalar(text, Form::Quoted, origin.clone());
    let mut entries = Vec::new();
    let mut add = |key: &str, node: Node| {
        entries.push(Entry {
            key: key.to_owned(),
            origin: origin.clone(),
            node,
        });
    };
    if PRESETS.contains(&word) {
        add("preset", text(word));
    } else {
        let named = agent_command::named(word);
        let command = shorthand::words(named.map_or(word, |(_, command)| command))?;
        let program = command
            .first()
            .ok_or_else(|| "the command is empty".to_owned())?;
        let one_word = named.is_none() && command.len() == 1 && !program.contains('/');
        if let Some(name) = nearest(program, &PRESETS).filter(|_| one_word) {
            return Err(format!(
                "no agent is called `{program}`; did you mean `{name}`?"
            ));
        }
        if let Some((name, _)) = named {
            let is_preset = PRESETS.contains(&name);
            add(if is_preset { "preset" } else { "name" }, text(name));
        }
        let mut node = text("");
        node.value = list(&command, origin);
        add("command", node);
    }
    Ok(Node {
        value: Value::Map(entries),
        origin: origin.clone(),
    })
}

/// Makes the entries of `agents` for the values of `--agent`. One that is the name of an agent of the configuration
/// stands for that.
///
/// # Errors
/// Returns every value that stands for no agent.
pub(crate) fn chosen(root: &Node, chosen: &[String], origin: &Origin) -> Result<Node, ConfigError> {
    let configured = root.get("agents").map(Node::items).unwrap_or_default();
    let mut agents = Vec::new();
    let mut problems = Vec::new();
    for word in chosen {
        let named = |agent: &&Node| name(agent).as_ref() == Some(word);
        let entry = match configured.iter().find(named) {
            Some(agent) => Ok(agent.clone()),
            None => agent(word, origin),
        };
        match entry {
            Ok(agent) => agents.push(agent),
            Err(message) => problems.push(Problem {
                origin: Some(origin.clone()),
                path: String::new(),
                message,
            }),
        }
    }
    if problems.is_empty() {
        Ok(Node {
            value: Value::List(agents),
            origin: origin.clone(),
        })
    } else {
        Err(ConfigError { problems })
    }
}

/// Returns the name of an agent: its own, its preset's or its program's.
fn name(agent: &Node) -> Option<String> {
    let own = agent.get("name").or_else(|| agent.get("preset"));
    if let Some(own) = own {
        return own.text().map(str::to_owned);
    }
    let command = agent.get("command").map(Node::items).unwrap_or_default();
    let command: Option<Vec<String>> = command
        .iter()
        .map(|word| word.text().map(str::to_owned))
        .collect();
    agent_command::name_of(&command?)
}

/// Names agents that have no name of their own, where another one has the name already: the second `codex` is
/// `codex-2`.
pub(crate) fn number(root: &mut Node) {
    let mut agents = root.get_mut("agents").map(each).unwrap_or_default();
    let own = |agent: &Node| agent.get("name").and_then(Node::text).map(str::to_owned);
    let mut taken: Vec<String> = agents.iter().filter_map(|agent| own(agent)).collect();
    for agent in agents
        .iter_mut()
        .filter(|agent| agent.get("name").is_none())
    {
        let Some(name) = name(agent) else {
            continue;
        };
        let mut free = name.clone();
        let mut number = 1_u32;
        while taken.contains(&free) {
            number += 1;
            free = format!("{name}-{number}");
        }
        if free != name {
            let node = Node::scalar(&free, Form::Quoted, agent.origin.clone());
            agent.set(&["name".to_owned()], node);
        }
        taken.push(free);
    }
}
