from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from lf_lightning.errors import ConfigurationError
from lf_lightning.store import ScorerCard, ScoreStore

EDGE_LABELS = (
    "two words", 'a "quoted" one', "it's", "a,b", "a\nb", "a\rb", "😀", "שלום", "é", "e\u0301", "yes", "no", "null", "1", "1 ",
    "\ud800", "```", "|", "a", "ab", "\0", "\\", "<script>",
)  # fmt: skip


def card(**changes: Any) -> ScorerCard:
    given: dict[str, Any] = {"name": "n", "labels": ("a", "b"), "task": "multiclass", "spec": {"model": "m", "t": 0.5}}
    return ScorerCard(**(given | changes))


def test_the_fingerprint_is_the_hash_of_labels_spec_and_task() -> None:
    text = '{"labels":["a","\\u00e9"],"spec":{"model":"m","t":0.5},"task":"multilabel"}'
    made = card(labels=("a", "é"), task="multilabel")
    assert made.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_what_changes_the_answer_changes_the_fingerprint_and_nothing_else_does() -> None:
    base = card()
    assert card(name="other").fingerprint == base.fingerprint
    assert card(spec={"t": 0.5, "model": "m"}).fingerprint == base.fingerprint
    assert card(labels=["a", "b"]) == base
    others = [
        card(labels=("b", "a")),
        card(labels=("a", "b", "c")),
        card(task="multilabel"),
        card(spec={"model": "m", "t": 0.6}),
        card(spec={"model": "m ", "t": 0.5}),
        card(spec={"model": "m", "t": 0.5, "prompt": None}),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


def test_the_card_survives_a_later_change_of_the_callers_spec() -> None:
    spec: dict[str, Any] = {"decoding": {"top": [1, 2]}}
    made = card(spec=spec)
    before = made.fingerprint
    spec["decoding"]["top"].append(3)
    assert made.spec == {"decoding": {"top": [1, 2]}}
    assert card(spec=made.spec).fingerprint == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, "at least one"),
        ({"labels": ("a", "a")}, "given twice"),
        ({"labels": ("a", "")}, "empty"),
        ({"labels": "ab"}, "sequence of strings"),
        ({"labels": ("a", 1)}, "sequence of strings"),
        ({"name": ""}, "name=''"),
        ({"task": "regression"}, "task='regression'"),
        ({"spec": {"t": float("nan")}}, "'t': nan"),
        ({"spec": {"a": [1, {"b": object()}]}}, r"'a'\[1\], 'b': .*plain values"),
        ({"spec": {1: "x"}}, "key 1 is not a string"),
    ],
)
def test_cards_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        card(**changes)


def test_edge_labels_and_specs_survive_the_disk(store: ScoreStore) -> None:
    import numpy as np

    made = card(
        name='a "name"\n\udfff', labels=EDGE_LABELS, task="multilabel", spec={"prompt": "\ud800\n```\n# x", "ключ": [None]}
    )
    values = np.linspace(0, 1, len(EDGE_LABELS), dtype=np.float32)[None]
    store.append(made, ["text"], values)
    again = ScoreStore(store.path)
    assert again.cards == {made.fingerprint: made}
    assert again.resolve(made.name) == made.fingerprint
    joined = again.join(["text"], [made.name], EDGE_LABELS[::-1])
    assert joined.scores[0, 0].tolist() == values[0, ::-1].tolist()
    page = (store.path / made.fingerprint / "README.md").read_text(encoding="utf-8")
    shown = json.loads(page.split("```json\n")[1].split("\n```\n")[0])
    assert (shown["labels"], shown["spec"], shown["name"]) == (list(EDGE_LABELS), dict(made.spec), made.name)
    assert "1 texts: 1 scored, 0 refused, 0 unparsed" in page


def test_a_single_label_is_possible(store: ScoreStore) -> None:
    made = card(labels=("only",))
    store.append(made, ["x", "y"], [[1.0], [1.0]])
    assert store.join(["y"], ["n"], ["only"]).scores.tolist() == [[[1.0]]]


def test_names_and_fingerprints_resolve(store: ScoreStore) -> None:
    first, second = card(name="gpt"), card(name="gpt", spec={"model": "m2"})
    store.append(first, ["x"], [[0.5, 0.5]])
    assert store.resolve("gpt") == store.resolve(first.fingerprint[:6]) == store.resolve(first.fingerprint) == first.fingerprint
    store.append(second, ["x"], [[0.5, 0.5]])
    from lf_lightning.errors import StoreError

    for wrong, message in (("gpt", "several"), ("gp", "no scorer"), ("", "no scorer")):
        with pytest.raises(StoreError, match=message) as caught:
            store.resolve(wrong)
        assert first.fingerprint[:12] in str(caught.value)
        assert second.fingerprint[:12] in str(caught.value)
