#!/usr/bin/env python3
"""Reads the OpenAPI pages as programs do that are not ours: an independent validator, and a generator of clients whose result calls
tools. The server behind it is servers/everything.mjs.

    openapi.py BASE SERVER --key KEY

BASE: the program's address. One line for each check; the exit status is 1 if one failed.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from openapi_spec_validator import validate


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


def generate(document, folder, name):
    """A package that the generator makes of the document."""
    source = Path(folder, f"{name}.json")
    source.write_text(json.dumps(document))
    settings = Path(folder, "settings.json")
    # The generated files are read by nobody, so no formatter is run on them.
    settings.write_text(json.dumps({"post_hooks": [], "package_name_override": name}))
    command = [Path(sys.prefix, "bin/openapi-python-client"), "generate", "--path", source, "--output-path", Path(folder, name)]
    command += ["--meta", "none", "--config", settings, "--fail-on-warning"]
    done = subprocess.run(command, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the generator ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return importlib.import_module(name)


def of_the_server(base, server, key, folder):
    """the page of one server: it is valid, and a generated client calls its tools by their names and arguments"""
    address = f"{base}/servers/{server}/openapi.json"
    document = httpx.get(address, headers={"Authorization": f"Bearer {key}"}).raise_for_status().json()
    validate(document)
    made = generate(document, folder, "of_the_server")
    place = str(httpx.URL(address).join(document["servers"][0]["url"]))
    with made.AuthenticatedClient(base_url=place, token=key) as client:
        models, tools = importlib.import_module("of_the_server.models"), "of_the_server.api.default"
        echo = importlib.import_module(f"{tools}.echo").sync_detailed(client=client, body=models.EchoInput(text="\u00e9 \U0001f600"))
        expect((echo.status_code, echo.parsed), (200, "\u00e9 \U0001f600"), "answer of echo")
        total = importlib.import_module(f"{tools}.sum_").sync_detailed(client=client, body=models.SumInput(numbers=[1, 2.5]))
        expect((total.status_code, total.parsed.to_dict()), (200, {"sum": 3.5}), "answer of sum")
        wrong = importlib.import_module(f"{tools}.sum_").sync_detailed(client=client, body=models.SumInput(numbers=["one"]))
        expect((int(wrong.status_code), type(wrong.parsed).__name__), (500, "Failure"), "answer of a tool that failed")
    with made.AuthenticatedClient(base_url=place, token="wrong") as client:
        denied = importlib.import_module(f"{tools}.echo").sync_detailed(client=client, body=models.EchoInput(text="x"))
        expect((int(denied.status_code), type(denied.parsed).__name__), (401, "Failure"), "answer without a key")


def of_the_program(base, server, key, folder):
    """the page of the program: it is valid, and a generated client finds and calls a tool"""
    document = httpx.get(f"{base}/openapi.json").raise_for_status().json()
    validate(document)
    made = generate(document, folder, "of_the_program")
    models = importlib.import_module("of_the_program.models")
    with made.AuthenticatedClient(base_url=base, token=key) as client:

        def post(operation, **fields):
            body = getattr(models, f"Post{operation}Body").from_dict(fields)
            return importlib.import_module(f"of_the_program.api.rest.post_{operation.lower()}").sync_detailed(client=client, body=body)

        found = post("Toolsdiscover", server=server)
        names = {tool["name"] for tool in json.loads(found.content)["tools"]}
        expect((int(found.status_code), "echo" in names), (200, True), "answer of discover")
        called = post("Toolscall", server=server, tool="echo", params={"text": "hello"})
        expect((int(called.status_code), "hello" in called.content.decode()), (200, True), f"answer of call ({called.content!r})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("server")
    parser.add_argument("--key", required=True)
    given = parser.parse_args()
    failed = 0
    checks = [of_the_server, of_the_program]
    with tempfile.TemporaryDirectory(prefix="mlp-openapi-") as folder:
        sys.path.insert(0, folder)
        for each in checks:
            try:
                each(given.base, given.server, given.key, folder)
            except Exception as error:
                failed += 1
                print(f"FAILED {each.__name__}: {each.__doc__}\n    {type(error).__name__}: {error}", flush=True)
            else:
                print(f"ok {each.__name__}: {each.__doc__}", flush=True)
    print(f"{failed} of {len(checks)} checks failed" if failed else f"{len(checks)} checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
