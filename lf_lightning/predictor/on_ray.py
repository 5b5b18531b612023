"""Predicting parts in several processes by Ray Data: on this machine, or on the cluster that RAY_ADDRESS names.

The data set is the list of parts, a few bytes each. A worker reads a part where it lies, and writes its file; texts and
predictions never pass through the caller or Ray's object store, so memory is bounded by one part for each worker.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from lf_lightning import imports
from lf_lightning.data.row_stream import Part
from lf_lightning.errors import ConfigurationError, LFError
from lf_lightning.predictor.parts import PartPredictor, stopped_by_sigterm
from lf_lightning.scoring.engines.ray_session import ray_session, room_for

_RESTARTS = 2


def predict_on_ray(predictor: PartPredictor, parts: Sequence[Part], workers: int) -> Iterator[tuple[Part, int]]:
    """Yields each part with the number of rows predicted, in the order in which workers finish them.

    Args:
        predictor: A copy of it goes to each worker. Run, store, tables and output mean the same to every machine.
        parts: What to predict.
        workers: Processes.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: There is no room for so many workers, or files lie in the memory of this process.
        LFError: What kept a worker from a part; files of parts that were done are there.
    """
    if not parts:
        return
    for name in (predictor.out, parts[0].shard.file):
        if name.startswith("memory:"):
            raise ConfigurationError(f"{name!r}: other processes cannot see it. Way out: engine local.")
    with ray_session() as ray:
        settings = room_for(ray, min(workers, len(parts)))
        dataset = ray.data.from_arrow([pa.table({"part": pa.array([pickle.dumps(part)], pa.binary())}) for part in parts])
        dataset = dataset.map_batches(
            PartWorker,
            fn_constructor_args=(ray.cloudpickle.dumps(predictor), str(Path.cwd()), sys.path, imports.allowed()),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(parts)), max_tasks_in_flight_per_actor=2),
            ray_remote_args_fn=_few_restarts,
            **settings,
        )
        with stopped_by_sigterm():  # here, as Ray has just installed a handler of its own
            yield from _results(dataset)


def _few_restarts() -> dict[str, int]:
    """A worker that dies of a part dies of it again, and Ray would start it for ever."""
    return {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}


def _results(dataset: Any) -> Iterator[tuple[Part, int]]:
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for packed in batch["result"].to_pylist():
                part, rows, error = pickle.loads(packed)  # noqa: S301  of our own workers
                if error is not None:
                    raise error
                yield part, rows
    except LFError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise LFError(
            f"engine=ray: workers ended before their work was done ({told}). Too little memory is the usual reason. What was "
            "predicted is written. Way out: fewer workers or rows_per_part, and the same command, which does the rest."
        ) from error


class PartWorker:
    """Predicts parts; one in each process.

    Args:
        predictor: A pickled `PartPredictor`.
        folder: Where the caller works, which relative paths are relative to; left alone on a machine without it.
        paths: Where the caller's modules are.
        packages: Those that a checkpoint may import.
    """

    def __init__(self, predictor: bytes, folder: str, paths: Sequence[str], packages: Iterable[str]) -> None:
        with suppress(OSError):
            os.chdir(folder)
        sys.path[:] = dict.fromkeys([*paths, *sys.path])
        imports.allow(packages)
        self._predictor: PartPredictor = pickle.loads(predictor)  # noqa: S301  of our own caller

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Returns the part, its rows, and the error that kept it from them, pickled in one row.

        Args:
            batch: One part, pickled, in the column `part`.
        """
        (packed,) = batch["part"].to_pylist()
        part = pickle.loads(packed)  # noqa: S301  of our own caller
        rows, problem = 0, None
        try:
            rows = self._predictor.predict(part)
        except Exception as error:  # noqa: BLE001  raised where the results are waited for
            problem = error if isinstance(error, LFError) else LFError(f"{part.shard.file}, row {part.first}: {error!r}")
        return pa.table({"result": pa.array([pickle.dumps((part, rows, problem))], pa.large_binary())})
