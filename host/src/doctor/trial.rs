//! One start of an agent by `doctor --try`: as far as a session, and without a prompt.

use super::Health;
use crate::agents::{AgentDirectory, Plan};
use mcp_local_provider_core::agents::acp::{self, Agent, Order, Out};
use mcp_local_provider_core::process::Rules;
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_engine::random_seed;
use mcp_local_provider_process::{Event, Process, ProcessWaker};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant as Clock};

/// Longest line that is read from an agent, in bytes.
const LINE_BYTES: usize = 1 << 20;

/// An agent that has been started, until it shows whether it can be asked.
struct Trial<'p> {
    plan: &'p Plan,
    agent: Agent,
    out: Out,
    process: Process,
    waker: std::sync::Arc<ProcessWaker>,
    directory: AgentDirectory,
    began: Clock,
    /// Its own name and version, once it has told them.
    says: Option<String>,
}

/// Starts the agent of `plan` and ends it again. `variables` is the environment of this program; for `supervisor` see
/// [`Launch`](mcp_local_provider_process::Launch).
pub(super) fn try_agent(
    plan: &Plan,
    variables: &[(OsString, OsString)],
    supervisor: Option<&Path>,
) -> (Health, String) {
    let found = Trial::start(plan, variables, supervisor).and_then(Trial::run);
    found.unwrap_or_else(|error| {
        let text = format!("{} cannot be started: {error}", plan.name);
        (Health::Fail, text)
    })
}

impl<'p> Trial<'p> {
    fn start(
        plan: &'p Plan,
        variables: &[(OsString, OsString)],
        supervisor: Option<&Path>,
    ) -> io::Result<Self> {
        let directory = AgentDirectory::new()?;
        let launch = plan.launch(variables, &directory, supervisor, LINE_BYTES)?;
        let cwd = plan.agent.cwd.clone();
        let cwd = cwd.unwrap_or_else(|| directory.sessions());
        let usual = acp::Config::new(&cwd.to_string_lossy());
        let config = acp::Config {
            process: Rules {
                start_timeout: plan.agent.start_timeout,
                ..usual.process
            },
            session_directories: plan.agent.cwd.is_none(),
            ..usual
        };
        let mut trial = Self {
            plan,
            agent: Agent::new(plan.profile(), config, random_seed()?),
            out: Out::new(),
            process: Process::start(&launch)?,
            waker: ProcessWaker::new()?,
            directory,
            began: Clock::now(),
            says: None,
        };
        let now = trial.now();
        trial.agent.start(now, &mut trial.out);
        trial.out.orders.clear();
        trial.agent.handle_started(now, &mut trial.out, &mut |_| {});
        Ok(trial)
    }

    fn now(&self) -> Instant {
        let elapsed = self.began.elapsed().as_micros();
        Instant::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn run(mut self) -> io::Result<(Health, String)> {
        loop {
            for order in std::mem::take(&mut self.out.orders) {
                match order {
                    Order::MakeDirectory(number) => self.directory.make_session(number)?,
                    Order::RemoveDirectory(number) => self.directory.remove_session(number),
                    // It is ended when this is dropped, and not started again; it lives too short to be measured.
                    Order::Start
                    | Order::CloseInput
                    | Order::Terminate
                    | Order::Kill
                    | Order::Measure => {}
                }
            }
            while self.process.has_room()
                && let Some(line) = self.out.lines.pop()
            {
                let _taken = self.process.push_line(line.as_bytes());
            }
            for event in std::mem::take(&mut self.out.events) {
                if let Some(found) = self.judge(event) {
                    return Ok(found);
                }
            }
            self.wait()?;
        }
    }

    /// Waits for the next event, and hands it to the machine.
    fn wait(&mut self) -> io::Result<()> {
        let until = self.agent.poll_timeout();
        let until = until.map(|until| self.began + Duration::from_micros(until.at.as_micros()));
        let now = || {
            let elapsed = self.began.elapsed().as_micros();
            Instant::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX))
        };
        let (agent, out) = (&mut self.agent, &mut self.out);
        let mut ending = None;
        self.process.turn(&self.waker, until, |event| match event {
            Event::Line(line) => agent.handle_line(now(), line, out, &mut |_| {}),
            // It is cut into lines.
            Event::Bytes(_) => {}
            Event::Ended(how) => ending = Some(how),
        })?;
        match ending {
            Some(ending) => {
                let status = self.with_last_words(ending.to_string());
                let now = self.now();
                self.agent
                    .handle_exited(now, &status, &mut self.out, &mut |_| {});
            }
            None => {
                let now = self.now();
                self.agent.handle_timeout(now, &mut self.out, &mut |_| {});
            }
        }
        Ok(())
    }

    /// Adds what the agent wrote to its standard error. It was given no prompt that it could quote.
    fn with_last_words(&self, text: String) -> String {
        match self.process.last_words().told() {
            words if words.is_empty() => text,
            words => format!("{text}; its last words: {words}"),
        }
    }

    /// Returns the finding that an event makes certain.
    fn judge(&mut self, event: acp::Event) -> Option<(Health, String)> {
        let name = &self.plan.name;
        let fail = |text: String| Some((Health::Fail, text));
        match event {
            acp::Event::Initialized { agent } => {
                self.says = Some(agent);
                None
            }
            acp::Event::Ready { models } => {
                let says = self.says.as_deref().unwrap_or(name);
                let text = format!("{name} starts, says that it is {says}, and can be asked; models: {models}");
                Some((Health::Ok, text))
            }
            acp::Event::LoginNeeded { advice, .. } => {
                fail(format!("{name} starts, and wants a login: {advice}"))
            }
            acp::Event::Unable { why } => fail(format!("{name} starts, and makes no session: {why}")),
            acp::Event::Silent {
                printed: Some(line),
            } => fail(self.with_last_words(format!(
                "`{name}` printed `{line}`, which is not ACP; give the program or the arguments that speak the Agent Client \
                 Protocol"
            ))),
            acp::Event::Exited { status, .. } => fail(format!("{name} was started: {status}")),
            acp::Event::Misbehaved { what } => fail(
                self.with_last_words(format!("{name} was started, and cannot be asked: {what}")),
            ),
            acp::Event::Silent { printed: None } if !self.process.begun_line().is_empty() => {
                self.judge(acp::Event::Silent {
                    printed: Some(self.process.begun_line()),
                })
            }
            acp::Event::Silent { printed: None } => {
                let seconds = self.plan.agent.start_timeout.as_secs();
                // Findings are printed at the end, so this is not one. A closed standard error keeps nobody from them.
                let _ = writeln!(
                    io::stderr(),
                    "{name} has printed no line for 5 s{}; it is given {seconds} s (start_timeout)",
                    self.process.first_words()
                );
                None
            }
            acp::Event::Registered
            | acp::Event::NoSession { .. }
            | acp::Event::Recycled { .. }
            | acp::Event::OverMemory { .. }
            | acp::Event::PermissionRefused { .. }
            | acp::Event::RequestRefused { .. } => None,
        }
    }
}
