//! The program that is measured and the processes round it: where they come from, their files, their cores.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Error;
use crate::process::Process;

/// The key the load uses; made up for the run.
pub const CLIENT_KEY: &str = "bench-client-key-0123456789";
/// The key the agent uses; made up for the run.
pub const BRIDGE_KEY: &str = "bench-bridge-key-0123456789";

/// The key of who looks at health; made up for the run.
pub const OPERATOR_KEY: &str = "bench-operator-key-0123456789";

/// The core of what is measured.
pub const TARGET_CORE: usize = 0;
/// The core of everything round it.
pub const LOAD_CORE: usize = 1;

/// A build of the provider with a configuration, in a directory of its own that is removed at the end.
#[derive(Debug)]
pub struct Setup {
    this: PathBuf,
    program: PathBuf,
    dir: PathBuf,
}

impl Setup {
    /// Prepares `program` with everything that a program in use has switched on, and with `settings`, sections of its
    /// configuration as YAML.
    ///
    /// # Errors
    /// Fails when the program is not there, or the directory cannot be made.
    pub fn new(program: &Path, settings: &str) -> Result<Self, Error> {
        let found = program.canonicalize().map_err(|e| {
            format!(
                "{}: {e}; build it with `cargo build --release`",
                program.display()
            )
        })?;
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcp-local-provider-bench-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("client.key"), CLIENT_KEY)?;
        std::fs::write(dir.join("bridge.key"), BRIDGE_KEY)?;
        std::fs::write(dir.join("operator.key"), OPERATOR_KEY)?;
        std::fs::write(dir.join("config.yaml"), configuration(&dir, settings))?;
        Ok(Self {
            this: std::env::current_exe()?,
            program: found,
            dir,
        })
    }

    /// Starts this very program in another role.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn role(&self, core: usize, arguments: &[&str]) -> Result<Process, Error> {
        let log = self
            .dir
            .join(format!("{}.log", arguments.first().unwrap_or(&"role")));
        Process::spawn(Command::new(&self.this).args(arguments), core, &log)
    }

    /// Starts the program that is measured.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program(&self) -> Result<Process, Error> {
        self.start(Command::new(&self.program))
    }

    /// Starts the program without an audit file.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program_without_audit(&self) -> Result<Process, Error> {
        let mut command = Command::new(&self.program);
        command.env("MLP_AUDIT__FILE", "off");
        self.start(command)
    }

    /// Starts the program with the server of models at `upstream`.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program_before(&self, upstream: SocketAddr) -> Result<Process, Error> {
        self.start_program_with(&[
            ("MLP_UPSTREAMS__0__NAME", "up"),
            ("MLP_UPSTREAMS__0__KIND", "custom"),
            ("MLP_UPSTREAMS__0__URL", &format!("http://{upstream}/v1")),
            ("MLP_UPSTREAMS__0__MODELS", "bench"),
            ("MLP_UPSTREAMS__0__CONCURRENCY", "0"),
        ])
    }

    /// Starts the program with more of its configuration, as variables.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program_with(&self, variables: &[(&str, &str)]) -> Result<Process, Error> {
        let mut command = Command::new(&self.program);
        command.envs(variables.iter().copied());
        self.start(command)
    }

    /// The build that is measured.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts the program with an audit file that soon takes nothing more, as one on a full disk does: no file of the
    /// program may grow beyond 16 KiB.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program_on_full_disk(&self) -> Result<Process, Error> {
        let mut command = Command::new("sh");
        // Without the signal a write beyond the limit is an error and not the program's end.
        command
            .args(["-c", "trap '' XFSZ && ulimit -f 16 && exec \"$0\" \"$@\""])
            .arg(&self.program);
        self.start(command)
    }

    /// Starts the program with at most `files` open files.
    ///
    /// # Errors
    /// Fails when it does not become ready.
    pub fn start_program_with_files(&self, files: u64) -> Result<Process, Error> {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
            .arg(files.to_string())
            .arg(&self.program);
        self.start(command)
    }

    /// Writes a file for another program, and returns its path.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let file = self.dir.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// Starts another program, which listens at `addr` when it is ready.
    ///
    /// # Errors
    /// Fails when it does not listen there.
    pub fn start_other(
        &self,
        command: &mut Command,
        addr: SocketAddr,
        name: &str,
    ) -> Result<Process, Error> {
        let log = self.dir.join(format!("{name}.log"));
        Process::listening(command.current_dir(&self.dir), addr, TARGET_CORE, &log)
    }

    fn start(&self, mut command: Command) -> Result<Process, Error> {
        command
            .arg("--config")
            .arg(self.dir.join("config.yaml"))
            .current_dir(&self.dir);
        Process::spawn(&mut command, TARGET_CORE, &self.dir.join("program.log"))
    }

    /// Starts the scripted agent of a running program.
    ///
    /// # Errors
    /// Fails when it is refused.
    pub fn agent(&self, program: &Process) -> Result<Process, Error> {
        self.role(LOAD_CORE, &["agent", &program.addr.to_string(), BRIDGE_KEY])
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn configuration(dir: &Path, settings: &str) -> String {
    let dir = dir.display();
    format!(
        r#"listen: {{ http: ["127.0.0.1:0"] }}
auth:
  required: true
  keys:
    - {{ name: load, key: "file:{dir}/client.key", role: client, allow: [models, mcp] }}
    - {{ name: agent, key: "file:{dir}/bridge.key", role: bridge }}
    - {{ name: operator, key: "file:{dir}/operator.key", role: operator }}
sessions: {{ approval: automatic, ttl_seconds: 3600 }}
audit: {{ file: "{dir}/audit.jsonl", max_bytes: 1GiB, keep: 1 }}
data_dir: "{dir}/data"
{settings}"#
    )
}
