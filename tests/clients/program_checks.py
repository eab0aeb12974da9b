"""Programs that people use: each streams, runs a tool and uses its result, tells an error, and survives the death of an agent."""
import json
from contextlib import contextmanager
from pathlib import Path

from harness import BRIDGE_KEY, CLIENT_KEY, MODEL, by_name, check, expect, require
from programs import folder, install, run
from scripted_agent import ScriptedAgent

# What comes out shows that the command was run: its text has neither the marks, given in octal, nor the number.
SHELL = r"printf '\342\237\246say:the tool gave %s\342\237\247' $((6*7))"
USED = "the tool gave 42"


def call(tool, **arguments):
    """The prompt that has the agent call a tool."""
    return f"⟦tool:{tool}:{json.dumps(arguments, ensure_ascii=False)}⟧"


@contextmanager
def mortal(s):
    """The name of a model whose agent may die."""
    agent = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "mortal")
    try:
        yield agent.model
    finally:
        agent.kill()
        agent.wait(lambda: agent.closed, "its end")
    require(not agent.faults, f"frames against the schema: {agent.faults}")


def says(what, wanted, done, status=0):
    """The client succeeded and gave this, or failed and told this."""
    require(bool(done[0]) == bool(status), f"{what}: exit status {done[0]}, {done[1:]}")
    require(wanted in done[1] + (done[2] if status else ""), f"{what}: no {wanted!r} in {done[1:]}")


def node(s, *what, base=None):
    """Runs checks of sdk_checks.mjs, at the program's address or another one."""
    home = install("sdk").parent.parent
    script = home / "sdk_checks.mjs"
    script.write_bytes(Path(__file__).with_name(script.name).read_bytes())
    with mortal(s) as dies:
        done = run(["node", script, *what, base or s.program.base, CLIENT_KEY, MODEL, dies], home)
    require(done[0] == 0, f"{what}: {done[1]}{done[2][-2000:]}")


@check
def openai_node(s):
    """openai-node, newest and Void's: lists, streams, tools, Responses, fill in the middle, errors, an agent that dies"""
    node(s, "openai", "openai")
    node(s, "openai", "openai-of-void")


@check
def ollama_js(s):
    """ollama-js, newest and Void's: lists, streams, tools, fill in the middle, errors, an agent that dies"""
    node(s, "ollama", "ollama")
    node(s, "ollama", "ollama-of-void")


@check
def ollama_js_with_nothing_but_the_host(s):
    """ollama-js, newest and Void's, without a key where programs look for an Ollama"""
    node(s, "keyless", "ollama", base=s.program.last)
    node(s, "keyless", "ollama-of-void", base=s.program.last)


@check
def ai_sdk(s):
    """AI SDK with @ai-sdk/openai-compatible: streams, tools, reasoning, objects, vectors, errors, an agent that dies"""
    node(s, "ai", "@ai-sdk/openai-compatible")


@check
def llm(s):
    """llm: streamed and whole, a Python function as a tool, a schema, an error, an agent that dies"""
    commands = install("llm")
    with folder() as home, mortal(s) as dies:
        models = [{"model_id": name, "model_name": name, "api_base": f"{s.program.base}/v1", "api_key_name": "local",
                   "supports_tools": True, "supports_schema": True} for name in (MODEL, dies)]
        # JSON is YAML.
        (home / "extra-openai-models.yaml").write_text(json.dumps(models))
        ask = lambda *words, model=MODEL: run([commands / "llm", "-m", model, "--key", CLIENT_KEY, *words], home, LLM_USER_PATH=str(home))
        says("streamed", "Hello from the agent", ask("say:Hello from the agent"))
        says("whole", "Hello whole", ask("--no-stream", "say:Hello whole"))
        weather = 'def weather(city: str) -> str:\n    "The weather of a city"\n    return f"say:rain in {city}, {6 * 7} mm"'
        says("tool", "rain in Oslo, 42 mm", ask("--functions", weather, call("weather", city="Oslo")))
        says("schema", '"age":3', ask("--schema", "name, age int", 'say:{"name":"a","age":3}'))
        expect(s.agent.last()["payload"]["parameters"]["response_format"]["type"], "json_schema", "response_format at the agent")
        says("error", "the agent says context_length", ask("error:context_length"), 1)
        says("death", "agent", ask("die", model=dies), 1)


@check
def codex(s):
    """Codex CLI: streams over /v1/responses and with --oss, runs a command and uses what it gave, reasoning, errors, an agent that dies"""
    commands = install("codex")
    with folder() as home, mortal(s) as dies:
        (home / ".codex").mkdir()
        (home / ".codex/config.toml").write_text(f"""
model = "my-gpt-4o"
model_provider = "local"
check_for_update_on_startup = false
[model_providers.local]
name = "MCP Local Provider"
base_url = "{s.program.base}/v1"
env_key = "LOCAL_PROVIDER_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
""")
        words = ["exec", "--skip-git-repo-check", "--ephemeral", "--dangerously-bypass-approvals-and-sandbox"]
        ask = lambda prompt, *more, key=CLIENT_KEY: run([commands / "codex", *words, *more, prompt], home, LOCAL_PROVIDER_KEY=key)
        says("streamed", "Hello from the agent\n", ask("⟦say:Hello from the agent⟧"))
        says("tool", f"{USED}\n", ask(call("exec_command", cmd=SHELL)))
        seen = s.agent.last()["payload"]["messages"][-2:]
        expect((seen[0]["tool_calls"][0]["id"], seen[1]["role"]), (seen[1]["tool_call_id"], "tool"), "call and result at the agent")
        status, answer, progress = ask("⟦think:Let me think⟧", "-m", MODEL)
        says("reasoning", "Let me think\n", (status, progress, ""))
        expect(answer, "done\n", "answer after reasoning")
        says("context", "ran out of room", ask("⟦error:context_length⟧"), 1)
        says("late error", "the agent says internal", ask("⟦late:internal⟧"), 1)
        says("death", "agent", ask("⟦die⟧", "-m", dies), 1)
        says("unknown model", "`no-such` does not exist", ask("⟦say:x⟧", "-m", "no-such"), 1)
        says("bad key", "this API key is not known", ask("⟦say:x⟧", key="nobody"), 1)
        for kind in ("ollama", "lmstudio"):
            says(kind, f"Hello as {kind}\n", run(
                [commands / "codex", *words, "--oss", "--local-provider", kind, "-m", MODEL, f"⟦say:Hello as {kind}⟧"], home,
                CODEX_HOME=str(home / ".codex"), CODEX_OSS_BASE_URL=f"{s.program.base}/k/{CLIENT_KEY}/v1"))


@check
def claude_code(s):
    """Claude Code: streams over /v1/messages, runs a command and uses what it gave, thinking, errors, an agent that dies"""
    commands = install("claude")
    with folder() as home, mortal(s) as dies:
        environment = {"ANTHROPIC_BASE_URL": s.program.base, "ANTHROPIC_SMALL_FAST_MODEL": MODEL, "CLAUDE_CODE_MAX_RETRIES": "0",
                       "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        ask = lambda prompt, *more, model=MODEL, key=CLIENT_KEY: run(
            [commands / "claude", "-p", "--model", model, *more], home, prompt, ANTHROPIC_AUTH_TOKEN=key, **environment)
        says("streamed", "Hello from the agent\n", ask("⟦say:Hello from the agent⟧"))
        says("tool", f"{USED}\n", ask(call("Bash", command=SHELL, description="a sum"), "--allowedTools", "Bash"))
        seen = s.agent.last()["payload"]["messages"]
        result = next(message for message in reversed(seen) if message["role"] == "tool")
        made = [one["id"] for message in seen for one in message.get("tool_calls") or []]
        expect(made, [result["tool_call_id"]], "calls at the agent")
        says("thinking", "Let me think", ask("⟦think:Let me think⟧", "--output-format", "stream-json", "--verbose"))
        says("context", "Prompt is too long", ask("⟦error:context_length⟧"), 1)
        says("late error", "the agent says internal", ask("⟦late:internal⟧"), 1)
        says("death", "agent", ask("⟦die⟧", model=dies), 1)
        says("unknown model", "no-such", ask("⟦say:x⟧", model="no-such"), 1)
        says("bad key", "this API key is not known", ask("⟦say:x⟧", key="nobody"), 1)


@check
def continue_cli(s):
    """Continue's command line: streams through its openai, ollama and anthropic providers, runs a command and uses what it gave, an error"""
    commands = install("continue")
    with folder() as home:
        def ask(provider, base, prompt, model="my-gpt-4o"):
            model = {"name": "Local", "provider": provider, "model": model, "apiBase": s.program.base + base, "apiKey": CLIENT_KEY, "roles": ["chat"]}
            # JSON is YAML.
            (home / "config.yaml").write_text(json.dumps({"name": "Local", "version": "1", "schema": "v1", "models": [model]}))
            return run([commands / "cn", "-p", "--auto", "--config", home / "config.yaml", prompt], home, CONTINUE_TELEMETRY_ENABLED="0")

        for provider, base in (("openai", "/v1"), ("ollama", f"/k/{CLIENT_KEY}"), ("anthropic", "")):
            says(provider, "Hello from the agent", ask(provider, base, "⟦say:Hello from the agent⟧"))
            says(f"tool with {provider}", USED, ask(provider, base, call("Bash", command=SHELL)))
        says("error", "the agent says context_length", ask("openai", "/v1", "⟦error:context_length⟧"), 1)


@by_name
def cline(s):
    """Cline's command line: streams, runs a command and uses what it gave"""
    commands = install("cline")
    with folder() as home:
        ask = lambda *words: run([commands / "cline", *words], home)
        says("set up", "openai-compatible", ask("auth", "openai-compatible", "-k", CLIENT_KEY, "-m", MODEL, "-b", f"{s.program.base}/v1"))
        try:
            says("streamed", "Hello from the agent", ask("-P", "openai-compatible", "-m", MODEL, "⟦say:Hello from the agent⟧"))
            says("tool", USED, ask("-P", "openai-compatible", "-m", MODEL, call("run_commands", commands=[SHELL])))
        finally:
            # It leaves a daemon behind.
            ask("hub", "stop")


@by_name
def opencode(s):
    """opencode: streams, runs a command and uses what it gave, an error"""
    commands = install("opencode")
    with folder() as home:
        limit = {"context": 128000, "output": 32000}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "MCP Local Provider",
                    "options": {"baseURL": f"{s.program.base}/v1", "apiKey": CLIENT_KEY}, "models": {MODEL: {"limit": limit}}}
        (home / "opencode.json").write_text(json.dumps({
            "model": f"local/{MODEL}", "small_model": f"local/{MODEL}", "autoupdate": False, "share": "disabled", "provider": {"local": provider}}))
        ask = lambda prompt: run([commands / "opencode", "run"], home, prompt)
        says("streamed", "Hello from the agent", ask("⟦say:Hello from the agent⟧"))
        says("tool", USED, ask(call("bash", command=SHELL, description="a sum")))
        says("error", "the agent says context_length", ask("⟦error:context_length⟧"), 1)


@by_name
def aider(s):
    """aider: edits a file through both dialects, tells an error"""
    commands = install("aider")
    edit = '⟦say:Here.\n\nhello.py\n```python\n<<<<<<< SEARCH\nprint("hi")\n=======\nprint("hello")\n>>>>>>> REPLACE\n```\n⟧'
    quiet = ["--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--no-analytics", "--no-show-release-notes", "--no-pretty"]
    with folder() as home:
        ask = lambda model, *words: run(
            [commands / "aider", *quiet, "--model", model, *words], home, seconds=120, OPENAI_API_BASE=f"{s.program.base}/v1",
            OPENAI_API_KEY=CLIENT_KEY, OLLAMA_API_BASE=f"{s.program.base}/k/{CLIENT_KEY}")
        for model in (f"openai/{MODEL}", f"ollama_chat/{MODEL}"):
            (home / "hello.py").write_text('print("hi")\n')
            says(model, "Applied edit to hello.py", ask(model, "--edit-format", "diff", "--message", edit, "hello.py"))
            expect((home / "hello.py").read_text(), 'print("hello")\n', f"the file after {model}")
        says("error", "the agent says context_length", ask(f"openai/{MODEL}", "--message", "⟦error:context_length⟧"))
