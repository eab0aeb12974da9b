//! Files that are read and that are not, and commands that are not run.

use super::*;
use mcp_local_provider_core::budget::Budget;
use mcp_local_provider_engine::registry::{CommandCall, Commands, Files, NotRead, NotRun};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const MOST: usize = 4096;

/// A folder that may be read, with files of it, beside one that may not, and the data directory in the first.
struct Place {
    directory: Directory,
    files: Arc<HostFiles>,
}

impl Place {
    fn new() -> Self {
        let directory = Directory::new();
        directory.file("open/a.txt", "content");
        directory.file("open/below/b.txt", "below");
        directory.file("open/data/keys.json", "secret");
        directory.file("closed/c.txt", "secret");
        directory.file("open-not/d.txt", "secret");
        let roots = [directory.0.join("open")];
        let files = HostFiles::new(&roots, &directory.0.join("open/data"), None);
        Self { directory, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.0.join(name)
    }
}

fn read(files: &HostFiles, path: &Path) -> Result<String, NotRead> {
    let (tell, told) = channel();
    let done = Box::new(move |read| tell.send(read).unwrap());
    files.read(path.to_owned(), MOST, done);
    Ok(String::from_utf8(told.recv().unwrap()?.bytes).unwrap())
}

#[test]
fn nothing_outside_of_the_folders_is_read() {
    let place = Place::new();
    let open = place.path("open");
    symlink(place.path("closed/c.txt"), open.join("to-file")).unwrap();
    symlink(place.path("closed"), open.join("to-folder")).unwrap();
    symlink("../closed/c.txt", open.join("to-relative")).unwrap();
    symlink("to-file", open.join("to-link")).unwrap();
    symlink("/proc/self/root/etc/passwd", open.join("to-proc")).unwrap();
    symlink("/proc/self/environ", open.join("to-environ")).unwrap();
    symlink("/dev/zero", open.join("to-device")).unwrap();
    symlink("data/keys.json", open.join("to-data")).unwrap();
    symlink("loop", open.join("loop")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, open.join("fifo"), 0o600.into()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(open.join("socket")).unwrap();
    // Inside: as they are, by links that lead to the inside, and a name that looks like more.
    place
        .directory
        .file("open/..%2fclosed%2fc.txt", "a strange name");
    symlink("below/b.txt", open.join("inside")).unwrap();
    symlink(open.join("below"), open.join("inside-folder")).unwrap();
    for (name, content) in [
        ("open/a.txt", "content"),
        ("open/./below//b.txt", "below"),
        ("open/inside", "below"),
        ("open/inside-folder/b.txt", "below"),
        ("open/..%2fclosed%2fc.txt", "a strange name"),
    ] {
        assert_eq!(
            read(&place.files, &place.path(name)).as_deref(),
            Ok(content),
            "{name}"
        );
        assert_eq!(place.files.permits(&place.path(name)), Ok(()), "{name}");
    }
    for name in [
        "open/../closed/c.txt",
        "open/below/../../closed/c.txt",
        "closed/c.txt",
        "open-not/d.txt",
        "open/to-file",
        "open/to-folder/c.txt",
        "open/to-relative",
        "open/to-link",
        "open/to-proc",
        "open/to-environ",
        "open/to-device",
        "open/to-data",
        "open/data/keys.json",
        "open/below/../data/keys.json",
        "open/loop",
        "open/fifo",
        "open/socket",
        "open",
        "open/below",
        "open/%2e%2e/closed/c.txt",
        "open/..%2f..%2fclosed%2fc.txt",
        "open/\u{ff0e}\u{ff0e}/closed/c.txt",
        "open/..\\closed\\c.txt",
        "open/a.txt/",
        "open/a.txt/..",
        "open/a.txt\0",
        "open/\0/../closed/c.txt",
        "open/none",
    ] {
        let refused = read(&place.files, &place.path(name));
        assert!(refused.is_err(), "{name:?} is read: {refused:?}");
    }
    for path in [
        "/etc/passwd",
        "etc/passwd",
        "",
        "/",
        "/proc/self/environ",
        "/proc/self/fd/0",
        "/dev/stdin",
        "file:///etc/passwd",
        "//etc/passwd",
        "/../etc/passwd",
    ] {
        assert!(read(&place.files, Path::new(path)).is_err(), "{path}");
        assert!(place.files.permits(Path::new(path)).is_err(), "{path}");
    }
}

#[test]
fn a_file_of_the_kernel_is_not_read_whatever_is_listed() {
    let directory = Directory::new();
    let files = HostFiles::new(&["/".into()], &directory.0, None);
    directory.file("keys.json", "secret");
    for path in [
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/self/root/proc/self/environ",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/dev/zero",
    ] {
        let refused = read(&files, Path::new(path));
        assert!(refused.is_err(), "{path} is read: {refused:?}");
    }
    assert!(read(&files, &directory.0.join("keys.json")).is_err());
    assert!(
        read(&files, Path::new("/etc/passwd")).is_ok_and(|text| text.contains("root"))
            || MOST < 5000
    );
}

#[test]
fn why_a_file_is_not_read_is_told() {
    let place = Place::new();
    let said = |path: &Path| read(&place.files, path).unwrap_err().to_string();
    let shown = |name: &str| place.path(name).display().to_string();
    assert_eq!(
        said(&place.path("open/none")),
        format!("`{}` is not there", shown("open/none"))
    );
    assert_eq!(
        said(&place.path("closed/none")),
        format!(
            "`{}` cannot be read: `registry.files` of the configuration lists no folder that it is in; add the folder there to read it",
            shown("closed/none")
        )
    );
    assert_eq!(
        said(&place.path("open/data/keys.json")),
        format!(
            "`{}` cannot be read: the program's own files are in `data_dir`",
            shown("open/data/keys.json")
        )
    );
    place.directory.file("open/large", &"x".repeat(MOST + 1));
    place.directory.file("open/full", &"x".repeat(MOST));
    assert_eq!(
        said(&place.path("open/large")),
        format!(
            "`{}` has more than 4096 bytes, which is the most that a resource may have",
            shown("open/large")
        )
    );
    assert_eq!(
        read(&place.files, &place.path("open/full")).map(|text| text.len()),
        Ok(MOST)
    );
    let poor = HostFiles::new(
        &[place.path("open")],
        Path::new("/none"),
        Some(Budget::new(100)),
    );
    place.directory.file("open/some", &"x".repeat(MOST));
    let (tell, told) = channel();
    place.directory.file("open/more", &"x".repeat(MOST * 4));
    poor.read(
        place.path("open/more"),
        MOST * 8,
        Box::new(move |read| tell.send(read).unwrap()),
    );
    assert!(matches!(told.recv().unwrap(), Err(NotRead::Memory(_))));
    place.files.take_over(&[]);
    assert!(read(&place.files, &place.path("open/a.txt")).is_err());
}

/// A file and a folder take turns with links to the outside while they are read.
#[test]
fn a_link_that_takes_the_place_of_a_file_while_it_is_opened_leads_nowhere() {
    let place = Place::new();
    place.directory.file("open/turns/c.txt", "content");
    let turns = place.path("open/turns");
    symlink(place.path("closed"), place.path("link")).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let (other, end) = (place.path("link"), ended.clone());
    let swapping = std::thread::spawn(move || {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        while !end.load(Ordering::Relaxed) {
            renameat_with(CWD, &turns, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let path = place.path("open/turns/c.txt");
    let (mut inside, mut refused) = (0, 0);
    while inside < 500 || refused < 500 {
        match read(&place.files, &path) {
            Ok(text) => {
                assert_eq!(text, "content");
                inside += 1;
            }
            Err(_) => refused += 1,
        }
    }
    ended.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
}

#[test]
fn many_reads_at_once_are_answered_each_once() {
    let place = Place::new();
    let (tell, told) = channel();
    for _ in 0..3000 {
        let tell = tell.clone();
        place.files.read(
            place.path("open/a.txt"),
            MOST,
            Box::new(move |read| tell.send(read.map(drop)).unwrap()),
        );
    }
    drop(tell);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told.len(), 3000);
    assert!(
        told.iter()
            .all(|read| matches!(read, Ok(()) | Err(NotRead::TooMany)))
    );
    assert!(told.iter().filter(|read| read.is_ok()).count() >= 1024);
}

fn call(program: &str, arguments: &[&str]) -> CommandCall {
    CommandCall {
        name: "test".to_owned(),
        program: program.to_owned(),
        arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        environment: Vec::new(),
        input: Vec::new(),
        output_bytes: 1 << 20,
    }
}

#[test]
fn a_command_that_is_not_listed_or_cannot_be_passed_on_is_not_run() {
    let commands = HostCommands::supervised(
        &["/bin/echo".into(), "/no/such".into(), "/etc/passwd".into()],
        None,
        None,
    );
    let said = |call: CommandCall| {
        let (tell, told) = channel();
        let _handle = commands.run(
            call,
            Box::new(move |ended| tell.send(ended.map(drop)).unwrap()),
        );
        told.recv().unwrap()
    };
    for program in [
        "/bin/sh",
        "echo",
        "./echo",
        "/bin/../bin/echo",
        "/bin//echo",
        "/bin/echo/",
        "",
        "/bin/echo\0",
    ] {
        assert!(
            matches!(said(call(program, &[])), Err(NotRun::Refused(_))),
            "{program:?}"
        );
        assert!(commands.permits(program).is_err(), "{program:?}");
    }
    assert_eq!(
        said(call("/bin/sh", &[])).unwrap_err().to_string(),
        "`registry.commands` of the configuration does not list `/bin/sh`; add the program there by its absolute path to run it"
    );
    assert_eq!(
        said(call("/bin/echo", &["a", "b\0c"]))
            .unwrap_err()
            .to_string(),
        "argument 2 of `/bin/echo` has a zero byte in it, which no argument of a command may have"
    );
    for (name, value) in [("", "a"), ("A=B", "a"), ("A", "a\0"), ("A\0", "a")] {
        let mut call = call("/bin/echo", &[]);
        call.environment = vec![(name.to_owned(), value.to_owned())];
        assert!(matches!(said(call), Err(NotRun::Refused(_))), "{name:?}");
    }
    assert_eq!(
        said(call("/etc/passwd", &[])).unwrap_err().to_string(),
        "`/etc/passwd` is no program"
    );
    assert!(
        said(call("/no/such", &[]))
            .unwrap_err()
            .to_string()
            .starts_with("`/no/such` cannot be started: ")
    );
    let long = "x".repeat(3 << 20);
    assert!(
        said(call("/bin/echo", &[&long]))
            .unwrap_err()
            .to_string()
            .contains("cannot be started")
    );
    commands.take_over(&[]);
    assert!(commands.permits("/bin/echo").is_err());
}
