//! The graph of tools that run tools: no circles, bounded depth and number of steps.

use super::entry::{Definition, Entry};
use crate::definition::{Action, SERVED, Tool};
use crate::failure::Failure;
use crate::run::{NEEDS, NESTING};
use crate::store::{Key, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tool that may not be as it is.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) tool: Box<str>,
    pub(crate) failure: Failure,
}

/// Weight of a tool with all that it runs.
#[derive(Clone, Copy)]
struct Weight {
    depth: usize,
    leaves: usize,
}

enum Visit {
    Open,
    Done(Weight),
}

/// Tools as they are.
pub(crate) fn tool<'e>(
    entries: &'e BTreeMap<Key, Arc<Entry>>,
    name: &str,
) -> Option<&'e Arc<Tool>> {
    let key = Key {
        kind: Kind::Tool,
        name: name.into(),
    };
    match &entries.get(&key)?.definition {
        Definition::Tool(tool) => Some(tool),
        Definition::Resource(_) | Definition::Prompt(_) | Definition::Integration(_) => None,
    }
}

/// The tools that a tool runs, each with the field that names it. A model that is an integration runs those of the integration.
fn edges(entries: &BTreeMap<Key, Arc<Entry>>, tool: &Tool) -> Vec<(String, Box<str>)> {
    if let Action::Prompt(call) = &tool.action {
        let model = call.literal_model().unwrap_or_default();
        let id = model.strip_prefix(SERVED);
        let key = id.map(|id| Key {
            kind: Kind::Integration,
            name: id.into(),
        });
        let integration = key.and_then(|key| entries.get(&key));
        return match integration.map(|it| &it.definition) {
            Some(Definition::Integration(it)) => {
                let tools = it.tools.iter();
                tools
                    .map(|name| ("model".to_owned(), name.clone()))
                    .collect()
            }
            Some(Definition::Tool(_) | Definition::Resource(_) | Definition::Prompt(_)) | None => {
                Vec::new()
            }
        };
    }
    let (_, steps) = tool.action.steps();
    let steps = steps.iter().enumerate();
    steps
        .map(|(at, step)| (tool.place(at), step.tool.clone()))
        .collect()
}

/// True when a tool may run others.
pub(crate) fn runs_tools(tool: &Tool) -> bool {
    let asks = match &tool.action {
        Action::Prompt(call) => call
            .literal_model()
            .is_some_and(|it| it.starts_with(SERVED)),
        Action::Http(_)
        | Action::Command(_)
        | Action::Gateway(_)
        | Action::Chain(_)
        | Action::Parallel(_) => false,
    };
    asks || !tool.action.steps().1.is_empty()
}

/// Checks all tools.
pub(crate) fn check(entries: &BTreeMap<Key, Arc<Entry>>) -> Result<(), Box<Wrong>> {
    let mut visits = BTreeMap::new();
    for (key, entry) in entries {
        if key.kind != Kind::Tool {
            break;
        }
        if let Definition::Tool(tool) = &entry.definition {
            visit(entries, tool, &mut visits)?;
        }
    }
    Ok(())
}

/// Goes through a tool. The depth of calls is that of the tools: those that are deeper than may be end it.
fn visit(
    entries: &BTreeMap<Key, Arc<Entry>>,
    tool: &Tool,
    visits: &mut BTreeMap<Box<str>, Visit>,
) -> Result<Weight, Box<Wrong>> {
    if let Some(Visit::Done(weight)) = visits.get(&tool.name) {
        return Ok(*weight);
    }
    let wrong = |place: &str, message: String| {
        Box::new(Wrong {
            tool: tool.name.clone(),
            failure: Failure::wrong_at(place, message),
        })
    };
    let open = |visits: &BTreeMap<Box<str>, Visit>| {
        let open = visits.values().filter(|it| matches!(it, Visit::Open));
        open.count()
    };
    visits.insert(tool.name.clone(), Visit::Open);
    let mut weight = Weight {
        depth: 1,
        leaves: 0,
    };
    for (place, name) in edges(entries, tool) {
        if matches!(visits.get(&name), Some(Visit::Open)) {
            let message = format!(
                "the tool `{}` would run itself by way of `{name}`",
                tool.name
            );
            return Err(wrong(&place, message));
        }
        let Some(inner) = self::tool(entries, &name) else {
            continue;
        };
        let too_deep = || {
            let message = format!("tools may be nested {NESTING} deep");
            wrong(&place, message)
        };
        // A circle longer than the nesting is no deeper than this.
        if open(visits) > usize::from(NESTING) {
            return Err(too_deep());
        }
        let inner = visit(entries, inner, visits)?;
        weight.depth = weight.depth.max(inner.depth + 1);
        weight.leaves = weight.leaves.saturating_add(inner.leaves);
        if weight.depth > usize::from(NESTING) {
            return Err(too_deep());
        }
        if weight.leaves > NEEDS {
            let message = format!("a tool may run {NEEDS} steps in all");
            return Err(wrong(&place, message));
        }
    }
    weight.leaves = weight.leaves.max(1);
    visits.insert(tool.name.clone(), Visit::Done(weight));
    Ok(weight)
}
