"""docs/agent-protocol.schema.json as something to hold messages against, and the examples of docs/agent-protocol.md."""
import json
import re
from pathlib import Path

import jsonschema

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = json.loads((DOCS / "agent-protocol.schema.json").read_text())
DIRECTIONS = ("from_agent", "from_provider")

jsonschema.Draft202012Validator.check_schema(SCHEMA)


def _validator(definition):
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/$defs/{definition}", "$defs": SCHEMA["$defs"]},
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


_BY_DIRECTION = {direction: _validator(direction) for direction in DIRECTIONS}
_BY_NAME = {name: _validator(name) for name in SCHEMA["$defs"]}
PARAMETERS = frozenset(SCHEMA["$defs"]["parameters"]["properties"])


def fault(direction, message):
    """Why `message` may not travel in `direction`, or None."""
    if _BY_DIRECTION[direction].is_valid(message):
        return None
    kind = message.get("type") if isinstance(message, dict) else None
    name = kind if kind in _BY_NAME else {"from_agent": "agent_error", "from_provider": "provider_error"}[direction]
    errors = list(_BY_NAME[name].iter_errors(message)) or list(_BY_DIRECTION[direction].iter_errors(message))
    worst = jsonschema.exceptions.best_match(errors)
    return f"{worst.json_path}: {worst.message} in {json.dumps(message)[:600]}"


def examples():
    """(direction, message) of every example in the documentation."""
    text = (DOCS / "agent-protocol.md").read_text()
    for info, body in re.findall(r"^```(.+?)\n(.*?)^```$", text, re.M | re.S):
        for line in body.splitlines():
            if info.startswith("json "):
                yield info.split()[1], json.loads(line)
            elif info == "transcript":
                yield {">": "from_agent", "<": "from_provider"}[line[0]], json.loads(line[2:])
