//! `audit tail`: the latest records of the audit files, and those that follow.

use super::strangers_path;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks at the file.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes read from the file's end to find its latest records, for each record.
const RECORD: u64 = 4096;

/// Writes the last `count` records of the audit file `file` and of the strangers' file beside it, in the order of their
/// times, as JSON lines or as text. With `follow` it goes on with new records, across rotations, until `out` is closed.
///
/// # Errors
/// Fails when a file cannot be read, or `out` is closed; without `follow` also when there is neither file.
pub fn tail(
    file: &Path,
    count: usize,
    follow: bool,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut files = [
        Followed::new(file.into()),
        Followed::new(strangers_path(file)),
    ];
    let mut latest = Vec::new();
    let mut any = follow;
    for file in &mut files {
        if file.open()? {
            any = true;
            latest.extend(file.last_lines(count)?);
        }
    }
    if !any {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Stable: records of one time stay in the order of their file.
    latest.sort_by_cached_key(|line| timestamp(line));
    for line in latest.iter().skip(latest.len().saturating_sub(count)) {
        write_record(line, json, out)?;
    }
    out.flush()?;
    if follow {
        follow_on(&mut files, json, out)?;
    }
    Ok(())
}

/// Writes new records without end.
fn follow_on(files: &mut [Followed], json: bool, out: &mut dyn Write) -> io::Result<()> {
    loop {
        let mut is_quiet = true;
        for file in &mut *files {
            file.write_new(json, out)?;
            is_quiet &= !file.open()?;
        }
        if is_quiet {
            std::thread::sleep(PAUSE);
        }
    }
}

fn timestamp(line: &str) -> String {
    let record = serde_json::from_str::<Map<String, Value>>(line).unwrap_or_default();
    let timestamp = record.get("timestamp").and_then(Value::as_str);
    timestamp.unwrap_or_default().to_owned()
}

/// One file of records, by its name, and what is open of it.
struct Followed {
    path: PathBuf,
    reader: Option<BufReader<File>>,
}

impl Followed {
    const fn new(path: PathBuf) -> Self {
        Self { path, reader: None }
    }

    /// Opens the file that has the name now. False when that is the open one already, or there is none yet.
    fn open(&mut self) -> io::Result<bool> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let named = file.metadata()?;
        if let Some(open) = &self.reader {
            let open = open.get_ref().metadata()?;
            if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
                return Ok(false);
            }
        }
        self.reader = Some(BufReader::new(file));
        Ok(true)
    }

    fn last_lines(&mut self, count: usize) -> io::Result<Vec<String>> {
        match &mut self.reader {
            Some(reader) => last_lines(reader, count),
            None => Ok(Vec::new()),
        }
    }

    fn write_new(&mut self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if let Some(reader) = &mut self.reader {
            while let Some(line) = whole_line(reader)? {
                write_record(&line, json, out)?;
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// Returns the last lines of a file, and leaves `reader` at its end.
fn last_lines(reader: &mut BufReader<File>, count: usize) -> io::Result<Vec<String>> {
    let length = reader.get_ref().metadata()?.len();
    let from = length.saturating_sub(RECORD.saturating_mul(count.saturating_add(1) as u64));
    reader.seek(SeekFrom::Start(from))?;
    if from > 0 {
        // Skips the rest of a line whose beginning was not read.
        reader.by_ref().read_until(b'\n', &mut Vec::new())?;
    }
    let mut lines = std::collections::VecDeque::new();
    while let Some(line) = whole_line(reader)? {
        if lines.len() == count {
            lines.pop_front();
        }
        if count > 0 {
            lines.push_back(line);
        }
    }
    Ok(lines.into())
}

/// Returns the next complete line. A line without its end yet is read again later.
fn whole_line(reader: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        let back = i64::try_from(read).unwrap_or(i64::MAX);
        reader.seek_relative(-back)?;
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn write_record(line: &str, json: bool, out: &mut dyn Write) -> io::Result<()> {
    match serde_json::from_str::<Map<String, Value>>(line) {
        Ok(record) if !json => writeln!(out, "{}", in_words(record)),
        _ => writeln!(out, "{line}"),
    }
}

/// Formats a record as text: time and event first, then every other field as `name=value`.
fn in_words(mut record: Map<String, Value>) -> String {
    let mut text = String::new();
    let word = |value: &Value| match value.as_str() {
        Some(text) => crate::printable::printable(text),
        None => value.to_string(),
    };
    for first in ["timestamp", "event"] {
        if let Some(value) = record.remove(first) {
            text.push_str(&format!("{:<28}", word(&value)));
        }
    }
    for (name, value) in &record {
        text.push_str(&format!("{name}={} ", word(value)));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_directory::Directory;
    use std::sync::mpsc::{Sender, channel};

    fn record(number: u32) -> String {
        format!(
            "{{\"timestamp\":\"2026-01-01T00:00:00Z\",\"event\":\"request\",\"status\":{number}}}\n"
        )
    }

    #[test]
    fn the_last_records_are_told_in_words_or_as_they_are() {
        let directory = Directory::new();
        let all: String = (0..1000).map(record).collect();
        let file = directory.file("audit.jsonl", &(all + "{\"half"));
        let mut out = Vec::new();
        tail(&file, 2, false, false, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-01-01T00:00:00Z        request                     status=998\n\
             2026-01-01T00:00:00Z        request                     status=999\n"
        );
        let mut out = Vec::new();
        tail(&file, 1, false, true, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), record(999));
        assert!(tail(&directory.0.join("none"), 1, false, true, &mut Vec::new()).is_err());
    }

    /// Sends each line to the test, and reports a closed pipe after three.
    struct Lines(Sender<String>, u32);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if bytes != b"\n" {
                self.1 -= 1;
                self.0
                    .send(String::from_utf8_lossy(bytes).into_owned())
                    .unwrap();
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn records_of_strangers_are_told_among_the_others() {
        let directory = Directory::new();
        let at = |second: u32| {
            format!("{{\"timestamp\":\"2026-01-01T00:00:0{second}Z\",\"event\":\"request\"}}\n")
        };
        let file = directory.file("audit.jsonl", &(at(1) + &at(2) + &at(4)));
        directory.file("audit-strangers.jsonl", &(at(0) + &at(3)));
        let mut out = Vec::new();
        tail(&file, 3, false, true, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), at(2) + &at(3) + &at(4));
    }

    #[test]
    fn a_file_is_followed_over_its_rotation() {
        let directory = Directory::new();
        let file = directory.file("audit.jsonl", &record(1));
        let (send, receive) = channel();
        let follower = {
            let file = file.clone();
            std::thread::spawn(move || tail(&file, 1, true, true, &mut Lines(send, 3)))
        };
        let seen = || receive.recv().unwrap();
        assert!(seen().contains(":1}"));
        std::fs::rename(&file, directory.0.join("audit.jsonl.1")).unwrap();
        directory.file("audit.jsonl", &(record(2) + &record(3) + &record(4)));
        assert!(seen().contains(":2}"));
        assert!(seen().contains(":3}"));
        let error = follower.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
