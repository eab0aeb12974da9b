//! The audit file on disk: opening, appending, rotation.

use crate::private_file::AppendedFile;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Returns the reason why nothing at this path can be an audit file: a FIFO waits for a reader, and a device keeps
/// nothing. What is missing, or a directory now, may be mended while the program runs.
pub(super) fn unusable(path: &Path) -> Option<String> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    if kind.is_file() || kind.is_dir() {
        return None;
    }
    let kind = if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Some(format!(
        "the audit file {} is {kind}, which keeps no records; give `audit.file` the path of a regular file, or `off`",
        path.display()
    ))
}

/// A file that is appended to, and replaced by a new one when it would exceed its size or was moved or deleted.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<AppendedFile>,
    /// Bytes of whole records in the file.
    bytes: u64,
    /// Records that this process has written to the file.
    records: u64,
    /// Records that were in deleted files and are not yet counted as lost.
    deleted: u64,
}

impl RotatingFile {
    pub(super) fn new(path: &Path, max_bytes: u64, keep: u32) -> RotatingFile {
        RotatingFile {
            path: path.to_owned(),
            max_bytes,
            keep,
            file: None,
            bytes: 0,
            records: 0,
            deleted: 0,
        }
    }

    /// Returns the number of records that were lost since the last call because their file was deleted.
    pub(super) fn take_deleted(&mut self) -> u64 {
        std::mem::take(&mut self.deleted)
    }

    /// Closes the file when its path names another file or none, because nobody would find later records in it.
    fn let_go(&mut self) {
        let Some(open) = &self.file else { return };
        if open.is_at(&self.path) {
            return;
        }
        let path = self.path.display();
        if open.file.metadata().is_ok_and(|open| open.nlink() == 0) {
            tracing::error!(
                "the audit file {path} was deleted, and {} records of this run with it; a new one is begun",
                self.records
            );
            self.deleted += self.records;
        } else {
            tracing::info!("the audit file {path} was put aside; a new one is begun");
        }
        self.file = None;
    }

    pub(super) fn describe(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.path.display())
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes as u64 <= self.max_bytes
    }

    pub(super) fn open(&mut self) -> io::Result<()> {
        self.let_go();
        if self.file.is_some() {
            return Ok(());
        }
        let mut opened = AppendedFile::open(&self.path)?;
        self.bytes = opened.bytes;
        self.records = 0;
        if !ends_with_line(&self.path)? {
            // After a crash the file may end in half a record; the line end keeps it apart from the next record.
            opened.file.write_all(b"\n")?;
            self.bytes += 1;
        }
        self.file = Some(opened);
        Ok(())
    }

    /// Appends so many records, each a whole line. Returns the number of records that were written, which on an error may be fewer than in the
    /// batch.
    pub(super) fn append(&mut self, batch: &[u8], records: u64) -> (u64, io::Result<()>) {
        if let Err(error) = self.prepare(batch.len()) {
            return (0, Err(error));
        }
        let Some(AppendedFile { file, .. }) = &mut self.file else {
            return (0, Err(io::ErrorKind::NotFound.into()));
        };
        let (written, result) = write_most(file, batch);
        if result.is_ok() {
            self.bytes += batch.len() as u64;
            self.records += records;
            return (records, result);
        }
        let written = batch.get(..written).unwrap_or_default();
        let whole = written.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        let records = written.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += whole as u64;
        self.records += records;
        // Removes half a record, which would spoil the next line.
        let _ = file.set_len(self.bytes);
        // The next record opens the file again, because the path may lead to another disk by then.
        self.file = None;
        (records, result)
    }

    /// Opens the file and rotates it when it has no room for so many bytes.
    fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        self.open()?;
        if self.bytes > 0 && !self.has_room(bytes) {
            // A file that cannot be renamed still takes records: exceeding the size is better than losing them.
            if let Err(error) = self.rotate() {
                tracing::warn!(
                    "the audit file {} cannot be put aside: {error}",
                    self.path.display()
                );
            }
            self.open()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.keep == 0 {
            if let Some(open) = &self.file {
                open.file.set_len(0)?;
            }
            (self.bytes, self.records) = (0, 0);
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            match std::fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, older(1))?;
        self.file = None;
        Ok(())
    }
}

/// Writes as much as possible. Returns the number of bytes written, and the error that stopped the write.
fn write_most(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Returns true when the file is empty or its last byte is a line end.
fn ends_with_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
