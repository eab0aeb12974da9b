"""What the checks have in common: their list, and sentences that say what was seen."""
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import ollama
import openai
from program import Failed, Program
from scripted_agent import ScriptedAgent

MODEL = "scripted"
CLIENT_KEY, BRIDGE_KEY, OPERATOR_KEY, METERED_KEY, PACED_KEY, OWNER_KEY = (
    f"the-key-of-the-{who}" for who in ("client", "bridge", "operator", "metered", "paced", "owner"))
CHECKS = []


@dataclass
class Setting:
    """The program, its agent, and its clients."""

    program: Program
    agent: ScriptedAgent | None = None
    # Kind of the upstream by which the program asks another one, to which the agent is connected; None when it is connected to this one.
    upstream: str | None = None
    measured: dict = field(default_factory=dict)

    @property
    def openai(self):
        return openai.OpenAI(base_url=f"{self.program.base}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=30)

    @property
    def ollama(self):
        return ollama.Client(host=self.program.base, headers={"Authorization": f"Bearer {CLIENT_KEY}"}, timeout=30)

    def names_the_invocation(self, id):
        """Refuses the id of a request that is not that of the newest invocation, or none where the agent is behind another program."""
        if self.upstream:
            require(id, "no request id")
        else:
            expect(id, self.agent.last()["id"], "request id")

    def request(self, method, path, body=None, key=CLIENT_KEY, **headers):
        """(status, headers, body as bytes) by plain HTTP."""
        data = None if body is None else json.dumps(body).encode()
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.program.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def events(self, body, key=CLIENT_KEY):
        """(headers, the data of each event) of a streamed chat completion, read to the end of the body."""
        status, headers, text = self.request("POST", "/v1/chat/completions", body | {"stream": True}, key)
        expect(status, 200, "status")
        lines = [line for line in text.decode().split("\n") if line]
        expect([line for line in lines if not line.startswith(("data: ", ":"))], [], "lines that are neither data nor comments")
        return headers, [line[6:] for line in lines if line.startswith("data: ")]


def check(function):
    """Adds a check. Its docstring is the line that is printed."""
    CHECKS.append(function)
    return function


def by_name(function):
    """Adds a check that runs when it is named only: its client is large, or needs more than the registries."""
    function.by_name = True
    return check(function)


def user(text):
    return [{"role": "user", "content": text}]


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


def require(truth, what):
    if not truth:
        raise Failed(what)


def raises(kind, action):
    """The exception of exactly this class that `action` raises."""
    try:
        value = action()
    except kind as error:
        expect(type(error).__name__, kind.__name__, "exception")
        return error
    except Exception as error:
        raise Failed(f"{type(error).__name__} instead of {kind.__name__}: {error}") from error
    raise Failed(f"no {kind.__name__}, but {value!r}")


def eventually(condition, what, seconds=10):
    """Asks until `condition()` is true."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return value
