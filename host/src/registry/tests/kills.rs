//! The file of a process that is killed at any moment, and of one that the disk has no room for.
//!
//! The processes are this test program, told by a variable what to do.

use super::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Variable with the data directory of a process.
const DIRECTORY: &str = "MLP_TEST_REGISTRY";

/// The data directory, in a process that a test has started.
fn told() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY).map(Into::into)
}

/// Starts the test `name` as a process, with its lines as they come.
fn start(name: &str, directory: &Path) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            &format!("registry::tests::kills::{name}"),
            "--exact",
            "--nocapture",
        ])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, lines) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in output.lines() {
            let line = line.unwrap();
            // The harness writes too, and may not end its line.
            if let Some(at) = line.find('@') {
                let _ = tell.send(line[at + 1..].to_owned());
            }
        }
    });
    (child, lines)
}

fn say(text: &str) {
    // One write, so that a line is whole or not there.
    std::io::stdout()
        .write_all(format!("@{text}\n").as_bytes())
        .unwrap();
}

pub(super) fn random(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Kills a process a little later, so that it happens at any moment of what it does. To wait so would be too exact.
fn kill_after(child: &mut Child, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The records of change `number`: two new entries with a secret each, the end of earlier ones, and a count.
fn change(number: u64) -> Vec<Record> {
    let name = |side: &str, number: u64| format!("{side}{number}");
    let json = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(300));
    let secret = format!("secret {number}");
    let secrets = [("/a", secret.as_str()), ("/b", "b")];
    let mut records = vec![
        entry(Kind::Tool, &name("a", number), &json, &secrets),
        entry(Kind::Prompt, &name("b", number), &json, &secrets),
        entry(Kind::Tool, "count", &format!("{{\"n\":{number}}}"), &[]),
    ];
    if let Some(old) = number.checked_sub(40) {
        for (kind, side) in [(Kind::Tool, "a"), (Kind::Prompt, "b")] {
            records.push(Record {
                key: key(kind, &name(side, old)),
                value: None,
            });
        }
    }
    records
}

/// Number of the latest change that the count of `records` knows of.
fn latest(records: &[Record]) -> Option<u64> {
    let count = records.iter().find(|record| &*record.key.name == "count")?;
    let json: serde_json::Value = serde_json::from_str(&count.value.as_ref()?.json).unwrap();
    json["n"].as_u64()
}

#[test]
fn a_process_that_changes() {
    let Some(directory) = told() else {
        return;
    };
    let (store, there) = open(&directory, &RegistrySecret::File).unwrap();
    let first = latest(&there).map_or(0, |latest| latest + 1);
    let (tell, told) = channel();
    for number in first.. {
        // Several wait at once.
        for sent in [number * 3, number * 3 + 1, number * 3 + 2] {
            let sent = sent - first * 2;
            let tell = tell.clone();
            let done: Done = Box::new(move |done| tell.send((sent, done)).unwrap());
            store.commit(change(sent), done);
        }
        for _ in 0..3 {
            let (number, done) = told.recv().unwrap();
            done.unwrap();
            say(&number.to_string());
        }
    }
}

#[test]
fn two_hundred_kills_in_a_thousand_changes_lose_nothing_and_halve_nothing() {
    let directory = Directory::new();
    let mut state = 7;
    let (mut changes, mut late) = (0, 0);
    for kill in 0..200 {
        let (mut child, lines) = start("a_process_that_changes", &directory.0);
        let mut told = None;
        // Of some not even the start is waited for.
        if kill % 10 != 0 {
            for _ in 0..1 + random(&mut state, 9) {
                told = Some(lines.recv().expect("a change is acknowledged"));
            }
        }
        kill_after(&mut child, Duration::from_micros(random(&mut state, 4000)));
        told = lines.iter().last().or(told);
        let acknowledged = told.map(|number| number.parse::<u64>().unwrap());
        let (store, there) = open(&directory.0, &RegistrySecret::File).unwrap();
        drop(store);
        let Some(latest) = latest(&there) else {
            assert_eq!(acknowledged, None);
            continue;
        };
        assert!(
            acknowledged.is_none_or(|number| number <= latest),
            "{acknowledged:?} of {latest} is lost"
        );
        late += usize::from(acknowledged.is_some_and(|number| number < latest));
        // All that is there is what the latest change has left, and nothing of one behind it.
        let mut expected: Vec<Record> = (latest.saturating_sub(39)..=latest)
            .flat_map(|number| change(number).into_iter().take(2))
            .collect();
        expected.extend(change(latest).into_iter().skip(2).take(1));
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(there, expected);
        changes = latest;
    }
    assert!(changes >= 1000, "only {changes} changes were made");
    assert!(late > 0, "no kill came between a change and the word of it");
}

#[test]
fn a_process_that_seals_anew() {
    let Some(directory) = told() else {
        return;
    };
    let file = RegistrySecret::File;
    let phrase = passphrase("P", "some words");
    let variable = |_: &str| Some("some words".to_owned());
    say("begun");
    for round in 0_u32.. {
        let to = if round % 4 == 3 { &phrase } else { &file };
        rekey(&directory, &file, to, &variable).unwrap();
        say("sealed");
    }
}

#[test]
fn a_rekey_that_is_killed_at_any_moment_has_happened_or_not() {
    let (directory, records) = filled(&RegistrySecret::File);
    let phrase = passphrase("P", "some words");
    let mut state = 11;
    let mut sources = [0, 0];
    for _ in 0..100 {
        let (mut child, lines) = start("a_process_that_seals_anew", &directory.0);
        for _ in 0..1 + random(&mut state, 4) {
            lines.recv().unwrap();
        }
        kill_after(
            &mut child,
            Duration::from_micros(random(&mut state, 20_000)),
        );
        let there = match open(&directory.0, &RegistrySecret::File) {
            Ok((_, there)) => {
                sources[0] += 1;
                there
            }
            Err(RegistryError::OtherSource { .. }) => {
                sources[1] += 1;
                open(&directory.0, &phrase).unwrap().1
            }
            Err(other) => panic!("{other}"),
        };
        assert_eq!(there, records);
    }
    assert!(sources[0] > 0, "{sources:?}");
}

#[test]
fn a_process_that_is_born_and_killed() {
    if let Some(directory) = told() {
        say("begun");
        drop(open(&directory, &RegistrySecret::File).unwrap());
        say("open");
    }
}

#[test]
fn a_first_start_that_is_killed_leaves_nothing_that_stands_in_the_way() {
    let mut state = 13;
    for _ in 0..40 {
        let directory = Directory::new();
        let (mut child, lines) = start("a_process_that_is_born_and_killed", &directory.0);
        lines.recv().unwrap();
        kill_after(
            &mut child,
            Duration::from_micros(random(&mut state, 15_000)),
        );
        assert_eq!(open(&directory.0, &RegistrySecret::File).unwrap().1, []);
    }
}

/// The limit of a file's size stands for a full disk: a write beyond it fails.
#[test]
fn a_process_whose_disk_is_full() {
    let Some(directory) = told() else {
        return;
    };
    // Without it the signal of the limit would end the process.
    signal_hook::flag::register(25, Arc::default()).unwrap();
    let (store, _) = open(&directory, &RegistrySecret::File).unwrap();
    let small = |number: u32| entry(Kind::Tool, &format!("small{number}"), "{}", &[("/a", "b")]);
    commit(&store, vec![small(0)]).unwrap();
    let whole = getrlimit(Resource::Fsize);
    let full = Rlimit {
        current: Some(store.bytes()),
        maximum: whole.maximum,
    };
    setrlimit(Resource::Fsize, full).unwrap();
    let large = entry(
        Kind::Resource,
        "large",
        &format!("\"{}\"", "x".repeat(8 << 20)),
        &[],
    );
    let refused = commit(&store, vec![large.clone()]).unwrap_err();
    assert!(
        refused.message.starts_with("the change was not stored: "),
        "{refused}"
    );
    assert!(refused.message.contains("File too large"), "{refused}");
    // It is full again and again, and what fits is stored.
    for number in 1..4 {
        commit(&store, vec![small(number)]).unwrap();
        commit(&store, vec![large.clone()]).unwrap_err();
    }
    // One that waits with others does not take them with it.
    let (tell, told) = channel();
    for record in [small(5), large.clone(), small(6)] {
        let tell = tell.clone();
        store.commit(
            vec![record],
            Box::new(move |done| tell.send(done.is_ok()).unwrap()),
        );
    }
    let told: Vec<bool> = told.iter().take(3).collect();
    assert_eq!(told, [true, false, true]);
    setrlimit(Resource::Fsize, whole).unwrap();
    commit(&store, vec![large.clone()]).unwrap();
    drop(store);
    let (_, there) = open(&directory, &RegistrySecret::File).unwrap();
    let mut expected: Vec<Record> = [0, 1, 2, 3, 5, 6].into_iter().map(small).collect();
    expected.push(large);
    assert_eq!(there, expected);
    say("done");
}

#[test]
fn a_full_disk_refuses_a_change_by_name_and_the_next_one_may_be_stored() {
    let directory = Directory::new();
    let (mut child, lines) = start("a_process_whose_disk_is_full", &directory.0);
    assert_eq!(lines.recv().as_deref(), Ok("done"));
    assert!(child.wait().unwrap().success());
}
