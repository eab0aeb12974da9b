//! The program under test, started as a person starts it.

use crate::PROGRAM;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// This program has its first address for clients only, and a second one for agents.
const IS_TINY_HTTP: bool = matches!(PROGRAM.as_bytes(), [.., b't', b'i', b'n', b'y', b'-', b'h', b't', b't', b'p']);

/// Builds the program, once, and says where it is.
pub fn program() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut what = vec!["--bin", PROGRAM];
        if IS_TINY_HTTP {
            what.extend(["--features", "mcp-local-provider-blocking/tiny-http"]);
        }
        build(&what).join(PROGRAM)
    })
}

/// Builds parts of this workspace, and gives the folder in which they are. They are built as `cargo test --workspace` builds them,
/// with the features that any test adds, so that what it has built is not built again.
pub fn build(what: &[&str]) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    // target/PROFILE/deps/it-HASH
    let profile_dir = here.parent().unwrap().parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    // What the outer run says of the package of the tests; build scripts that look at it would run anew each time.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&*name);
        }
    }
    build
        .args(["build", "--quiet", "--workspace", "--test", "words"])
        .args(what)
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    build.arg("--target-dir").arg(profile_dir.parent().unwrap());
    if profile_dir.ends_with("release") {
        build.arg("--release");
    }
    assert!(
        build.status().unwrap().success(),
        "{what:?} does not build"
    );
    profile_dir.to_path_buf()
}

/// A folder that goes when the test ends.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("provider-it-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const CLIENT: &str = "client-key-for-tests";
pub const BRIDGE: &str = "bridge-key-for-tests";
pub const OPERATOR: &str = "operator-key-for-tests";

/// A running program. It is killed when the test ends.
pub struct Program {
    pub child: Child,
    /// Address for clients.
    pub address: SocketAddr,
    /// Address that agents dial.
    pub agents: SocketAddr,
    /// The address that it named last.
    pub last: SocketAddr,
    pub folder: Folder,
    pub config: PathBuf,
    stdout: BufReader<ChildStdout>,
    /// Text that it printed before it was ready.
    pub banner: String,
}

impl Program {
    /// Starts it with three keys and whatever YAML the test adds.
    pub fn start(extra: &str) -> Self {
        Self::start_with(extra, &[])
    }

    pub fn start_with(extra: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let config = write_config(&folder.0, "127.0.0.1:0", extra);
        let mut command = Command::new(program());
        command.arg("--config").arg(&config).args(arguments);
        Self::spawn(command, folder, config)
    }

    pub fn spawn(command: Command, folder: Folder, config: PathBuf) -> Self {
        let working_directory = folder.0.clone();
        Self::spawn_in(&working_directory, command, folder, config)
    }

    /// As [`Program::spawn`], with a working directory that is not the home directory.
    pub fn spawn_in(
        working_directory: &Path,
        mut command: Command,
        folder: Folder,
        config: PathBuf,
    ) -> Self {
        let log = std::fs::File::create(folder.0.join("stderr.log")).unwrap();
        let mut child = command
            .current_dir(working_directory)
            .env("HOME", &folder.0)
            .env_remove("LOCAL_PROVIDER_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        let (address, agents, last) = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let log = std::fs::read_to_string(folder.0.join("stderr.log")).unwrap_or_default();
                panic!("the program ended before it was ready: {banner}{log}");
            }
            if let Some(addresses) = line.strip_prefix("ready http://") {
                let addresses: Vec<SocketAddr> = addresses
                    .split_whitespace()
                    .map(|address| address.trim_start_matches("http://").parse().unwrap())
                    .collect();
                let first = addresses[0];
                let second = addresses.get(1).filter(|_| IS_TINY_HTTP);
                break (
                    first,
                    second.copied().unwrap_or(first),
                    addresses.last().copied().unwrap(),
                );
            }
            banner.push_str(&line);
        };
        Self {
            child,
            address,
            agents,
            last,
            folder,
            config,
            stdout,
            banner,
        }
    }

    /// The rest of what it prints, once it has ended.
    pub fn wait(&mut self) -> (std::process::ExitStatus, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("stderr.log")).unwrap_or_default()
    }

    /// Waits until the log says so.
    pub fn wait_for_log(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "no `{text}` in\n{}", self.log());
            std::thread::yield_now();
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Runs the program's own command line against the running one.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(program())
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .current_dir(&self.folder.0)
            .env("HOME", &self.folder.0)
            .output()
            .unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        Self::connect_to(self.address)
    }

    pub fn connect_to(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends a request with the client key and reads the whole answer.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, Some(CLIENT), &body.to_string())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, Some(CLIENT), "")
    }

    pub fn request(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut stream = self.open(method, path, key, body);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }

    /// Sends a request that asks for the connection to be closed after the answer.
    /// Waits until so many requests stand in the queue.
    pub fn wait_for_queue(&self, length: usize) {
        let waiting = || {
            let health = self.request("GET", "/health/deep", Some(OPERATOR), "");
            health.json()["requests"]["waiting"].clone()
        };
        while waiting() != length {
            std::thread::yield_now();
        }
    }

    pub fn open(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> TcpStream {
        let authorization = key.map_or(String::new(), |key| {
            format!("Authorization: Bearer {key}\r\n")
        });
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    pub fn raw(&self, request: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log of {PROGRAM} ---\n{}", self.log());
        }
    }
}

pub fn write_config(folder: &Path, listen: &str, extra: &str) -> PathBuf {
    let path = folder.join("config.yaml");
    let limits = if extra.contains("limits:") {
        ""
    } else {
        "limits: { requests_per_minute: 100000, burst: 100000, tokens_per_minute: 100000000 }\n"
    };
    let audit = if extra.contains("audit:") {
        ""
    } else {
        "audit: { file: ../audit.jsonl }\n"
    };
    let second = if IS_TINY_HTTP {
        ", \"127.0.0.1:0\""
    } else {
        ""
    };
    let text = format!(
        "listen: {{ http: [\"{listen}\"{second}] }}\n\
         auth:\n  keys:\n    - {{ name: editor, key: \"{CLIENT}\", role: client }}\n    - {{ name: bridge, key: \"{BRIDGE}\", role: bridge }}\n    - {{ name: me, key: \"{OPERATOR}\", role: operator }}\n\
         {audit}data_dir: ./data\n{limits}{extra}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// An HTTP answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let split = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..split]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_string())
            })
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: String::new(),
        };
        let rest = &bytes[split + 4..];
        let body = if answer.header("transfer-encoding") == Some("chunked") {
            dechunk(rest)
        } else {
            rest.to_vec()
        };
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name)?;
        Some(&found.1)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream, `[DONE]` left out.
    pub fn events(&self) -> Vec<Value> {
        self.body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| {
                serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
            })
            .collect()
    }

    /// The text of an OpenAI stream.
    pub fn text(&self) -> String {
        self.events()
            .iter()
            .filter_map(|event| {
                event["choices"][0]["delta"]["content"]
                    .as_str()
                    .map(String::from)
            })
            .collect()
    }
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .unwrap_or_else(|| {
                panic!(
                    "the chunked body is cut after {:?}",
                    String::from_utf8_lossy(&body)
                )
            });
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
