from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lf_lightning.data.labels import LabelReader, class_counts
from lf_lightning.data.rows import SplitRows, cut, first_of_each, shared_texts, with_few_labels
from lf_lightning.data.splits import blocked_folds, check_classes, per_class, stratified_folds, stratified_share, text_groups
from lf_lightning.errors import ConfigurationError, DataError


@pytest.fixture
def skewed() -> tuple[np.ndarray, np.ndarray]:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [500, 90, 10]))
    return labels, np.arange(600)


def many(multilabel_table: Callable[..., pd.DataFrame], n: int) -> tuple[np.ndarray, list[str]]:
    table = multilabel_table(n)
    reader = LabelReader("multilabel")
    names = reader.names_in(table, "train")
    return reader.encode(table, names, "train"), names


def test_share_keeps_class_shares_and_is_seeded(skewed: tuple[np.ndarray, np.ndarray]) -> None:
    labels, groups = skewed
    drawn = stratified_share(labels, groups, 0.1, 3, "share")
    assert class_counts(labels[drawn], 3).tolist() == [50, 9, 1]
    assert (drawn == stratified_share(labels, groups, 0.1, 3, "share")).all()
    assert (drawn != stratified_share(labels, groups, 0.1, 4, "share")).any()


def test_each_class_is_on_both_sides_and_a_single_row_stays() -> None:
    labels = np.array([0] * 100 + [1, 1] + [2])
    drawn = stratified_share(labels, np.arange(103), 0.05, 0, "share")
    assert class_counts(labels[drawn], 3).tolist() == [5, 1, 0]
    assert class_counts(labels[stratified_share(labels, np.arange(103), 0.9, 0, "share")], 3).tolist() == [90, 1, 0]
    assert class_counts(labels[stratified_share(labels, np.arange(103), 0.05, 0, "share", singletons=True)], 3)[2] == 1


def test_unlabelled_rows_are_not_drawn_and_equal_texts_stay_together() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 80, 300)
    groups = np.unique(groups, return_inverse=True)[1]
    labels = np.where(rng.random(300) < 0.3, -1, groups % 3)
    drawn = stratified_share(labels, groups, 0.3, 0, "share")
    assert not set(groups[drawn]) & set(groups[~drawn])
    only_unlabelled = ~np.isin(groups, groups[labels >= 0])
    assert not drawn[only_unlabelled].any()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_share_out_of_range(skewed: tuple[np.ndarray, np.ndarray], share: float) -> None:
    with pytest.raises(ConfigurationError, match="validation_share="):
        stratified_share(*skewed, share, 0, "validation_share")


def test_share_of_too_few_rows() -> None:
    with pytest.raises(DataError, match="is no row"):
        stratified_share(np.array([0, 1]), np.arange(2), 0.1, 0, "share")


def test_multilabel_share_and_folds_are_stratified(multilabel_table: Callable[..., pd.DataFrame]) -> None:
    labels, _ = many(multilabel_table, 400)
    groups = np.arange(400)
    drawn = stratified_share(labels, groups, 0.25, 0, "share")
    np.testing.assert_allclose(labels[drawn].mean(0), labels.mean(0), atol=0.03)
    assert abs(drawn.mean() - 0.25) < 0.02
    folds = stratified_folds(labels, groups, 4, 0)
    for fold in range(4):
        np.testing.assert_allclose(labels[folds == fold].mean(0), labels.mean(0), atol=0.03)
    assert (folds == stratified_folds(labels, groups, 4, 0)).all()
    assert (folds != stratified_folds(labels, groups, 4, 1)).any()


def test_multilabel_without_labels_in_some_rows_and_all_in_others() -> None:
    labels = np.array([[0, 0]] * 10 + [[1, 1]] * 10 + [[1, 0]] * 10 + [[np.nan, np.nan]] * 5, dtype=np.float32)
    drawn = stratified_share(labels, np.arange(35), 0.2, 0, "share")
    assert drawn[:30].sum() == 6
    assert not drawn[30:].any()
    folds = stratified_folds(labels, np.arange(35), 5, 0)
    assert set(folds) == set(range(5))


def test_folds_are_even_stratified_and_keep_equal_texts_together(skewed: tuple[np.ndarray, np.ndarray]) -> None:
    labels, groups = skewed
    folds = stratified_folds(labels, groups, 5, 0)
    for fold in range(5):
        assert class_counts(labels[folds == fold], 3).tolist() == [100, 18, 2]
    twins = np.repeat(np.arange(300), 2)
    folds = stratified_folds(np.repeat(labels[:300], 2), twins, 5, 0)
    assert (folds[::2] == folds[1::2]).all()
    with pytest.raises(ConfigurationError, match="k=1 is not within"):
        stratified_folds(labels, groups, 1, 0)
    with pytest.raises(ConfigurationError, match=r"k=4 is not within 2..3"):
        stratified_folds(labels[:3], groups[:3], 4, 0)


def test_folds_deal_unlabelled_rows_evenly() -> None:
    labels = np.array([0, 1] * 10 + [-1] * 30)
    folds = stratified_folds(labels, np.arange(50), 5, 0)
    assert np.bincount(folds[20:]).tolist() == [6] * 5
    assert np.bincount(folds[:20]).tolist() == [4] * 5


def test_per_class_is_exact_distinct_and_seeded(skewed: tuple[np.ndarray, np.ndarray]) -> None:
    labels, groups = skewed
    chosen = per_class(labels, groups, 8, 0, ["a", "b", "c"], "labels_per_class")
    assert class_counts(labels[chosen], 3).tolist() == [8, 8, 8]
    assert (chosen != per_class(labels, groups, 8, 1, ["a", "b", "c"], "labels_per_class")).any()
    twins = per_class(np.repeat(labels, 2), np.repeat(groups, 2), 8, 0, ["a", "b", "c"], "n")
    assert len(set(np.repeat(groups, 2)[twins])) == twins.sum() == 24
    with pytest.raises(DataError, match=r"labels_per_class=11: the label 'c' has only 10"):
        per_class(labels, groups, 11, 0, ["a", "b", "c"], "labels_per_class")
    with pytest.raises(ConfigurationError, match="labels_per_class=0"):
        per_class(labels, groups, 0, 0, ["a", "b", "c"], "labels_per_class")


def test_per_class_multilabel_has_enough_of_each(multilabel_table: Callable[..., pd.DataFrame]) -> None:
    labels, names = many(multilabel_table, 300)
    chosen = per_class(labels, np.arange(300), 6, 0, names, "n")
    counts = class_counts(labels[chosen], len(names))
    assert counts.min() == 6
    assert chosen.sum() <= 6 * len(names)


def rows_of(texts: list[str], labels: list[int]) -> SplitRows:
    return SplitRows(texts, np.arange(len(texts)), np.array(labels))


def test_cut_is_disjoint_and_test_rows_do_not_depend_on_the_validation_share() -> None:
    texts = [f"t{i // 2}" for i in range(200)]
    rows = rows_of(texts, [i // 2 % 2 for i in range(200)])
    parts = cut(rows, 0.2, 0.1, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 140, "test": 40, "validation": 20}
    assert sorted(np.concatenate([part.ids for part in parts.values()])) == list(range(200))
    assert not any(
        shared_texts(parts[a], parts[b]) for a, b in (("train", "test"), ("train", "validation"), ("test", "validation"))
    )
    assert cut(rows, 0.2, 0.3, 0)["test"].ids.tolist() == parts["test"].ids.tolist()
    assert list(cut(rows, 0.0, 0.0, 0)) == ["train"]
    with pytest.raises(ConfigurationError, match="leave no train rows"):
        cut(rows, 0.5, 0.5, 0)


def test_duplicates_keep_the_first_labelled_row_and_count_contradictions() -> None:
    rows = rows_of(["a b", "c", "a  b", "c", "a b\n", "d"], [-1, 0, 1, 0, 0, -1])
    kept, conflicting = first_of_each(rows, rows.texts)
    assert kept.ids.tolist() == [1, 2, 5]
    assert conflicting == 1
    assert text_groups(rows.texts).tolist() == [0, 1, 0, 1, 0, 2]


def test_few_labels_leaves_the_others_unlabelled() -> None:
    rows = rows_of([f"t{i}" for i in range(40)], [i % 2 for i in range(40)])
    few = with_few_labels(rows, 3, None, 0, ["a", "b"])
    assert class_counts(few.labels, 2).tolist() == [3, 3]
    assert len(few) == 40
    assert (few.labels[few.labelled] == rows.labels[few.labelled]).all()
    assert class_counts(with_few_labels(rows, None, 0.25, 0, ["a", "b"]).labels, 2).tolist() == [5, 5]
    assert with_few_labels(rows, None, 1.0, 0, ["a", "b"]) is rows
    assert rows.labelled.all()


def test_absent_class_is_named() -> None:
    with pytest.raises(DataError, match=r"no labelled row has the label 'c'.*allow_absent_classes"):
        check_classes(np.array([0, 1, -1]), ["a", "b", "c"], allow_absent=False)
    check_classes(np.array([0, 1, -1]), ["a", "b", "c"], allow_absent=True)


def test_fingerprint_follows_texts_names_and_labels() -> None:
    rows = rows_of(["a", "b"], [0, 1])
    same = rows_of(["a", "b"], [0, 1]).fingerprint(["x", "y"])
    assert rows.fingerprint(["x", "y"]) == same
    others = [
        rows.fingerprint(["y", "x"]),
        rows_of(["b", "a"], [0, 1]).fingerprint(["x", "y"]),
        rows_of(["a", "b"], [0, -1]).fingerprint(["x", "y"]),
    ]
    assert len({same, *others}) == 4


def test_blocked_folds_are_runs_of_rows_and_keep_equal_texts_together() -> None:
    folds = blocked_folds(np.array([0, 1, 2, 3, 4, 5, 6, 0]), 3)
    assert folds.tolist() == [2, 2, 2, 1, 1, 0, 0, 2]
    with pytest.raises(ConfigurationError, match="k=9"):
        blocked_folds(np.arange(8), 9)
