//! The log's file (`log.file`).

use crate::private_file;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is appended to, and opened anew when its path names another file or none: whoever puts old logs aside
/// need not tell the program. Its mode is 0600.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode of the open file.
    identity: (u64, u64),
}

impl LogFile {
    /// Opens the file, and makes it and its folder where they are missing.
    ///
    /// # Errors
    /// Fails when it cannot be written, or is a FIFO, a device or a directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        if let Some(directory) = path.parent() {
            private_file::make_directory(directory)?;
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        let opened = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            identity: (opened.dev(), opened.ino()),
        })
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let named = std::fs::metadata(&self.path);
        if !named.is_ok_and(|named| (named.dev(), named.ino()) == self.identity)
            && let Ok(new) = Self::open(&self.path)
        {
            *self = new;
        }
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_after_a_file_was_put_aside_are_in_a_new_one() {
        let folder = std::env::temp_dir().join(format!("log-file-{}", std::process::id()));
        let path = folder.join("deep/log.jsonl");
        let mut file = LogFile::open(&path).unwrap();
        file.write_all(b"old\n").unwrap();
        std::fs::rename(&path, folder.join("deep/log.jsonl.1")).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new\n");
        assert!(!private_file::is_exposed(&path));
        assert!(LogFile::open(&folder).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
