#![allow(clippy::unwrap_used)]
//! Records that cannot be written, and files that are rotated, moved or deleted.

use super::*;
use crate::test_directory::Directory;
use mcp_local_provider_core::api::status::AuditFigures;
use mcp_local_provider_core::hub::audit::{AuditEvent, AuditRecord, RequestInfo, RequestKind};
use mcp_local_provider_core::id::Ids;
use mcp_local_provider_core::time::{Instant, WallClock};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const PATIENCE: Duration = Duration::from_secs(60);

fn audit(file: PathBuf, max_bytes: usize, keep: u32) -> Audit {
    Audit {
        file: Some(file),
        max_bytes,
        keep,
        authentication: Authentication::Failed,
    }
}

/// Returns the record of a link with that number.
fn record(link: u64) -> AuditRecord {
    AuditRecord {
        at: Instant::ZERO,
        event: AuditEvent::Link {
            link,
            what: "up",
            key: None,
            dialled: false,
            bridge: None,
        },
    }
}

/// Returns its line.
fn line(link: u64) -> String {
    let mut line = Vec::new();
    record(link).write(&WallClock::new(Instant::ZERO, Duration::ZERO), &mut line);
    line.push(b'\n');
    String::from_utf8(line).unwrap()
}

fn lines(links: impl IntoIterator<Item = u64>) -> String {
    links.into_iter().map(line).collect()
}

/// Writes the records and waits for the thread.
fn write(config: &Audit, links: impl Iterator<Item = u64>) -> AuditFigures {
    let feed = Feed::new();
    let writer = AuditWriter::start(config, &feed).unwrap();
    links.for_each(|link| feed.push(vec![record(link)]));
    let file = writer.file().unwrap();
    writer.finish(PATIENCE);
    file.figures()
}

#[test]
fn records_are_lines_in_order_in_a_private_file_that_grows_over_starts() {
    let directory = Directory::new();
    let path = directory.0.join("logs/audit.jsonl");
    let config = audit(path.clone(), 1 << 20, 5);
    for start in 0..2 {
        let status = write(&config, (0..1000).map(|number| start * 1000 + number));
        assert_eq!(
            status,
            AuditFigures {
                written: 1000,
                lost: 0,
                ..AuditFigures::default()
            }
        );
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, lines(0..2000));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn files_are_put_aside_by_size_and_the_oldest_is_dropped() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    // Every line is as long as this one, so a file holds five.
    let five = 5 * line(10).len();
    let status = write(&audit(path.clone(), five, 2), 10..33);
    assert_eq!(status.written, 23);
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(text(&path), lines(30..33));
    assert_eq!(text(&directory.0.join("audit.jsonl.1")), lines(25..30));
    assert_eq!(text(&directory.0.join("audit.jsonl.2")), lines(20..25));
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 3);

    let alone = directory.0.join("alone");
    write(&audit(alone.join("a"), five, 0), 10..17);
    assert_eq!(text(&alone.join("a")), lines(15..17));
    assert_eq!(std::fs::read_dir(&alone).unwrap().count(), 1);
}

#[test]
fn what_keeps_no_records_is_refused() {
    let directory = Directory::new();
    let socket = directory.0.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [(Path::new("/dev/full"), "device"), (&socket, "socket")] {
        let refused = AuditWriter::start(&audit(path.to_owned(), 1 << 20, 5), &Feed::new());
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(kind) && why.contains("audit.file"), "{why}");
    }
}

#[test]
fn writing_goes_on_when_the_disk_comes_back() {
    let directory = Directory::new();
    let blocked = directory.file("logs", "a file where the directory should be");
    let feed = Feed::new();
    let config = audit(blocked.join("audit.jsonl"), 1 << 20, 5);
    let writer = AuditWriter::start(&config, &feed).unwrap();
    let file = writer.file().unwrap();
    assert!(file.figures().error.is_some());
    feed.push(vec![record(1)]);
    while file.figures().lost == 0 {
        thread::yield_now();
    }
    std::fs::remove_file(&blocked).unwrap();
    feed.push(vec![record(2)]);
    while file.figures().written == 0 {
        thread::yield_now();
    }
    assert_eq!(
        file.figures(),
        AuditFigures {
            written: 1,
            lost: 1,
            ..AuditFigures::default()
        }
    );
    writer.finish(PATIENCE);
    assert_eq!(
        std::fs::read_to_string(blocked.join("audit.jsonl")).unwrap(),
        line(2)
    );
}

/// Records one line and waits until it is written.
fn reach(feed: &Arc<Feed>, file: &AuditFile, link: u64) {
    let before = file.figures().written;
    feed.push(vec![record(link)]);
    while file.figures().written == before {
        thread::yield_now();
    }
}

#[test]
fn a_file_that_was_moved_is_begun_anew_and_one_that_was_deleted_has_lost_its_records() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    let feed = Feed::new();
    let writer = AuditWriter::start(&audit(path.clone(), 1 << 20, 5), &feed).unwrap();
    let file = writer.file().unwrap();
    reach(&feed, &file, 1);
    let aside = directory.0.join("yesterday");
    std::fs::rename(&path, &aside).unwrap();
    reach(&feed, &file, 2);
    reach(&feed, &file, 3);
    assert_eq!(file.figures().lost, 0);
    std::fs::remove_file(&path).unwrap();
    reach(&feed, &file, 4);
    assert_eq!(
        file.figures(),
        AuditFigures {
            written: 4,
            lost: 2,
            ..AuditFigures::default()
        }
    );
    // The directory may be removed too.
    std::fs::remove_file(&path).unwrap();
    let elsewhere = directory.0.with_extension("gone");
    std::fs::rename(&directory.0, &elsewhere).unwrap();
    reach(&feed, &file, 5);
    std::fs::remove_dir_all(elsewhere).unwrap();
    assert_eq!(file.figures().lost, 3);
    writer.finish(PATIENCE);
    assert_eq!(std::fs::read_to_string(path).unwrap(), line(5));
}

#[test]
fn half_a_record_that_a_crash_has_left_spoils_no_other() {
    let directory = Directory::new();
    let path = directory.file("audit.jsonl", "whole\nha");
    write(&audit(path.clone(), 1 << 20, 5), 1..2);
    let expected = format!("whole\nha\n{}", line(1));
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
}

#[test]
fn a_file_that_cannot_be_written_costs_records_and_nothing_else() {
    let status = write(&audit(PathBuf::from("/proc/version"), 1 << 20, 5), 0..100);
    assert_eq!((status.written, status.lost), (0, 100));
    assert!(
        status
            .error
            .unwrap()
            .starts_with("/proc/version cannot be written")
    );
}

#[test]
fn all_that_was_pushed_before_the_end_is_written() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    let status = write(&audit(path.clone(), 2 << 20, 5), 0..10_000);
    assert_eq!((status.written + status.lost, status.lost), (10_000, 0));
    assert_eq!((status.queued_records, status.queued_bytes), (0, 0));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines(0..10_000));
}

#[test]
fn without_a_file_nothing_is_wanted() {
    let feed = Feed::new();
    let none = Audit {
        file: None,
        ..Audit::default()
    };
    let writer = AuditWriter::start(&none, &feed).unwrap();
    assert!(writer.file().is_none());
    writer.finish(PATIENCE);
}

#[test]
fn a_flood_of_strangers_is_counted_to_the_last() {
    let directory = Directory::new();
    let path = directory.0.join("audit.jsonl");
    let feed = Feed::new();
    let writer = AuditWriter::start(&audit(path.clone(), 1 << 20, 5), &feed).unwrap();
    let ids = Ids::new(1);
    let stranger = || AuditRecord {
        at: Instant::ZERO,
        event: AuditEvent::Request {
            info: Box::new(RequestInfo::new(
                ids.next(),
                Instant::ZERO,
                [127, 0, 0, 1].into(),
                "/v1/models",
            )),
            kind: RequestKind::AuthenticationFailed,
            session: None,
            agent_id: None,
            status: 401,
            outcome: "missing_api_key",
            duration: Duration::ZERO,
            bytes_out: 200,
            usage: None,
        },
    };
    // More than has ever been seen in the time for which the writer gathers.
    let crowd = 10_000;
    let records: Vec<_> = (0..crowd).map(|_| stranger()).collect();
    records
        .into_iter()
        .for_each(|record| feed.push(vec![record]));
    let file = writer.file().unwrap();
    writer.finish(PATIENCE);
    assert_eq!(file.figures().lost, 0);
    let text = std::fs::read_to_string(path.with_file_name("audit-strangers.jsonl")).unwrap();
    let counts = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.get("count")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(1)
    });
    assert_eq!(counts.sum::<u64>(), crowd);
    assert!(text.lines().count() < 10, "{text}");
    assert!(!path.exists() || std::fs::read(&path).unwrap().is_empty());
}
