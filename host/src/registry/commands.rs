//! Commands that tools run: programs of `registry.commands`, each with its arguments as they are, in an empty directory, with an
//! environment of allowed variables, and ended with all that it has started.

use crate::process::own_program;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_core::process::Grace;
use mcp_local_provider_engine::registry::{
    CommandCall, CommandDone, CommandEnd, CommandHandle, Commands, NotRun,
};
use mcp_local_provider_process::{
    Ending, Event, Framing, Launch, PrivateDirectory, Process, ProcessWaker, Supervision,
    clean_environment,
};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Commands that run at once, whatever else bounds them.
const MOST: usize = 256;

/// Runs commands, each on a thread of its own.
#[derive(Debug)]
pub struct HostCommands {
    listed: Mutex<Vec<PathBuf>>,
    /// Variables of this program.
    variables: Vec<(OsString, OsString)>,
    /// Program that supervises each command.
    supervisor: Option<PathBuf>,
    budget: Option<Budget>,
    running: Arc<AtomicUsize>,
}

impl HostCommands {
    /// Permits the programs of `registry.commands`. Output counts against `budget`.
    ///
    /// # Errors
    /// Fails when this program cannot be found, which supervises the commands.
    pub fn new(programs: &[PathBuf], budget: Option<Budget>) -> io::Result<Arc<Self>> {
        Ok(Self::supervised(programs, budget, Some(own_program()?)))
    }

    /// Permits programs, supervised by another program than this one, or by none.
    #[must_use]
    pub fn supervised(
        programs: &[PathBuf],
        budget: Option<Budget>,
        supervisor: Option<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            listed: Mutex::new(programs.to_vec()),
            variables: std::env::vars_os().collect(),
            supervisor,
            budget,
            running: Arc::default(),
        })
    }

    /// Takes another list over. Commands that run go on.
    pub fn take_over(&self, programs: &[PathBuf]) {
        *self.listed() = programs.to_vec();
    }

    fn listed(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        // The list is replaced as one.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the argument of [`Process::start`].
    fn launch(&self, call: &CommandCall, directory: &PrivateDirectory) -> Launch {
        let arguments = call.arguments.iter();
        Launch {
            name: call.name.clone(),
            program: PathBuf::from(&call.program),
            arguments: arguments.map(OsString::from).collect(),
            environment: clean_environment(
                self.variables.iter().cloned(),
                &["XDG_*"],
                &call.environment,
            ),
            working_directory: directory.working_directory(),
            supervisor: self.supervisor.clone(),
            supervision: Supervision {
                // Nobody waits for its output when this program is gone.
                grace: Grace {
                    before_terminate: std::time::Duration::ZERO,
                    before_kill: std::time::Duration::ZERO,
                },
                remove: Some(directory.path().to_owned()),
            },
            output: Framing::Bytes,
            input_bytes: 0,
            budget: self.budget.clone(),
        }
    }

    fn begin(&self, call: CommandCall) -> Result<Command, NotRun> {
        self.permits(&call.program)?;
        check(&call)?;
        let failed = |error: io::Error| NotRun::Failed(cannot_start(&call.program, &error));
        let counted = Counted::new(&self.running)?;
        let directory = PrivateDirectory::new().map_err(failed)?;
        Ok(Command {
            launch: self.launch(&call, &directory),
            waker: ProcessWaker::new().map_err(failed)?,
            is_cancelled: Arc::default(),
            directory,
            call,
            _counted: counted,
        })
    }
}

impl Commands for HostCommands {
    fn permits(&self, program: &str) -> Result<(), NotRun> {
        let is_it = |listed: &PathBuf| listed.as_os_str() == program;
        if Path::new(program).is_absolute() && self.listed().iter().any(is_it) {
            return Ok(());
        }
        let program: String = program.chars().take(200).collect();
        Err(NotRun::Refused(format!(
            "`registry.commands` of the configuration does not list `{}`; add the program there by its absolute path to run it",
            program.escape_debug()
        )))
    }

    fn run(&self, call: CommandCall, done: CommandDone) -> CommandHandle {
        let begun = self.begin(call);
        let handle = match &begun {
            Ok(command) => {
                let (is_cancelled, waker) = (command.is_cancelled.clone(), command.waker.clone());
                CommandHandle::new(move || {
                    is_cancelled.store(true, Ordering::Release);
                    waker.wake();
                })
            }
            Err(_) => CommandHandle::ended(),
        };
        let run = move || {
            let ended = match begun {
                Ok(command) => command.run(),
                Err(error) => Some(Err(error)),
            };
            if let Some(ended) = ended {
                done(ended);
            }
        };
        // The thread tells of a refusal too, so that `done` is never called before this returns.
        let thread = std::thread::Builder::new().name("command".to_owned());
        if let Err(error) = thread.spawn(run) {
            // `done` is gone with the thread that was not started, and whoever waits for it keeps a deadline.
            tracing::error!("a command was not run: the system gives no thread: {error}");
        }
        handle
    }
}

/// Refuses what the system cannot pass to a program.
fn check(call: &CommandCall) -> Result<(), NotRun> {
    let refuse = |why: String| Err(NotRun::Refused(why));
    for (index, argument) in (1..).zip(&call.arguments) {
        if argument.contains('\0') {
            return refuse(format!(
                "argument {index} of `{}` has a zero byte in it, which no argument of a command may have",
                call.program
            ));
        }
    }
    for (name, value) in &call.environment {
        let is_name = !name.is_empty() && !name.contains(['=', '\0']);
        if !is_name || value.contains('\0') {
            return refuse(format!(
                "`{}` cannot be a variable: its name has at least one character and no `=`, and neither it nor its value a zero byte",
                name.escape_debug()
            ));
        }
    }
    let program = Path::new(&call.program);
    let is_program = |path: &Path| {
        let metadata = std::fs::metadata(path)?;
        let can_run = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        Ok(can_run)
    };
    match is_program(program) {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotRun::Failed(format!("`{}` is no program", call.program))),
        Err(error) => Err(NotRun::Failed(cannot_start(&call.program, &error))),
    }
}

fn cannot_start(program: &str, error: &io::Error) -> String {
    format!("`{program}` cannot be started: {error}")
}

/// One of the commands that run at once.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(running: &Arc<AtomicUsize>) -> Result<Self, NotRun> {
        // It is given back also when it was one too many.
        let counted = Self(running.clone());
        if running.fetch_add(1, Ordering::AcqRel) >= MOST {
            return Err(NotRun::TooMany(MOST));
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A command and all that it needs.
struct Command {
    call: CommandCall,
    launch: Launch,
    directory: PrivateDirectory,
    waker: Arc<ProcessWaker>,
    is_cancelled: Arc<AtomicBool>,
    _counted: Counted,
}

impl Command {
    /// Runs it to its end. It and all that it has started are gone when this returns; `None` when nobody waits for it any more.
    fn run(self) -> Option<Result<CommandEnd, NotRun>> {
        if self.is_cancelled.load(Ordering::Acquire) {
            return None;
        }
        let started = self
            .directory
            .make()
            .and_then(|()| Process::start(&self.launch));
        let process = match started {
            Ok(process) => process,
            Err(error) => {
                let message = cannot_start(&self.call.program, &error);
                return Some(Err(NotRun::Failed(message)));
            }
        };
        self.wait(process).transpose()
    }

    fn wait(&self, mut process: Process) -> Result<Option<CommandEnd>, NotRun> {
        if !self.call.input.is_empty() {
            // Nothing waits yet, so it is taken.
            let _ = process.push_line(&self.call.input);
        }
        process.close_input();
        let mut share = self.launch.budget.as_ref().map(Budget::share);
        let mut output = Vec::new();
        let mut is_cut = false;
        let code = loop {
            let mut ending = None;
            let turned = process.turn(&self.waker, None, |event| match event {
                Event::Bytes(bytes) => {
                    let room = self.call.output_bytes.saturating_sub(output.len());
                    let taken = bytes.get(..room).unwrap_or(bytes);
                    output.extend_from_slice(taken);
                    is_cut |= taken.len() < bytes.len();
                }
                // It is not cut into lines.
                Event::Line(_) => {}
                Event::Ended(how) => ending = Some(how),
            });
            if self.is_cancelled.load(Ordering::Acquire) {
                return Ok(None);
            }
            turned.map_err(|error| {
                NotRun::Failed(format!(
                    "`{}` cannot be waited for: {error}",
                    self.call.program
                ))
            })?;
            if share
                .as_mut()
                .is_some_and(|share| !share.hold(output.len()))
            {
                return Err(NotRun::Failed(format!(
                    "`{}` was ended: there is no memory left for its output (`limits.memory`)",
                    self.call.program
                )));
            }
            match ending {
                _ if is_cut => break None,
                None => {}
                Some(Ending::Code(code)) => break Some(code),
                Some(Ending::Signal(signal)) => {
                    let signal = u8::try_from(signal).unwrap_or_default();
                    break Some(128_u8.saturating_add(signal));
                }
                Some(Ending::OutputClosed) => break None,
            }
        };
        let errors = process.last_words().told();
        drop(process);
        Ok(Some(CommandEnd {
            code,
            output,
            is_cut,
            errors,
            share,
        }))
    }
}
