//! The private directory of one run of an agent, with one directory for each of its sessions.

use mcp_local_provider_process::PrivateDirectory;
use std::io;
use std::path::PathBuf;

/// Name of the directory that holds those of sessions.
const SESSIONS: &str = "sessions";

/// The [`PrivateDirectory`] of an agent, and below it the directories of sessions.
#[derive(Debug)]
pub(crate) struct AgentDirectory(PrivateDirectory);

impl AgentDirectory {
    /// Chooses a name, see [`PrivateDirectory::new`].
    ///
    /// # Errors
    /// Fails when the system has no randomness to give, or no working directory.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(PrivateDirectory::new()?))
    }

    /// Makes all but the directories of sessions. Nothing changes where it exists already.
    ///
    /// # Errors
    /// Fails when it cannot be made, or when something else is in its place.
    pub(crate) fn make(&self) -> io::Result<()> {
        self.0.make()?;
        self.0.make_beside(SESSIONS)
    }

    /// The directory with the agent's files and its working directory.
    pub(crate) fn private(&self) -> &PrivateDirectory {
        &self.0
    }

    /// Path of the directory that holds one for each session, named by its number.
    pub(crate) fn sessions(&self) -> PathBuf {
        self.0.path().join(SESSIONS)
    }

    /// Makes the empty directory of one session.
    ///
    /// # Errors
    /// Fails when it cannot be made, or is there already.
    pub(crate) fn make_session(&self, number: u64) -> io::Result<()> {
        crate::private_file::make_new_directory(&self.session(number))
    }

    /// Removes the directory of one session with all that is in it.
    pub(crate) fn remove_session(&self, number: u64) {
        // A leftover goes with the whole directory.
        let _ = std::fs::remove_dir_all(self.session(number));
    }

    fn session(&self, number: u64) -> PathBuf {
        self.sessions().join(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_session_has_a_private_empty_directory() {
        let directory = AgentDirectory::new().unwrap();
        directory.make().unwrap();
        directory.make_session(7).unwrap();
        assert!(directory.make_session(7).is_err());
        let session = directory.sessions().join("7");
        let mode = std::fs::metadata(&session).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(session.join("left"), "").unwrap();
        directory.remove_session(7);
        assert!(!session.exists());
        directory.make_session(8).unwrap();
        directory.private().clear();
        assert!(!directory.sessions().exists());
    }
}
