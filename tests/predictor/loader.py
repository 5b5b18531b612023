"""What a test does in a process of its own: `python tests/predictor/loader.py FOLDER TEXTS SCORES OUT`, without a network."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np


def refused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a saved model looked for a network")


def main(folder: str, texts: str, scores: str, out: str) -> None:
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused  # type: ignore[method-assign,assignment]
    from lf_lightning import Predictor

    predictor = Predictor.of_run(folder, device="cpu")
    given = json.loads(Path(texts).read_text(encoding="utf-8"))
    members = np.load(scores) if scores else None
    opinion = predictor.opinion(given, members)
    np.savez(out, probabilities=opinion.probabilities, decisions=opinion.decisions)


if __name__ == "__main__":
    main(*sys.argv[1:])
