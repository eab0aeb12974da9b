//! Files that only their owner may read, replaced as a whole or not at all.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory and those above it, for the owner alone (mode 0700). One that is there stays as it is.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a directory for the owner alone (mode 0700), which must not be there yet.
pub(crate) fn make_new_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Keeps every other process that asks the same from the directory until the value is dropped.
pub(crate) fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = File::open(path)?;
    flock(&directory, FlockOperation::LockExclusive)?;
    Ok(directory)
}

/// Whether anybody but the owner may read or write a file that is there.
pub(crate) fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Replaces a file by `content` with mode 0600. After a crash at any moment the old or the new content is there.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path names no file",
        ));
    };
    let mut new_name = name.to_owned();
    new_name.push(format!(".new-{}", std::process::id()));
    let new = directory.join(new_name);
    let written = write_new(&new, content).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // What is left over is of no use; that it cannot be removed changes nothing about the error.
        let _ = std::fs::remove_file(&new);
        return written;
    }
    // The rename itself must reach the disk too.
    File::open(directory)?.sync_all()
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
