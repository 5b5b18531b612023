"""From sources to the rows and scores of each split, lazily: a split that nobody asks for is never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_warn

from lf_lightning.contract import Split
from lf_lightning.data.hidden_labels import without_hidden_labels
from lf_lightning.data.labels import LabelReader, class_counts
from lf_lightning.data.rows import SplitRows, cut, first_of_each, shared_texts, with_few_labels
from lf_lightning.data.scores import ScoreSource, SplitScores, rows_to_keep
from lf_lightning.data.splits import check_classes
from lf_lightning.data.tables import read_table
from lf_lightning.data.texts import texts_of
from lf_lightning.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    Source = str | pd.DataFrame | None
else:
    # What a YAML can give: with data frames in the type, the command line's help would offer to build one.
    Source = str | None


class SplitPlan(NamedTuple):
    """How splits are cut and labels kept; the data module documents each field."""

    validation_share: float
    test_share: float
    split_seed: int
    labels_per_class: int | None
    labelled_fraction: float | None
    validation_labels_per_class: int | None
    keep_unlabelled: bool
    seed: int
    drop_duplicates: bool
    allow_absent_classes: bool
    labelled_column: str | None = None


class Preparation:
    """Reads, cuts and joins.

    Args:
        sources: The source of each split, or None.
        text_columns: The text columns.
        max_words: Words kept of each text, or None.
        reader: Reads the labels.
        labels: The label names, or None for those of the train source.
        plan: How splits are cut and labels kept.
        scores: Where scores come from.
    """

    def __init__(
        self,
        sources: Mapping[Split, Source],
        text_columns: list[str],
        max_words: int | None,
        reader: LabelReader,
        labels: list[str] | None,
        plan: SplitPlan,
        scores: ScoreSource,
    ) -> None:
        self.sources = sources
        self.text_columns = text_columns
        self.max_words = max_words
        self.reader = reader
        self.plan = plan
        self.scores = scores
        self.ready: dict[Split, tuple[SplitRows, SplitScores]] = {}
        self.dropped: dict[str, dict[str, int]] = {}
        self._labels = list(reader.columns) if labels is None and reader.columns is not None else labels
        self._fingerprints: dict[str, str] = {}
        self._train_table: pd.DataFrame | None = None
        self._rows: dict[Split, SplitRows] = {}
        self._pool: dict[str, SplitRows] | None = None

    @property
    def labels(self) -> list[str]:
        """The K label names in order; reads the train source if they were not given."""
        if self._labels is None:
            if self.sources["train"] is None:
                raise ConfigurationError("labels: give the label names, or a train source that has them.")
            self._labels = self.reader.names_in(self._table("train"), "train")
        return list(self._labels)

    def has(self, split: Split) -> bool:
        """Whether there is such a split: it has a source, or a share of the train source."""
        if self.sources[split] is not None:
            return True
        share = {"validation": self.plan.validation_share, "test": self.plan.test_share}.get(split, 0.0)
        return share != 0 and self.sources["train"] is not None

    def split(self, split: Split) -> tuple[SplitRows, SplitScores]:
        """Returns the rows of a split and their scores.

        Raises:
            ConfigurationError: There is no such split.
            DataError: Its rows cannot be used; the message says which.
            ScoreMismatchError: Its scores are of other texts or labels, or lacking under `on_missing: error`.
        """
        if split not in self.ready:
            rows = self.rows(split)
            # Who pays for scores of the train rows only, says so by `mask`; in train itself such a store is a mistake.
            unscored = split == "predict" or (split != "train" and self.scores.on_missing == "mask")
            scores = self.scores.join(rows.texts, self.labels, may_be_strangers=unscored)
            keep = rows_to_keep(scores, self.scores.names, self.scores.on_missing, split)
            if not keep.all():
                rows, scores = rows.where(keep), scores.where(keep)
                self._count_dropped(split, "not_scored", int((~keep).sum()))
                if split == "train":
                    check_classes(rows.labels, self.labels, self.plan.allow_absent_classes)
            if not len(rows):
                raise DataError(f"{split} is empty: none of its rows has scores of every scorer. Way out: on_missing: mask.")
            self.ready[split] = rows, scores
        return self.ready[split]

    def rows(self, split: Split) -> SplitRows:
        """Returns the rows of a split before scores are joined."""
        if split not in self._rows:
            self._rows[split] = self._rows_of(split)
        return self._rows[split]

    def _rows_of(self, split: Split) -> SplitRows:
        if not self.has(split):
            raise ConfigurationError(f"There are no {split} rows. Give data.{split} a source" + _or_share(split) + ".")
        if split == "train" or self.sources[split] is None:
            rows = self._cut_from_train()[split]
        else:
            rows = self._read(split, with_labels=split != "predict")
        if split == "validation" and self.plan.validation_labels_per_class is not None:
            few = with_few_labels(
                rows, self.plan.validation_labels_per_class, None, self.plan.seed, self.labels, "validation_labels_per_class"
            )
            rows = few.where(few.labelled)
        if not len(rows):
            raise DataError(f"{split} is empty: no row is left of its source. Check data.{split} and the shares.")
        if split in ("validation", "test") and not rows.labelled.all():
            first = rows.ids[~rows.labelled][0]
            raise DataError(
                f"{split}: {int((~rows.labelled).sum())} rows have no label (first: row {first}), so they cannot be evaluated. "
                "Remove them, or predict them."
            )
        empty = sum(not text.strip() for text in rows.texts)
        if empty:
            rank_zero_warn(f"{split}: {empty} of {len(rows)} texts are empty; they are kept.")
        return rows

    def warn_of_shared_texts(self) -> None:
        """Warns of validation and test rows whose text is also in train; reads both, so their labels are checked early too."""
        held_out: tuple[Split, ...] = ("validation", "test")
        for split in held_out:
            if self.sources[split] is None:
                continue
            count = shared_texts(self.rows("train"), self.rows(split))
            if count:
                rank_zero_warn(f"{count} {split} rows have a text that is also in train: scores on them are not evidence.")

    @property
    def ids(self) -> dict[str, list[int]]:
        """Row numbers in the source table, for each split in use; `train_labelled` where some train rows are unlabelled."""
        ids: dict[str, list[int]] = {split: rows.ids.tolist() for split, (rows, _) in self.ready.items()}
        if "train" in self.ready and not self.ready["train"][0].labelled.all():
            train, _ = self.ready["train"]
            ids["train_labelled"] = train.ids[train.labelled].tolist()
        return ids

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 over texts, label names and labels of each split in use."""
        for split, (rows, _) in self.ready.items():
            if split not in self._fingerprints:
                self._fingerprints[split] = rows.fingerprint(self.labels)
        return dict(self._fingerprints)

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """What the data module's `summary` says."""
        table: dict[str, dict[str, Any]] = {}
        for split, (rows, scores) in self.ready.items():
            counts = class_counts(rows.labels, len(self.labels)).tolist()
            table[split] = {
                "rows": len(rows),
                "labelled": int(rows.labelled.sum()),
                "per_label": dict(zip(self.labels, counts, strict=True)),
                "empty_texts": sum(not text.strip() for text in rows.texts),
                "dropped": dict(self.dropped.get(split, {})),
                "scores": scores.counts(self.scores.names),
            }
        return table

    def _table(self, split: Split) -> pd.DataFrame:
        if split != "train":
            return read_table(self._source(split), split)
        if self._train_table is None:
            table = read_table(self._source("train"), "train")
            marks = self.plan.labelled_column
            self._train_table = table if marks is None else without_hidden_labels(table, marks, self.reader)
        return self._train_table

    def _source(self, split: Split) -> str | pd.DataFrame:
        source = self.sources[split]
        assert source is not None
        return source

    def _read(self, split: Split, with_labels: bool = True) -> SplitRows:
        table = self._table(split)
        texts = texts_of(table, self.text_columns, self.max_words, split)
        ids = np.arange(len(table), dtype=np.int64)
        if with_labels:
            return SplitRows(texts, ids, self.reader.encode(table, self.labels, split))
        if self.reader.task == "multiclass":
            return SplitRows(texts, ids, np.full(len(ids), -1, dtype=np.int64))
        return SplitRows(texts, ids, np.full((len(ids), len(self.labels)), np.nan, dtype=np.float32))

    def _cut_from_train(self) -> dict[str, SplitRows]:
        if self._pool is None:
            plan = self.plan
            rows = self._read("train")
            if plan.drop_duplicates:
                rows = self._without_duplicates(rows)
            test_share = plan.test_share if self.sources["test"] is None else 0.0
            validation_share = plan.validation_share if self.sources["validation"] is None else 0.0
            pool = cut(rows, test_share, validation_share, plan.split_seed)
            train = with_few_labels(pool["train"], plan.labels_per_class, plan.labelled_fraction, plan.seed, self.labels)
            check_classes(train.labels, self.labels, plan.allow_absent_classes)
            if not plan.keep_unlabelled:
                self._count_dropped("train", "unlabelled", int((~train.labelled).sum()))
                train = train.where(train.labelled)
            self._pool = {**pool, "train": train}
            self._train_table = None
        return self._pool

    def _without_duplicates(self, rows: SplitRows) -> SplitRows:
        kept, conflicting = first_of_each(rows, texts_of(self._table("train"), self.text_columns, None, "train"))
        self._count_dropped("train", "duplicates", len(rows) - len(kept))
        if conflicting:
            rank_zero_warn(f"train: {conflicting} of the dropped duplicates had another label than the row that was kept.")
        return kept

    def _count_dropped(self, split: str, reason: str, count: int) -> None:
        if count:
            self.dropped.setdefault(split, {})[reason] = count


def _or_share(split: str) -> str:
    return f", or data.{split}_share a share of train" if split in ("validation", "test") else ""
