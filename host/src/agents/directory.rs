//! The private directory of one run of an agent: an empty working directory, and files that its configuration names.

use crate::private_file;
use rustix::process::geteuid;
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Prefix of the names of all private directories. Nothing else is ever removed.
const PREFIX: &str = "mcp-local-provider-agent-";

/// A directory for the owner alone (mode 0700) below the system's place for temporary files, removed when it is dropped.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Chooses a random name below the system's directory for temporary files. [`PrivateDirectory::make`] makes the
    /// directory.
    ///
    /// # Errors
    /// Fails when the system has no randomness to give, or no working directory.
    pub fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let mut name = PREFIX.to_owned();
        for byte in random {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        // Absolute, because agents are told where they work.
        let path = std::path::absolute(std::env::temp_dir())?.join(name);
        Ok(Self { path })
    }

    /// Makes the directory, with an empty working directory inside and one for those of sessions. Nothing changes where it exists already.
    ///
    /// # Errors
    /// Fails when it cannot be made, or when something else is in its place.
    pub fn make(&self) -> io::Result<()> {
        for path in [&self.path, &self.working_directory(), &self.sessions()] {
            match private_file::make_new_directory(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if !is_private(path) => {
                    let message = format!("{} is no private directory of ours", path.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the directory with all that is in it. It can be made again.
    pub fn clear(&self) {
        remove(&self.path);
    }

    /// Path of the directory itself, in which the agent's files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the empty directory that the agent works in.
    #[must_use]
    pub fn working_directory(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Path of the directory that holds one for each session, named by its number.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// Makes the empty directory of one session.
    ///
    /// # Errors
    /// Fails when it cannot be made, or is there already.
    pub fn make_session(&self, number: u64) -> io::Result<()> {
        private_file::make_new_directory(&self.session(number))
    }

    /// Removes the directory of one session with all that is in it.
    pub fn remove_session(&self, number: u64) {
        // A leftover goes with the whole directory.
        let _ = std::fs::remove_dir_all(self.session(number));
    }

    fn session(&self, number: u64) -> PathBuf {
        self.sessions().join(number.to_string())
    }

    /// Writes a file beside the working directory, for the owner alone.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            private_file::make_directory(parent)?;
        }
        private_file::replace(&path, content.as_bytes())?;
        Ok(path)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Removes a private directory. A path that does not look like one of ours is left alone.
pub(crate) fn remove(path: &Path) {
    let named = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(PREFIX));
    if named && is_private(path) {
        // A leftover in the directory for temporary files is harmless, and nobody is there to act on the error.
        let _ = std::fs::remove_dir_all(path);
    }
}

/// Returns true for a directory that belongs to the user of this process and that nobody else may enter.
fn is_private(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && metadata.permissions().mode() & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_private_empty_and_gone_at_the_end() {
        let directory = PrivateDirectory::new().unwrap();
        directory.make().unwrap();
        let path = directory.path().to_owned();
        for path in [&path, &directory.working_directory()] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        let file = directory.write("system.md", "text").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "text");
        let mut inside = std::fs::read_dir(directory.working_directory()).unwrap();
        assert!(inside.next().is_none());
        directory.make_session(7).unwrap();
        assert!(directory.make_session(7).is_err());
        let session = directory.sessions().join("7");
        let mode = std::fs::metadata(&session).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(session.join("left"), "").unwrap();
        directory.remove_session(7);
        assert!(!session.exists());
        directory.clear();
        assert!(!path.exists());
        directory.make().unwrap();
        directory.make().unwrap();
        assert!(directory.working_directory().is_dir());
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_else_is_ever_removed() {
        let other = crate::test_directory::Directory::new();
        let file = other.file("kept", "");
        remove(&other.0);
        assert!(file.exists());
        let link = other.0.join("mcp-local-provider-agent-link");
        std::os::unix::fs::symlink(&other.0, &link).unwrap();
        remove(&link);
        assert!(file.exists());
    }
}
