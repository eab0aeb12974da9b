#![allow(clippy::unwrap_used)]
//! What happens to records when the disk does not want them.

use super::*;
use crate::test_directory::Directory;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const PATIENCE: Duration = Duration::from_secs(60);

fn audit(file: PathBuf, max_bytes: usize, keep: u32) -> Audit {
    Audit {
        file: Some(file),
        max_bytes,
        keep,
    }
}

/// Writes the records and waits for the thread.
fn write(config: &Audit, records: impl Iterator<Item = String>) -> AuditStatus {
    let (sink, writer) = AuditWriter::start(config).unwrap();
    records.for_each(|record| sink.record(record.into_bytes()));
    writer.finish(PATIENCE);
    sink.status()
}

#[test]
fn records_are_lines_in_order_in_a_private_file_that_grows_over_starts() {
    let directory = Directory::new();
    let path = directory.0.join("logs/audit.jsonl");
    let config = audit(path.clone(), 1 << 20, 5);
    for start in 0..2 {
        let status = write(
            &config,
            (0..1000).map(|number| format!("{{\"n\":{}}}", start * 1000 + number)),
        );
        assert_eq!(
            status,
            AuditStatus {
                written: 1000,
                lost: 0,
                ..AuditStatus::default()
            }
        );
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let expected: String = (0..2000)
        .map(|number| format!("{{\"n\":{number}}}\n"))
        .collect();
    assert_eq!(text, expected);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn files_are_put_aside_by_size_and_the_oldest_is_dropped() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    // Ten bytes a line, five lines a file.
    let status = write(
        &audit(path.clone(), 50, 2),
        (0..23).map(|number| format!("{number:09}")),
    );
    assert_eq!(status.written, 23);
    let lines = |name: &str| {
        let text = std::fs::read_to_string(directory.0.join(name)).unwrap();
        text.lines()
            .map(|line| line.parse::<u32>().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("audit.jsonl"), [20, 21, 22]);
    assert_eq!(lines("audit.jsonl.1"), [15, 16, 17, 18, 19]);
    assert_eq!(lines("audit.jsonl.2"), [10, 11, 12, 13, 14]);
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 3);

    let alone = directory.0.join("alone");
    write(
        &audit(alone.join("a"), 50, 0),
        (0..7).map(|number| format!("{number:09}")),
    );
    assert_eq!(
        std::fs::read_to_string(alone.join("a")).unwrap(),
        "000000005\n000000006\n"
    );
    assert_eq!(std::fs::read_dir(&alone).unwrap().count(), 1);
}

#[test]
fn a_full_disk_costs_records_and_nothing_else() {
    let status = write(
        &audit(PathBuf::from("/dev/full"), 1 << 20, 5),
        (0..100).map(|number| number.to_string()),
    );
    assert_eq!((status.written, status.lost), (0, 100));
    assert_eq!(
        status.error.unwrap(),
        "/dev/full cannot be written: No space left on device (os error 28)"
    );
}

#[test]
fn writing_goes_on_when_the_disk_comes_back() {
    let directory = Directory::new();
    let blocked = directory.file("logs", "a file where the directory should be");
    let (sink, writer) =
        AuditWriter::start(&audit(blocked.join("audit.jsonl"), 1 << 20, 5)).unwrap();
    assert!(sink.status().error.is_some());
    sink.record(b"lost".to_vec());
    while sink.status().lost == 0 {
        thread::yield_now();
    }
    std::fs::remove_file(&blocked).unwrap();
    sink.record(b"kept".to_vec());
    while sink.status().written == 0 {
        thread::yield_now();
    }
    assert_eq!(
        sink.status(),
        AuditStatus {
            written: 1,
            lost: 1,
            ..AuditStatus::default()
        }
    );
    writer.finish(PATIENCE);
    assert_eq!(
        std::fs::read_to_string(blocked.join("audit.jsonl")).unwrap(),
        "kept\n"
    );
}

/// Records one more and waits until it has reached a file.
fn record(sink: &AuditSink, line: &str) {
    let before = sink.status().written;
    sink.record(line.as_bytes().to_vec());
    while sink.status().written == before {
        thread::yield_now();
    }
}

#[test]
fn a_file_that_was_moved_is_begun_anew_and_one_that_was_deleted_has_lost_its_records() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    let (sink, writer) = AuditWriter::start(&audit(path.clone(), 1 << 20, 5)).unwrap();
    record(&sink, "moved");
    let aside = directory.0.join("yesterday");
    std::fs::rename(&path, &aside).unwrap();
    record(&sink, "deleted");
    record(&sink, "deleted too");
    assert_eq!(sink.status().lost, 0);
    std::fs::remove_file(&path).unwrap();
    record(&sink, "kept");
    assert_eq!(
        sink.status(),
        AuditStatus {
            written: 4,
            lost: 2,
            ..AuditStatus::default()
        }
    );
    // The directory may go too.
    std::fs::remove_file(&path).unwrap();
    let elsewhere = directory.0.with_extension("gone");
    std::fs::rename(&directory.0, &elsewhere).unwrap();
    record(&sink, "kept again");
    std::fs::remove_dir_all(elsewhere).unwrap();
    assert_eq!(sink.status().lost, 3);
    writer.finish(PATIENCE);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "kept again\n");
}

#[test]
fn half_a_record_that_a_crash_has_left_spoils_no_other() {
    let directory = Directory::new();
    let path = directory.file("audit.jsonl", "whole\nha");
    write(
        &audit(path.clone(), 1 << 20, 5),
        ["next".to_owned()].into_iter(),
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "whole\nha\nnext\n");
}

#[test]
fn a_file_that_cannot_be_written_costs_records_and_nothing_else() {
    let status = write(
        &audit(PathBuf::from("/proc/version"), 1 << 20, 5),
        (0..100).map(|number| number.to_string()),
    );
    assert_eq!((status.written, status.lost), (0, 100));
    assert!(
        status
            .error
            .unwrap()
            .starts_with("/proc/version cannot be written")
    );
}

#[test]
fn a_queue_that_is_full_loses_records_and_never_waits() {
    let (queue, records) = sync_channel(2);
    let sink = AuditSink {
        queue: Some(queue),
        shared: Arc::default(),
    };
    (0..5).for_each(|_| sink.record(vec![b'x'; 10]));
    assert_eq!(sink.status().lost, 3);
    assert_eq!(sink.shared.queued_bytes.load(Ordering::Relaxed), 20);
    records.try_recv().unwrap();
    sink.record(vec![b'x'; QUEUE_BYTES]);
    assert_eq!(sink.status().lost, 4);
    drop(records);
    sink.record(b"x".to_vec());
    assert_eq!(sink.status().lost, 5);
    assert_eq!(AuditSink::off().status(), AuditStatus::default());
}
