"""An agent that wants a login: it makes no session until the file that it is given is there when it starts.

    python login_agent.py LOGIN_FILE STARTS_FILE
"""

import json
import sys
from pathlib import Path

logged_in = Path(sys.argv[1]).exists()
with open(sys.argv[2], "a") as starts:
    starts.write("start\n")
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"jsonrpc": "2.0", "id": asked.get("id")}
    match asked.get("method"):
        case "initialize":
            answer["result"] = {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": [{"id": "web", "name": "Web"}]}
        case "session/new" if logged_in:
            answer["result"] = {"sessionId": "s1"}
        case "session/new":
            answer["error"] = {"code": -32000, "message": "Authentication required: token expired"}
        case "session/prompt":
            text = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "logged in"}}
            update = {"sessionId": "s1", "update": text}
            print(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": update}), flush=True)
            answer["result"] = {"stopReason": "end_turn"}
        case _:
            continue
    print(json.dumps(answer), flush=True)
