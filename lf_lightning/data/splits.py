"""Seeded stratified splits, folds and small labelled subsets, in which rows with the same text stay together.

All functions take the labels as `LabelReader.encode` gives them, n rows, and `groups`, the (n,) number of each row's text.
Multi-label rows are stratified by iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the stratification of
multi-label data"); should the library fail on the data, by their exact set of labels, sets seen once being taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lf_lightning.data.labels import class_counts, labelled_rows
from lf_lightning.errors import ConfigurationError, DataError

Labels = NDArray[Any]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def text_groups(texts: Sequence[str]) -> Ints:
    """Returns (n,) int64, the number of each text from 0 in order of occurrence; texts equal up to white space share it."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(" ".join(text.split()), len(seen)) for text in texts], dtype=np.int64)


def stratified_share(labels: Labels, groups: Ints, share: float, seed: int, argument: str, singletons: bool = False) -> Bools:
    """Returns (n,) bool: a share of the labelled rows, drawn so that each class keeps its share.

    Multi-class: a class of two or more distinct texts has at least one on either side. Rows whose text is drawn all follow it.

    Args:
        labels: n encoded rows; unlabelled rows are drawn only if a labelled row has the same text.
        groups: (n,) text numbers.
        share: Fraction of the labelled texts, strictly between 0 and 1.
        seed: Seeds the draw.
        argument: The argument that held the share, for error messages.
        singletons: Whether the only text of a class is drawn; if not, it stays.

    Raises:
        ConfigurationError: The share is not within (0, 1).
        DataError: Nothing would be drawn.
    """
    if not 0 < share < 1:
        raise ConfigurationError(f"{argument}={share!r} is not a share. Give a number between 0 and 1, both excluded.")
    first, strata = _units(labels, groups)
    if labels.ndim == 2:
        drawn = _draw_multilabel(strata, share, seed)
    else:
        drawn = _draw(strata.astype(np.int64), share, seed, singletons)
    if not drawn.any():
        raise DataError(f"{argument}={share!r} of {len(first)} labelled rows is no row. Give a larger share or more rows.")
    return np.isin(groups, groups[first[drawn]])


def per_class(labels: Labels, groups: Ints, count: int, seed: int, names: Sequence[str], argument: str) -> Bools:
    """Returns (n,) bool: `count` labelled rows of each class, no text twice.

    Multi-label: at least `count` rows with each label, drawn for the rarest label first; a row counts for all its labels.

    Raises:
        ConfigurationError: `count` is below 1.
        DataError: A class has fewer distinct texts; the message names it.
    """
    if count < 1:
        raise ConfigurationError(f"{argument}={count!r}: give at least 1.")
    first, strata = _units(labels, groups)
    members = strata[:, None] == np.arange(len(names)) if labels.ndim == 1 else strata > 0
    have = members.sum(axis=0)
    few = np.flatnonzero(have < count)
    if len(few):
        label = names[int(few[0])]
        raise DataError(
            f"{argument}={count}: the label {label!r} has only {have[few[0]]} labelled texts. Lower it or drop {label!r}."
        )
    order = np.random.default_rng(seed).permutation(len(first))
    chosen = np.zeros(len(first), dtype=np.bool_)
    for number in np.argsort(have, kind="stable"):
        lacking = count - int((members[:, number] & chosen).sum())
        candidates = order[members[order, number] & ~chosen[order]]
        chosen[candidates[: max(lacking, 0)]] = True
    rows = np.zeros(len(labels), dtype=np.bool_)
    rows[first[chosen]] = True
    return rows


def stratified_folds(labels: Labels, groups: Ints, k: int, seed: int) -> Ints:
    """Returns (n,) int64, the fold 0..k-1 of each row: folds of even size with even classes, equal texts in one fold.

    Unlabelled rows are dealt evenly too.

    Raises:
        ConfigurationError: `k` is below 2 or above the number of distinct texts.
    """
    texts = _enough_texts(groups, k)
    first, strata = _units(labels, groups)
    fold_of = np.full(texts, -1, dtype=np.int64)
    generator = np.random.default_rng(seed)
    if labels.ndim == 2 and len(first) >= k:
        fold_of[groups[first]] = _multilabel_folds(strata, k, seed)
    elif labels.ndim == 1:
        fold_of[groups[first]] = _deal(strata.astype(np.int64), k, generator)
    rest = np.flatnonzero(fold_of < 0)
    fold_of[rest] = generator.permutation(len(rest)) % k
    return fold_of[groups]


def blocked_folds(groups: Ints, k: int) -> Ints:
    """Returns (n,) int64, the fold 0..k-1 of each row: runs of consecutive rows, the last in fold 0, equal texts in one.

    For rows in order of time: a fold is then as far from the rows it is judged by as tomorrow's texts will be.

    Raises:
        ConfigurationError: `k` is below 2 or above the number of distinct texts.

    >>> blocked_folds(np.array([0, 1, 2, 3, 0]), 2).tolist()
    [1, 1, 0, 0, 1]
    """
    texts = _enough_texts(groups, k)
    _, first, text_of = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(texts, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(texts)
    return np.asarray(k - 1 - rank[text_of] * k // texts)


def _enough_texts(groups: Ints, k: int) -> int:
    texts = int(groups.max()) + 1 if len(groups) else 0
    if not 2 <= k <= texts:
        raise ConfigurationError(f"folds: k={k} is not within 2..{texts}, the number of distinct texts.")
    return texts


def check_classes(labels: Labels, names: Sequence[str], allow_absent: bool) -> None:
    """Raises unless each class has a labelled row in train.

    Raises:
        DataError: A class is absent; the message names it.
    """
    absent = [names[int(number)] for number in np.flatnonzero(class_counts(labels, len(names)) == 0)]
    if absent and not allow_absent:
        raise DataError(
            f"train: no labelled row has the label {', '.join(map(repr, absent[:10]))}{', ...' if len(absent) > 10 else ''}. "
            "Way out: add rows, remove the name from `labels`, or allow_absent_classes: true."
        )


def _units(labels: Labels, groups: Ints) -> tuple[Ints, Labels]:
    """Returns the first labelled row of each text that has one, and its label."""
    rows = np.flatnonzero(labelled_rows(labels))
    _, places = np.unique(groups[rows], return_index=True)
    first = rows[places].astype(np.int64)
    return first, labels[first]


def _draw(strata: Ints, share: float, seed: int, singletons: bool) -> Bools:
    """Returns (n,) bool: of each stratum its share, rounded so that the total comes out right (largest remainders)."""
    generator = np.random.default_rng(seed)
    names, inverse, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    exact = sizes * share
    take = np.floor(exact).astype(np.int64)
    lacking = round(len(strata) * share) - int(take.sum())
    take[np.argsort(-(exact - take), kind="stable")[: max(lacking, 0)]] += 1
    take = np.where(sizes > 1, np.clip(take, 1, sizes - 1), int(singletons))
    drawn = np.zeros(len(strata), dtype=np.bool_)
    for number in range(len(names)):
        drawn[generator.permutation(np.flatnonzero(inverse == number))[: take[number]]] = True
    return drawn


def _draw_multilabel(strata: Labels, share: float, seed: int) -> Bools:
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    drawn = np.zeros(len(strata), dtype=np.bool_)
    try:
        splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
        _, rows = next(splitter.split(np.zeros((len(strata), 1)), strata.astype(np.int64)))
    except ValueError:
        return _draw(_label_sets(strata), share, seed, singletons=False)
    drawn[rows] = True
    return drawn


def _multilabel_folds(strata: Labels, k: int, seed: int) -> Ints:
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    folds = np.zeros(len(strata), dtype=np.int64)
    try:
        splitter = MultilabelStratifiedKFold(n_splits=k, shuffle=True, random_state=seed)
        for number, (_, rows) in enumerate(splitter.split(np.zeros((len(strata), 1)), strata.astype(np.int64))):
            folds[rows] = number
    except ValueError:
        return _deal(_label_sets(strata), k, np.random.default_rng(seed))
    return folds


def _label_sets(strata: Labels) -> Ints:
    """Returns (n,) int64: the number of each row's set of labels, one number for all sets that occur once."""
    _, inverse, sizes = np.unique(strata, axis=0, return_inverse=True, return_counts=True)
    return np.where(sizes[inverse] > 1, inverse, len(sizes)).astype(np.int64)


def _deal(strata: Ints, k: int, generator: np.random.Generator) -> Ints:
    """Returns (n,) int64: fold numbers dealt to each stratum in turn, like cards, going on where the last one stopped."""
    shuffled = generator.permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    folds = np.empty(len(strata), dtype=np.int64)
    folds[order] = np.arange(len(strata)) % k
    return folds
