//! The registry against its goals, in times of this machine: how fast changes are durable and answers are there, and what it
//! holds in memory.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Error;
use crate::answer::Answer;
use crate::process::Process;
use crate::report::{Report, Row, median, millis};
use crate::setup::Setup;

/// The key of who registers and asks; made up for the run.
const ADMIN_KEY: &str = "bench-admin-key-0123456789";

/// Entries that are registered, messages that are sent and runs that are open at once.
const COUNT: usize = 100;
/// Resources that are listed, and that the program starts with.
const RESOURCES: usize = 10_000;
/// Resources of one request, whose body has a limit.
const AT_ONCE: usize = 1000;
/// Cached reads.
const READS: usize = 1000;
/// Longest time of the runs at once, each of which takes a second.
const RUNS: f64 = 3.0;

const SETTINGS: &str =
    "limits: { requests_per_minute: 1000000000, tokens_per_minute: 4000000000, burst: 1000000000 }
registry: { enabled: true, commands: [/bin/sleep], files: [/etc] }
gateway: { rate: { requests: 1000000000 } }
";

/// A kept connection to the program.
struct Client {
    addr: SocketAddr,
    stream: TcpStream,
    session: String,
}

impl Client {
    fn connect(addr: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            addr,
            stream,
            session: String::new(),
        })
    }

    /// Asks and reads the whole answer, whose length is in its head.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, Error> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.addr,
            self.session,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        Answer::read(&mut self.stream)
    }

    /// Asks for what is answered with `status`.
    fn expect(
        &mut self,
        status: u16,
        (method, path): (&str, &str),
        body: &Value,
    ) -> Result<Answer, Error> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.ask(method, path, &body)?;
        if answer.status == status {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        Err(format!("{method} {path}: {} {said}", answer.status).into())
    }
}

fn tool(number: usize) -> Value {
    json!({ "name": format!("tool_{number}"), "kind": "command", "command": ["/bin/sleep", "{{ args.seconds }}"],
        "input_schema": { "type": "object", "properties": { "seconds": { "type": "string" } }, "required": ["seconds"] } })
}

/// The program with a key of role `admin`.
fn start(setup: &Setup) -> Result<Process, Error> {
    setup.start_program_with(&[
        ("MLP_AUTH__KEYS__3__NAME", "admin"),
        ("MLP_AUTH__KEYS__3__KEY", ADMIN_KEY),
        ("MLP_AUTH__KEYS__3__ROLE", "admin"),
    ])
}

/// Runs everything.
///
/// # Errors
/// Fails when the program fails or an answer is not what it should be: then there are no figures.
pub fn run(program: &Path, quick: bool) -> Result<Report, Error> {
    let setup = Setup::new(program, SETTINGS)?;
    let mut rows = Vec::new();
    {
        let process = start(&setup)?;
        let mut client = Client::connect(process.addr)?;
        rows.extend(changes(&mut client)?);
        rows.push(messages(&mut client)?);
        rows.push(reads(&mut client)?);
        resources(&mut client)?;
    }
    let process = start(&setup)?;
    rows.push(row(
        "start with 10,000 resources",
        "ms",
        millis(process.start),
        1000.0,
    ));
    let mut client = Client::connect(process.addr)?;
    rows.push(pages(&mut client)?);
    rows.extend(runs(&process)?);
    Ok(Report { quick, rows })
}

fn row(name: &'static str, unit: &'static str, figure: f64, bar: f64) -> Row {
    Row::value(name, unit, figure, Some(bar))
}

/// One that depends on the disk, or on a hundred processes.
fn loaded(name: &'static str, unit: &'static str, figure: f64, bar: f64) -> Row {
    Row {
        needs_quiet: true,
        ..row(name, unit, figure, bar)
    }
}

/// Tools in one array, and one by one.
fn changes(client: &mut Client) -> Result<[Row; 2], Error> {
    let many: Vec<Value> = (0..COUNT).map(tool).collect();
    let begun = Instant::now();
    client.expect(201, ("POST", "/tools"), &json!(many))?;
    let together = millis(begun.elapsed());
    let begun = Instant::now();
    for number in COUNT..2 * COUNT {
        client.expect(201, ("POST", "/tools"), &tool(number))?;
    }
    let singly = millis(begun.elapsed());
    Ok([
        loaded("100 tools in one array, durable", "ms", together, 100.0),
        loaded("100 tools one by one, durable", "ms", singly, 2000.0),
    ])
}

/// Prompts that are asked for in a session of MCP, one after the other.
fn messages(client: &mut Client) -> Result<Row, Error> {
    let prompt =
        json!({ "name": "greet", "template": "Hello {{ who }}", "arguments": [{ "name": "who" }] });
    client.expect(201, ("POST", "/prompts"), &prompt)?;
    let mcp = ("POST", "/servers/registry/mcp");
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-11-25",
        "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } } });
    let opened = client.expect(200, mcp, &hello)?;
    let id = opened
        .head
        .lines()
        .find_map(|it| it.strip_prefix("mcp-session-id:"));
    let id = id.ok_or("the session has no id")?.trim().to_owned();
    client.session = format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n");
    let begun = Instant::now();
    for id in 1..=COUNT {
        let get = json!({ "jsonrpc": "2.0", "id": id, "method": "prompts/get", "params": { "name": "greet", "arguments": { "who": "you" } } });
        let answer = client.expect(200, mcp, &get)?;
        if memchr::memmem::find(&answer.body, b"Hello you").is_none() {
            return Err("a prompt is not what it should be".into());
        }
    }
    let time = millis(begun.elapsed());
    client.session.clear();
    Ok(row("100 messages of MCP", "ms", time, 50.0))
}

/// A file that was read before.
fn reads(client: &mut Client) -> Result<Row, Error> {
    let file =
        json!({ "uri": "file:///hosts", "name": "hosts", "kind": "file", "path": "/etc/hosts" });
    client.expect(201, ("POST", "/resources"), &file)?;
    let get = ("GET", "/resources/file%3A%2F%2F%2Fhosts");
    client.expect(200, get, &Value::Null)?;
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begun = Instant::now();
        let answer = client.expect(200, get, &Value::Null)?;
        times.push(millis(begun.elapsed()));
        if memchr::memmem::find(&answer.body, b"\"cached\":true").is_none() {
            return Err("a read is not cached".into());
        }
    }
    Ok(row("cached read, p50", "ms", median(&times), 1.0))
}

fn resources(client: &mut Client) -> Result<(), Error> {
    // One is there.
    for first in (1..RESOURCES).step_by(AT_ONCE) {
        let some: Vec<Value> = (first..(first + AT_ONCE).min(RESOURCES))
            .map(|number| json!({ "uri": format!("note://{number}"), "name": format!("note {number}"), "kind": "text", "text": "a note" }))
            .collect();
        client.expect(201, ("POST", "/resources"), &json!(some))?;
    }
    Ok(())
}

/// All resources, by pages.
fn pages(client: &mut Client) -> Result<Row, Error> {
    let begun = Instant::now();
    let (mut listed, mut cursor) = (0, String::new());
    loop {
        let path = format!("/resources?limit=1000{cursor}");
        let page = client.expect(200, ("GET", &path), &Value::Null)?;
        let page: Value = serde_json::from_slice(&page.body)?;
        let resources = page.get("resources").and_then(Value::as_array);
        listed += resources.map_or(0, Vec::len);
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    if listed != RESOURCES {
        return Err(format!("{listed} resources are listed").into());
    }
    Ok(row(
        "10,000 resources by pages",
        "ms",
        millis(begun.elapsed()),
        1000.0,
    ))
}

/// Commands that each take a second, at once.
fn runs(process: &Process) -> Result<[Row; 2], Error> {
    let begun = Instant::now();
    let addr = process.addr;
    let runs: Vec<_> = (0..COUNT)
        .map(|number| {
            thread::spawn(move || -> Result<(), Error> {
                let path = format!("/tools/tool_{number}/execute");
                let body = json!({ "arguments": { "seconds": "1" } });
                let answer = Client::connect(addr)?.expect(200, ("POST", &path), &body)?;
                let failed = memchr::memmem::find(&answer.body, b"\"is_error\":false").is_none();
                if failed {
                    Err("a run failed".into())
                } else {
                    Ok(())
                }
            })
        })
        .collect();
    let mut most = 0;
    while runs.iter().any(|it| !it.is_finished()) {
        most = most.max(process.resident_kib()?);
        // Memory is looked at now and then.
        thread::sleep(Duration::from_millis(20));
    }
    let time = begun.elapsed().as_secs_f64();
    for run in runs {
        run.join().map_err(|_| "a client failed")??;
    }
    let megabytes = f64::from(u32::try_from(most)?) * 1.024 / 1000.0;
    Ok([
        loaded("100 runs of a second at once", "s", time, RUNS),
        row("resident with all that", "MB", megabytes, 100.0),
    ])
}
