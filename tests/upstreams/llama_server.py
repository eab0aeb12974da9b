"""llama.cpp's own HTTP server with a model that is made on the spot. Prints its address, and serves until its standard input ends.

    llama_server.py FOLDER
"""
import sys
from pathlib import Path

import tiny_model
import xllamacpp

path = Path(sys.argv[1], "tiny.gguf")
tiny_model.write(path)
parameters = xllamacpp.CommonParams()
parameters.model.path = str(path)
parameters.model_alias = {"tiny"}
parameters.n_ctx = tiny_model.CONTEXT
parameters.warmup = False
parameters.n_parallel = 2
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
