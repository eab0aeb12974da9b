//! Child processes: whatever they do, and however this program ends, they end.

use crate::program::{PATIENCE, program};
use mcp_local_provider_core::process::{Grace, Life, Order, Rules};
use mcp_local_provider_core::time::Instant;
use mcp_local_provider_core::wire::lines::Line;
use mcp_local_provider_process::{
    COMMAND, Ending, Event, Framing, Launch, PrivateDirectory, Process, ProcessWaker, Supervision,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// A process, the machine of its life, what it said, and how it ended.
struct Run {
    process: Process,
    life: Life,
    began: std::time::Instant,
    waker: Arc<ProcessWaker>,
    lines: Vec<String>,
    too_long: usize,
    ending: Option<Ending>,
    directory: PrivateDirectory,
}

impl Run {
    fn start(script: &str, supervised: bool) -> Run {
        Run::start_by(script, supervised, Rules::default(), Grace::default())
    }

    /// `grace` is that of the supervisor.
    fn start_by(script: &str, supervised: bool, rules: Rules, grace: Grace) -> Run {
        let directory = PrivateDirectory::new().unwrap();
        directory.make().unwrap();
        let launch = Launch {
            name: "test".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            working_directory: directory.working_directory(),
            supervisor: supervised.then(|| program().to_owned()),
            supervision: Supervision {
                grace,
                ..supervision(&directory)
            },
            output: Framing::Lines(1 << 20),
            input_bytes: 64 << 10,
            budget: None,
        };
        let mut life = Life::new(rules);
        let now = Instant::ZERO;
        let mut orders = Vec::new();
        life.start(now, &mut orders);
        assert_eq!(orders, [Order::Spawn]);
        let process = Process::start(&launch).unwrap();
        life.handle_started(now);
        life.handle_ready(now);
        Run {
            process,
            life,
            began: std::time::Instant::now(),
            directory,
            waker: ProcessWaker::new().unwrap(),
            lines: Vec::new(),
            too_long: 0,
            ending: None,
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Life, Instant, &mut Vec<Order>)) {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap();
        let mut orders = Vec::new();
        call(&mut self.life, Instant::from_micros(now), &mut orders);
        for order in orders {
            match order {
                Order::Spawn => panic!("it is started once"),
                Order::CloseInput => self.process.close_input(),
                Order::Terminate => self.process.terminate(),
                Order::Kill => self.process.kill(),
            }
        }
    }

    fn turn(&mut self) {
        let until = self.life.poll_timeout();
        let until = until.map(|until| self.began + Duration::from_micros(until.at.as_micros()));
        let (lines, too_long, ending) = (&mut self.lines, &mut self.too_long, &mut self.ending);
        self.process
            .turn(&self.waker, until, |event| match event {
                Event::Line(Line::Whole(line)) => {
                    lines.push(String::from_utf8_lossy(line).into_owned());
                }
                Event::Line(Line::TooLong) => *too_long += 1,
                Event::Bytes(_) => panic!("it is cut into lines"),
                Event::Ended(how) => assert!(ending.replace(how).is_none(), "it ends once"),
            })
            .unwrap();
        self.call(Life::handle_timeout);
    }

    /// Sends a line. False when it was not taken.
    fn say(&mut self, line: &str) -> bool {
        self.process.push_line(format!("{line}\n").as_bytes())
    }

    fn hear(&mut self, lines: usize) -> &[String] {
        while self.lines.len() < lines && self.ending.is_none() {
            self.turn();
        }
        &self.lines
    }

    fn end(&mut self) -> Ending {
        loop {
            if let Some(ending) = self.ending {
                return ending;
            }
            self.turn();
        }
    }
}

fn supervision(directory: &PrivateDirectory) -> Supervision {
    Supervision {
        remove: Some(directory.path().to_owned()),
        ..Supervision::default()
    }
}

/// Both ways to run a child.
fn both(script: &str, check: impl Fn(&mut Run)) {
    for supervised in [false, true] {
        let mut run = Run::start(script, supervised);
        check(&mut run);
    }
}

#[test]
fn lines_go_in_and_out_and_the_end_of_input_ends_it() {
    both(
        "pwd; while read -r line; do echo \"got $line\"; done; exit 3",
        |run| {
            let work = run.directory.working_directory();
            assert_eq!(run.hear(1), [work.to_str().unwrap()]);
            assert!(run.say("one") && run.say("two"));
            assert_eq!(run.hear(3)[1..], ["got one", "got two"]);
            run.call(Life::stop);
            assert_eq!(run.end(), Ending::Code(3));
        },
    );
}

#[test]
fn what_it_wrote_before_its_end_is_heard() {
    both("echo why >&2; echo last; kill -9 $$", |run| {
        assert_eq!(run.end(), Ending::Signal(9));
        assert_eq!(run.lines, ["last"]);
        assert_eq!(run.process.last_words().told(), "why");
    });
}

#[test]
fn a_child_that_closes_its_output_and_lives_on_is_killed() {
    both("echo up; exec >&-; sleep 600; echo survived", |run| {
        assert_eq!(run.end(), Ending::OutputClosed);
        assert_eq!(run.lines, ["up"]);
    });
}

#[test]
fn a_child_that_ignores_the_end_of_its_input_is_killed() {
    both(
        "trap '' TERM HUP INT; echo up; sleep 600; sleep 600",
        |run| {
            run.hear(1);
            run.call(Life::stop);
            assert_eq!(run.end(), Ending::Signal(9));
        },
    );
}

#[test]
fn the_life_alone_ends_a_child_whose_program_lives() {
    let life = Rules {
        grace: Grace {
            before_terminate: PATIENCE,
            before_kill: PATIENCE,
        },
        ..Rules::default()
    };
    let none = Grace {
        before_terminate: Duration::ZERO,
        before_kill: Duration::ZERO,
    };
    let script = "trap 'exit 7' TERM; echo up; read -r line; sleep 0.2; echo alive; sleep 600 & wait";
    let mut run = Run::start_by(script, true, life, none);
    run.hear(1);
    run.call(Life::stop);
    assert_eq!(run.hear(2)[1..], ["alive"]);
    run.process.terminate();
    assert_eq!(run.end(), Ending::Code(7));
}

#[test]
fn a_child_gets_sigterm_before_it_is_killed() {
    both(
        "trap 'echo bye; exit 7' TERM; echo up; sleep 600 & wait",
        |run| {
            run.hear(1);
            run.call(Life::stop);
            assert_eq!(run.end(), Ending::Code(7));
            assert_eq!(run.lines, ["up", "bye"]);
        },
    );
}

#[test]
fn a_child_that_does_not_read_stands_in_nobodys_way() {
    both("trap '' TERM HUP INT; echo up; sleep 600", |run| {
        run.hear(1);
        assert!(run.say(&"x".repeat(4 << 20)));
        run.waker.wake();
        run.turn();
        assert!(run.process.waiting_bytes() > 1 << 20);
        assert!(!run.say("one more"), "its queue has a bound");
        run.process.kill();
        assert_eq!(run.end(), Ending::Signal(9));
    });
}

#[test]
fn floods_long_lines_and_half_lines_are_survived() {
    let script = "yes flood | head -n 200000; head -c 1048576 /dev/zero | tr '\\0' a; echo; \
                  head -c 3000000 /dev/zero | tr '\\0' b; echo; printf '\\377\\376\\n'; echo end; printf half";
    both(script, |run| {
        assert_eq!(run.end(), Ending::Code(0));
        assert_eq!(run.lines.len(), 200_003);
        assert_eq!(run.too_long, 1);
        assert_eq!(run.lines[200_000].len(), 1 << 20);
        assert_eq!(run.lines.last().unwrap(), "end");
    });
}

/// Starts children that nothing but SIGKILL ends: one in the child's group, one that has left group and session, one whose
/// parent is gone. As long as one of them lives, standard output stays open.
const BROOD: &str = "trap '' TERM HUP INT; \
    stubborn='trap \"\" TERM HUP INT; echo up; sleep 30; echo survived'; \
    sh -c \"$stubborn\" & setsid sh -c \"$stubborn\" & (setsid sh -c \"$stubborn\" &) ; ";

/// A supervisor with `BROOD` and `rest` as its child, once all children are there.
fn brood(
    rest: &str,
    input: impl Into<Stdio>,
    errors: impl Into<Stdio>,
    remove: &PrivateDirectory,
) -> (Child, BufReader<ChildStdout>) {
    let mut supervisor = Command::new(program())
        .arg(COMMAND)
        .args(supervision(remove).arguments())
        .args(["--", "/bin/sh", "-c"])
        .arg(format!("{BROOD}{rest}"))
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(supervisor.stdout.take().unwrap());
    let mut lines = String::new();
    for _ in 0..3 {
        output.read_line(&mut lines).unwrap();
    }
    assert_eq!(lines, "up\nup\nup\n");
    (supervisor, output)
}

/// It ends when the last process that could write to it has ended.
fn nobody_survived(mut output: BufReader<ChildStdout>) {
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn no_child_outlives_a_program_that_is_killed() {
    // `sleep` stands for the program: it holds the writing end of the child's input and the reading end of its errors, and is
    // killed as the program may be.
    let (input, writer) = std::io::pipe().unwrap();
    let (reader, errors) = std::io::pipe().unwrap();
    let mut sleep = Command::new("sleep")
        .arg("600")
        .stdin(reader)
        .stdout(writer)
        .spawn()
        .unwrap();
    let directory = PrivateDirectory::new().unwrap();
    directory.make().unwrap();
    let (mut supervisor, output) = brood("sleep 30; echo survived", input, errors, &directory);
    sleep.kill().unwrap();
    assert_eq!(sleep.wait().unwrap().signal(), Some(9));
    nobody_survived(output);
    assert_eq!(supervisor.wait().unwrap().code(), Some(128 + 9));
    assert!(!directory.path().exists(), "its program cannot remove it");
}

#[test]
fn children_end_with_their_parent() {
    let directory = PrivateDirectory::new().unwrap();
    directory.make().unwrap();
    let (mut supervisor, output) = brood(
        "read -r line; exit 5",
        Stdio::piped(),
        Stdio::piped(),
        &directory,
    );
    let mut input = supervisor.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    nobody_survived(output);
    assert_eq!(supervisor.wait().unwrap().code(), Some(5));
    assert!(directory.path().exists(), "it is removed by who made it");
}

#[test]
fn a_command_that_cannot_run_is_told() {
    let run = |command: &str| {
        let output = Command::new(program())
            .arg(COMMAND)
            .args(Supervision::default().arguments())
            .args(["--", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run("/not/there");
    assert_eq!(code, Some(127));
    assert!(
        said.starts_with("`/not/there` cannot be started: "),
        "{said}"
    );
    let (code, _) = run("/");
    assert_eq!(code, Some(126));
}

/// Waits for the end of the process whose id the child's script wrote: whoever was sent SIGKILL needs a moment. False when
/// it lives on.
pub fn ends(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let patience = Timespec::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).unwrap() == 1
}

#[test]
fn a_child_that_stops_its_supervisor_ends_all_the_same() {
    let mut run = Run::start(
        "echo $$; kill -STOP $PPID; echo stopped; exec sleep 600",
        true,
    );
    let child = run.hear(2)[0].clone();
    run.process.kill();
    assert!(matches!(run.end(), Ending::Signal(9)));
    let begun = std::time::Instant::now();
    drop(run);
    assert!(begun.elapsed().as_secs() < 5);
    assert!(ends(&child), "the child lives on");
}

#[test]
fn a_child_that_kills_its_supervisor_ends_with_it() {
    let mut run = Run::start(
        "echo $$; kill -KILL $PPID; trap '' HUP; exec sleep 600",
        true,
    );
    let child = run.hear(1)[0].clone();
    run.end();
    drop(run);
    assert!(ends(&child), "the child lives on");
}

#[test]
fn a_child_of_a_program_without_huge_pages_may_have_them() {
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let mut run = Run::start("grep THP_enabled /proc/self/status", true);
    rustix::thread::disable_transparent_huge_pages(false).unwrap();
    assert_eq!(run.hear(1), ["THP_enabled:\t1"]);
    assert_eq!(run.end(), Ending::Code(0));
}
