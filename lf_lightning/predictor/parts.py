"""Predicting tables of any size part by part: each part is one file of the output, whole or not there, so a run can go on."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np

from lf_lightning.callbacks.judging import SYSTEM, judge_outputs
from lf_lightning.callbacks.predictions import prediction_columns
from lf_lightning.contract import Outputs
from lf_lightning.data.locations import opened, reading, write_whole
from lf_lightning.data.row_stream import Part, Shard, read_part
from lf_lightning.data.scores import OnMissing, ScoreSource, rows_to_keep
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError, Interrupted
from lf_lightning.predictor.predictor import DType, Predictor
from lf_lightning.predictor.saved import SavedModel, find_fitted
from lf_lightning.results.files import atomic_file
from lf_lightning.results.predictions import write_table

MANIFEST = "_predictions.json"
"""In the output folder: what was asked for, and of which files. Readers of Parquet folders pass over names with `_`."""


class PartPredictor:
    """Predicts a part and writes its file; cheap to construct and to send: the model comes with the first part.

    Args:
        run: Folder that `lf fit` wrote, or that `Predictor.save` wrote.
        out: Folder of the output; path or URL.
        checkpoint: `best` or `last`.
        text_columns: Columns that make the text; None: those of the fit.
        scores: Folder of a score store; None: that of the fit, if it had one; empty: no scores.
        on_missing: What becomes of rows that a scorer did not score; None: as in the fit.
        format: Of the output.
        texts: Whether the output holds the texts, and the reasons that the system or its scorers give.
        batch_size: Texts at once.
        dtype: See `Predictor`.
        device: See `Predictor`.
    """

    def __init__(
        self,
        run: str,
        out: str,
        checkpoint: str = "best",
        text_columns: Sequence[str] | None = None,
        scores: str | None = None,
        on_missing: OnMissing | None = None,
        format: Literal["parquet", "csv"] = "parquet",
        texts: bool = True,
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        self.run, self.out, self.checkpoint = run, out, checkpoint
        self.format, self.texts = format, texts
        self.batch_size, self.dtype, self.device = batch_size, dtype, device
        found = find_fitted(run, checkpoint)
        given = {} if isinstance(found, SavedModel) else (found.config.get("data") or {}).get("init_args") or {}
        of_fit = given.get("text_columns") or "text"
        self.text_columns: list[str] = list(text_columns or ([of_fit] if isinstance(of_fit, str) else of_fit))
        self.scores: str | None = (given.get("scores") if scores is None else scores) or None
        self.on_missing: OnMissing = on_missing or given.get("on_missing") or "error"
        self.model = found.fingerprint if isinstance(found, SavedModel) else found.sha256()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the loaded model and the opened store behind."""
        return {name: value for name, value in vars(self).items() if name not in ("_predictor", "_source")}

    def file_of(self, part: Part) -> str:
        """Returns the name of a part's file below `out`: that of its source with the number of its first row."""
        return f"{part.shard.name}-{part.first:010d}.{self.format}"

    def predict(self, part: Part) -> int:
        """Reads a part, predicts it, writes its file, and returns the number of its rows that were predicted.

        Raises:
            ConfigurationError: The table has no such column, or there is no such file.
            DataError: A text is missing, or a file cannot be read or written.
            ScoreMismatchError: Rows are not scored, and `on_missing` is `error`.
        """
        predictor = self._predictor
        where = f"{part.shard.file}, from row {part.first} on"
        table = read_part(part, self.text_columns)
        texts = texts_of(table, self.text_columns, predictor.max_words, where)
        rows = np.arange(part.first, part.first + len(texts))
        scores = None
        if self._source is not None and predictor.scorers:
            joined = self._source.join(texts, predictor.labels, may_be_strangers=True)
            keep = rows_to_keep(joined, predictor.scorers, self.on_missing, "predict")
            joined, rows = joined.where(keep), rows[keep]
            texts = [text for text, kept in zip(texts, keep.tolist(), strict=True) if kept]
            scores = np.where(joined.scored[..., None], joined.scores, np.nan)
        outputs = predictor.outputs(texts, scores, reasons=self.texts)
        judged = judge_outputs(predictor.module, outputs, "predict")
        reasons = self._reasons(outputs, texts) if self.texts else {}
        columns = prediction_columns(judged, rows.tolist(), texts if self.texts else None, reasons)
        write_whole(self.out, self.file_of(part), lambda path: write_table(path, columns))
        return len(texts)

    def begin(self, shards: Sequence[Shard], rows_per_part: int) -> set[str]:
        """Notes what is asked for in the output folder, and returns the files that are there already.

        Args:
            shards: The files to predict.
            rows_per_part: Rows of a part.

        Raises:
            ConfigurationError: The folder holds predictions of another model, of other options, or of a file that has changed.
        """
        asked: dict[str, Any] = {
            "format": 2,
            "model": self.model,
            "rows_per_part": rows_per_part,
            "text_columns": self.text_columns,
            "scores": self.scores,
            "on_missing": self.on_missing,
            "dtype": self.dtype,
            "output": self.format,
            "texts": self.texts,
        }
        sizes = {shard.name: shard.size for shard in shards}
        fs, path = opened(self.out, "out")
        manifest = f"{path.rstrip('/')}/{MANIFEST}"
        if fs.exists(manifest):
            with reading(f"{self.out.rstrip('/')}/{MANIFEST}", "out") as stream:
                before = json.loads(stream.read())
            kept = before.pop("files")
            different = [f"{name}={before.get(name)!r}" for name, value in asked.items() if before.get(name) != value]
            changed = [name for name, size in sizes.items() if kept.get(name, size) != size]
            if different or changed:
                why = f"made with {', '.join(different)}" if different else f"of other contents of {changed[0]!r}"
                raise ConfigurationError(f"out={self.out!r} holds predictions {why}. Way out: another folder.")
            sizes = kept | sizes
        content = json.dumps({**asked, "files": sizes}, indent=1).encode()
        write_whole(self.out, MANIFEST, lambda file: _write(file, content))
        return {found.removeprefix(path).lstrip("/") for found in fs.find(path)}

    def _reasons(self, outputs: Outputs, texts: Sequence[str]) -> dict[str, Sequence[str | None]]:
        """Those of the system, and those that scorers gave."""
        own = self._predictor.reasons_of(outputs)
        found: dict[str, Sequence[str | None]] = {} if own is None else {SYSTEM: own}
        return found if self._source is None else {**found, **self._source.rationales(texts, part=True)}

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor.of_run(self.run, self.checkpoint, self.batch_size, self.dtype, self.device)

    @cached_property
    def _source(self) -> ScoreSource | None:
        return None if self.scores is None else ScoreSource(self.scores, self._predictor.scorers, self.on_missing)


def predict_here(predictor: PartPredictor, parts: Iterable[Part]) -> Iterator[tuple[Part, int]]:
    """Yields each part with the number of rows predicted, one after the other, in this process."""
    with stopped_by_sigterm():
        for part in parts:
            yield part, predictor.predict(part)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raises `Interrupted` on SIGTERM, as Ctrl-C raises KeyboardInterrupt: parts under way are lost, the others are there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted("stopped by SIGTERM; parts that were done are written. Way out: the same command does the rest.")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write(file: Path, content: bytes) -> None:
    with atomic_file(file) as stream:
        stream.write(content)
