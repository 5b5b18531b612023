"""`lf predict --engine local|ray`: tables of any size, in bounded memory, part by part, in one process or several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from jsonargparse import ArgumentParser

from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.quiet import quieten
from lf_lightning.cli.score_display import progress_bar
from lf_lightning.data.row_stream import parts_of, shards_of
from lf_lightning.data.scores import OnMissing
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.predictor.parts import PartPredictor, predict_here
from lf_lightning.predictor.predictor import DType

_AS_LF_PREDICT_HAS_THEM = {
    "--data.predict": "--source",
    "--data.scores": "--scores",
    "--data.on_missing": "--on_missing",
    "--data.text_columns": "--text_columns",
    "--data.eval_batch_size": "--batch_size",
    "--ckpt_path": "--checkpoint",
    "--help-all": "--help",
}


class Predicted(NamedTuple):
    """What a run did.

    Attributes:
        rows: Predicted now.
        files: Written now.
        there: Files that were there before.
        seconds: Time for all, loading the model included.
    """

    rows: int
    files: int
    there: int
    seconds: float


def predict_table(
    run: str,
    source: str,
    out: str | None = None,
    checkpoint: Literal["best", "last"] = "best",
    text_columns: list[str] | None = None,
    scores: str | None = None,
    on_missing: OnMissing | None = None,
    format: Literal["parquet", "csv"] = "parquet",
    texts: bool = True,
    rows_per_part: int = 10_000,
    batch_size: int = 64,
    dtype: DType = "float32",
    device: str = "auto",
    engine: Literal["local", "ray"] = "local",
    workers: int = 2,
) -> Predicted:
    """Predicts a table part by part, each into one file, whole or not there; a second run does the parts that are lacking.

    Args:
        run: Folder of a run or of a saved model.
        source: CSV, TSV, JSONL or Parquet file, a folder of them, or a pattern such as "folder/*.parquet"; path or URL.
        out: Folder of the output, path or URL (default: predictions in the folder of the run).
        checkpoint: Which weights of the run.
        text_columns: Columns that make the text, joined by a newline (default: those of the fit).
        scores: Folder of the score store (default: that of the fit; empty: none).
        on_missing: Rows that are not scored stop the run (error), are marked (mask), or go (drop); default: the fit's.
        format: Of the output. Parquet folders are read as one table by most programs.
        texts: Whether the output holds the texts, and the reasons of a system or scorer that gives them.
        rows_per_part: Rows of an output file, and what a killed run loses at most for each worker.
        batch_size: Texts at once.
        dtype: Arithmetic.
        device: auto, cpu, cuda, cuda:1, mps.
        engine: local (this process), or ray (several, here or on the cluster that RAY_ADDRESS names), with the same answers.
        workers: Processes that predict, of engine ray.

    Returns:
        The counts.

    Raises:
        ConfigurationError: A number is below 1, nothing is found, or the output is of another model or of other tables.
        DataError: A table cannot be read, or a row has no text.
    """
    for name, number in {"rows_per_part": rows_per_part, "workers": workers, "batch_size": batch_size}.items():
        if number < 1:
            raise ConfigurationError(f"{name}={number}: give at least 1.")
    start = time.perf_counter()
    target = out or f"{run.rstrip('/')}/predictions"
    predictor = PartPredictor(
        run, target, checkpoint, text_columns, scores, on_missing, format, texts, batch_size, dtype, device
    )
    shards = shards_of(source)
    there = predictor.begin(shards, rows_per_part)
    with progress_bar() as progress:
        task = progress.add_task("parts", total=None, said="finding the rows")
        parts = [part for shard in shards for part in parts_of(shard, rows_per_part)]
        if not parts:
            raise DataError(f"source={source!r} has no rows.")
        todo = [part for part in parts if predictor.file_of(part) not in there]
        progress.update(task, description="rows", total=sum(part.rows for part in todo), said="")
        if engine == "local":
            done = predict_here(predictor, todo)
        else:
            from lf_lightning.predictor.on_ray import predict_on_ray

            done = predict_on_ray(predictor, todo, workers)
        rows = 0
        for part, number in done:
            rows += number
            progress.advance(task, part.rows)
    return Predicted(rows, len(todo), len(parts) - len(todo), time.perf_counter() - start)


def main(argv: Sequence[str]) -> int:
    """`lf predict --engine local|ray --run FOLDER --source TABLE [any argument of predict_table]`.

    Args:
        argv: The words after `lf predict`.

    Returns:
        0.
    """
    limit_imports()
    quieten()
    parser = ArgumentParser(prog="lf predict --engine", description="Predict tables of any size.", allow_abbrev=False)
    parser.add_function_arguments(predict_table, fail_untyped=True)
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            name = _AS_LF_PREDICT_HAS_THEM.get(name, "--" + name[2:].replace("-", "_"))
        words.append(name + equals + value)
    arguments = parser.parse_args(words).as_dict()
    done = predict_table(**arguments)
    rate = f", {done.rows / max(done.seconds, 1e-9):.1f} a second" if done.rows else ""
    target = arguments["out"] or f"{arguments['run'].rstrip('/')}/predictions"
    print(f"{done.rows:,} rows predicted{rate}: {target} ({done.files:,} files, {done.there:,} were there before)")
    return 0
