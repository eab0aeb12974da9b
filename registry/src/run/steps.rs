//! The state of a chain and of a parallel set while their steps run.

use super::result::{StepReport, StepStatus, ToolResult, text_block, text_of};
use super::tool_run::Ended;
use crate::definition::{Action, Step, Tool};
use crate::template::value;
use minijinja::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A chain that runs.
#[derive(Debug)]
pub(super) struct Chained {
    arguments: Value,
    at: usize,
    /// Results by id, as templates see them.
    seen: BTreeMap<String, Value>,
    reports: Vec<StepReport>,
    last: ToolResult,
}

impl Chained {
    pub(super) fn new(arguments: Value) -> Self {
        Self {
            arguments,
            at: 0,
            seen: BTreeMap::new(),
            reports: Vec::new(),
            last: ToolResult::default(),
        }
    }

    /// The step that it is at; `None` behind the last one.
    pub(super) fn step<'t>(&self, tool: &'t Tool) -> Option<(usize, &'t Step)> {
        let (_, steps) = tool.action.steps();
        steps.get(self.at).map(|step| (self.at, step))
    }

    /// Names that the templates of a step see.
    pub(super) fn scope(&self) -> Value {
        let seen = Value::from_pairs(self.seen.clone());
        Value::from_pairs([("args", self.arguments.clone()), ("steps", seen)])
    }

    /// Passes the step over.
    pub(super) fn skip(&mut self, step: &Step) {
        self.report(step, StepStatus::Skipped, &[], Duration::ZERO);
        self.at += 1;
    }

    /// Notes the end of the step that it is at; gives the end of the chain when it stops there.
    pub(super) fn take(&mut self, tool: &Tool, ended: Ended, duration: Duration) -> Option<Ended> {
        let (_, step) = self.step(tool)?;
        let result = match ended {
            Ok(result) => result,
            Err(failure) if !step.goes_on => return Some(Err(failure)),
            Err(failure) => ToolResult::error(&failure.message),
        };
        self.report(step, status(&result), &result.content, duration);
        if result.is_error && !step.goes_on {
            self.last = result;
            return Some(Ok(self.result()));
        }
        self.seen.insert(step.id.to_string(), seen(&result));
        self.last = ToolResult {
            is_error: false,
            ..result
        };
        self.at += 1;
        None
    }

    fn report(&mut self, step: &Step, status: StepStatus, content: &[Box<str>], took: Duration) {
        self.reports.push(StepReport {
            id: step.id.clone(),
            status,
            content: content.to_vec(),
            duration: took,
        });
    }

    /// The result of the chain: that of the last step that ran.
    pub(super) fn result(&mut self) -> ToolResult {
        ToolResult {
            steps: Some(std::mem::take(&mut self.reports)),
            ..std::mem::take(&mut self.last)
        }
    }
}

/// A parallel set that runs.
#[derive(Debug)]
pub(super) struct Parted {
    ended: Vec<Option<(Ended, Duration)>>,
}

impl Parted {
    pub(super) fn new(branches: usize) -> Self {
        Self {
            ended: (0..branches).map(|_| None).collect(),
        }
    }

    /// Notes the end of a branch; gives the end of the set once enough of them are over. `open` is the time that it has run.
    pub(super) fn take(
        &mut self,
        tool: &Tool,
        place: usize,
        ended: Ended,
        duration: Duration,
        open: Duration,
    ) -> Option<Ended> {
        let Action::Parallel(set) = &tool.action else {
            return None;
        };
        *self.ended.get_mut(place)? = Some((ended, duration));
        let is_good = |it: &&(Ended, Duration)| matches!(&it.0, Ok(result) if !result.is_error);
        let over = self.ended.iter().flatten().count();
        let good = self.ended.iter().flatten().filter(is_good).count();
        let all_over = over == self.ended.len();
        let enough = match set.any {
            true => good > 0,
            false => over > good,
        };
        if !enough && !all_over {
            return None;
        }
        let went_well = match set.any {
            true => good > 0,
            false => over == good,
        };
        let mut result = ToolResult {
            is_error: !went_well,
            ..ToolResult::default()
        };
        let mut reports = Vec::new();
        let mut failure = None;
        for (branch, ended) in set.branches.iter().zip(&mut self.ended) {
            let (status, content, duration) = match ended.take() {
                None => (StepStatus::Skipped, Vec::new(), open),
                Some((Ok(it), duration)) => {
                    if !went_well || !it.is_error {
                        result.content.extend(it.content.iter().cloned());
                    }
                    let status = status(&it);
                    if set.any && !it.is_error {
                        result.structured = it.structured;
                    }
                    (status, it.content, duration)
                }
                Some((Err(it), duration)) => {
                    let content = vec![text_block(&it.message)];
                    failure = failure.or(Some(it));
                    (StepStatus::Error, content, duration)
                }
            };
            reports.push(StepReport {
                id: branch.id.clone(),
                status,
                content,
                duration,
            });
        }
        result.steps = Some(reports);
        match failure {
            Some(failure) if !went_well => Some(Err(failure)),
            Some(_) | None => Some(Ok(result)),
        }
    }
}

const fn status(result: &ToolResult) -> StepStatus {
    if result.is_error {
        StepStatus::Error
    } else {
        StepStatus::Ok
    }
}

/// A step's result as later steps see it.
fn seen(result: &ToolResult) -> Value {
    let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap_or_default();
    let content = result.content.iter().map(|it| parse(it)).collect();
    let structured = result.structured.as_deref();
    let members = [
        ("content", serde_json::Value::Array(content)),
        (
            "structured_content",
            structured.map(parse).unwrap_or_default(),
        ),
        ("is_error", result.is_error.into()),
        ("text", text_of(&result.content).into()),
    ];
    let members = members.map(|(name, it)| (name.to_owned(), it));
    value(&serde_json::Value::Object(members.into_iter().collect()))
}
