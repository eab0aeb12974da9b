//! The file of a login: `DATA_DIR/authorization/SERVER.json`, for its owner alone.

use crate::private_file::{lock_directory, make_directory, replace};
use mcp_local_provider_mcp::authorization::Credentials;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Folder in the data directory.
const FOLDER: &str = "authorization";

/// The place where the login at one server is kept.
#[derive(Debug, Clone)]
pub(crate) struct KeptLogin {
    folder: PathBuf,
    path: PathBuf,
}

impl KeptLogin {
    /// The place for the server of this name.
    pub(crate) fn new(data_dir: &Path, server: &str) -> Self {
        let folder = data_dir.join(FOLDER);
        let path = folder.join(format!("{server}.json"));
        Self { folder, path }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. `None` where there is no login.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub(crate) fn read(&self) -> io::Result<Option<Credentials>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = || io::Error::new(ErrorKind::InvalidData, "it is not what a login wrote");
        Credentials::read(&text).map(Some).ok_or_else(wrong)
    }

    /// Keeps a login in the place of the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, credentials: &Credentials) -> io::Result<()> {
        make_directory(&self.folder)?;
        let _lock = lock_directory(&self.folder)?;
        self.replace(credentials)
    }

    /// Keeps tokens that were made of those of `before`, unless others have come meanwhile, or the login is gone. Returns what is kept.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn write_behind(
        &self,
        before: &Credentials,
        credentials: &Credentials,
    ) -> io::Result<Option<Credentials>> {
        let _lock = lock_directory(&self.folder)?;
        let kept = self.read()?;
        if kept.as_ref() != Some(before) {
            return Ok(kept);
        }
        self.replace(credentials)?;
        Ok(Some(credentials.clone()))
    }

    fn replace(&self, credentials: &Credentials) -> io::Result<()> {
        let mut text = credentials.to_json();
        text.push('\n');
        replace(&self.path, text.as_bytes())
    }

    /// Removes the login. False when there was none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
