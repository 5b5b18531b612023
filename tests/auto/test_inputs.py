"""Whatever holds texts and labels is read the same, and what cannot be read is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning.auto.inputs import labelled, read_targets, read_texts, table_of
from lf_lightning.errors import ConfigurationError, DataError

TEXTS = ["a goal", "a vote", "an atom"]
ONE_HOT = pd.DataFrame({"text": TEXTS, "x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1]})


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        tuple(TEXTS),
        pd.Series(TEXTS, index=[7, 8, 9]),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object)[:, None],
        pd.DataFrame({"n": [1, 2, 3], "what": TEXTS}),
        pd.DataFrame({"author": ["x", "y", "z"], "text": TEXTS}),
    ],
)
def test_texts_come_in_many_forms(given: Any) -> None:
    assert read_texts(given, None, None) == TEXTS
    assert read_texts(given, None, 1) == ["a", "a", "an"]


@pytest.mark.parametrize(
    ("given", "column", "complaint"),
    [
        ("a goal", None, r"predict\(\[text\]\)"),
        (7, None, "X is a int"),
        ([], None, "0 rows"),
        (np.zeros((3, 2)), None, r"shape \(3, 2\)"),
        ([1.5, 2.5], None, "no text in 2 rows"),
        (["a", None], None, "row numbers 1"),
        (pd.DataFrame({"a": TEXTS, "b": TEXTS}), None, "not clear. Name it: a, b"),
        (pd.DataFrame({"a": TEXTS}), "text", "no such column. Its columns: a"),
    ],
)
def test_what_holds_no_texts_is_named(given: Any, column: str | None, complaint: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=complaint):
        read_texts(given, column, None)


def targets(y: Any, names: list[Any] | None = None, many: bool | None = None, frame: Any = TEXTS) -> Any:
    return read_targets(frame, y, names, "label", many)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        (pd.Series(["b", "a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"]),
        ([2, 0, 2], [0, 2]),
        (np.array([True, False, True]), [False, True]),
        ([1.0, -1.0, 1.0], [-1.0, 1.0]),
    ],
)
def test_single_labels_go_out_as_they_came_in(y: Any, classes: list[Any]) -> None:
    found, encoded = targets(y)
    assert (found.task, found.classes.tolist(), encoded.tolist()) == ("multiclass", classes, [1, 0, 1])
    assert found.given_back(encoded).tolist() == list(y)
    assert table_of(TEXTS, found, encoded)["label"].tolist() == [str(label) for label in y]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([[1, 0, 1], [0, 0, 0], [0, 1, 0]], [0, 1, 2]),
        (np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]]), [0, 1, 2]),
        (pd.DataFrame([[1, 0, 1], [0, 0, 0], [0, 1, 0]], columns=list("xyz")), list("xyz")),
    ],
)
def test_an_indicator_goes_out_as_it_came_in(y: Any, classes: list[Any]) -> None:
    found, encoded = targets(y)
    assert (found.task, found.classes.tolist()) == ("multilabel", classes)
    assert np.array_equal(found.given_back(encoded.astype(np.int64)), np.asarray(y))


def test_lists_and_joined_labels_go_out_as_they_came_in() -> None:
    lists = [["b", "a"], [], ["b"]]
    found, encoded = targets(lists)
    assert found.task == "multilabel"
    assert encoded.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert found.given_back(encoded.astype(np.int64)) == [["a", "b"], [], ["b"]]
    assert table_of(TEXTS, found, encoded)["label"].tolist() == [["a", "b"], [], ["b"]]
    joined, encoded = targets(["a|b", "", "b"], many=True)
    assert joined.given_back(encoded.astype(np.int64)).tolist() == ["a|b", "", "b"]


def test_a_data_frame_may_hold_the_labels() -> None:
    found, encoded = targets(None, ["z", "x", "y"], frame=ONE_HOT)
    assert (found.task, found.classes.tolist(), encoded.tolist()) == ("multiclass", ["z", "x", "y"], [1, 2, 0])
    found, _ = targets(None, ["z", "x", "y"], frame=ONE_HOT.assign(y=1))
    assert (found.task, found.form) == ("multilabel", "indicator")
    frame = pd.DataFrame({"text": TEXTS, "label": ["b", None, "a"]})
    found, encoded = targets(None, frame=frame)
    assert labelled(encoded).tolist() == [True, False, True]
    found, encoded = targets(None, ["b", "a"], frame=frame)
    assert (found.classes.tolist(), encoded.tolist()) == (["b", "a"], [0, -1, 1])
    found, _ = targets(None, ["label"], frame=frame)
    assert found.classes.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "names", "many", "frame", "complaint"),
    [
        (None, None, None, TEXTS, "requires y to be passed"),
        (None, ["p", "q"], None, ONE_HOT, r"label_columns=\['p', 'q'\]"),
        ([0.5, 1.5, 2.5], None, None, TEXTS, "Unknown label type"),
        ([0.0, np.nan, 1.0], None, None, TEXTS, "NaN"),
        (["a", None, "b"], None, None, TEXTS, "NaN or None in 1 rows"),
        (["a", "a", "a"], None, None, TEXTS, "one class"),
        (["a", "b", "c"], ["a", "b"], None, TEXTS, r"'c', which is none of label_columns=\['a', 'b'\]"),
        (np.array([[2, 0], [0, 1], [1, 0]]), ["a", "b"], None, TEXTS, "Multioutput|multioutput|0 and 1 only"),
        ([[1, 0], [0, 1], [1, 0]], ["a", "b", "c"], None, TEXTS, "3 labels, y has 2 columns"),
        ([[1, 1], [0, 1], [1, 0]], None, False, TEXTS, "not exactly one label"),
        (pd.Series(["a", 1, "b"]), None, None, TEXTS, "types int, str"),
    ],
)
def test_labels_that_cannot_be_read_are_named(y: Any, names: Any, many: Any, frame: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_targets(frame, y, names, "label", many)
