//! The key file: making, listing and removing keys, and the keys of a start.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::config::Config;
use crate::mode::Mode;
use crate::test_directory::Directory;
use std::os::unix::fs::PermissionsExt;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        ..Config::default()
    }
}

#[test]
fn a_key_file_keeps_digests_only_and_reads_back() {
    let directory = Directory::new();
    let file = KeyFile::new(directory.0.join("data"));
    assert_eq!(file.read().unwrap(), []);
    let editor = file.add("editor", Role::Client).unwrap();
    let other = file.add("other", Role::Admin).unwrap();
    assert!(
        editor.text.starts_with("mlp-") && editor.text.len() == 44,
        "{}",
        editor.text
    );
    assert_ne!(editor.text, other.text);
    let records = file.read().unwrap();
    assert_eq!(
        (records[0].name.as_str(), records[0].role),
        ("editor", Role::Client)
    );
    assert_eq!(
        records[0].sha256,
        <[u8; 32]>::from(Sha256::digest(editor.text.as_bytes()))
    );
    assert_eq!(records[1].role, Role::Admin);
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(!text.contains(&editor.text) && !format!("{editor:?}").contains(&editor.text));
    assert_eq!((mode(&file.path()), mode(&file.directory)), (0o600, 0o700));
    // The replacement leaves no temporary file.
    assert_eq!(std::fs::read_dir(&file.directory).unwrap().count(), 1);

    assert_eq!(
        file.add("editor", Role::Client).unwrap_err().to_string(),
        "a key named `editor` is there already; remove it first or choose another name"
    );
    assert!(matches!(
        file.add("a b", Role::Client),
        Err(KeyError::Name(_))
    ));
    file.remove("editor").unwrap();
    assert!(matches!(file.remove("editor"), Err(KeyError::Unknown(_))));
    assert_eq!(file.read().unwrap().len(), 1);

    let for_files = |allow: Option<Vec<Area>>| Rights {
        allow,
        servers: vec!["files".to_owned()],
        ..Rights::default()
    };
    let refused = file.add("ide", for_files(None)).unwrap_err().to_string();
    assert!(refused.contains("`--allow mcp`"), "{refused}");
    file.add("ide", for_files(Some(vec![Area::Mcp]))).unwrap();
    let records = file.read().unwrap();
    assert_eq!(core::Key::from(&records[1]).servers, ["files"]);
}

#[test]
fn a_first_start_makes_keys_once_and_a_demo_writes_nothing() {
    let directory = Directory::new();
    let config = config(&directory.0.join("data"));
    let demo = start_keys(&config, Mode::Demo).unwrap();
    assert_eq!((demo.keys.len(), demo.fresh.len()), (3, 3));
    assert!(!config.data_dir.exists());

    let names = |keys: &[core::Key]| keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    let mut own = config.clone();
    own.auth.keys = vec![crate::config::Key {
        name: "bridge".into(),
        key: crate::config::Secret::literal("a bridge's key"),
        role: crate::config::Role::Bridge,
        requests_per_minute: None,
        tokens_per_minute: None,
        allow: None,
        models: Vec::new(),
        servers: Vec::new(),
    }];
    let demo = start_keys(&own, Mode::Demo).unwrap();
    assert_eq!(demo.fresh.len(), 3, "its agent needs its own bridge key");
    let known = ["bridge", "client", "bridge-2", "operator"];
    assert_eq!(names(&demo.keys), known);
    assert_eq!(names(&demo.again(&own, Mode::Demo).unwrap()), known);

    let first = start_keys(&config, Mode::Configured).unwrap();
    let made: Vec<_> = first.fresh.iter().map(|key| key.role).collect();
    assert_eq!(made, [Role::Client, Role::Bridge, Role::Operator]);
    let file = KeyFile::new(&config.data_dir);
    assert_eq!(
        file.operator_token().unwrap().as_deref(),
        first.fresh_text(Role::Operator)
    );
    assert_eq!(
        file.client_key().unwrap().as_deref(),
        first.fresh_text(Role::Client)
    );
    let client_key_file = Some(file.client_key_path());
    assert_eq!(first.client_key_file, client_key_file);
    for path in file.private_files() {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let own = |role: core::Role| first.keys.iter().find(|key| key.role == role).unwrap();
    let client = own(core::Role::Client);
    assert_eq!(
        (client.requests_per_minute, client.tokens_per_minute),
        (Some(600), Some(10_000_000))
    );
    assert_eq!(
        client.allow,
        areas(Some(&[Area::Models, Area::Mcp, Area::Registry]))
    );
    let bridge = own(core::Role::Bridge);
    assert_eq!(
        (bridge.requests_per_minute, bridge.allow.clone()),
        (None, areas(None))
    );

    let second = start_keys(&config, Mode::Configured).unwrap();
    assert_eq!((&second.keys, second.fresh.len()), (&first.keys, 0));
    assert_eq!(second.client_key_file, client_key_file);

    let open = Config {
        data_dir: directory.0.join("none"),
        ..config.clone()
    };
    let open = Config {
        auth: crate::config::Auth {
            required: false,
            ..open.auth.clone()
        },
        ..open
    };
    assert_eq!(start_keys(&open, Mode::Configured).unwrap().keys, []);
    assert!(!open.data_dir.exists());
}

#[test]
fn the_client_key_is_kept_as_long_as_it_is_a_key_and_wanted() {
    let directory = Directory::new();
    let mut config = config(&directory.0);
    let file = KeyFile::new(&config.data_dir);
    start_keys(&config, Mode::Configured).unwrap();
    file.add("other", Role::Client).unwrap();
    file.remove("other").unwrap();
    assert!(file.client_key().unwrap().is_some());
    // A file that holds no key of now is not offered.
    let kept = std::fs::read(file.client_key_path()).unwrap();
    std::fs::write(file.client_key_path(), "mlp-another\n").unwrap();
    assert_eq!(
        start_keys(&config, Mode::Configured)
            .unwrap()
            .client_key_file,
        None
    );
    std::fs::write(file.client_key_path(), kept).unwrap();
    file.remove("client").unwrap();
    assert!(!file.client_key_path().exists());
    assert_eq!(
        start_keys(&config, Mode::Configured)
            .unwrap()
            .client_key_file,
        None
    );

    config.data_dir = directory.0.join("none-kept");
    config.auth.keep_client_key = false;
    let first = start_keys(&config, Mode::Configured).unwrap();
    assert!(first.fresh_text(Role::Client).is_some());
    assert_eq!(first.client_key_file, None);
    assert!(!KeyFile::new(&config.data_dir).client_key_path().exists());
}

#[test]
fn a_damaged_key_file_stops_the_start_with_a_remedy() {
    let directory = Directory::new();
    let path = directory.0.join(KEY_FILE);
    for (text, why) in [
        (
            "[{\"name\":",
            "EOF while parsing a value at line 1 column 9",
        ),
        (
            "[{\"name\":\"a\",\"role\":\"client\",\"sha256\":\"12\",\"created_at\":\"\"}]",
            "`sha256` is not 64 hexadecimal digits at line 1 column 42",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(
            start_keys(&config(&directory.0), Mode::Configured)
                .unwrap_err()
                .to_string(),
            format!(
                "{} is damaged ({why}); restore it, or remove it to have new keys made",
                path.display()
            )
        );
    }
}

#[test]
fn programs_that_add_keys_at_once_lose_none() {
    let directory = Directory::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let file = KeyFile::new(&directory.0);
            scope.spawn(move || {
                for number in 0..5 {
                    file.add(&format!("key-{thread}-{number}"), Role::Client)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(KeyFile::new(&directory.0).read().unwrap().len(), 20);
}
