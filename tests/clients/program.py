"""Starts the program under test and ends it."""
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def own_environment(home):
    """The environment of this process for a program whose person lives in `home`, without settings of the program."""
    ours = ("MLP_", "LOCAL_PROVIDER", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"HOME": str(home)}


class Program:
    """One running program. `base` is its address, and `last` the last one that it named."""

    def __init__(self, program, home, *arguments, environment=None):
        self.home = Path(home)
        self.lines = []
        began = time.monotonic()
        self.process = subprocess.Popen(
            [Path(program).resolve(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=own_environment(home) | (environment or {}),
            text=True,
            errors="replace",
        )
        self._ready = threading.Event()
        self.base = None
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        if not self._ready.wait(20) or self.base is None:
            self.process.kill()
            raise Failed(f"no line `ready http://…` on standard output of {program}\n{self.tail()}")
        self.seconds_to_ready = time.monotonic() - began

    def _read(self, stream):
        for line in stream:
            self.lines.append(line.rstrip("\n"))
            ready = re.match(r"ready (http://\S+)(?:.* (http://\S+))?", line)
            if ready and stream is self.process.stdout:
                self.base = ready[1].rstrip("/,")
                self.last = (ready[2] or ready[1]).rstrip("/")
                self._ready.set()
        if stream is self.process.stdout:
            self._ready.set()

    @property
    def websocket(self):
        return self.base.replace("http://", "ws://") + "/agent"

    def tail(self):
        time.sleep(0.2)
        return "\n".join(f"    | {line}" for line in self.lines[-30:])

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failed("SIGTERM did not end the program within 20 s") from None
