#!/usr/bin/env python3
"""A client for the official conformance suite: the program before the suite's server, where a person logs in.

    login.py PROGRAM URL

The suite says in a variable what somebody would have registered by hand. A client that knows nothing of logins calls each tool through
the gateway. Where that fails and the error names a login, a person does that, opens the address that it shows, and consents, three
times at most. Exit status 1 when there is no way on.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
from program import Failed, Program, own_environment  # noqa: E402

KEY = "the-key-of-the-client"
# The suite's authorization servers know this document.
DOCUMENT = "https://conformance-test.local/client-metadata.json"
LOGINS = 3


class Stays(urllib.request.HTTPRedirectHandler):
    """Redirections are for the browser below."""

    def redirect_request(self, *_):
        return None


ASKING = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stays)


def browse(url):
    """Opens an address as a browser does, to its end."""
    for _ in range(10):
        try:
            with ASKING.open(url, timeout=20) as answer:
                answer.read()
                return
        except urllib.error.HTTPError as refused:
            if refused.code not in (301, 302, 303, 307):
                raise Failed(f"the browser sees HTTP status {refused.code}") from None
            url = refused.headers["Location"]
    raise Failed("the browser is sent from place to place")


def log_in(program, home, config, *more):
    """One login by a person."""
    command = [str(program), "mcp", "login", "far", "--no-browser", "--config", str(config), *more]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=own_environment(home), text=True, **streams)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(("http://", "https://")):
            try:
                browse(line.strip())
            except Failed as failure:
                process.kill()
                raise Failed(f"{failure}; {''.join(said)}") from None
    if process.wait(60):
        raise Failed("".join(said))
    print("".join(said[-3:]), flush=True)


def configuration(url):
    known = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    oauth = {name: known[name] for name in ("client_id", "client_secret") if known.get(name)}
    return json.dumps(
        {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"keys": [{"name": "editor", "key": KEY, "role": "client", "allow": ["mcp"]}]},
            "gateway": {"restart": {"delay": "50ms"}},
            "mcpServers": {"far": {"url": url, "oauth": {**oauth, "client_metadata_url": DOCUMENT}}},
            "data_dir": "./data",
        }
    )


class Client:
    """A client of the gateway, which knows nothing of logins."""

    def __init__(self, base):
        self.url, self.session = f"{base}/servers/far/mcp", {}

    def ask(self, method, params, number=1):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if number:
            message["id"] = number
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self.session,
        }
        request = urllib.request.Request(self.url, json.dumps(message).encode(), headers)
        try:
            with ASKING.open(request, timeout=30) as answer:
                text = answer.read().decode()
                if session := answer.headers["Mcp-Session-Id"]:
                    self.session = {"Mcp-Session-Id": session}
        except urllib.error.HTTPError as refused:
            text = refused.read().decode()
        if not number:
            return None
        text = text.rstrip().rsplit("data: ")[-1]
        answer = json.loads(text)
        if "error" in answer:
            raise Failed(answer["error"]["message"])
        return answer["result"]

    def use(self):
        """All that a client does with a server."""
        if not self.session:
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}}
            self.ask("initialize", hello)
            self.ask("notifications/initialized", {}, None)
        for number, tool in enumerate(self.ask("tools/list", {}, 2)["tools"], 3):
            self.ask("tools/call", {"name": tool["name"], "arguments": {}}, number)


def use(program, home, config, client):
    """Uses the server, with a login where the error names one."""
    for left in reversed(range(LOGINS + 1)):
        try:
            return client.use()
        except Failed as failure:
            hint = re.search(r"`mcp login far(?: --scope '([^']*)')?`", str(failure))
            if not hint or not left:
                raise
            print(failure, flush=True)
            log_in(program, home, config, *(["--scope", hint[1]] if hint[1] else []))


def main():
    program, url = Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="mlp-login-") as home:
        config = Path(home, "config.yaml")
        config.write_text(configuration(url))
        running = Program(program, home, "--config", str(config))
        try:
            use(program, home, config, Client(running.base))
        except Failed as failure:
            print(failure, running.tail(), flush=True)
            return 1
        finally:
            running.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
