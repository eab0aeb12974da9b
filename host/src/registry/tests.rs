//! The registry's file: kept, sealed, killed at any moment, full, damaged, exported and imported.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod fences;
mod kills;
mod power;

use super::*;
use crate::config::{Environment, RegistrySecret, load_text};
use crate::test_directory::Directory;
use mcp_local_provider_registry::{
    Done, Key, Kind, Limits, Record, Secret, Store, StoreError, Value,
};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// The passphrase of `env:NAME`, as a configuration has it.
fn passphrase(name: &str, text: &str) -> RegistrySecret {
    let environment = Environment::new([(name.to_owned(), text.to_owned())]);
    let config = format!("data_dir: /d\nregistry: {{ secret: 'env:{name}' }}");
    let loaded = load_text("c.yaml", &config, &environment).unwrap();
    loaded.config.registry.secret
}

fn key(kind: Kind, name: &str) -> Key {
    Key {
        kind,
        name: name.into(),
    }
}

fn entry(kind: Kind, name: &str, json: &str, secrets: &[(&str, &str)]) -> Record {
    let secrets = secrets.iter();
    let secrets = secrets.map(|(field, text)| ((*field).into(), Secret::new(*text)));
    Record {
        key: key(kind, name),
        value: Some(Value {
            json: json.into(),
            secrets: secrets.collect(),
        }),
    }
}

fn commit(store: &Arc<RegistryFile>, records: Vec<Record>) -> Result<(), StoreError> {
    let (tell, told) = channel();
    let done: Done = Box::new(move |done| tell.send(done).unwrap());
    store.commit(records, done);
    told.recv().unwrap()
}

const TOOL: &str = r#"{"name":"now","kind":"command","command":["/bin/date"]}"#;
const INTEGRATION: &str =
    r#"{"integration_id":"i","name":"i","model":{"provider":"openai","model_name":"m"}}"#;
const SECRET: &str = "sk-a-secret-0123456789";

/// A data directory with a tool and an integration that has a secret.
fn filled(secret: &RegistrySecret) -> (Directory, Vec<Record>) {
    let directory = Directory::new();
    let records = vec![
        entry(Kind::Tool, "now", TOOL, &[]),
        entry(
            Kind::Integration,
            "i",
            INTEGRATION,
            &[("/model/api_key", SECRET), ("/x", "y")],
        ),
    ];
    let (store, there) = open(&directory.0, secret).unwrap();
    assert_eq!(there, []);
    commit(&store, records.clone()).unwrap();
    assert!(store.bytes() > 0);
    (directory, records)
}

fn said<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_was_stored_is_there_after_a_start_and_only_its_owner_may_read_it() {
    let (directory, mut records) = filled(&RegistrySecret::File);
    for name in [REGISTRY_FILE, SECRET_FILE] {
        let mode = std::fs::metadata(directory.0.join(name)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let (store, there) = open(&directory.0, &RegistrySecret::File).unwrap();
    assert_eq!(there, records);
    records[0].value = None;
    records[1] = entry(Kind::Integration, "i", "{}", &[("/x", "z")]);
    commit(&store, records.clone()).unwrap();
    store.close();
    let refused = commit(&store, records.clone()).unwrap_err();
    assert_eq!(
        refused.message,
        "the registry is closed, as the program ends"
    );
    let (_store, there) = open(&directory.0, &RegistrySecret::File).unwrap();
    assert_eq!(there, records[1..]);
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 2);
}

#[test]
fn changes_that_wait_are_stored_in_their_order() {
    let directory = Directory::new();
    let (store, _) = open(&directory.0, &RegistrySecret::File).unwrap();
    let (tell, told) = channel();
    for number in 0..1000 {
        let tell = tell.clone();
        let record = entry(
            Kind::Tool,
            &format!("t{}", number % 10),
            &format!("{{\"n\":{number}}}"),
            &[],
        );
        store.commit(
            vec![record],
            Box::new(move |done| tell.send((number, done)).unwrap()),
        );
    }
    drop(tell);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(
        told,
        (0..1000).map(|number| (number, Ok(()))).collect::<Vec<_>>()
    );
    drop(store);
    let (_, there) = open(&directory.0, &RegistrySecret::File).unwrap();
    let expected = (0..10).map(|number| {
        entry(
            Kind::Tool,
            &format!("t{number}"),
            &format!("{{\"n\":{}}}", 990 + number),
            &[],
        )
    });
    assert_eq!(there, expected.collect::<Vec<_>>());
}

#[test]
fn secrets_are_in_no_file_no_log_form_and_no_export_without_them() {
    let (directory, records) = filled(&RegistrySecret::File);
    let file = std::fs::read(path(&directory.0)).unwrap();
    let holds = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds(&file, INTEGRATION) && !holds(&file, SECRET));
    let (store, there) = open(&directory.0, &RegistrySecret::File).unwrap();
    assert!(!format!("{store:?} {there:?}").contains(SECRET));
    drop(store);
    let text = export(&directory.0, &RegistrySecret::File, false).unwrap();
    assert!(text.contains("\"/model/api_key\":null") && !text.contains(SECRET));
    let whole = export(&directory.0, &RegistrySecret::File, true).unwrap();
    assert!(whole.contains(SECRET));

    // An export with secrets makes the same registry elsewhere, under another key.
    let other = Directory::new();
    let secret = passphrase("P", "correct horse battery staple");
    assert!(!format!("{secret:?}").contains("horse"));
    let imported = import(&other.0, &secret, Limits::default(), &whole, false).unwrap();
    assert_eq!((imported.added, imported.replaced), (2, 0));
    let (_, there) = open(&other.0, &secret).unwrap();
    assert_eq!(there, records);
    assert!(!other.0.join(SECRET_FILE).exists());
}

#[test]
fn an_import_is_whole_or_nothing() {
    let (directory, records) = filled(&RegistrySecret::File);
    let secret = &RegistrySecret::File;
    let import =
        |text: &str, replace| import(&directory.0, secret, Limits::default(), text, replace);
    let text = export(&directory.0, secret, false)
        .unwrap()
        .replace("\"now\"", "\"later\"");
    let text = text.replace("\"openai\"", "\"anthropic\"");
    assert_eq!(
        said(import(&text, false)),
        "nothing was imported: line 3: the integration \"i\" exists already; `replace` replaces what exists"
    );
    let wrong = text.replace("\"model_name\"", "\"modelname\"");
    let refused = said(import(&wrong, true));
    assert!(
        refused.starts_with("nothing was imported: line 3.model"),
        "{refused}"
    );
    assert_eq!(
        said(import("{}", true)),
        "nothing was imported: this is no export of a registry: its first line is not `{\"format\":\"mcp-local-provider-registry\",…}`"
    );
    assert_eq!(open(&directory.0, secret).unwrap().1, records);
    let imported = import(&text, true).unwrap();
    assert_eq!((imported.added, imported.replaced), (1, 1));
    // Secrets that were not exported are as they were.
    let there = open(&directory.0, secret).unwrap().1;
    let mut changed = records[1].clone();
    changed.value.as_mut().unwrap().json = INTEGRATION.replace("openai", "anthropic").into();
    assert_eq!(there.len(), 3);
    assert_eq!(there[2], changed);
}

#[test]
fn a_second_program_is_refused() {
    let (directory, _) = filled(&RegistrySecret::File);
    let (_store, _) = open(&directory.0, &RegistrySecret::File).unwrap();
    let expected = format!(
        "{} is open in a program that runs; stop that (`stop`) and try again",
        path(&directory.0).display()
    );
    let none = |_: &str| None;
    let file = &RegistrySecret::File;
    assert_eq!(said(open(&directory.0, file)), expected);
    assert_eq!(said(inspect(&directory.0, file)), expected);
    assert_eq!(said(export(&directory.0, file, false)), expected);
    assert_eq!(said(rekey(&directory.0, file, file, &none)), expected);
}

#[test]
fn a_key_that_is_missing_or_wrong_ends_the_start() {
    let (directory, records) = filled(&RegistrySecret::File);
    let secret_file = directory.0.join(SECRET_FILE);
    let right = std::fs::read_to_string(&secret_file).unwrap();
    std::fs::remove_file(&secret_file).unwrap();
    let missing = said(open(&directory.0, &RegistrySecret::File));
    assert!(
        missing.starts_with(&format!(
            "{} holds no key, and 2 secrets in ",
            secret_file.display()
        )),
        "{missing}"
    );
    assert!(!secret_file.exists(), "none is made in its place");
    for wrong in ["", "nonsense", &right[..40]] {
        std::fs::write(&secret_file, wrong).unwrap();
        assert_eq!(said(open(&directory.0, &RegistrySecret::File)), missing);
    }
    std::fs::write(&secret_file, "00".repeat(32)).unwrap();
    let wrong = said(open(&directory.0, &RegistrySecret::File));
    assert!(
        wrong.contains("is another than the one that the secrets in "),
        "{wrong}"
    );
    let other = said(open(&directory.0, &passphrase("P", "some words")));
    assert!(
        other.contains(
            "sealed with the key of `file`, and the configuration has `registry.secret: env:P`"
        ),
        "{other}"
    );
    assert!(other.contains("`registry rekey --to env:P`"), "{other}");
    std::fs::write(&secret_file, right).unwrap();
    assert_eq!(
        open(&directory.0, &RegistrySecret::File).unwrap().1,
        records
    );

    let (directory, records) = filled(&passphrase("P", "some words"));
    let wrong = said(open(&directory.0, &passphrase("P", "some wards")));
    assert!(
        wrong.starts_with("the key of `registry.secret: env:P` is another"),
        "{wrong}"
    );
    assert!(!wrong.contains("wards"));
    assert!(said(open(&directory.0, &RegistrySecret::File)).contains("with the key of `env:P`"));
    assert!(!directory.0.join(SECRET_FILE).exists());
    // The name of the variable is no part of the key.
    assert_eq!(
        open(&directory.0, &passphrase("Q", "some words"))
            .unwrap()
            .1,
        records
    );
}

#[test]
fn while_nothing_is_sealed_any_key_will_do() {
    let directory = Directory::new();
    drop(open(&directory.0, &RegistrySecret::File).unwrap());
    std::fs::remove_file(directory.0.join(SECRET_FILE)).unwrap();
    let (store, _) = open(&directory.0, &RegistrySecret::File).unwrap();
    let tool = entry(Kind::Tool, "now", "{}", &[]);
    commit(&store, vec![tool.clone()]).unwrap();
    drop(store);
    assert_eq!(
        open(&directory.0, &passphrase("P", "some words"))
            .unwrap()
            .1,
        [tool]
    );
    std::fs::write(directory.0.join(SECRET_FILE), "mine").unwrap();
    let refused = said(open(&directory.0, &RegistrySecret::File));
    assert!(
        refused.ends_with(
            "it holds no key of 64 hexadecimal digits; remove it, and a new one is made"
        ),
        "{refused}"
    );
    assert_eq!(
        std::fs::read_to_string(directory.0.join(SECRET_FILE)).unwrap(),
        "mine"
    );
}

#[test]
fn all_is_sealed_anew_with_another_key() {
    let (directory, records) = filled(&RegistrySecret::File);
    let none = |_: &str| None;
    let file = &RegistrySecret::File;
    let secret_file = directory.0.join(SECRET_FILE);
    let first = std::fs::read_to_string(&secret_file).unwrap();
    assert_eq!(rekey(&directory.0, file, file, &none).unwrap(), 2);
    let second = std::fs::read_to_string(&secret_file).unwrap();
    assert_ne!(first, second);
    assert_eq!(open(&directory.0, file).unwrap().1, records);
    std::fs::write(&secret_file, first).unwrap();
    assert!(said(open(&directory.0, file)).contains("is another"));
    assert!(said(rekey(&directory.0, file, file, &none)).contains("is another"));
    std::fs::write(&secret_file, second).unwrap();

    let phrase = passphrase("P", "some words");
    assert_eq!(rekey(&directory.0, file, &phrase, &none).unwrap(), 2);
    assert!(!secret_file.exists());
    assert_eq!(open(&directory.0, &phrase).unwrap().1, records);
    // To another variable; the old passphrase is in the environment.
    let variable = |name: &str| (name == "P").then(|| "some words".to_owned());
    let other = "env:Q".parse().unwrap();
    assert_eq!(
        said(rekey(&directory.0, file, &other, &variable)),
        "the variable `Q` has no passphrase; set it"
    );
    let other = passphrase("Q", "other words");
    assert_eq!(
        said(rekey(&directory.0, file, &other, &none)),
        "the variable `P` has no passphrase; set it"
    );
    assert_eq!(rekey(&directory.0, file, &other, &variable).unwrap(), 2);
    assert_eq!(open(&directory.0, &other).unwrap().1, records);
    assert_eq!(rekey(&directory.0, &other, file, &none).unwrap(), 2);
    assert_eq!(open(&directory.0, file).unwrap().1, records);
    assert_eq!(
        std::fs::read_dir(&directory.0).unwrap().count(),
        2,
        "nothing is left over"
    );
}

#[test]
fn a_damaged_file_is_named_and_never_a_panic() {
    let (directory, records) = filled(&RegistrySecret::File);
    let path = path(&directory.0);
    let whole = std::fs::read(&path).unwrap();
    let fails = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match open(&directory.0, &RegistrySecret::File) {
            Ok((store, there)) => {
                drop(store);
                assert_eq!(there, records);
                None
            }
            Err(error) => Some(error.to_string()),
        }
    };
    for damaged in [
        &b""[..],
        b"not a registry",
        &whole[..5],
        &whole[..4096],
        &whole[..whole.len() / 2],
        &vec![0; whole.len()],
    ] {
        let error = fails(damaged).expect("it is damaged");
        assert!(
            error.contains(" is damaged and cannot be repaired (")
                && error.contains("`registry import` an export"),
            "{error}"
        );
    }
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut refused = 0;
    for round in 0..150 {
        let mut damaged = whole.clone();
        // Where nothing is stored nothing is lost: the first pages have headers and tables.
        let end = if round % 2 == 0 { 512 } else { whole.len() };
        for _ in 0..=random(3) {
            let at = random(end);
            damaged[at] ^= 1 << random(8);
        }
        refused += usize::from(fails(&damaged).is_some());
    }
    assert!(refused > 0, "no damage was found");
    assert_eq!(fails(&whole), None);
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let (directory, _) = filled(&RegistrySecret::File);
    super::tables::set_schema(&directory.0, 2);
    let error = said(open(&directory.0, &RegistrySecret::File));
    assert!(
        error.contains("was written by a newer version of this program"),
        "{error}"
    );
}

#[test]
fn a_look_at_the_file_changes_and_makes_nothing() {
    let directory = Directory::new();
    let file = &RegistrySecret::File;
    assert_eq!(inspect(&directory.0, file).unwrap(), None);
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 0);
    let (directory, _) = filled(file);
    let found = inspect(&directory.0, file).unwrap().unwrap();
    assert_eq!((found.entries, found.secrets), (2, 2));
    assert!(found.bytes > 0);
    std::fs::remove_file(directory.0.join(SECRET_FILE)).unwrap();
    assert!(said(inspect(&directory.0, file)).contains("holds no key"));
    assert_eq!(
        export(&Directory::new().0, file, false)
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_registry_is_wanted_where_something_is_stored_or_listed_or_somebody_may_change_it() {
    let directory = Directory::new();
    let wanted = |text: &str, has_admin| {
        let text = format!(
            "data_dir: {}\nregistry: {{ {text} }}",
            directory.0.display()
        );
        let loaded = load_text("c.yaml", &text, &Environment::new([])).unwrap();
        is_wanted(&loaded.config, has_admin)
    };
    assert!(!wanted("", false) && wanted("", true));
    assert!(wanted("enabled: true", false) && !wanted("enabled: false", true));
    assert!(
        wanted("commands: [/bin/date]", false)
            && wanted("http: [a.example]", false)
            && wanted("files: [/srv]", false)
    );
    drop(open(&directory.0, &RegistrySecret::File).unwrap());
    assert!(wanted("", false) && !wanted("enabled: no", false));
}
