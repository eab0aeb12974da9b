//! Files that only their owner may read, replaced as a whole or not at all.

use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory and its missing ancestors, for the owner alone (mode 0700). An existing one keeps its mode.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory for the owner alone (mode 0700), which must not exist yet.
pub(crate) fn make_new_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Locks the directory (`flock(2)`) against other callers of this function until the file is dropped.
pub(crate) fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = File::open(path)?;
    flock(&directory, FlockOperation::LockExclusive)?;
    Ok(directory)
}

/// Returns true when the file exists and anybody but its owner may read or write it.
pub(crate) fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Replaces a file by `content`, with mode 0600. After a crash at any moment it has the old or the new content.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with_mode(path, content, 0o600)
}

/// Replaces a file by `content` as [`replace`] does, with another mode.
pub(crate) fn replace_with_mode(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut new_name = name.to_owned();
    new_name.push(format!(".new-{}", std::process::id()));
    let new = directory.join(new_name);
    let mode = std::fs::Permissions::from_mode(mode);
    let written = write_new(&new, content)
        .and_then(|()| std::fs::set_permissions(&new, mode))
        .and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // The write's error is the one to report, whether or not the leftover can be removed.
        let _ = std::fs::remove_file(&new);
        return written;
    }
    // The directory is synced so that the rename survives a crash.
    File::open(directory)?.sync_all()
}

/// A file that is appended to, while others may move or delete it.
#[derive(Debug)]
pub(crate) struct AppendedFile {
    pub(crate) file: File,
    /// Its size when it was opened, in bytes.
    pub(crate) bytes: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl AppendedFile {
    /// Opens the file. Makes it (mode 0600) and its folder where they are missing.
    ///
    /// # Errors
    /// Fails when it cannot be written, or is no regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let directory = path.parent();
        if let Some(directory) = directory.filter(|directory| !directory.as_os_str().is_empty()) {
            make_directory(directory)?;
        }
        // To open a FIFO for writing would wait for a reader.
        let at_once = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(at_once)
            .open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            file,
            bytes: found.len(),
            identity: (found.dev(), found.ino()),
        })
    }

    /// True while `path` names it. Later lines would not be found in a file without a name.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let named = std::fs::metadata(path);
        named.is_ok_and(|named| (named.dev(), named.ino()) == self.identity)
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
