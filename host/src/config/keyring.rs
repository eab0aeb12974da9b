//! Secrets of the system's credential store, which the system's own program is asked for.

use crate::printable::printable;
use mcp_local_provider_process::KnownChild;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Program that reads the store: that of Secret Service (libsecret), or macOS' own.
const READER: &str = if cfg!(target_os = "macos") {
    "/usr/bin/security"
} else {
    "secret-tool"
};
/// Size in bytes above which a secret is refused.
const MAX_BYTES: u64 = 64 * 1024;
/// Time for the person to unlock the store.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a program that has said all and has not ended.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest part of what the program complains of, in characters.
const QUOTED: usize = 200;

/// Place of a secret: its service and its user, as the store knows it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    service: String,
    user: String,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "keyring:{}/{}", self.service, self.user)
    }
}

impl Entry {
    /// Reads `SERVICE/USER`. A service may have slashes in it.
    pub(super) fn parse(text: &str) -> Result<Entry, String> {
        // A word that begins with `-` would be an option of the program that is asked.
        let is_good = |name: &str| {
            !name.is_empty() && !name.starts_with('-') && !name.contains(char::is_control)
        };
        match text.trim().rsplit_once('/') {
            Some((service, user)) if is_good(service) && is_good(user) => Ok(Entry {
                service: service.to_owned(),
                user: user.to_owned(),
            }),
            Some(_) | None => Err(
                "`keyring:` needs a service and a user, as in `keyring:openai/me`; neither begins with `-`"
                    .to_owned(),
            ),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(READER);
        let (service, user) = (&*self.service, &*self.user);
        if cfg!(target_os = "macos") {
            command.args(["find-generic-password", "-w", "-s", service, "-a", user]);
        } else {
            command.args(["lookup", "service", service, "username", user]);
        }
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Asks the store. The error is a sentence that never contains the secret.
    pub(super) fn read(&self) -> Result<String, String> {
        let refuse = |why: String| {
            format!("the system's credential store gives no secret for `{self}`: {why}")
        };
        let mut reader = KnownChild::start(&mut self.command()).map_err(|error| {
            let hint = if error.kind() == std::io::ErrorKind::NotFound {
                "; install it (libsecret-tools), or write `env:NAME` or `file:PATH`"
            } else {
                ""
            };
            refuse(format!("`{READER}` cannot be started: {error}{hint}"))
        })?;
        let child = reader.process();
        let complaint = child.stderr.take().map(|pipe| read_all(pipe, MAX_BYTES));
        let said = child.stdout.take().map(|pipe| read_all(pipe, MAX_BYTES));
        let until = Instant::now() + PATIENCE;
        let said = said.map(|said| said.recv_timeout(PATIENCE));
        // It ends as a rule when it has said all.
        let ended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < until => thread::sleep(PAUSE),
                Ok(None) => {
                    // It can only fail for one that has ended.
                    let _ = child.kill();
                    break child.wait();
                }
                Err(error) => break Err(error),
            }
        };
        match said {
            Some(Ok(said)) if ended.as_ref().is_ok_and(std::process::ExitStatus::success) => {
                if u64::try_from(said.len()).is_ok_and(|bytes| bytes > MAX_BYTES) {
                    return Err(refuse(format!("it has more than {MAX_BYTES} bytes")));
                }
                // The bytes of an error would be those of the secret.
                let text =
                    String::from_utf8(said).map_err(|_| refuse("it is no text".to_owned()))?;
                return match text.trim() {
                    "" => Err(refuse("it is empty".to_owned())),
                    text => Ok(text.to_owned()),
                };
            }
            Some(Err(RecvTimeoutError::Timeout)) => {
                let seconds = PATIENCE.as_secs();
                return Err(refuse(format!(
                    "`{READER}` did not answer within {seconds} s; unlock the store"
                )));
            }
            Some(Ok(_) | Err(RecvTimeoutError::Disconnected)) | None => {}
        }
        let complaint = complaint.and_then(|told| told.recv_timeout(Duration::from_secs(1)).ok());
        let complaint = String::from_utf8_lossy(complaint.as_deref().unwrap_or_default());
        let line = complaint.lines().find(|line| !line.trim().is_empty());
        let line = line.map(|line| printable(line).chars().take(QUOTED).collect::<String>());
        Err(refuse(match (line, ended) {
            (Some(line), _) => line,
            (None, Ok(_)) => format!("there is none; store it with `{}`", self.how_to_store()),
            (None, Err(error)) => error.to_string(),
        }))
    }

    /// Command by which a person stores the secret.
    fn how_to_store(&self) -> String {
        let (service, user) = (&self.service, &self.user);
        if cfg!(target_os = "macos") {
            format!("security add-generic-password -s '{service}' -a '{user}' -w")
        } else {
            format!("secret-tool store --label='{service}' service '{service}' username '{user}'")
        }
    }
}

/// Reads a pipe to its end on a thread of its own, at most one byte more than `limit`.
fn read_all(pipe: impl Read + Send + 'static, limit: u64) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (told, hears) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What cannot be read is not there.
        let _ = pipe.take(limit + 1).read_to_end(&mut bytes);
        // Nobody may wait any more.
        let _ = told.send(bytes);
    });
    hears
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_has_a_service_and_a_user() {
        for (text, shown) in [
            ("openai/me", "keyring:openai/me"),
            ("https://h/v1/me", "keyring:https://h/v1/me"),
        ] {
            assert_eq!(Entry::parse(text).unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "openai",
            "/me",
            "openai/",
            "-x/me",
            "openai/-v",
            "a\nb/me",
        ] {
            let why = Entry::parse(wrong).err().unwrap();
            assert!(why.contains("needs a service and a user"), "{wrong}: {why}");
        }
    }
}
