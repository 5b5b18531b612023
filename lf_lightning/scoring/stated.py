"""Labels that an LLM has stated already, in a column of a table, as per-class scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.packaged import locate
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.store import ScorerCard, Status

DEFAULT_CONFIDENCE = 0.85
HIGHEST = 0.99
EmptyMeans = Literal["absent", "refused"]


def stated_scores(
    stated: Sequence[str],
    labels: Sequence[str],
    task: Task = "multiclass",
    confidences: Sequence[str] | None = None,
    default_confidence: float = DEFAULT_CONFIDENCE,
    empty: EmptyMeans = "absent",
) -> Scores:
    r"""Returns scores (n, K) for labels that were stated in words.

    Multi-class: the stated label gets its confidence c clipped to [1/K, 0.99], each other label (1 - c) / (K - 1).
    Multi-label: labels are joined by `|`; each stated one gets c clipped to [0.5, 0.99], each other 1 - c.
    Where no confidence is stated, c is `default_confidence`. It is a share (0.9) or a percentage with its sign (90%).

    A label is recognised whatever its case and the white space around it; anything else (an unknown label, two labels in a
    multi-class row, a confidence that is no number in [0, 1]) makes the row `UNPARSED`, never the first class.

    Args:
        stated: n labels as the LLM stated them.
        labels: K label names, at least 2 in a multi-class task.
        task: multiclass or multilabel.
        confidences: n stated confidences, "" where there is none.
        default_confidence: In (0, 1).
        empty: Whether an empty answer means that the LLM was not asked (`absent`) or declined (`refused`).

    Raises:
        ConfigurationError: Labels that differ in case only, too few of them, or a default confidence outside (0, 1).

    >>> stated_scores(["b", "B ", "none"], ["a", "b", "c"], confidences=["0.9", "", "0.9"]).probabilities.astype(float).round(3)
    array([[0.05 , 0.9  , 0.05 ],
           [0.075, 0.85 , 0.075],
           [0.   , 0.   , 0.   ]])
    """
    columns = _columns(labels, task)
    if not 0 < default_confidence < 1:
        raise ConfigurationError(f"default_confidence={default_confidence} must be within (0, 1), as {DEFAULT_CONFIDENCE} is.")
    probabilities = np.zeros((len(stated), len(labels)), dtype=np.float32)
    status = np.full(len(stated), int(Status.UNPARSED), dtype=np.uint8)
    for row, (answer, confidence) in enumerate(zip(stated, confidences or [""] * len(stated), strict=True)):
        if not answer.strip():
            status[row] = int(Status.ABSENT if empty == "absent" else Status.REFUSED)
            continue
        names = answer.split("|") if task == "multilabel" else [answer]
        found = [columns.get(name.strip().casefold()) for name in names]
        sure = _confidence(confidence, default_confidence)
        if sure is not None and all(column is not None for column in found):
            probabilities[row] = spread([column for column in found if column is not None], sure, len(labels), task)
            status[row] = int(Status.SCORED)
    return Scores(probabilities, status)


class StatedLabelScorer(Scorer):
    """Scores texts by what an LLM stated about them in a table, by the rule of `stated_scores`.

    Texts are found by their exact content; one that is not in the tables is `ABSENT`.

    Args:
        name: What configs and tables call this scorer.
        tables: CSV files (or package:NAME/PATH) that hold the texts and the answers.
        labels: The label names, in the order of the columns.
        label_column: Column of the stated labels; several in one cell are joined by |.
        task: multiclass or multilabel.
        text_column: Column of the texts.
        confidence_column: Column of the stated confidences, if there is one.
        rationale_column: Column of the stated reasons, if there is one.
        default_confidence: Confidence where none is stated.
        empty: What an empty answer means: absent (was not asked) or refused.

    Raises:
        ConfigurationError: As `stated_scores`.
    """

    def __init__(
        self,
        name: str,
        tables: list[str],
        labels: list[str],
        label_column: str,
        task: Task = "multiclass",
        text_column: str = "text",
        confidence_column: str | None = None,
        rationale_column: str | None = None,
        default_confidence: float = DEFAULT_CONFIDENCE,
        empty: EmptyMeans = "absent",
    ) -> None:
        stated_scores([], labels, task, default_confidence=default_confidence)
        self.name, self.tables, self.labels, self.task = name, list(tables), list(labels), task
        self.text_column, self.label_column = text_column, label_column
        self.confidence_column, self.rationale_column = confidence_column, rationale_column
        self.default_confidence, self.empty = default_confidence, empty

    @cached_property
    def card(self) -> ScorerCard:
        """The rule and the SHA-256 of all answers: an edited or longer table is another scorer.

        Raises:
            ConfigurationError: A table or a column is not there.
            DataError: A text stands twice with different answers.
        """
        digest = sha256()
        for text, answer in sorted(self._answers.items()):
            digest.update("\x1f".join((text, *answer)).encode("utf-8", "surrogatepass") + b"\x1e")
        spec = {
            "scorer": "stated",
            "mode": "bare label" if self.confidence_column is None else "label with stated confidence",
            "columns": [self.label_column, self.confidence_column, self.rationale_column],
            "answers_sha256": digest.hexdigest(),
            "default_confidence": self.default_confidence,
            "highest_confidence": HIGHEST,
            "empty": self.empty,
        }
        return ScorerCard(self.name, tuple(self.labels), self.task, spec)

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns what was stated about n texts, with its rationales.

        Args:
            texts: n texts.
            advance: Called once, with n.

        Raises:
            ConfigurationError: A table or a column is not there.
            DataError: A text stands twice with different answers.
        """
        rows = [self._answers.get(text, ("", "", "")) for text in texts]
        scores = stated_scores(
            [row[0] for row in rows], self.labels, self.task, [row[1] for row in rows], self.default_confidence, self.empty
        )
        unknown = np.array([text not in self._answers for text in texts], dtype=bool)
        status: NDArray[np.uint8] = np.where(unknown, np.uint8(Status.ABSENT), scores.status)
        if advance is not None:
            advance(len(texts))
        reasons: list[str | None] | None = [row[2] or None for row in rows] if self.rationale_column else None
        return Scores(scores.probabilities, status, reasons)

    @cached_property
    def _answers(self) -> dict[str, tuple[str, str, str]]:
        columns = (self.label_column, self.confidence_column, self.rationale_column)
        answers: dict[str, tuple[str, str, str]] = {}
        for table in self.tables:
            cells = _read(table)
            for column in (self.text_column, *columns):
                if column is not None and column not in cells.columns:
                    raise ConfigurationError(f"{table} has no column {column!r}. Its columns: {', '.join(cells.columns)}.")
            stated, sure, reason = (cells[c].tolist() if c is not None else [""] * len(cells) for c in columns)
            for text, *rest in zip(cells[self.text_column], stated, sure, reason, strict=True):
                answer = (rest[0], rest[1], rest[2])
                if answers.setdefault(text, answer) != answer:
                    raise DataError(f"{table}: a text stands twice with different answers: {text[:60]!r}. Keep one row.")
        return answers


def _read(table: str) -> pd.DataFrame:
    try:
        return pd.read_csv(locate(table, extra="local-llm"), dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"tables: {table!r} cannot be read as CSV: {error}.") from error


def _columns(labels: Sequence[str], task: Task) -> dict[str, int]:
    columns = {label.strip().casefold(): column for column, label in enumerate(labels)}
    if len(columns) < len(labels):
        raise ConfigurationError(f"labels={list(labels)!r}: two of them differ in case or white space only.")
    if task == "multiclass" and len(labels) < 2:
        raise ConfigurationError(f"labels={list(labels)!r}: a multi-class task needs at least two.")
    return columns


def _confidence(cell: str, default: float) -> float | None:
    if not cell.strip():
        return default
    number, percent, rest = cell.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        return None
    return value if isfinite(value) and 0 <= value <= 1 and not rest else None


def spread(stated: list[int], confidence: float, k: int, task: Task) -> NDArray[np.float64]:
    """Returns the row (K,) of `stated_scores` for labels that were stated, given by their positions."""
    if task == "multilabel":
        sure = min(max(confidence, 0.5), HIGHEST)
        row = np.full(k, 1 - sure)
    else:
        sure = min(max(confidence, 1 / k), HIGHEST)
        row = np.full(k, (1 - sure) / (k - 1))
    row[stated] = sure
    return row
