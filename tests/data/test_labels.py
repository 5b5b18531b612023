from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lf_lightning.data.labels import LabelReader, check_names, class_counts, labelled_rows
from lf_lightning.errors import ConfigurationError, DataError

NFC, NFD = "caf\u00e9", "cafe\u0301"


def frame(cells: list[object], name: str = "label") -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(cells, dtype=object)})


def test_multiclass_cells() -> None:
    reader = LabelReader("multiclass")
    table = frame(["b", "a", None, "", float("nan"), pd.NA, "a"])
    assert reader.names_in(table, "train") == ["a", "b"]
    encoded = reader.encode(table, ["b", "a"], "train")
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [0, 1, -1, -1, -1, -1, 1]
    assert labelled_rows(encoded).tolist() == [True, True, False, False, False, False, True]
    assert class_counts(encoded, 3).tolist() == [1, 2, 0]


def test_numbers_and_booleans_stand_for_their_text() -> None:
    reader = LabelReader("multiclass")
    table = frame([1, 2.0, "1", np.int64(2), True])
    assert reader.names_in(table, "train") == ["1", "2", "True"]
    assert reader.encode(table, ["1", "2", "True"], "train").tolist() == [0, 1, 0, 1, 2]


def test_names_with_every_odd_character() -> None:
    names = [
        "yes",
        "no",
        "null",
        "1",
        "a, b",
        'q"uote',
        "new\nline",
        "\U0001f600",
        "\u05e9\u05dc\u05d5\u05dd",
        "no way",
        *map(str, range(30, 60)),
    ]
    reader = LabelReader("multiclass")
    assert check_names(names) == names
    assert reader.encode(frame(names[::-1]), names, "train").tolist() == list(range(len(names)))[::-1]


def test_two_unicode_forms_are_one_name() -> None:
    reader = LabelReader("multiclass")
    table = frame([NFC, NFD, "tea"])
    assert reader.names_in(table, "train") == [NFC, "tea"]
    assert reader.encode(table, [NFD, "tea"], "train").tolist() == [0, 0, 1]
    with pytest.raises(ConfigurationError, match="two Unicode forms of one name"):
        check_names([NFC, NFD])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "'a' comes twice"),
        (["a", ""], "'' is an empty name"),
        (["a", "  "], "is an empty name"),
        (["a"], "at least two labels"),
        ([], "at least two labels"),
        (["a", True], "True is of type bool. Quote it"),
    ],
)
def test_bad_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_names(names)


def test_unknown_label_is_named_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"test: unknown label 'sprot' in 2 rows \(first: row 1\). Nearest known label: 'sport'.*'zzz'"
    ):
        LabelReader("multiclass").encode(frame(["sport", "sprot", "sprot", "zzz"]), ["sport", "tech"], "test")


def test_multilabel_cells_lists_and_separator() -> None:
    reader = LabelReader("multilabel", separator="; ")
    table = frame(["a; b", ["b"], [], None, np.array(["c", "a"]), ("a", "b", "c"), "c"])
    assert reader.names_in(table, "train") == ["a", "b", "c"]
    encoded = reader.encode(table, ["a", "b", "c"], "train")
    assert encoded.dtype == np.float32
    nan = np.nan
    expected = [[1, 1, 0], [0, 1, 0], [0, 0, 0], [nan, nan, nan], [1, 0, 1], [1, 1, 1], [0, 0, 1]]
    np.testing.assert_array_equal(encoded, np.array(expected, dtype=np.float32))
    assert labelled_rows(encoded).tolist() == [True, True, True, False, True, True, True]
    assert class_counts(encoded, 3).tolist() == [3, 3, 3]


def test_empty_multilabel_cell_has_to_be_explained() -> None:
    table = frame(["a", ""])
    with pytest.raises(DataError, match=r"row 1: the cell of 'label' is empty.*empty_label: none"):
        LabelReader("multilabel").encode(table, ["a", "b"], "train")
    assert LabelReader("multilabel", empty_label="none").encode(table, ["a", "b"], "train").tolist() == [[1, 0], [0, 0]]
    assert np.isnan(LabelReader("multilabel", empty_label="unlabelled").encode(table, ["a", "b"], "train")[1]).all()


def test_malformed_cells() -> None:
    with pytest.raises(DataError, match="has an empty label name"):
        LabelReader("multilabel").encode(frame(["a||b"]), ["a", "b"], "train")
    with pytest.raises(DataError, match=r"\['a', 'b'\] is not one label"):
        LabelReader("multiclass").encode(frame([["a", "b"]]), ["a", "b"], "train")
    with pytest.raises(DataError, match="empty label name"):
        LabelReader("multiclass").encode(frame([" "]), ["a", "b"], "train")
    with pytest.raises(ConfigurationError, match=r"is part of the label 'a|b'"):
        LabelReader("multilabel").encode(frame(["a|b"]), ["a|b", "b"], "train")
    with pytest.raises(ConfigurationError, match=r"label_column='topic': train has no such column. Its columns: label"):
        LabelReader("multiclass", "topic").encode(frame(["a"]), ["a", "b"], "train")
    with pytest.raises(ConfigurationError, match="label_separator=''"):
        LabelReader("multilabel", separator="")


def test_one_hot_columns() -> None:
    table = pd.DataFrame({"p": ["1", "0", "", "1"], "q": [0, 1.0, None, True]}, dtype=object)
    many = LabelReader("multilabel", columns=["q", "p"])
    assert many.names_in(table, "train") == ["q", "p"]
    np.testing.assert_array_equal(many.encode(table, ["q", "p"], "train"), [[0, 1], [1, 0], [np.nan, np.nan], [1, 1]])
    one = LabelReader("multiclass", columns=["p", "q"])
    assert one.encode(table.iloc[:3], ["p", "q"], "train").tolist() == [0, 1, -1]
    with pytest.raises(DataError, match="row 3: not exactly one"):
        one.encode(table, ["p", "q"], "train")
    with pytest.raises(DataError, match=r"row 0: column 'p' holds '2'. One-hot"):
        many.encode(pd.DataFrame({"p": ["2"], "q": ["0"]}), ["q", "p"], "train")
    with pytest.raises(DataError, match="row 0: some of label_columns are empty"):
        many.encode(pd.DataFrame({"p": [""], "q": ["0"]}), ["q", "p"], "train")
    with pytest.raises(ConfigurationError, match="no column 'q'"):
        many.encode(pd.DataFrame({"p": ["0"]}), ["q", "p"], "train")
