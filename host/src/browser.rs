//! Opens a page in the person's browser.

use mcp_local_provider_process::KnownChild;
use rustix::process::{WaitOptions, setsid, wait};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Program of the system that opens an address in the browser that the person prefers.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

/// Opens the page at `url` by running `program`, this program, again: [`show`] adopts the browser, which would otherwise be taken
/// for an orphan of an agent.
///
/// # Errors
/// Fails when the system starts no process or thread.
pub(crate) fn open(program: &Path, url: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(["open-page", url]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = KnownChild::start(&mut command)?;
    let wait = move || {
        // It can only fail for a process that is no child.
        let _ = child.process().wait();
    };
    let name = "browser".to_owned();
    std::thread::Builder::new().name(name).spawn(wait).map(drop)
}

/// Opens the page at `url`, and returns once all processes have ended that this has started.
pub(crate) fn show(url: &str) -> ExitCode {
    // Keys at the terminal are meant for the program that serves. This fails only for a process that leads a group already.
    let _ = setsid();
    #[cfg(target_os = "linux")]
    {
        // Without it the browser ends with the program.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    let mut command = Command::new(OPENER);
    command.arg(url).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let opened = command.status();
    if !opened.as_ref().is_ok_and(|status| status.success()) {
        let why = opened.map_or_else(|error| error.to_string(), |status| status.to_string());
        // When standard error is closed nobody can be told.
        let _ = writeln!(io::stderr(), "{url} was not opened by `{OPENER}`: {why}");
        return ExitCode::FAILURE;
    }
    while wait(WaitOptions::empty()).is_ok() {}
    ExitCode::SUCCESS
}
