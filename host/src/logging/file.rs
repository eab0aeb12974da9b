//! The log's file (`log.file`).

use crate::private_file::AppendedFile;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is appended to, and opened anew when its path names another file or none: whoever puts old logs aside
/// need not tell the program.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: AppendedFile,
}

impl LogFile {
    /// Opens the file, see [`AppendedFile::open`].
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            open: AppendedFile::open(path)?,
        })
    }
}

impl Write for LogFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if !self.open.is_at(&self.path)
            && let Ok(new) = AppendedFile::open(&self.path)
        {
            self.open = new;
        }
        self.open.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::private_file;

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
