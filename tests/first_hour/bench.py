"""What the checks of the first hour share: agents, the program before and on a terminal, and plain HTTP."""

import fcntl
import http.client
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "clients"), str(HERE.parent / "agents")]
from agents import KEY, require  # noqa: E402
from process_tree import agent_processes  # noqa: E402
from program import Failed, Program, own_environment  # noqa: E402

OPERATOR = "the-key-of-the-operator"


def shell(script):
    """An agent that is a command of the shell."""
    return ["sh", "-c", script]


class Gate:
    """A named pipe on which an agent waits before it starts, until the test opens it."""

    def __init__(self, home):
        self.path = Path(home) / "gate"
        os.mkfifo(self.path)

    def before(self, command):
        words = " ".join(f"'{word}'" for word in command)
        return shell(f"read _ <'{self.path}'; exec {words}")

    def open(self):
        self.path.write_text("go\n")


class Bench:
    """The program with agents, a model for them, and plain HTTP."""

    def __init__(self, path, home, model):
        self.path, self.home, self.model = path, Path(home), model
        self.sdk = [sys.executable, "-B", str(HERE.parent / "agents" / "sdk_agent.py")]
        self.program = None

    def write(self, *agents, **settings):
        environment = {"MODEL_URL": f"{self.model.url}/v1"}
        config = {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"keys": [
                {"name": "client", "key": KEY, "role": "client"},
                {"name": "operator", "key": OPERATOR, "role": "operator"},
            ]},
            "limits": {"requests_per_minute": 100000, "tokens_per_minute": 10**9, "burst": 100000},
            "agents": [{"env": environment} | agent for agent in agents],
            "data_dir": str(self.home / "data"),
        }
        file = self.home / "provider.json"
        file.write_text(json.dumps(config | settings))
        return file

    def start(self, *agents, **settings):
        file = self.write(*agents, **settings)
        self.program = Program(self.path, self.home, "--config", str(file))

    def start_process_agent(self, mebibytes, *words, **sessions):
        command = [sys.executable, "-B", str(HERE / "process_agent.py"), str(mebibytes), *words]
        self.start({"name": "sdk", "command": command, "sessions": sessions})

    def request(self, method, target, body=None, key=KEY):
        host = self.program.base.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=100)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, target, body and json.dumps(body), headers)
        return connection.getresponse()

    def chat(self, text, model="sdk", **more):
        messages = [{"role": "user", "content": text}]
        return self.request("POST", "/v1/chat/completions", {"model": model, "messages": messages} | more)

    def go_on(self, said, answer):
        """The next request of a conversation: what was said in it so far, and the last answer."""
        messages = [{"role": "user", "content": said}, {"role": "assistant", "content": answer}, {"role": "user", "content": "more"}]
        return content(self.request("POST", "/v1/chat/completions", {"model": "sdk", "messages": messages}))

    def details(self):
        """What `/health/deep` tells of the agent's sessions and memory."""
        health = json.load(self.request("GET", "/health/deep", key=OPERATOR))
        return health["components"]["agent:sdk"]["details"]

    def metrics(self):
        """The metrics of the agent, by their names behind `mcp_local_provider_agent_`."""
        text = self.request("GET", "/metrics").read().decode()
        lines = [line for line in text.splitlines() if line.startswith("mcp_local_provider_agent_")]
        values = {}
        for line in lines:
            name, _, value = line.removeprefix("mcp_local_provider_agent_").partition(" ")
            values[name.replace('agent="sdk"', "").replace("{,", "{").replace("{}", "")] = float(value)
        return values

    def processes(self):
        return agent_processes(self.program.process.pid)

    def wait_until(self, holds, what):
        until = time.monotonic() + 60
        while not holds():
            require(time.monotonic() < until, f"{what}; it has {self.details()}, and {len(self.processes())} processes run")
            time.sleep(0.1)

    def models(self):
        return [model["id"] for model in json.load(self.request("GET", "/v1/models"))["data"]]


def own_the_terminal(terminal):
    """Makes it the one of this process. A nohup before the test is not one before the program."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """The program on a terminal of its own, as a person sees it."""

    def __init__(self, bench, *arguments, environment=None):
        self.master, slave = pty.openpty()
        command = [Path(bench.path).resolve(), *arguments]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=bench.home,
            env=own_environment(bench.home) | (environment or {}), preexec_fn=lambda: own_the_terminal(slave),
        )
        os.close(slave)
        self.seen = ""

    def until(self, text):
        """Everything that was shown since the last call, up to `text`."""
        end = time.monotonic() + 20
        while text not in self.seen:
            left = end - time.monotonic()
            shown = b""
            if left > 0 and select.select([self.master], [], [], left)[0]:
                try:
                    shown = os.read(self.master, 4096)
                except OSError:
                    pass  # The program has ended.
            require(shown, f"{text!r} is not in {self.seen!r}")
            self.seen += shown.decode(errors="replace").replace("\r\n", "\n")
        before, self.seen = self.seen.split(text, 1)
        return before + text

    def rest(self):
        """Everything that was shown since the last call, up to the program's end."""
        shown, self.seen = self.seen, ""
        while True:
            try:
                more = os.read(self.master, 4096)
            except OSError:
                require(self.end() == 0, "the program ends with an error")
                return shown
            shown += more.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("it does not end") from None
        finally:
            os.close(self.master)


def content(answer):
    body = json.loads(answer.read())
    require(answer.status == 200, f"status {answer.status}: {body}")
    return body["choices"][0]["message"]["content"].strip()


def error(answer):
    body = json.loads(answer.read())
    require("error" in body, f"status {answer.status}: {body}")
    return body["error"]["message"]
