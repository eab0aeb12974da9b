"""An agent that runs one process for each session, as some real ones do, without a model behind it.

    python process_agent.py MEBIBYTES [never-closes]

Each session's process takes MEBIBYTES of memory. The answer to a prompt is `SESSION TURN`: the name of the session and the
number of its turn. A prompt with the word HOLD is answered once the file that follows it is there. With `never-closes` the agent
has no `session/close`.
"""

import json
import os
import subprocess
import sys
import threading
import time

HOLDS = "import sys; held = b'x' * (int(sys.argv[1]) << 20); print('ready', flush=True); sys.stdin.read()"
closes = "never-closes" not in sys.argv
sessions, turns, lock = {}, {}, threading.Lock()


def say(message):
    with lock:
        print(json.dumps({"jsonrpc": "2.0"} | message), flush=True)


def new_session():
    name = f"s{len(turns) + 1}"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    sessions[name], turns[name] = process, 0
    return {"sessionId": name}


def prompt(identity, params):
    name = params["sessionId"]
    words = params["prompt"][0]["text"].split()
    if "HOLD" in words:
        file = words[words.index("HOLD") + 1]
        while not os.path.exists(file):
            time.sleep(0.01)
    turns[name] += 1
    text = {"type": "text", "text": f"{name} {turns[name]}"}
    say({"method": "session/update", "params": {"sessionId": name, "update": {"sessionUpdate": "agent_message_chunk", "content": text}}})
    say({"id": identity, "result": {"stopReason": "end_turn"}})


def close(name):
    process = sessions.pop(name)
    process.kill()
    process.wait()
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    identity, params = asked.get("id"), asked.get("params")
    match asked.get("method"):
        case "initialize":
            able = {"sessionCapabilities": {"close": {}}} if closes else {}
            say({"id": identity, "result": {"protocolVersion": 1, "agentCapabilities": able}})
        case "session/new":
            say({"id": identity, "result": new_session()})
        case "session/prompt":
            threading.Thread(target=prompt, args=(identity, params), daemon=True).start()
        case "session/close":
            say({"id": identity, "result": close(params["sessionId"])})
