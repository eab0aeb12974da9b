//! The private directory of a child: an empty working directory, and files that its configuration names.

use rustix::process::geteuid;
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Prefix of the names of all private directories. Nothing else is ever removed.
const PREFIX: &str = "mcp-local-provider-child-";

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
        // Absolute, because children are told where they work.
        let path = std::path::absolute(std::env::temp_dir())?.join(name);
        Ok(Self { path })
    }

    /// Makes the directory, with an empty working directory inside. Nothing changes where it exists already.
    ///
    /// # Errors
    /// Fails when it cannot be made, or when something else is in its place.
    pub fn make(&self) -> io::Result<()> {
        make_private(&self.path)?;
        make_private(&self.working_directory())
    }

    /// Removes the directory with all that is in it. It can be made again.
    pub fn clear(&self) {
        remove(&self.path);
    }

    /// Path of the directory itself, in which the child's files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the empty directory that the child works in.
    #[must_use]
    pub fn working_directory(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Makes a directory beside the working directory, for the owner alone. Nothing changes where it exists already.
    ///
    /// # Errors
    /// Fails when it cannot be made, or when something else is in its place.
    pub fn make_beside(&self, name: &str) -> io::Result<()> {
        make_private(&self.path.join(name))
    }

    /// Writes a new file beside the working directory, for the owner alone (mode 0600).
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        // One that a child has left could be a link to another place.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(content.as_bytes())?;
        Ok(path)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Makes a directory for the owner alone, or finds that it is there.
fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if !is_private(path) => {
            let message = format!("{} is no private directory of ours", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a private directory. A path that does not look like one of ours is left alone.
pub(super) fn remove(path: &Path) {
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
        directory.make_beside("sessions").unwrap();
        let path = directory.path().to_owned();
        for path in [
            &path,
            &directory.working_directory(),
            &path.join("sessions"),
        ] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        let file = directory.write("etc/system.md", "text").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut inside = std::fs::read_dir(directory.working_directory()).unwrap();
        assert!(inside.next().is_none());
        directory.clear();
        assert!(!path.exists());
        directory.make().unwrap();
        directory.make().unwrap();
        assert!(directory.working_directory().is_dir());
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_else_is_ever_removed_or_written() {
        let directory = PrivateDirectory::new().unwrap();
        directory.make().unwrap();
        let other = directory.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, PermissionsExt::from_mode(0o700)).unwrap();
        let kept = other.join("kept");
        std::fs::write(&kept, "").unwrap();
        remove(&other);
        assert!(kept.exists());
        let link = directory.path().join("mcp-local-provider-child-link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        remove(&link);
        assert!(kept.exists());
        let link = directory.path().join("system.md");
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        directory.write("system.md", "text").unwrap();
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "");
    }
}
