//! One run of a tool: chains and parallel sets are runs within it.

use super::result::{self, ToolResult};
use super::steps::{Chained, Parted};
use super::{NEEDS, NESTING, Out, ToolSet};
use crate::definition::{Action, Step, Tool};
use crate::failure::Failure;
use crate::need::{ANSWER_BYTES, Need, NeedId, Outcome};
use crate::template::{Stop, value};
use mcp_local_provider_core::time::Instant;
use minijinja::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A run. Call [`ToolRun::start`] once, then hand in each outcome and each time-out, until one of the calls gives its end.
///
/// It keeps the definitions that it began with.
#[derive(Debug)]
pub struct ToolRun {
    tools: ToolSet,
    /// The tree of runs: a run stands behind the one that it is within.
    nodes: Vec<Node>,
    /// Open needs, with the node of each.
    open: BTreeMap<NeedId, usize>,
    needs: u32,
    /// Bytes of the results that are kept.
    kept: usize,
    /// Ends that the nodes around them have not been told of.
    ends: VecDeque<(usize, Ended)>,
    depth: u8,
    timeout: Duration,
    arguments: serde_json::Value,
}

/// The end of a run: a result, which may say that the tool failed, or none.
pub(crate) type Ended = Result<ToolResult, Failure>;

#[derive(Debug)]
struct Node {
    tool: Arc<Tool>,
    /// The node that it is within, and its place there.
    parent: Option<(usize, usize)>,
    depth: u8,
    began: Instant,
    until: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has not begun, or is over and nobody has been told.
    Idle,
    /// It waits for its one need.
    Leaf(NeedId),
    Chain(Chained),
    Parallel(Parted),
    Over,
}

impl ToolRun {
    /// Makes a run. `timeout` is the call's own; `depth` says how many runs it is within.
    ///
    /// # Errors
    /// The tool is disabled, its schema refuses the arguments, or it is within too many runs.
    pub fn new(
        tools: ToolSet,
        arguments: serde_json::Value,
        timeout: Option<Duration>,
        depth: u8,
    ) -> Result<Self, Failure> {
        tools.check(&arguments)?;
        if depth >= NESTING {
            let message = format!("runs are nested more than {NESTING} deep");
            return Err(Failure::wrong(message));
        }
        Ok(Self {
            timeout: timeout.unwrap_or(tools.root.timeout),
            tools,
            nodes: Vec::new(),
            open: BTreeMap::new(),
            needs: 0,
            kept: 0,
            ends: VecDeque::new(),
            depth,
            arguments,
        })
    }

    /// Name of the tool.
    #[must_use]
    pub fn tool(&self) -> &str {
        self.tools.name()
    }

    /// Begins it.
    pub fn start(&mut self, now: Instant, out: &mut Out) -> Option<Ended> {
        if !self.nodes.is_empty() {
            return None;
        }
        let arguments = std::mem::take(&mut self.arguments);
        let root = self.tools.root.clone();
        let at = self.push(Node {
            tool: root,
            parent: None,
            depth: self.depth,
            began: now,
            until: now + self.timeout,
            state: State::Idle,
        });
        if let Err(stop) = self.begin(at, value(&arguments), now, out) {
            self.ends.push_back((at, stopped(stop)));
        }
        self.settle(now, out)
    }

    /// Takes what came of a need. One that is not open is passed over.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        id: NeedId,
        outcome: Outcome,
        out: &mut Out,
    ) -> Option<Ended> {
        let at = self.open.remove(&id)?;
        let node = self.nodes.get_mut(at)?;
        node.state = State::Idle;
        let result = result::result_of(&node.tool, outcome);
        self.ends.push_back((at, result));
        self.settle(now, out)
    }

    /// Ends what has taken too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Out) -> Option<Ended> {
        loop {
            let due = |node: &Node| !matches!(node.state, State::Over) && node.until <= now;
            let at = self.nodes.iter().position(due)?;
            let name = self.nodes.get(at).map_or("", |it| &it.tool.name);
            let failure = Failure::timeout(format!("the tool `{name}` did not end in time"));
            self.ends.push_back((at, Err(failure)));
            if let Some(ended) = self.settle(now, out) {
                return Some(ended);
            }
        }
    }

    /// Returns when to call [`ToolRun::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_open = |it: &&Node| !matches!(it.state, State::Over);
        let open = self.nodes.iter().filter(is_open);
        open.map(|it| it.until).min()
    }

    /// Ends it: the caller left, or does not want it any more. It may be called again.
    pub fn cancel(&mut self, out: &mut Out) {
        self.close(0, out);
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Ends a node and all within it.
    fn close(&mut self, top: usize, out: &mut Out) {
        let mut closed = vec![false; self.nodes.len()];
        for (at, node) in self.nodes.iter_mut().enumerate().skip(top) {
            let within = match node.parent {
                Some((parent, _)) => closed.get(parent).copied().unwrap_or(false),
                None => false,
            };
            if at != top && !within {
                continue;
            }
            if let Some(it) = closed.get_mut(at) {
                *it = true;
            }
            if let State::Leaf(id) = std::mem::replace(&mut node.state, State::Over)
                && self.open.remove(&id).is_some()
            {
                // What was not begun yet need not be ended.
                let before = out.start.len();
                out.start.retain(|(started, _)| *started != id);
                if out.start.len() == before {
                    out.end.push(id);
                }
            }
        }
    }

    /// Tells each end to the node around it, until nothing is left to tell.
    fn settle(&mut self, now: Instant, out: &mut Out) -> Option<Ended> {
        while let Some((at, result)) = self.ends.pop_front() {
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            if matches!(node.state, State::Over) {
                continue;
            }
            let duration = now.since(node.began);
            let parent = node.parent;
            self.close(at, out);
            let result = result.map(|result| ToolResult { duration, ..result });
            let Some((parent, place)) = parent else {
                self.ends.clear();
                return Some(result);
            };
            let result = match result {
                Ok(it) if self.kept + it.bytes() > ANSWER_BYTES => Err(result::too_large()),
                Ok(it) => {
                    self.kept += it.bytes();
                    Ok(it)
                }
                Err(failure) => Err(failure),
            };
            let Some(node) = self.nodes.get_mut(parent) else {
                continue;
            };
            let ended = match &mut node.state {
                State::Chain(chain) => match chain.take(&node.tool, result, duration) {
                    None => {
                        self.next_step(parent, now, out);
                        continue;
                    }
                    ended => ended,
                },
                State::Parallel(set) => {
                    let open = now.since(node.began);
                    set.take(&node.tool, place, result, duration, open)
                }
                State::Idle | State::Leaf(_) | State::Over => None,
            };
            if let Some(ended) = ended {
                self.ends.push_back((parent, ended));
            }
        }
        None
    }

    /// Begins a node.
    fn begin(
        &mut self,
        at: usize,
        arguments: Value,
        now: Instant,
        out: &mut Out,
    ) -> Result<(), Stop> {
        let Some((tool, depth)) = self.nodes.get(at).map(|it| (it.tool.clone(), it.depth)) else {
            return Ok(());
        };
        let scope = || Value::from_pairs([("args", arguments.clone())]);
        let need = match &tool.action {
            Action::Http(http) => Need::Http(http.need(&scope())?),
            Action::Command(command) => Need::Command(command.need(&scope())?),
            Action::Prompt(call) => Need::Ask(call.need(&scope(), depth + 1)?),
            Action::Gateway(call) => Need::Call(call.need(&scope())?),
            Action::Chain(_) => {
                self.put(at, State::Chain(Chained::new(arguments)));
                self.next_step(at, now, out);
                return Ok(());
            }
            Action::Parallel(set) => {
                self.put(at, State::Parallel(Parted::new(set.branches.len())));
                let scope = scope();
                for (place, branch) in set.branches.iter().enumerate() {
                    self.begin_step(at, place, branch, &scope, now, out);
                }
                return Ok(());
            }
        };
        if usize::try_from(self.needs).is_ok_and(|it| it >= NEEDS) {
            let message = format!("a run may have {NEEDS} steps in all");
            return Err(Stop::Error(message));
        }
        let id = NeedId(self.needs);
        self.needs += 1;
        self.open.insert(id, at);
        out.start.push((id, need));
        self.put(at, State::Leaf(id));
        Ok(())
    }

    fn put(&mut self, at: usize, state: State) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.state = state;
        }
    }

    /// Begins a step's tool within a node.
    fn begin_step(
        &mut self,
        parent: usize,
        place: usize,
        step: &Step,
        scope: &Value,
        now: Instant,
        out: &mut Out,
    ) {
        let Some(around) = self.nodes.get(parent) else {
            return;
        };
        let tool = self.tools.others.get(&step.tool).cloned();
        let found = tool.is_some();
        // The node around it stands in for a tool that is gone: an error is told about it all the same.
        let tool = tool.unwrap_or_else(|| around.tool.clone());
        let depth = around.depth + 1;
        let until = around.until.min(now + tool.timeout);
        let at = self.push(Node {
            tool: tool.clone(),
            parent: Some((parent, place)),
            depth,
            began: now,
            until,
            state: State::Idle,
        });
        let begun = if !found {
            let message = format!("there is no tool `{}`", step.tool);
            Err(Stop::Error(message))
        } else if depth >= NESTING || self.nodes.len() > NEEDS * usize::from(NESTING) {
            let message = format!("runs are nested more than {NESTING} deep");
            Err(Stop::Error(message))
        } else {
            let arguments = arguments_of(step, &tool, scope);
            arguments.and_then(|arguments| self.begin(at, arguments, now, out))
        };
        if let Err(stop) = begun {
            self.ends.push_back((at, stopped(stop)));
        }
    }

    /// Goes on with a chain from where it is.
    fn next_step(&mut self, at: usize, now: Instant, out: &mut Out) {
        while let Some(node) = self.nodes.get_mut(at) {
            let tool = node.tool.clone();
            let State::Chain(chain) = &mut node.state else {
                return;
            };
            let Some((place, step)) = chain.step(&tool) else {
                let ended = Ok(chain.result());
                self.ends.push_back((at, ended));
                return;
            };
            let scope = chain.scope();
            let condition = step.condition.as_ref();
            match condition.map_or(Ok(true), |it| it.holds(&scope)) {
                Ok(true) => {
                    self.begin_step(at, place, step, &scope, now, out);
                    return;
                }
                Ok(false) => chain.skip(step),
                Err(trouble) => {
                    let ended = stopped(trouble.of("if"));
                    if let Some(ended) = chain.take(&tool, ended, Duration::ZERO) {
                        self.ends.push_back((at, ended));
                        return;
                    }
                }
            }
        }
    }
}

/// Gives the arguments of a step, once its tool takes them.
fn arguments_of(step: &Step, tool: &Tool, scope: &Value) -> Result<Value, Stop> {
    let json = match &step.arguments {
        Some(tree) => tree.render(scope).map_err(|it| it.of("arguments"))?,
        None => "{}".to_owned(),
    };
    let arguments: serde_json::Value = serde_json::from_str(&json)
        .map_err(|_| Stop::Error("the arguments are no JSON".to_owned()))?;
    let checked = tool
        .check_enabled()
        .and_then(|()| tool.input.check(&arguments));
    checked.map_err(|failure| Stop::Error(told(failure)))?;
    Ok(value(&arguments))
}

/// A failure as the text of a result.
pub(crate) fn told(failure: Failure) -> String {
    let mut told = failure.message;
    for wrong in failure.errors {
        told.push_str(&format!("\n{}: {}", wrong.path, wrong.message));
    }
    told
}

fn stopped(stop: Stop) -> Ended {
    match stop {
        Stop::Failed(failure) => Err(failure),
        Stop::Error(message) => Ok(ToolResult::error(&message)),
    }
}
