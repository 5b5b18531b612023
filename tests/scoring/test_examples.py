"""Few-shot examples: never the text itself, only rows that were asked for, and the same ones whatever else is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring import FixedExamples, NearestExamples, RandomExamples
from lf_lightning.scoring.examples import Examples
from tests.conftest import TableFactory

LABELS = ["business", "politics", "science", "sport"]


@pytest.fixture
def pool(tmp_path: Path, topic_table: TableFactory) -> Path:
    table = topic_table(40, seed=0, k=4).assign(split="train")
    table = pd.concat([table, topic_table(10, seed=1, k=4).assign(split="test")])
    table.loc[len(table)] = table.iloc[0]
    table.to_csv(tmp_path / "pool.csv", index=False)
    return tmp_path / "pool.csv"


@pytest.fixture
def make(pool: Path, tiny_encoder: str) -> Any:
    def build(kind: type[Examples], **arguments: Any) -> Examples:
        options = {"table": str(pool), "where": {"split": "train"}, "count": 6, **arguments}
        if kind is NearestExamples:
            options = {"encoder": tiny_encoder, **options}
        examples = kind(**options)
        examples.bind(LABELS, "multiclass")
        return examples

    return build


KINDS = [FixedExamples, RandomExamples, NearestExamples]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_never_its_own_example_whole_or_cut(make: Any, pool: Path, kind: type[Examples]) -> None:
    examples = make(kind, count=38)  # of 40: only the text itself can be left out
    table = pd.read_csv(pool)
    for text in table["text"][:8]:
        for form in (text, f" {text.upper()}\n", text[:30], f"{text} and so on"):
            chosen = examples.choose(form)
            assert text not in [example.whole for example in chosen]
            assert len(chosen) == 38 or kind is FixedExamples
    test_rows = set(table["text"][table["split"] == "test"])
    assert not test_rows & {example.whole for example in examples.choose("anything")}


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_and_repetition_change_nothing(make: Any, kind: type[Examples]) -> None:
    texts = ["the minister said", "a goal in the match", "x", "", "\ud800"]
    first = [make(kind).choose(text) for text in texts]
    again = make(kind)
    assert [again.choose(text) for text in reversed(texts)] == first[::-1]
    assert all(len(chosen) == 6 for chosen in first)
    alike = [chosen == first[0] for chosen in first[1:]]
    assert all(alike) if kind is FixedExamples else not any(alike)


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_takes_equally_many_of_each_label(make: Any, kind: type[Examples]) -> None:
    chosen = make(kind, count=8, balanced=True).choose("a text about nothing")
    assert sorted(example.labels[0] for example in chosen) == sorted(LABELS * 2)
    assert len({example.whole for example in chosen}) == 8


def test_nearest_are_the_nearest_by_cosine_the_nearest_last(make: Any, tiny_encoder: str) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    examples = make(NearestExamples, count=3)
    text = examples.pool[5].whole.replace("the", "a") + " again"
    model, tokenizer = AutoModel.from_pretrained(tiny_encoder).eval(), AutoTokenizer.from_pretrained(tiny_encoder)

    def vector(of: str) -> np.ndarray:
        with torch.inference_mode():
            return model(**tokenizer(of, return_tensors="pt", truncation=True)).last_hidden_state[0].mean(0).numpy()

    mine = vector(text)
    cosines = [v @ mine / np.linalg.norm(v) / np.linalg.norm(mine) for v in (vector(row.whole) for row in examples.pool)]
    chosen = examples.choose(text)
    expected = [p for p in np.argsort(cosines)[::-1] if p not in examples.excluded(text)][:3]
    assert [row.whole for row in chosen] == [examples.pool[p].whole for p in reversed(expected)]


def test_the_spec_follows_the_pool_and_the_way_of_choosing(make: Any, pool: Path) -> None:
    spec = make(RandomExamples).spec
    assert spec == make(RandomExamples).spec
    assert spec["pool"] == 40
    others = [
        make(RandomExamples, **change).spec for change in ({"count": 5}, {"seed": 1}, {"balanced": False}, {"max_words": 3})
    ]
    others += [make(FixedExamples).spec, make(NearestExamples).spec, make(RandomExamples, where={}).spec]
    prints = {json.dumps(one, sort_keys=True) for one in [spec, *others]}
    assert len(prints) == 8
    assert str(pool) not in json.dumps([spec, *others])


def test_examples_are_cut_and_multilabel_cells_parted(tmp_path: Path) -> None:
    rows = [{"text": f"row {i} has some words", "label": cell} for i, cell in enumerate(["a|b", "", "b"])]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    examples = FixedExamples(str(tmp_path / "t.jsonl"), count=2, max_words=2)
    examples.bind(["a", "b"], "multilabel")
    assert [(example.text, example.labels) for example in examples.pool] == [
        ("row 0", ("a", "b")),
        ("row 1", ()),
        ("row 2", ("b",)),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": {"split": "nowhere"}}, "has 0 rows"),
        ({"where": {"splt": "x"}}, "no column 'splt'"),
        ({"label_column": "topic"}, "no column 'topic'"),
        ({"label_column": "split"}, "labels are"),
        ({"count": 40}, "count=40"),
        ({"table": "nowhere.csv"}, "cannot be read"),
        ({"table": "pool.xlsx"}, "formats"),
    ],
)
def test_pools_that_cannot_be_used_say_why(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(FixedExamples, **changes).choose("x")
    with pytest.raises(ConfigurationError, match="count=0"):
        make(FixedExamples, count=0)
