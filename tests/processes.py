"""Scripts beside the tests, run in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_script(script: Path, *words: object) -> None:
    """Runs a script with its words, on this tree's package; what it wrote to standard error is in the message if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LF_RUN_DIR", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=400,  # a deadlock must not stop the tests for ever
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
