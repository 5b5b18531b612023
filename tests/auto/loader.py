"""What a test does in a process of its own: `python loader.py FOLDER TEXTS OUT STORE`, without a network."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np


def refused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a saved classifier looked for a network")


def main(folder: str, texts: str, out: str, store: str) -> None:
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused  # type: ignore[method-assign,assignment]
    from lf_lightning import AutoFusionClassifier

    classifier = AutoFusionClassifier.load(folder, device="cpu")
    given = json.loads(Path(texts).read_text(encoding="utf-8"))
    scores = store or None
    np.savez(
        out, p=classifier.predict_proba(given, scores=scores), said=np.array(classifier.predict(given, scores=scores), str)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
