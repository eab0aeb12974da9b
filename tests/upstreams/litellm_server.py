"""LiteLLM's proxy with a model that is mocked. Prints its address once it answers, and serves until its standard input ends.

    litellm_server.py FOLDER
"""
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CONFIGURATION = """
model_list:
  - { model_name: tiny, litellm_params: { model: openai/tiny, api_key: none, mock_response: "Hello from the mock" } }
general_settings: { master_key: sk-the-key-of-the-upstream }
"""

folder = Path(sys.argv[1])
(folder / "litellm.yaml").write_text(CONFIGURATION)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
command = [Path(sys.executable).with_name("litellm"), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
with open(folder / "litellm.log", "w") as log:
    proxy = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
try:
    until = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5)
            break
        except OSError:
            if proxy.poll() is not None or time.monotonic() > until:
                sys.exit("LiteLLM does not start:\n" + (folder / "litellm.log").read_text()[-2000:])
            time.sleep(0.2)
    print(f"http://127.0.0.1:{port}", flush=True)
    sys.stdin.read()
finally:
    proxy.terminate()
    proxy.wait(20)
