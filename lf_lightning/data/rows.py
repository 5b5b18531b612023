"""The rows of a split before tokenising: exact texts, origin, labels; and how one table becomes several splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.data.labels import labelled_rows
from lf_lightning.data.splits import per_class, stratified_share, text_groups
from lf_lightning.errors import ConfigurationError
from lf_lightning.store.keys import text_keys


@dataclass
class SplitRows:
    """n rows.

    Attributes:
        texts: The exact texts.
        ids: (n,) int64, row numbers in the table that they were read from.
        labels: As `LabelReader.encode` gives them.
    """

    texts: list[str]
    ids: NDArray[np.int64]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, mask: NDArray[np.bool_]) -> SplitRows:
        """Returns the rows in which `mask` (n,) is True."""
        places = np.flatnonzero(mask)
        return SplitRows([self.texts[place] for place in places], self.ids[places], self.labels[places])

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) bool."""
        return labelled_rows(self.labels)

    def fingerprint(self, names: Sequence[str]) -> str:
        """Returns the SHA-256, 64 hex digits, of the texts in order, the label names and the labels."""
        digest = sha256(text_keys(self.texts).tobytes())
        for name in names:
            exact = name.encode("utf-8", "surrogatepass")
            digest.update(len(exact).to_bytes(8, "little") + exact)
        digest.update(np.nan_to_num(self.labels, nan=-1).astype("<f8").tobytes())
        return digest.hexdigest()


def first_of_each(rows: SplitRows, full_texts: Sequence[str]) -> tuple[SplitRows, int]:
    """Returns the rows whose text did not come before, and how many of the others carry another label than the first.

    A labelled row goes before an unlabelled one with the same text.

    Args:
        rows: n rows.
        full_texts: Their texts before any were cut to `max_words`; texts equal up to white space are the same.
    """
    groups = text_groups(full_texts)
    order = np.argsort(~rows.labelled, kind="stable")
    _, places = np.unique(groups[order], return_index=True)
    first = order[places]
    keep = np.zeros(len(rows), dtype=np.bool_)
    keep[first] = True
    twin, labels = first[groups], np.nan_to_num(rows.labels, nan=-1)
    other = (labels != labels[twin]).reshape(len(rows), -1).any(axis=1) & rows.labelled
    return rows.where(keep), int(other.sum())


def cut(rows: SplitRows, test_share: float, validation_share: float, seed: int) -> dict[str, SplitRows]:
    """Returns `train` and, where their share is not 0, `test` and `validation` of a table; equal texts stay on one side.

    The test rows are drawn first, of all labelled rows, then the validation rows, `validation_share` of all labelled rows too;
    so another `validation_share` leaves the test rows as they are. Unlabelled rows stay in train.

    Raises:
        ConfigurationError: A share is not within 0..1, or the two leave nothing for train.
        DataError: A share of the rows is no row.
    """
    if test_share + validation_share >= 1:
        raise ConfigurationError(f"test_share={test_share!r} and validation_share={validation_share!r} leave no train rows.")
    groups = text_groups(rows.texts)
    labels = rows.labels
    side = np.zeros(len(rows), dtype=np.int64)
    names = ["train"]
    remaining = 1.0
    for name, share in (("test", test_share), ("validation", validation_share)):
        if share == 0:
            continue
        free = side == 0
        drawn = stratified_share(labels[free], groups[free], share / remaining, seed, f"{name}_share")
        side[np.flatnonzero(free)[drawn]] = len(names)
        names.append(name)
        remaining -= share
    # an unlabelled row whose text is held out belongs to neither side
    return {name: rows.where((side == number) & (rows.labelled | (number == 0))) for number, name in enumerate(names)}


def with_few_labels(
    rows: SplitRows,
    labels_per_class: int | None,
    labelled_fraction: float | None,
    seed: int,
    names: Sequence[str],
    argument: str = "labels_per_class",
) -> SplitRows:
    """Returns the rows with the labels of a small drawn subset only; the others become unlabelled.

    Args:
        rows: n rows.
        labels_per_class: Labelled rows to keep for each label; goes before the fraction.
        labelled_fraction: Share of the labelled rows to keep, stratified, at least one for each class.
        seed: Seeds the draw.
        names: The K label names.
        argument: The argument that held `labels_per_class`, for error messages.

    Raises:
        ConfigurationError: One is out of range.
        DataError: A class has too few rows.
    """
    if labels_per_class is None and labelled_fraction is None:
        return rows
    groups = text_groups(rows.texts)
    if labels_per_class is not None:
        kept = per_class(rows.labels, groups, labels_per_class, seed, names, argument)
    elif labelled_fraction == 1:
        return rows
    else:
        kept = stratified_share(rows.labels, groups, float(labelled_fraction or 0), seed, "labelled_fraction", singletons=True)
    labels = rows.labels.copy()
    labels[~kept] = -1 if labels.ndim == 1 else np.nan
    return SplitRows(rows.texts, rows.ids, labels)


def shared_texts(rows: SplitRows, other: SplitRows) -> int:
    """Returns how many rows of `other` have a text that is also in `rows`, white space aside."""
    known = {" ".join(text.split()) for text in rows.texts}
    return sum(" ".join(text.split()) in known for text in other.texts)
