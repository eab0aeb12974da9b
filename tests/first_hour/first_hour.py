"""The first hour of a new user, before everything is warm. See run.sh."""

import http.client
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import HERE, OPERATOR, Bench, Gate, Terminal, content, error, own_the_terminal, shell
from agents import Model, require
from process_tree import pss
from program import Failed, own_environment
import five_minutes

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@check
def requests_wait_for_an_agent_that_starts(bench):
    """In every dialect, whole and streamed; a stream is opened and kept alive meanwhile."""
    gate = Gate(bench.home)
    bench.start({"name": "sdk", "command": gate.before(bench.sdk)}, timeouts={"first_event": "100ms", "keep_alive": "200ms"})
    require(bench.models() == ["sdk"], f"the models are {bench.models()} while the agent starts")
    messages = [{"role": "user", "content": "%%say awake%%"}]
    asked = [
        ("/v1/chat/completions", {}),
        ("/v1/messages", {"max_tokens": 100}),
        ("/api/chat", {"stream": False}),
        ("/v1/responses", {"input": "%%say awake%%"}),
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        def ask(question):
            target, more = question
            body = {"model": "sdk", "messages": messages} | more
            if "input" in more:
                del body["messages"]
            answer = bench.request("POST", target, body)
            return target, answer.status, answer.read().decode()

        waiting = [pool.submit(ask, question) for question in asked]
        stream = bench.chat("%%say awake%%", stream=True)
        require(stream.status == 200, f"the stream has status {stream.status}")
        lines = []
        while not lines or not lines[-1].startswith(b":"):
            lines.append(stream.readline())
            require(lines[-1], f"the stream ended with {lines}")
        require(not any(done.done() for done in waiting), "an answer came before the agent")
        gate.open()
        rest = stream.read().decode()
        require("awake" in rest and "[DONE]" in rest, f"the stream goes on with {rest}")
        for done in waiting:
            target, status, body = done.result()
            require(status == 200 and "awake" in body, f"{target}: {status} {body}")
    require(bench.models() == ["sdk", "sdk/m1", "sdk/m2"], f"the models are {bench.models()}")
    return f"{len(lines)} lines before the agent was there"


@check
def an_agent_that_does_not_start_in_time_is_named(bench):
    gate = Gate(bench.home)
    bench.start({"name": "sdk", "command": gate.before(bench.sdk), "start_timeout": "300ms"})
    answer = bench.chat("%%say awake%%")
    said = error(answer)
    require(answer.status == 503, f"status {answer.status}")
    require("`sdk`" in said and "start_timeout" in said and "doctor" in said, f"it says {said!r}")
    require(answer.headers["Retry-After"], "there is no Retry-After")
    gate.open()
    until = time.monotonic() + 60
    while (answer := bench.chat("%%say awake%%")).status != 200:
        answer.read()
        require(time.monotonic() < until, "it does not answer once it has started")
    require(content(answer) == "awake", "it answers something else")
    return said


@check
def the_last_words_of_an_agent_that_cannot_start_are_told(bench):
    script = "echo 'Error: cannot find module acp' >&2; echo '    at node:internal' >&2; echo 'Node.js v24' >&2; exit 7"
    bench.start({"name": "sdk", "command": shell(script)})
    answer = bench.chat("%%say awake%%")
    said = error(answer)
    require(answer.status == 502, f"status {answer.status}: {said}")
    require("cannot find module acp" in said and "exit code 7" in said, f"it says {said!r}")
    return said


@check
def a_program_that_is_no_agent_is_named_with_what_it_printed(bench):
    """In the log within 5 s, while requests go on waiting; and by doctor."""
    garbage = shell("echo 'Welcome to the shell'; echo 'no key' >&2; while read _; do :; done")
    silent = shell("while read _; do :; done")
    began = time.monotonic()
    bench.start({"name": "garbage", "command": garbage}, {"name": "silent", "command": silent})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.chat, "%%say awake%%", "silent")
        for agent, wanted in [
            ("garbage", "the agent printed `Welcome to the shell`, which is not ACP"),
            ("garbage", "on its standard error: no key"),
            ("silent", "the agent has printed no line"),
        ]:
            def told(line):
                return wanted in line and f'"{agent}"' in line and "WARN" in line

            while not any(told(line) for line in bench.program.lines):
                require(time.monotonic() < began + 20, f"no line says {wanted!r} of {agent}")
                time.sleep(0.01)
        seconds = time.monotonic() - began
        require(not waiting.done(), "the request does not wait")
        file = bench.home / "provider.json"
        found = subprocess.run(
            [Path(bench.path).resolve(), "doctor", "--try", "--config", file, "--agent", "garbage"], cwd=bench.home,
            env=own_environment(bench.home), capture_output=True, text=True,
        )
        said = "FAIL  agent         `garbage` printed `Welcome to the shell`, which is not ACP"
        require(found.returncode == 1 and said in found.stdout, f"doctor says {found.stdout}")
        bench.program.stop()
        bench.program = None
        require(waiting.result().status == 503, "the request that waited has another end")
    return f"{seconds:.1f} s until all was told"


@check
def an_agent_that_wants_a_login_is_not_started_again_for_each_request(bench):
    """The client hears what to do; once the person has logged in, an answer comes without a restart of the program."""
    login, starts = bench.home / "login", bench.home / "starts"
    agent = [sys.executable, "-B", str(HERE / "login_agent.py"), str(login), str(starts)]
    bench.start({"name": "sdk", "command": agent})
    for _ in range(5):
        answer = bench.chat("%%say awake%%")
        said = error(answer)
        require(answer.status == 502, f"status {answer.status}: {said}")
        require("wants a login" in said and "token expired" in said, f"it says {said!r}")
    count = len(starts.read_text().splitlines())
    require(count == 1, f"it was started {count} times for 5 requests")
    login.touch()
    until = time.monotonic() + 60
    while (answer := bench.chat("%%say awake%%")).status != 200:
        answer.read()
        require(time.monotonic() < until, "it does not answer after the login")
        time.sleep(0.1)
    require(content(answer) == "logged in", "it answers something else")
    return said


@check
def twenty_clients_at_once_are_all_answered(bench):
    """More than the agent is given at once, from the moment of its start."""
    bench.start({"name": "sdk", "command": bench.sdk})
    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda number: content(bench.chat(f"%%say number {number}%%")), range(20)))
    require(said == [f"number {number}" for number in range(20)], f"the answers are {said}")


@check
def a_refusal_names_what_is_busy(bench):
    bench.start({"name": "sdk", "command": bench.sdk, "concurrency": 1}, timeouts={"first_chunk": "5s"})
    holding = bench.chat("%%hang%%", stream=True)
    # A stream that waits for the start is opened before the agent has said anything, with a role and an empty text.
    while b'"content":"' not in (line := holding.readline()) or b'"content":""' in line:
        require(line, "the first request has ended")
    answer = bench.chat("%%say too late%%")
    said = error(answer)
    require(answer.status == 503, f"status {answer.status}")
    require("agents[].concurrency" in said and "`client`" in said, f"it says {said!r}")
    require(answer.headers["Retry-After"], "there is no Retry-After")
    holding.close()
    return said


@check
def one_shot_prompts_leave_few_sessions_and_soon_one(bench):
    """The agent runs a process for each session. What health and metrics tell is what the system shows."""
    bench.start_process_agent(20)
    for number in range(20):
        content(bench.chat(f"question {number}"))
    # The agent, three conversations and the empty session; another process may be ending.
    bench.wait_until(lambda: len(bench.processes()) <= 5, "more than four sessions are kept")
    # A client has its answer a moment before the agent's turn is over.
    bench.wait_until(lambda: bench.details()["sessions"]["running"] == 0, "a turn runs on")
    told = bench.details()["sessions"]
    kept = told.pop("kept")
    require(kept <= 4 and told == {"running": 0, "keep": 4, "idle_seconds": 300}, f"it keeps {kept}, and tells {told}")
    answer = content(bench.chat("a conversation"))
    said = bench.go_on("a conversation", answer)
    require(said == answer.replace(" 1", " 2"), f"a conversation went from {answer!r} to {said!r}")
    began = time.monotonic()
    # The conversation that goes on and the empty session stay.
    bench.wait_until(lambda: bench.details()["sessions"]["kept"] == 2, "conversations of one request are kept")
    took = time.monotonic() - began
    bench.wait_until(lambda: bench.details()["processes"] == 3 == len(bench.processes()), "it counts other processes")
    details, metrics, outside = bench.details(), bench.metrics(), pss(bench.processes())
    told = details["memory"]["pss_bytes"]
    require(0.8 < told / outside < 1.25, f"it tells {told} bytes, and the system {outside}")
    expected = {
        'sessions{state="running"}': 0, 'sessions{state="kept"}': 2, "sessions_keep": 4, "sessions_idle_seconds": 300,
        "processes": 3, "memory_bytes": told, "memory_limit_bytes": 2 << 30, "running": 1, "starts_total": 1,
    }
    require(metrics == expected, f"the metrics are {metrics}")
    return f"after {took:.0f} s {told >> 20} MiB in 3 processes"


@check
def the_least_recently_used_session_ends_first_and_a_conversation_after_its_time(bench):
    bench.start_process_agent(1, keep=3, idle="8s")
    first, second = content(bench.chat("first")), content(bench.chat("second"))
    require(bench.go_on("first", first) == first.replace(" 1", " 2"), "the first conversation does not go on in its session")
    third = content(bench.chat("third"))
    # Two conversations and the empty session are kept: the second conversation has lost its session.
    said = bench.go_on("second", second)
    require(said.endswith(" 1") and said != second, f"the second conversation went from {second!r} to {said!r}")
    require(len({answer.split()[0] for answer in (first, second, third, said)}) == 4, f"{first}, {second}, {third}, {said}")
    bench.wait_until(lambda: bench.details()["sessions"]["kept"] == 1, "conversations are kept for more than agents[].sessions.idle")


@check
def sessions_end_when_the_memory_of_the_agent_is_over_its_bound(bench):
    """Until the rest fits; the agent is not started anew for that."""
    bench.start_process_agent(60, keep=16, memory="280MiB")
    # Conversations that go on, which are kept for minutes.
    answers = [bench.go_on(f"question {number}", "an answer") for number in range(8)]
    bench.wait_until(lambda: bench.details()["memory"]["pss_bytes"] <= 280 << 20, "what it tells is over the bound")
    bench.wait_until(lambda: pss(bench.processes()) <= 280 << 20, "the memory is over its bound")
    kept = bench.details()["sessions"]["kept"]
    require(1 <= kept <= 4, f"it keeps {kept} sessions")
    require(len(set(answers)) == 8, f"the answers are {answers}")
    require(bench.metrics()["starts_total"] == 1, f"it was started anew: {bench.metrics()}")
    require(content(bench.chat("another")).endswith(" 1"), "the next request fails")
    return f"{kept} of 9 sessions are kept"


@check
def an_agent_that_cannot_close_sessions_is_started_anew_between_turns(bench):
    """For more processes than it may keep, and for its memory; never while a turn runs."""
    for limits in ({"keep": 2}, {"keep": 16, "memory": "200MiB"}):
        done = bench.home / f"done-{len(limits)}"
        bench.start_process_agent(60, "never-closes", **limits)
        content(bench.chat("a start"))
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(lambda: content(bench.chat(f"HOLD {done}")))
            for number in range(4):
                content(bench.chat(f"question {number}"))
            # By then each measurement would have it started anew.
            bench.wait_until(lambda: bench.details()["processes"] > 5, "its processes are not counted")
            require(bench.metrics()["starts_total"] == 1, "it was started anew while a turn ran")
            done.touch()
            require(held.result().endswith(" 1"), "the turn that ran has another answer")
        bench.wait_until(lambda: bench.metrics()["starts_total"] == 2, f"it is not started anew within {limits}")
        require(content(bench.chat("another")).endswith(" 1"), "the next request fails")
        bench.wait_until(lambda: len(bench.processes()) <= 3, "processes are left")
        bench.program.stop()
    bench.program = None


@check
def a_closed_terminal_ends_the_program_and_its_agents(bench):
    """The terminal takes the program and the agent with it; behind nohup they stay."""
    alive = bench.home / "alive"
    os.mkfifo(alive)
    agent = {"name": "sdk", "command": shell(f"exec 9>'{alive}'; exec '{bench.sdk[0]}' -B '{bench.sdk[2]}'")}
    file = bench.write(agent)
    command = [Path(bench.path).resolve(), "--config", str(file)]
    for before in ([], ["nohup"]):
        master, slave = pty.openpty()

        program = subprocess.Popen(
            before + command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, cwd=bench.home,
            env=own_environment(bench.home), preexec_fn=lambda: own_the_terminal(slave),
        )
        os.close(slave)
        with open(alive, "rb") as agent_lives:
            # nohup sends the log there too.
            while not (ready := program.stdout.readline().decode()).startswith("ready "):
                require(ready, "it ended before it was ready")
            os.close(master)
            if before:
                url = ready.split()[1].rstrip(",")
                with urllib.request.urlopen(url + "/health", timeout=10) as answer:
                    require(answer.status == 200, f"/health has status {answer.status} behind nohup")
                program.terminate()
            try:
                status = program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                raise Failed("it lives on 20 s after its terminal was closed") from None
            require(status == 0, f"it ends with {status}")
            require(agent_lives.read() == b"", "the agent has written to the pipe")
    return "the agent has ended too"


@check
def ctrl_c_says_what_it_waits_for(bench):
    bench.start({"name": "sdk", "command": bench.sdk})
    open_stream = bench.chat("%%hang%%", stream=True)
    while b"content" not in (line := open_stream.readline()):
        require(line, "the stream has ended")
    bench.program.process.send_signal(signal.SIGINT)
    wanted = "1 open requests have 30 s to end"
    until = time.monotonic() + 20
    while not any(wanted in line for line in bench.program.lines):
        require(time.monotonic() < until, f"no line says {wanted!r}")
        time.sleep(0.01)
    bench.program.process.send_signal(signal.SIGINT)
    require(bench.program.process.wait(20) == 0, "a second Ctrl-C does not end it")
    bench.program = None


@check
def a_start_on_a_terminal_says_what_to_do(bench):
    """Each start shows it, the second one too; what it shows can be pasted."""
    file = bench.write({"name": "sdk", "command": bench.sdk}, auth={"keep_client_key": True})
    for start in ("first", "second"):
        terminal = Terminal(bench, "--config", str(file))
        shown = terminal.until("run sdk \"Hello, who are you?\"") + terminal.until("\n")
        require(("shown this once" in shown) == (start == "first"), f"the {start} start shows {shown}")
        url = re.search(r"OpenAI API +(http://\S+)/v1\n", shown)[1]
        for line in ("models +sdk\n", f"page +{url}/\n", "Ollama API ", "Anthropic API ", "Void ", "Zed ", "Continue .*model sdk\n",
                     "models: { aliases: { gpt-4o-agent: { model: sdk"):
            require(re.search(line, shown), f"the {start} start does not show {line!r}: {shown}")
        line = re.search(r"\n  (curl .*)\n", shown)[1]
        pasted = subprocess.run(["sh", "-c", line.replace("Hello, who are you?", "%%say pasted%%")], capture_output=True, timeout=60)
        require(b"pasted" in pasted.stdout and b"[DONE]" in pasted.stdout, f"the pasted line gives {pasted}")
        line = re.search(r"\n  mcp-local-provider(?:-blocking)? (run .*)\n", shown)[1].replace("Hello, who are you?", "%%say again%%")
        command = f"'{Path(bench.path).resolve()}' {line}"
        asked = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, env=own_environment(bench.home), timeout=60)
        require((asked.returncode, asked.stdout) == (0, b"again\n"), f"`run` gives {asked}")
        terminal.type("\x03")
        require(terminal.end() == 0, "Ctrl-C does not end it")


@check
def the_recorded_session_is_what_a_person_sees(bench):
    """Of docs/first-five-minutes.md. UPDATE_GOLDEN=1 writes it."""
    return five_minutes.compare(bench)


@check
def a_chat_in_the_terminal_goes_on_and_ctrl_c_cancels_an_answer(bench):
    bench.start({"name": "sdk", "command": bench.sdk})
    file = str(bench.home / "provider.json")
    where = ("--config", file, "--listen", bench.program.base.removeprefix("http://"))
    chat = Terminal(bench, "run", "sdk", *where)
    chat.until(">>> ")
    chat.type("%%say one%%\n")
    require("one" in chat.until(">>> ").split("\n", 1)[1], "there is no answer")
    chat.type("%%hang%%\n")
    chat.until("%%hang%%\n")
    until = time.monotonic() + 20
    while (open_now := ps(bench, where)["open"]) != 1:
        require(time.monotonic() < until, f"{open_now} answers are open")
    chat.type("\x03")
    chat.until(">>> ")
    while (open_now := ps(bench, where)["open"]) != 0:
        require(time.monotonic() < until, f"{open_now} answers are open after Ctrl-C")
    chat.type('"""Two lines:\n%%say two%%\n"""\n')
    require("two" in chat.until(">>> ").rsplit('"""', 1)[1], "there is no answer to a message of two lines")
    chat.type("\x03")
    require("/bye" in chat.until(">>> "), "Ctrl-C says nothing where nothing is answered")
    chat.type("/bye\n")
    require(chat.end() == 0, "/bye does not end it")
    other = Terminal(bench, "run", "nobody", *where)
    other.until("nobody")
    require(other.end() == 1, "an unknown model is not told at once")


def ps(bench, where):
    command = [Path(bench.path).resolve(), "ps", "--json", *where]
    environment = own_environment(bench.home) | {"LOCAL_PROVIDER_KEY": OPERATOR}
    return json.loads(subprocess.run(command, capture_output=True, env=environment, timeout=20, check=True).stdout)


def main():
    path, model, failed = sys.argv[1], Model(), 0
    try:
        for function in CHECKS:
            with tempfile.TemporaryDirectory(prefix="first-hour-") as home:
                bench, began = Bench(path, home, model), time.monotonic()
                try:
                    note = function(bench)
                    print(f"ok {function.__name__} ({time.monotonic() - began:.1f} s){'; ' + note if note else ''}", flush=True)
                except (Failed, OSError, http.client.HTTPException, KeyError, ValueError) as problem:
                    failed += 1
                    tail = bench.program.tail() if bench.program else ""
                    print(f"FAILED {function.__name__}: {problem!r}\n{tail}", flush=True)
                finally:
                    if bench.program:
                        bench.program.stop()
    finally:
        model.process.kill()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
