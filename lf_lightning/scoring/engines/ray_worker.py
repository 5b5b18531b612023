"""What runs in the processes of engine `ray`: the scorer, and the board by which they and the caller know of each other."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any
from uuid import uuid4

import pyarrow as pa

from lf_lightning import imports
from lf_lightning.errors import Interrupted
from lf_lightning.scoring.base import Scorer, Scores
from lf_lightning.scoring.gateway.interrupts import stop_all

_TELL_EVERY = 0.25


class Board:
    """How far each worker is, and whether all are to stop."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, str]] = {}
        self._stop = False

    def tell(self, worker: str, done: int, said: str) -> bool:
        """Notes how far a worker is, and returns whether it is to stop."""
        self._told[worker] = (done, said)
        return self._stop

    def read(self) -> dict[str, tuple[int, str]]:
        """Returns by worker the texts done and what it says of itself."""
        return self._told

    def stop(self) -> None:
        """Lets all workers stop in good order."""
        self._stop = True


class RayWorker:
    """Scores blocks of texts; one in each process.

    Args:
        scorer: A pickled scorer, read when the first block comes.
        board: The actor of a `Board`.
        folder: Where the caller works, which paths in configs are relative to; left alone on a machine without it.
        paths: Where the caller's modules are.
        packages: Those that a checkpoint may import.
    """

    def __init__(self, scorer: bytes, board: Any, folder: str, paths: Sequence[str], packages: Iterable[str]) -> None:
        with suppress(OSError):
            os.chdir(folder)
        sys.path[:] = dict.fromkeys([*paths, *sys.path])
        imports.allow(packages)
        self._pickled, self._board, self._name = scorer, board, uuid4().hex
        self._done, self._said, self._stopped = 0, "", False
        threading.Thread(target=self._talk, name="lf-ray-worker", daemon=True).start()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Returns the scores of a block, or why there are none, in one row.

        Args:
            block: The columns `place`, the position among all texts, and `text`, in UTF-8.
        """
        scores, problem = None, None
        self._tell()
        if not self._stopped:
            texts = [str(text, "utf-8", "surrogatepass") for text in block["text"].to_pylist()]
            try:
                scores = self._scorer.score(texts, self._advance)
            except Exception as error:  # noqa: BLE001  raised where the results are waited for
                problem = error
            # The caller stops all; this one knows already.
            self._stopped = problem is not None or (scores is not None and scores.halt is not None)
        places = pa.array([block["place"].to_pylist()], pa.list_(pa.int64()))
        return pa.table({"places": places, "result": pa.array([_pack(scores, problem)], pa.large_binary())})

    @cached_property
    def _scorer(self) -> Scorer:
        scorer: Scorer = pickle.loads(self._pickled)  # noqa: S301  of our own caller
        scorer.watch = self._hear
        return scorer

    def _advance(self, done: int) -> None:
        self._done += done

    def _hear(self, said: str) -> None:
        self._said = said

    def _tell(self) -> None:
        import ray

        if ray.get(self._board.tell.remote(self._name, self._done, self._said)):
            self._stopped = True

    def _talk(self) -> None:
        while True:
            with suppress(Exception):  # the run is over, and the process about to be
                self._tell()
                if self._stopped:
                    stop_all(Interrupted("stopped with the other workers; every reply that arrived is kept."))
            time.sleep(_TELL_EVERY)


def _pack(scores: Scores | None, problem: Exception | None) -> bytes:
    trace = "" if problem is None else "".join(traceback.format_exception(problem))
    try:
        return pickle.dumps((scores, problem, trace))
    except Exception:  # noqa: BLE001  an error that holds a lock or a socket
        return pickle.dumps((None, RuntimeError(repr(problem)), trace))


def unpack(packed: bytes) -> tuple[Scores | None, Exception | None]:
    """Returns what `RayWorker` found: scores, the error that kept it from them, or neither where it had to stop before.

    Args:
        packed: One `result`.
    """
    scores, problem, trace = pickle.loads(packed)  # noqa: S301  of our own workers
    if problem is not None:
        problem.__cause__ = RuntimeError(f"in a worker:\n{trace}")
    return scores, problem
