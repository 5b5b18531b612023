"""`labelled_column`: the labels of rows that are not marked are never read, whatever they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import ConfigurationError, DataError
from tests.conftest import TableFactory


class Untouchable:
    """A label cell that fails whoever looks at it."""

    def _fail(self, *_: Any) -> Any:
        raise AssertionError("a hidden label was read")

    __str__ = __repr__ = __eq__ = __lt__ = __float__ = __bool__ = __iter__ = _fail  # type: ignore[assignment]
    __hash__ = _fail  # type: ignore[assignment]


@pytest.fixture
def marked(topic_table: TableFactory) -> pd.DataFrame:
    """60 rows of three labels, every third marked."""
    table = topic_table(60, seed=2)
    table["gold"] = [str(int(row % 3 == 0)) for row in range(60)]
    return table


def module_of(table: pd.DataFrame, tokenizer: str, **options: Any) -> ScoredTextDataModule:
    given: dict[str, Any] = {"labelled_column": "gold", "keep_unlabelled": True, "validation_share": 0.0}
    return ScoredTextDataModule(train=table, tokenizer=tokenizer, **{**given, **options})


def test_the_gold_column_of_the_pool_is_never_read(marked: pd.DataFrame, tiny_tokenizer: str) -> None:
    seen = module_of(marked, tiny_tokenizer)
    hidden = marked.copy()
    hidden["label"] = [
        label if mark == "1" else Untouchable() for label, mark in zip(marked["label"], marked["gold"], strict=True)
    ]
    with pytest.raises(AssertionError, match="hidden label"):  # it would be noticed
        module_of(hidden, tiny_tokenizer, labelled_column=None).setup("fit")
    blind = module_of(hidden, tiny_tokenizer)
    for module in (seen, blind):
        module.setup("fit")
    assert blind.labels == seen.labels == ["politics", "science", "sport"]
    labels = blind.scores_and_labels("train")[2]
    assert torch.equal(labels, seen.scores_and_labels("train")[2])
    assert ((labels >= 0) == (torch.arange(60) % 3 == 0)).all()
    assert blind.dataset_fingerprint == seen.dataset_fingerprint
    assert torch.equal(blind.folds(2, 0), seen.folds(2, 0))
    assert blind.summary == seen.summary
    assert blind.summary["train"]["labelled"] == 20


def test_a_label_that_no_marked_row_has_is_not_known(marked: pd.DataFrame, tiny_tokenizer: str) -> None:
    marked.loc[marked["gold"] == "0", "label"] = "secret"
    assert "secret" not in module_of(marked, tiny_tokenizer).labels


@pytest.mark.parametrize("kind", ["joined", "columns"])
def test_multilabel_columns_are_hidden_too(kind: str, multilabel_table: TableFactory, tiny_tokenizer: str) -> None:
    table = multilabel_table(40, seed=3)
    names = sorted({name for cell in table["label"] for name in cell.split("|")})
    options: dict[str, Any] = {"task": "multilabel"}
    if kind == "columns":
        for name in names:
            table[name] = [int(name in cell.split("|")) for cell in table["label"]]
        table = table.drop(columns="label").astype(dict.fromkeys(names, object))
        options |= {"label_column": None, "label_columns": names}
    table["gold"] = [row % 2 for row in range(40)]
    for column in names if kind == "columns" else ["label"]:
        table[column] = [Untouchable() if row % 2 == 0 else cell for row, cell in enumerate(table[column])]
    module = module_of(table, tiny_tokenizer, **options)
    labels = module.scores_and_labels("train")[2]
    assert labels[0::2].isnan().all()
    assert labels[1::2].isfinite().all()


def test_without_keep_unlabelled_the_gold_rows_alone_are_left(marked: pd.DataFrame, tiny_tokenizer: str) -> None:
    module = module_of(marked, tiny_tokenizer, keep_unlabelled=False)
    assert module.number_of_rows("train") == 20
    assert module.summary["train"]["dropped"] == {"unlabelled": 40}


def test_a_file_works_the_same(marked: pd.DataFrame, tiny_tokenizer: str, tmp_path: Path) -> None:
    marked.to_csv(tmp_path / "train.csv", index=False)
    options = {"labelled_column": "gold", "keep_unlabelled": True}
    module = ScoredTextDataModule(train=str(tmp_path / "train.csv"), tokenizer=tiny_tokenizer, **options)  # type: ignore[arg-type]
    assert int((module.scores_and_labels("train")[2] >= 0).sum()) == 17  # of twenty, one of each class is a validation row


def test_what_cannot_work_is_refused(marked: pd.DataFrame, tiny_tokenizer: str) -> None:
    with pytest.raises(ConfigurationError, match="labelled_column='mark': train has no such column"):
        module_of(marked, tiny_tokenizer, labelled_column="mark").setup("fit")
    with pytest.raises(ConfigurationError, match="labelled_column='label'"):
        module_of(marked, tiny_tokenizer, labelled_column="label").setup("fit")
    marked["gold"] = "maybe"
    with pytest.raises(DataError, match="column 'gold' holds 'maybe'"):
        module_of(marked, tiny_tokenizer).setup("fit")
    marked["gold"] = "0"
    with pytest.raises(DataError, match="no train row is marked 1"):
        module_of(marked, tiny_tokenizer).setup("fit")
