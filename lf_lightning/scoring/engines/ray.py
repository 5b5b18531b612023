"""Scoring in several processes by Ray Data: on this machine, or on the cluster that RAY_ADDRESS names.

Who calls decides what is missing, and keeps what comes back; a worker holds a scorer and nothing else. A scorer that asks a
provider works on this machine only, whatever the cluster: response cache and ledger are SQLite files, whose locks hold on one
machine, and only so is nothing paid twice and no budget passed. It waits for the provider and needs no second machine.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lf_lightning import imports
from lf_lightning.errors import Interrupted, LFError
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.scoring.engines.ray_session import ray_session, room_for
from lf_lightning.scoring.engines.ray_worker import Board, RayWorker, unpack
from lf_lightning.scoring.gateway.interrupts import stopping

if TYPE_CHECKING:
    from ray.data import Dataset

_LOOK_EVERY = 0.25
_GRACE = 30.0
_RESTARTS = 2


def score_on_ray(
    scorer: Scorer,
    texts: Sequence[str],
    shard_size: int | None,
    workers: int,
    advance: Advance,
) -> Generator[tuple[list[str], Scores], None, None]:
    """Yields texts and their scores, shard by shard, in the order in which workers finish them.

    Where a worker has to stop, or Ctrl-C or SIGTERM comes, all stop in good order: what is in flight is waited for and yielded.

    Args:
        scorer: Who scores; a copy of it goes to each worker. Keys of providers do not: they are in the environment.
        texts: Distinct texts.
        shard_size: Texts of a shard; None: the scorer's own, or fewer where there are too few texts for all workers.
        workers: Processes that score.
        advance: Told how many more texts are done.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: There is no room for so many workers, or the scorer cannot be divided among them.
    """
    if not texts:
        return
    size = shard_size or min(scorer.shard_size, math.ceil(len(texts) / workers))
    shared = scorer.for_workers(workers)
    signals: list[Interrupted] = []
    with ray_session() as ray, stopping(signals.append):
        board = ray.remote(num_cpus=0)(Board).remote()
        settings = _place(ray, workers, asks=scorer.estimate([]) is not None)
        dataset = ray.data.from_arrow([_block(texts, first, size) for first in range(0, len(texts), size)]).map_batches(
            RayWorker,
            fn_constructor_args=(ray.cloudpickle.dumps(shared), board, str(Path.cwd()), sys.path, imports.allowed()),
            batch_size=size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            **settings,
        )
        run = _Run(ray, board, dataset, texts, workers, advance, scorer.watch)
        try:
            yield from run.parts(signals, len(scorer.card.labels))
        finally:
            run.finish()


class _Run:
    """The workers' results as they come, what they say meanwhile, and their end."""

    def __init__(
        self,
        ray: Any,
        board: Any,
        dataset: Dataset,
        texts: Sequence[str],
        workers: int,
        advance: Advance,
        watch: Callable[[str], object] | None,
    ) -> None:
        self._ray, self._board, self._texts, self._advance, self._watch = ray, board, texts, advance, watch
        self._most_starts = workers * (1 + _RESTARTS)
        self._results: Queue[tuple[list[int], bytes] | LFError | None] = Queue()
        self._shown = self._received = 0
        self._stopped = self._over = False
        threading.Thread(target=self._pull, args=(dataset,), name="lf-ray", daemon=True).start()

    def parts(self, signals: Sequence[Interrupted], labels: int) -> Iterator[tuple[list[str], Scores]]:
        """Yields what the workers have done; ends when all is done, or all have stopped, or a signal's grace is over."""
        error: Exception | None = None
        halted = False
        deadline = math.inf
        while True:
            if signals and deadline == math.inf:
                deadline = time.monotonic() + _GRACE
                self._stop()
            result = self._next(deadline)
            if result is None:
                break
            places, scores, problem = result
            if problem is not None:
                error = error or problem
                self._stop()
            if scores is None:
                continue
            self._received += len(places)
            self._tell({})
            if scores.halt is not None:
                # A worker that was told to stop does not know why.
                scores = replace(scores, halt=signals[0]) if signals and not halted else scores
                halted = True
                self._stop()
            yield [self._texts[place] for place in places], scores
        if error is not None:
            raise error
        if signals and not halted:
            yield [], Scores(np.zeros((0, labels), np.float32), np.zeros(0, np.uint8), halt=signals[0])

    def finish(self) -> None:
        """Waits a little for workers that are still at it, where the caller wants no more."""
        deadline = time.monotonic() + _GRACE
        if not self._over:
            self._stop()
        while not self._over and self._next(deadline) is not None:
            pass

    def _next(self, deadline: float) -> tuple[list[int], Scores | None, Exception | None] | None:
        """Returns the next result; one of nothing where there is none yet; None where there will be none."""
        try:
            result = self._results.get(timeout=_LOOK_EVERY)
        except Empty:
            told = self._ray.get(self._board.read.remote())
            self._tell(told)
            if time.monotonic() > deadline:
                self._over = True
                return None
            # Ray starts a worker that died again and again, for ever; told to stop, it ends in good order.
            died = len(told) > self._most_starts and not self._stopped
            return [], None, _ended("they died") if died else None
        if result is None:
            self._over = True
            return None
        if isinstance(result, LFError):
            return [], None, result
        places, packed = result
        return places, *unpack(packed)

    def _pull(self, dataset: Dataset) -> None:
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                assert isinstance(batch, pa.Table)
                for row in batch.to_pylist():
                    self._results.put((row["places"], row["result"]))
        except Exception as error:  # noqa: BLE001  raised where the results are waited for
            self._results.put(_ended(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"))
        self._results.put(None)

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._board.stop.remote()

    def _tell(self, told: dict[str, tuple[int, str]]) -> None:
        done = min(max(self._received, sum(count for count, _ in told.values())), len(self._texts))
        if done > self._shown:
            self._advance(done - self._shown)
            self._shown = done
        words = [said for _, said in told.values() if said]
        if self._watch is not None and words:
            self._watch(words[0] if len(words) == 1 else f"{len(words)} workers, one of them: {words[0]}")


def _place(ray: Any, workers: int, *, asks: bool) -> dict[str, Any]:
    """Where the workers run and what each may use; a worker of which there is no room would be waited for for ever."""
    if asks:
        return {"num_cpus": 0, "label_selector": {"ray.io/node-id": ray.get_runtime_context().get_node_id()}}
    return room_for(ray, workers)


def _block(texts: Sequence[str], first: int, size: int) -> pa.Table:
    part = [text.encode("utf-8", "surrogatepass") for text in texts[first : first + size]]
    places = pa.array(range(first, first + len(part)), pa.int64())
    return pa.table({"place": places, "text": pa.array(part, pa.large_binary())})


def _ended(why: str) -> LFError:
    return LFError(
        f"engine=ray: workers ended before their work was done ({why}). Too little memory is the usual reason. "
        "What was scored is in the store. Way out: fewer workers, and the same command, which asks for the rest."
    )
