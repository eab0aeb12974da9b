"""Clients that are programs of their own: what is installed, where, and how it is run.

Node comes with the virtual environment, so that nothing but Python has to be on the machine.
"""
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from program import Failed

NPM = {
    # 4.96.0 and 0.5.15 are what Void brings along.
    "sdk": ["openai@7.55.0", "openai-of-void@npm:openai@4.96.0", "ollama@0.6.4", "ollama-of-void@npm:ollama@0.5.15",
            "ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"],
    "codex": ["@openai/codex@0.169.0"],
    "claude": ["@anthropic-ai/claude-code@2.1.329"],
    "continue": ["@continuedev/cli@1.5.47"],
    "opencode": ["opencode-ai@1.18.33"],
    "cline": ["cline@3.0.65"],
}
PIP = {"llm": ["llm==0.36"], "aider": ["aider-chat==0.86.2"]}
INSTALLED = Path(sys.prefix).parent / "clients"


class Unsupported(Exception):
    """A client that is not made for this machine; the message says so."""


def install(name):
    """The directory of a client's commands, after it is installed there."""
    wanted = "\n".join(NPM.get(name) or PIP[name])
    folder = INSTALLED / name
    commands = folder / ("node_modules/.bin" if name in NPM else "bin")
    if name in NPM and platform.machine() not in ("x86_64", "aarch64", "arm64"):
        raise Unsupported(f"{wanted} is not made for {platform.machine()}")
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if name in NPM:
            _call(_on_path(os.environ), "npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error", *NPM[name])
        else:
            _call(os.environ, sys.executable, "-m", "venv", folder)
            _call(os.environ, commands / "pip", "install", "--quiet", "--disable-pip-version-check", *PIP[name])
        stamp.write_text(wanted)
    return commands


def _call(environment, *command):
    done = subprocess.run([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def _on_path(environment):
    return {**environment, "PATH": f"{Path(sys.prefix, 'bin')}{os.pathsep}{environment.get('PATH', os.defpath)}"}


@contextmanager
def folder():
    """An empty folder, as the home and the working directory of a client."""
    with tempfile.TemporaryDirectory(prefix="mlp-client-", ignore_cleanup_errors=True) as home:
        yield Path(home)


def run(command, home, text="", seconds=60, **environment):
    """(exit status, standard output, standard error) of a client that knows of nothing but `home` and `environment`."""
    environment = _on_path({"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8", "NO_COLOR": "1"} | environment)
    process = subprocess.Popen([str(word) for word in command], cwd=home, env=environment, text=True, start_new_session=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
    try:
        out, err = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name} did not end within {seconds} s") from None
    finally:
        # What it started and left behind goes with it.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return process.returncode, out, err
