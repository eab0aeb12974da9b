#!/usr/bin/env python3
"""Has the program ask a real server of models, through the official client packages. Started by run.sh; see there."""
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import anthropic
import ollama
import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))
from program import Failed, Program  # noqa: E402

KEY = "sk-the-key-of-the-upstream"
CLIENT_KEY = "the-key-of-the-client"
CHAT = [{"role": "user", "content": "Hello"}]


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


def require(truth, what):
    if not truth:
        raise Failed(what)


class Setting:
    """The program, the server behind it, and the clients."""

    def __init__(self, program, server):
        self.program, self.server = program, server
        self.openai = openai.OpenAI(base_url=f"{program.base}/v1", api_key=CLIENT_KEY, max_retries=0, timeout=60)
        self.ollama = ollama.Client(host=program.base, headers={"Authorization": f"Bearer {CLIENT_KEY}"}, timeout=60)
        self.anthropic = anthropic.Anthropic(base_url=program.base, api_key=CLIENT_KEY, max_retries=0, timeout=60)
        # The server itself, as others ask it.
        self.direct = openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0, timeout=60)

    def said(self, model, stream, tokens):
        """(text, prompt tokens, completion tokens) of the same question in each dialect."""
        given = {"model": model, "messages": CHAT, "max_tokens": tokens, "temperature": 0}
        if stream:
            chunks = list(self.openai.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}))
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            yield "openai", text, chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens
        else:
            answer = self.openai.chat.completions.create(**given)
            yield "openai", answer.choices[0].message.content, answer.usage.prompt_tokens, answer.usage.completion_tokens
        options = {"num_predict": tokens, "temperature": 0}
        if stream:
            parts = list(self.ollama.chat(model=model, messages=CHAT, options=options, stream=True))
            yield "ollama", "".join(p.message.content or "" for p in parts), parts[-1].prompt_eval_count, parts[-1].eval_count
        else:
            answer = self.ollama.chat(model=model, messages=CHAT, options=options)
            yield "ollama", answer.message.content, answer.prompt_eval_count, answer.eval_count
        given = {"model": model, "messages": CHAT, "max_tokens": tokens, "extra_body": {"temperature": 0}}
        if stream:
            with self.anthropic.messages.stream(**given) as streamed:
                answer = streamed.get_final_message()
        else:
            answer = self.anthropic.messages.create(**given)
        yield "anthropic", answer.content[0].text, answer.usage.input_tokens, answer.usage.output_tokens


def lists(s, kind):
    """its models are listed"""
    ids = [model.id for model in s.openai.models.list()]
    require({"tiny", f"{kind}/tiny"} <= set(ids), f"models are {ids}")


def answers(s, kind):
    """each dialect gets the server's own answer and its count of tokens, whole and streamed"""
    answer = s.direct.chat.completions.create(model="tiny", messages=CHAT, max_tokens=8, temperature=0)
    wanted = answer.choices[0].message.content, answer.usage.prompt_tokens, answer.usage.completion_tokens
    for stream in (False, True):
        for dialect, *seen in s.said("tiny", stream, 8):
            expect(seen[0], wanted[0], f"text in {dialect}, stream={stream}")
            # A server may count otherwise where it streams or is asked in another API, and does not say so.
            if not stream and kind == "custom":
                expect(tuple(seen[1:]), wanted[1:], f"tokens in {dialect}, stream={stream}")
            require(all(seen[1:]), f"tokens in {dialect}, stream={stream}: {seen[1:]}")


def counts(s, kind):
    """count_tokens is the server's own"""
    body = json.dumps({"model": "tiny", "messages": CHAT}).encode()
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    asked = urllib.request.Request(f"{s.server}/v1/messages/count_tokens", body, headers)
    wanted = json.load(urllib.request.urlopen(asked, timeout=30))["input_tokens"]
    # The estimate of this prompt is another.
    require(wanted > 3, f"the server counts {wanted}")
    expect(s.anthropic.messages.count_tokens(model="tiny", messages=CHAT).input_tokens, wanted, "count")


def unknown_model(s, kind):
    """a model that it does not have is 404 in each dialect"""
    for ask, error in ((lambda: s.openai.chat.completions.create(model=f"{kind}/none", messages=CHAT), openai.NotFoundError),
                       (lambda: s.ollama.chat(model=f"{kind}/none", messages=CHAT), ollama.ResponseError),
                       (lambda: s.anthropic.messages.create(model=f"{kind}/none", messages=CHAT, max_tokens=9), anthropic.NotFoundError)):
        try:
            ask()
        except error as refusal:
            expect(refusal.status_code, 404, "status")
        else:
            raise Failed("a model that is not there answers")


def schema(s, kind):
    """a JSON schema holds, from each dialect that has them"""
    form = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"], "additionalProperties": False}
    answer = s.openai.chat.completions.create(
        model="tiny", messages=CHAT, max_tokens=60, response_format={"type": "json_schema", "json_schema": {"name": "f", "schema": form}})
    expect(json.loads(answer.choices[0].message.content), {"city": "Oslo"}, "answer for openai")
    answer = s.ollama.chat(model="tiny", messages=CHAT, format=form, options={"num_predict": 60})
    expect(json.loads(answer.message.content), {"city": "Oslo"}, "answer for ollama")


def unknown_fields(s, kind):
    """fields that only this server knows reach it: a grammar"""
    answer = s.openai.chat.completions.create(model="tiny", messages=CHAT, max_tokens=60, extra_body={"grammar": 'root ::= "quite so"'})
    expect(answer.choices[0].message.content, "quite so", "answer")


def too_long(s, kind):
    """a prompt that is too long is a 400 in each dialect, as these packages expect it"""
    chat = [{"role": "user", "content": "x" * 4000}]
    try:
        s.openai.chat.completions.create(model="tiny", messages=chat)
    except openai.BadRequestError as error:
        expect(error.code, "context_length_exceeded", f"code of {error}")
    else:
        raise Failed("a prompt that is too long is answered")
    try:
        s.anthropic.messages.create(model="tiny", messages=chat, max_tokens=9)
    except anthropic.BadRequestError as error:
        require("prompt is too long" in str(error), f"message: {error}")
    else:
        raise Failed("a prompt that is too long is answered")


def leaving(s, kind):
    """who leaves a long answer stops it: the server's slot is free again"""
    with s.openai.chat.completions.create(model="tiny", messages=CHAT, max_tokens=400, stream=True, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream))
    for _ in range(200):
        slots = json.load(urllib.request.urlopen(f"{s.server}/slots", timeout=30))
        if not any(slot["is_processing"] for slot in slots):
            return
    raise Failed(f"a slot is busy: {slots}")


SERVERS = {
    "llama": (["custom"], [lists, answers, unknown_model, schema, unknown_fields, too_long, leaving]),
    "litellm": (["custom", "anthropic"], [lists, answers, unknown_model, counts]),
}


def main():
    which, program = sys.argv[1:3]
    kinds, checks = SERVERS[which]
    with tempfile.TemporaryDirectory(prefix="mlp-servers-") as folder:
        script = Path(__file__).with_name(f"{which}_server.py")
        with open(Path(folder, "server.log"), "w") as log:
            server = subprocess.Popen([sys.executable, "-B", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        running = []
        try:
            address = server.stdout.readline().strip()
            require(address.startswith("http://"), f"{which} does not start: {Path(folder, 'server.log').read_text()[-2000:]}")
            for kind in kinds:
                home = Path(folder, kind)
                home.mkdir()
                path = "/v1" if kind == "custom" else ""
                (home / "config.yaml").write_text(
                    'listen: { http: ["127.0.0.1:0"], ollama: off }\n'
                    f'auth: {{ keys: [{{ name: client, key: "{CLIENT_KEY}", role: client }}] }}\n'
                    f'upstreams: [{{ name: {kind}, kind: {kind}, url: "{address}{path}", key: "{KEY}" }}]\n')
                running.append(Program(program, home, "--config", "config.yaml"))
                s = Setting(running[-1], address)
                # A request for NAME/MODEL waits for the first list.
                s.ollama.chat(model=f"{kind}/tiny", messages=CHAT, options={"num_predict": 1})
                for check in checks:
                    if check is counts and kind != "anthropic":
                        continue
                    try:
                        check(s, kind)
                    except Exception as error:
                        print(f"FAIL {which} as {kind}: {check.__doc__}\n     {type(error).__name__}: {error}\n{running[-1].tail()}")
                        return 1
                    print(f"ok   {which} as {kind}: {check.__doc__}", flush=True)
        finally:
            for one in running:
                one.process.kill()
            server.stdin.close()
            server.wait(30)
    return 0


sys.exit(main())
