"""The table of predictions: what each row's text, truth and opinions are, as `WritePredictions` writes them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lf_lightning.errors import DataError
from lf_lightning.results.files import atomic_file
from lf_lightning.results.record import RunRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SYSTEM = "system"
STEM = "predictions_test"
SEPARATOR = "|"

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Predictions:
    """The test rows of a run.

    Attributes:
        rows: (n,) their numbers in the table that they came from.
        texts: (n,) or None where they were not written.
        truth: (n,) int64 class numbers, or (n, K) of 0 and 1; -1 where unlabelled.
        labelled: (n,) bool.
        decisions: By name (`system`, then each member): as `truth`; -1 without an opinion.
        probabilities: By name, (n, K) float64, calibrated, rows of NaN without an opinion; a name is missing where none were
            written (members in runs of schema 1).
        rationales: By scorer, (n,) its reasons, empty where it gave none.
    """

    rows: list[str]
    texts: list[str] | None
    truth: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    decisions: dict[str, NDArray[np.int64]]
    probabilities: dict[str, NDArray[np.float64]]
    rationales: dict[str, list[str]]


def probability_column(name: str, label: str) -> str:
    """Returns the column with the probability that the system or a member gives a label."""
    return f"p_{label}" if name == SYSTEM else f"p:{name}:{label}"


def decision_column(name: str) -> str:
    """Returns the column with the decision of the system or a member."""
    return "predicted" if name == SYSTEM else f"predicted_{name}"


def rationale_column(scorer: str) -> str:
    """Returns the column with a scorer's reasons."""
    return f"rationale_{scorer}"


def predictions_file(folder: Path) -> Path | None:
    """Returns the table of test rows in a run folder, None without one."""
    return next((path for end in ("csv", "parquet") if (path := folder / f"{STEM}.{end}").is_file()), None)


def read_predictions(folder: Path, record: RunRecord, system_only: bool = False) -> Predictions | None:
    """Returns the test rows of a run, None where no table was written.

    Args:
        folder: The run's.
        record: The run's, which knows its labels and members.
        system_only: Leave out texts, members and rationales, which takes a fraction of the time.

    Raises:
        DataError: The table is damaged, or of other labels than the record.
    """
    path = predictions_file(folder)
    if path is None:
        return None
    members = [] if system_only else [name for name in record.metrics.get("test", {}) if name != SYSTEM]
    names = [SYSTEM, *members]
    exact = [*("row", "label", "labelled"), *map(decision_column, names)]
    exact += [] if system_only else ["text", *map(rationale_column, names)]
    numbers = [probability_column(name, label) for name in names for label in record.labels]
    try:
        frame = _read_table(path, [encodable(name) for name in exact], [encodable(name) for name in numbers])
        return _of_frame(frame, record, names)
    except (OSError, ValueError, KeyError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} cannot be read as the test rows of its run: {told}. Way out: lf test writes it anew."
        ) from error


def _of_frame(frame: pd.DataFrame, record: RunRecord, names: Sequence[str]) -> Predictions:
    import numpy as np

    def cells(column: str) -> list[str] | None:
        return frame[encodable(column)].tolist() if encodable(column) in frame else None

    def decided(column: str) -> NDArray[np.int64]:
        return label_numbers(frame[encodable(column)].tolist(), record.labels, record.task)

    truth = decided("label")
    flags = cells("labelled")
    if flags is not None and (strange := {str(flag) for flag in flags} - {"True", "False"}):
        raise ValueError(f"{sorted(strange)[0]!r} in the column 'labelled' is neither True nor False")
    labelled = (
        np.array([str(flag) == "True" for flag in flags])
        if flags is not None
        else truth >= 0
        if truth.ndim == 1
        else np.ones(len(truth), dtype=bool)
    )
    found = {}
    for name in names:
        columns = [encodable(probability_column(name, label)) for label in record.labels]
        if all(column in frame for column in columns):
            found[name] = frame[columns].to_numpy(dtype=np.float64)
    decisions = {name: decided(decision_column(name)) for name in names if encodable(decision_column(name)) in frame}
    for name in decisions.keys() & found.keys() if truth.ndim == 2 else ():
        decisions[name][np.isnan(found[name]).any(1)] = -1
    if SYSTEM not in decisions or SYSTEM not in found:
        raise ValueError("a column with what the system said is missing")
    for name, p in found.items():
        if (bad := ~((p >= 0) & (p <= 1)).all(1) & ~np.isnan(p).all(1)).any():
            raise ValueError(f"{name} gives row {frame['row'].iloc[int(bad.argmax())]} what are no probabilities")
    if truth.ndim == 1 and (labelled & ((truth < 0) | (decisions[SYSTEM] < 0))).any():
        raise ValueError("a labelled row has no label, or no decision")
    reasons = {name: cells(rationale_column(name)) for name in names}
    texts = cells("text")
    return Predictions(
        [str(row) for row in frame["row"]],
        None if texts is None else [restored(text) for text in texts],
        truth,
        labelled,
        decisions,
        found,
        {name: [restored(cell) for cell in column] for name, column in reasons.items() if column is not None},
    )


def label_numbers(cells: Sequence[str], labels: Sequence[str], task: str) -> NDArray[np.int64]:
    """Returns label cells as class numbers (n,), -1 where empty; of `multilabel` as a table (n, K) of 0 and 1.

    Raises:
        ValueError: A cell names something that is not among the labels.

    Example:
        >>> label_numbers(["b", ""], ["a", "b"], "multiclass").tolist()
        [1, -1]
        >>> label_numbers(["a|b", "", "b"], ["a", "b"], "multilabel").tolist()
        [[1, 1], [0, 0], [0, 1]]
    """
    import numpy as np

    numbers = {name: k for k, label in enumerate(labels) for name in (defuse(label), encodable(label))}
    if task == "multiclass":
        numbers[""] = -1
        strange = set(cells) - numbers.keys()
        if strange:
            raise ValueError(f"{sorted(strange)[0]!r} is none of its labels")
        return np.array([numbers[cell] for cell in cells], dtype=np.int64)
    table = np.zeros((len(cells), len(labels)), dtype=np.int64)
    known: dict[str, list[int]] = {"": []}
    for row, cell in enumerate(cells):
        if cell not in known:
            parts = [cell] if cell in numbers else restored(cell).split(SEPARATOR)
            strange = set(parts) - numbers.keys()
            if strange:
                raise ValueError(f"{sorted(strange)[0]!r} is none of its labels")
            known[cell] = [numbers[part] for part in parts]
        table[row, known[cell]] = 1
    return table


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    """Writes columns of equal length as CSV, or as Parquet if `path` ends so; in one step, UTF-8.

    Raises:
        OSError: The file cannot be written.
    """
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A lone surrogate is no UTF-8, which Parquet's texts are.
        plain = {encodable(name): [encodable(v) if isinstance(v, str) else v for v in cells] for name, cells in columns.items()}
        with atomic_file(path) as file:
            pq.write_table(pa.table(plain), file)
        return
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write_csv(text, list(columns), zip(*columns.values(), strict=True))
        text.detach()  # flushes, and leaves the file open


def write_csv(file: Any, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Writes a table as CSV, every text quoted and defused, into an open text file."""
    # Not all versions of the csv module quote a bare carriage return by themselves.
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([defuse(name) for name in header])
    writer.writerows(_defused(lines))


def defuse(cell: str) -> str:
    """Returns a cell that no spreadsheet runs and every encoding takes; plain numbers stay as they are.

    Example:
        >>> defuse("=1+2"), defuse("-1"), defuse("plain")
        ("'=1+2", '-1', 'plain')
    """
    cell = encodable(cell)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _NUMBER.fullmatch(cell) else cell


def restored(cell: str) -> str:
    """Returns a cell without the apostrophe that `defuse` gave it.

    Example:
        >>> restored("'=1+2"), restored("'tis")
        ('=1+2', "'tis")
    """
    return cell[1:] if cell.startswith("'") and defuse(cell[1:]) == cell else cell


def encodable(cell: str) -> str:
    """Returns a text with lone surrogates and NUL written as escapes."""
    return _UNWRITABLE.sub(lambda found: ascii(found[0])[1:-1], cell)


def _defused(lines: Iterable[Sequence[Any]]) -> Iterator[list[Any]]:
    for line in lines:
        yield [defuse(cell) if isinstance(cell, str) else cell for cell in line]


def _read_table(path: Path, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """The columns that there are of those asked for: texts as objects without missing values, numbers as float64."""
    import pandas as pd

    wanted = {*texts, *numbers}
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        there = [name for name in pq.read_schema(path).names if name in wanted]
        frame = pd.read_parquet(path, columns=there)
        return frame.assign(**{name: frame[name].fillna("").astype(str).astype(object) for name in there if name in set(texts)})
    types: dict[str, Any] = {**dict.fromkeys(texts, object), **dict.fromkeys(numbers, "float64")}
    return pd.read_csv(
        path, usecols=wanted.__contains__, dtype=types, keep_default_na=False, na_values={name: [""] for name in numbers}
    )
