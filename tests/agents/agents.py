"""Asks agents through the program. See run.sh."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import openai

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "clients"))
from process_tree import agent_processes, pss  # noqa: E402
from program import Failed, Program  # noqa: E402

KEY = "the-key-of-the-client"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def require(truth, what):
    if not truth:
        raise Failed(what)


class Model:
    """The server that stands for a vendor's model."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "model_server.py"], stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().split()[1]}"

    def seen(self):
        with urllib.request.urlopen(self.url + "/seen", timeout=10) as answer:
            return json.load(answer)


@dataclass
class Agent:
    """How an agent is configured to ask our model. Everything it reads of its person lies in a home of its own."""

    entry: dict
    program: str | None = None
    files: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    thinks: bool = True
    models: tuple = ()
    shell: str | None = None
    # Of all its processes after many questions, in MiB.
    memory: int = 2048

    @property
    def name(self):
        return self.entry.get("name") or self.entry["preset"]


def agents(model):
    """What can be asked, by name."""
    url = model.url
    opencode = {
        "model": "local/m1",
        "small_model": "local/m1",
        "provider": {
            "local": {
                "npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
                "models": {"m1": {"name": "m1"}, "m2": {"name": "m2"}},
            }
        },
    }
    codex = f'model = "m1"\nmodel_provider = "local"\n[model_providers.local]\nname = "local"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
    gemini = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    return [
        Agent(
            {"name": "sdk", "command": [sys.executable, "-B", str(HERE / "sdk_agent.py")], "env": {"MODEL_URL": f"{url}/v1"}},
            models=("sdk/m1", "sdk/m2"),
        ),
        Agent(
            {"preset": "opencode"},
            program="opencode",
            files={".config/opencode/opencode.json": json.dumps(opencode)},
            models=("opencode/local/m1", "opencode/local/m2"),
            shell="bash",
        ),
        Agent(
            {"preset": "gemini"},
            program="gemini",
            files={".gemini/settings.json": json.dumps(gemini)},
            environment={"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "none"},
            shell="run_shell_command",
        ),
        Agent({"preset": "codex"}, program="codex-acp", files={".codex/config.toml": codex}, shell="exec_command"),
        Agent(
            {"preset": "claude"},
            program="claude-agent-acp",
            environment={"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none", "IS_SANDBOX": "1"},
            shell="Bash",
            memory=1024,
        ),
    ]


class Setting:
    """The program with one agent, and a client."""

    def __init__(self, path, agent, model, home):
        self.agent, self.model, self.home = agent, model, Path(home)
        for name, text in agent.files.items():
            file = self.home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        config = self.home / "provider.json"
        keys = [{"name": "client", "key": KEY, "role": "client"}]
        config.write_text(
            json.dumps(
                {
                    "listen": {"http": ["127.0.0.1:0"]},
                    "auth": {"keys": keys},
                    "limits": {"requests_per_minute": 100000, "tokens_per_minute": 10**9, "burst": 100000},
                    "timeouts": {"first_chunk": "100s"},
                    "agents": [agent.entry],
                    "audit": {"file": "off"},
                    "data_dir": str(self.home / "data"),
                }
            )
        )
        self.program = Program(path, home, "--config", str(config), environment=agent.environment)
        self.client = openai.OpenAI(base_url=f"{self.program.base}/v1", api_key=KEY, max_retries=0, timeout=120)

    def wait_for_model(self):
        """Asks at once, which waits for the start of the agent; then the names that are offered."""
        require(self.agent.name in self.names_offered(), f"{self.agent.name} is not offered while it starts")
        said = self.create("%%say awake%%").choices[0].message.content.strip()
        require(said == "awake", f"the first answer is {said!r}")
        return self.names_offered()

    def names_offered(self):
        return [model.id for model in self.client.models.list()]

    def create(self, text, **more):
        messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
        arguments = {"model": self.agent.name, "messages": messages} | more
        return self.client.chat.completions.create(**arguments)

    def stream(self, text, **more):
        """(content, reasoning, chunks with content, finish reason, usage) of a streamed answer."""
        content, reasoning, chunks, finish, usage = "", "", 0, None, None
        for event in self.create(text, stream=True, stream_options={"include_usage": True}, **more):
            usage = event.usage or usage
            for choice in event.choices:
                finish = choice.finish_reason or finish
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                if choice.delta.content:
                    content += choice.delta.content
                    chunks += 1
        return content, reasoning, chunks, finish, usage


@check
def text_is_streamed(setting):
    content, _, chunks, finish, usage = setting.stream("%%count 12 40%%")
    require(content.split() == [f"w{n}" for n in range(1, 13)], f"the content is {content!r}")
    require(chunks > 3, f"it came in {chunks} chunks")
    require(finish == "stop", f"finish_reason is {finish}")
    require(usage and usage.prompt_tokens > 0 and usage.completion_tokens > 0, f"usage is {usage}")


@check
def whole_answers_are_the_same(setting):
    answer = setting.create("%%say one two three%%")
    require(answer.choices[0].message.content.strip() == "one two three", f"the content is {answer.choices[0].message.content!r}")


@check
def reasoning_is_kept_apart(setting):
    if not setting.agent.thinks:
        return "the agent passes none on"
    content, reasoning, *_ = setting.stream("%%think deep thoughts%%%%say done%%")
    require(content.strip() == "done", f"the content is {content!r}")
    require("thoughts" in reasoning, f"the reasoning is {reasoning!r}")


@check
def instructions_reach_the_model(setting):
    """The instructions stand before what the person says, so an order in them is not the last user turn's."""
    messages = [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "%%say yes%%"}]
    require(setting.create(messages).choices[0].message.content.strip() == "yes", "the answer is another")


@check
def a_conversation_goes_on(setting):
    messages = [{"role": "user", "content": "%%say first answer%%"}]
    first = setting.create(messages).choices[0].message.content
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "%%say second answer%%"}]
    second = setting.create(messages).choices[0].message.content
    require(second.strip() == "second answer", f"the second answer is {second!r}")


@check
def a_client_that_leaves_stops_the_model(setting):
    stream = setting.create("%%hang%%", stream=True)
    for event in stream:
        if event.choices and event.choices[0].delta.content:
            break
    stream.close()
    until = time.monotonic() + 15
    while not any(entry["end"] == "left" for entry in setting.model.seen()[setting.began :]):
        require(time.monotonic() < until, "the agent's own connection to its model is still open after 15 s")
        time.sleep(0.02)
    require(setting.create("%%say still here%%").choices[0].message.content.strip() == "still here", "the next request fails")


@check
def two_clients_at_once_do_not_mix(setting):
    def ask(who):
        content, *_ = setting.stream(f"%%say {(who + ' ') * 20}%%")
        return set(content.split())

    with ThreadPoolExecutor(4) as pool:
        for who, words in zip("abgd", pool.map(ask, ["alpha", "beta", "gamma", "delta"]), strict=True):
            require(len(words) == 1 and words.pop().startswith(who), f"{who} got words of others")


@check
def a_model_is_chosen_by_its_name(setting):
    """Each of two names of models has the agent ask for another model."""
    names = [name for name in setting.names if "/" in name]
    wanted = setting.agent.models or tuple(names[-2:])
    asked = []
    for name in wanted:
        require(name in setting.names, f"{name} is not among {setting.names[:20]}")
        began = len(setting.model.seen())
        setting.create("%%say chosen%%", model=name)
        asked.append({entry["model"] for entry in setting.model.seen()[began:]})
    told = ", ".join(f"{name} asks for {sorted(models)}" for name, models in zip(wanted, asked, strict=True))
    require(asked[0] != asked[1], told)
    return f"of {len(setting.names)} names {told}"


@check
def an_error_of_the_model_is_an_error(setting):
    began = time.monotonic()
    try:
        answer = setting.create("%%fail 400%%", timeout=110)
    except openai.APIStatusError as error:
        require(setting.create("%%say well again%%").choices[0].message.content.strip() == "well again", "the next request fails")
        return f"{error.status_code} {error.code} after {time.monotonic() - began:.1f} s"
    raise Failed(f"it was answered by {answer.choices[0].message.content!r}")


@check
def the_callers_tools_are_called_to_the_end(setting):
    messages = [{"role": "user", "content": '%%call get_weather {"city": "Oslo"}%%'}]
    answer = setting.create(messages, tools=[WEATHER]).choices[0]
    require(answer.finish_reason == "tool_calls", f"finish_reason is {answer.finish_reason}, content {answer.message.content!r}")
    call = answer.message.tool_calls[0]
    require(call.function.name == "get_weather", f"the tool is {call.function.name}")
    require(json.loads(call.function.arguments) == {"city": "Oslo"}, f"the arguments are {call.function.arguments}")
    messages += [answer.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "4 degrees and rain"}]
    final = setting.create(messages, tools=[WEATHER]).choices[0]
    require("4 degrees and rain" in (final.message.content or ""), f"the final answer is {final.message.content!r}")
    require(final.finish_reason == "stop", f"its finish_reason is {final.finish_reason}")


@check
def no_prompt_becomes_a_command(setting):
    if setting.agent.shell is None:
        return "the agent has no shell"
    file = setting.home / "made-by-a-prompt"
    order = {"command": f"touch {file}", "cmd": f"touch {file}", "description": "x"}
    try:
        setting.create(f"%%call {setting.agent.shell} {json.dumps(order)}%%")
    except openai.APIStatusError:
        pass
    require(not file.exists(), f"the command ran: {file} is there")
    offered = [entry["tools"] for entry in setting.model.seen()]
    return f"tools of its own that the model is told of: {sum(map(len, offered[-1:]))}"


def conversations(setting, count, turns):
    """What the agent says in `count` conversations that take turns, each with a word of its own."""
    names = [f"canary-{number:02}" for number in range(count)]
    messages = {name: [{"role": "system", "content": f"You are called {name}."}] for name in names}
    said = {name: [] for name in names}
    began = len(setting.model.seen())
    for turn in range(turns):
        for name in names:
            messages[name].append({"role": "user", "content": f"%%say {name} in turn {turn}%%"})
            text = setting.create(messages[name]).choices[0].message.content
            messages[name].append({"role": "assistant", "content": text})
            said[name].append(text.strip())
    for entry in setting.model.seen()[began:]:
        require(len(entry["canaries"]) <= 1, f"one request to the model holds {entry['canaries']}")
    for name, texts in said.items():
        require(texts == [f"{name} in turn {turn}" for turn in range(turns)], f"{name} heard {texts}")
    return said, sum(entry["bytes"] for entry in setting.model.seen()[began:])


def reuse_changes_no_word(path, agent, model):
    """200 requests in 20 conversations, with the agent's sessions used again and with a new one for each request."""
    results = []
    for reuse in (True, False):
        with tempfile.TemporaryDirectory(prefix="agents-") as home:
            entry = agent.entry | {"reuse": reuse, "sessions": {"keep": 24}}
            setting = Setting(path, replace(agent, entry=entry), model, home)
            try:
                setting.wait_for_model()
                results.append(conversations(setting, 20, 10))
            finally:
                setting.program.stop()
    (with_reuse, _), (without, _) = results
    require(with_reuse == without, "the texts differ")
    return "no conversation heard of another"


def fifty_questions_leave_few_sessions(path, agent, model):
    """Each a conversation of its own: the sessions that are told, and the processes and the memory that the system shows."""
    with tempfile.TemporaryDirectory(prefix="agents-") as home:
        setting = Setting(path, agent, model, home)

        def kept():
            with urllib.request.urlopen(setting.program.base + "/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            return next(int(line.split()[1]) for line in lines if "agent_sessions{" in line and 'state="kept"' in line)

        try:
            setting.wait_for_model()
            for number in range(50):
                setting.create(f"%%say number {number}%%")
            sessions, at_once = kept(), agent_processes(setting.program.process.pid)
            memory = most = pss(at_once) >> 20
            require(sessions <= 4, f"{sessions} sessions are kept")
            # The next measurement finds memory over the bound.
            until = time.monotonic() + 30
            while memory >= agent.memory:
                require(time.monotonic() < until, f"its processes take {memory} MiB after 30 s")
                time.sleep(0.5)
                memory = pss(agent_processes(setting.program.process.pid)) >> 20
            until = time.monotonic() + 30
            while kept() > 1:
                require(time.monotonic() < until, f"{kept()} sessions are kept after 30 s")
                time.sleep(0.1)
            # The last one may be ending.
            time.sleep(1)
            later = agent_processes(setting.program.process.pid)
            return f"{len(at_once)} processes with {most} MiB, then {len(later)} with {pss(later) >> 20} MiB"
        finally:
            setting.program.stop()


class Direct:
    """The agent, asked without the program: a line of JSON goes in, the first piece of text comes out."""

    def __init__(self, agent, home):
        command, environment = agent.entry["command"], os.environ | agent.entry["env"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=home)
        self.ids = 0
        self.call("initialize", {"protocolVersion": 1, "clientCapabilities": {}})

    def call(self, method, params):
        self.ids += 1
        self.send(method, params)
        while (message := self.read()).get("id") != self.ids or "method" in message:
            pass
        return message["result"]

    def send(self, method, params):
        line = {"jsonrpc": "2.0", "id": self.ids, "method": method, "params": params}
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()

    def read(self):
        return json.loads(self.process.stdout.readline())

    def new_session(self):
        return self.call("session/new", {"cwd": "/tmp", "mcpServers": []})["sessionId"]

    def first_token(self, session, text):
        self.ids += 1
        began = time.monotonic()
        self.send("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})
        took = None
        while (message := self.read()).get("id") != self.ids:
            if took is None and b"agent_message_chunk" in json.dumps(message).encode():
                took = time.monotonic() - began
        return took


def first_token(setting, text):
    """The same through the program, by a plain socket."""
    body = json.dumps({"model": setting.agent.name, "stream": True, "messages": [{"role": "user", "content": text}]}).encode()
    host, port = setting.program.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        began = time.monotonic()
        connection.sendall(head.encode() + body)
        answer, took = b"", None
        while received := connection.recv(65536):
            answer += received
            if took is None and b"first" in answer:
                took = time.monotonic() - began
        return took


def the_first_token_comes_soon(path, agent, model):
    """From the prompt to the first text: by the agent itself and through the program, in turns, each in a warm session. The least of
    each counts: other work on the machine only ever adds to it."""
    through, direct = [], []
    with tempfile.TemporaryDirectory(prefix="agents-") as home:
        setting = Setting(path, agent, model, home)
        bare = Direct(agent, home)
        try:
            setting.wait_for_model()
            for _ in range(25):
                direct.append(bare.first_token(bare.new_session(), "%%say first token%%"))
                through.append(first_token(setting, "%%say first token%%"))
        finally:
            bare.process.kill()
            setting.program.stop()
    through, direct = (min(times) * 1000 for times in (through, direct))
    require(through - direct <= 10, f"{through:.1f} ms through the program, {direct:.1f} ms without it")
    return f"{direct:.1f} ms by itself, {through:.1f} ms through the program"


def run(path, agent, model):
    with tempfile.TemporaryDirectory(prefix="agents-") as home:
        setting = Setting(path, agent, model, home)
        failed = 0
        try:
            began = time.monotonic()
            setting.names = setting.wait_for_model()
            print(f"{agent.name}: registered after {time.monotonic() - began:.1f} s", flush=True)
            for function in CHECKS:
                setting.began = len(model.seen())
                began = time.monotonic()
                try:
                    note = function(setting)
                    print(f"{agent.name}: ok {function.__name__} ({time.monotonic() - began:.1f} s){'; ' + note if note else ''}", flush=True)
                except (Failed, openai.OpenAIError) as error:
                    failed += 1
                    print(f"{agent.name}: FAILED {function.__name__}: {error}\n{setting.program.tail()}", flush=True)
        finally:
            setting.program.stop()
    wide = [reuse_changes_no_word, the_first_token_comes_soon] if "command" in agent.entry else []
    for function in [fifty_questions_leave_few_sessions, *wide]:
        began = time.monotonic()
        try:
            note = function(path, agent, model)
            print(f"{agent.name}: ok {function.__name__} ({time.monotonic() - began:.1f} s); {note}", flush=True)
        except (Failed, openai.OpenAIError) as error:
            failed += 1
            print(f"{agent.name}: FAILED {function.__name__}: {error}", flush=True)
    return failed


def main():
    path, *wanted = sys.argv[1:]
    model = Model()
    try:
        known = agents(model)
        for name in wanted:
            require(any(agent.name == name for agent in known), f"{name} is not one of {[agent.name for agent in known]}")
        failed = 0
        for agent in known:
            if wanted and agent.name not in wanted:
                continue
            if agent.program and not shutil.which(agent.program):
                print(f"{agent.name}: left out, {agent.program} is not on the PATH")
                continue
            failed += run(path, agent, model)
        print("every check passed" if failed == 0 else f"{failed} checks failed")
        return failed > 0
    finally:
        model.process.kill()


if __name__ == "__main__":
    # A thread of the standard library must not keep the program alive after a failure.
    threading.excepthook = lambda _: None
    sys.exit(main())
