//! Tools of kinds `chain` and `parallel`: tools of the registry, one after another or at once.

use super::server_call::arguments;
use crate::failure::Failure;
use crate::json::{Fields, element};
use crate::name::{self, is_name};
use crate::template::{Condition, Count, Tree};
use mcp_local_provider_core::text::JsonValue;

/// Steps of a chain.
const STEPS: usize = 32;
/// Branches of a parallel set.
const BRANCHES: usize = 16;

/// One step, or one branch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) id: Box<str>,
    pub(crate) tool: Box<str>,
    pub(crate) arguments: Option<Tree>,
    /// The step is skipped when this is false.
    pub(crate) condition: Option<Condition>,
    /// The chain goes on when the step fails.
    pub(crate) goes_on: bool,
}

/// Tools that run one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chain {
    pub(crate) steps: Box<[Step]>,
}

/// Tools that run at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parallel {
    pub(crate) branches: Box<[Step]>,
    /// One good result is enough.
    pub(crate) any: bool,
}

fn read_steps(
    fields: &Fields<'_>,
    name: &str,
    most: usize,
    known: &[&str],
) -> Result<Box<[Step]>, Failure> {
    let list = fields.list(name)?.ok_or_else(|| fields.missing(name))?;
    if list.is_empty() || list.len() > most {
        let message = format!("`{name}` must have 1 to {most} entries");
        return Err(fields.wrong(name, message));
    }
    let path = fields.at(name);
    let mut steps: Vec<Step> = Vec::new();
    for (at, step) in list.into_iter().enumerate() {
        let step = read_step(step, &element(&path, at), known)?;
        if steps.iter().any(|it| it.id == step.id) {
            let message = format!("two entries have the id `{}`", step.id);
            return Err(Failure::wrong_at(
                format!("{}.id", element(&path, at)),
                message,
            ));
        }
        steps.push(step);
    }
    Ok(steps.into())
}

fn read_step(value: JsonValue<'_>, path: &str, known: &[&str]) -> Result<Step, Failure> {
    let fields = Fields::read(value, path, known)?;
    let mut count = Count::default();
    let id = fields.needed("id")?;
    if !is_name(&id) {
        return Err(fields.wrong("id", format!("`id` must be {}", name::RULE)));
    }
    let goes_on = match fields.text("on_error")?.as_deref() {
        None | Some("stop") => false,
        Some("continue") => true,
        Some(_) => return Err(fields.wrong("on_error", "`on_error` must be stop or continue")),
    };
    let condition = fields.text("if")?;
    let condition = condition.map(|it| Condition::read(&it, &fields.at("if"), &mut count));
    Ok(Step {
        id: id.into(),
        tool: fields.needed("tool")?.into(),
        arguments: arguments(&fields, &mut count)?,
        condition: condition.transpose()?,
        goes_on,
    })
}

impl Chain {
    pub(crate) const FIELDS: [&str; 1] = ["steps"];

    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let known = ["id", "tool", "arguments", "if", "on_error"];
        let steps = read_steps(fields, "steps", STEPS, &known)?;
        Ok(Self { steps })
    }
}

impl Parallel {
    pub(crate) const FIELDS: [&str; 2] = ["branches", "need"];

    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let known = ["id", "tool", "arguments"];
        let branches = read_steps(fields, "branches", BRANCHES, &known)?;
        let any = match fields.text("need")?.as_deref() {
            None | Some("all") => false,
            Some("any") => true,
            Some(_) => return Err(fields.wrong("need", "`need` must be all or any")),
        };
        Ok(Self { branches, any })
    }
}
