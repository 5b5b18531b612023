from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError, ScoreMismatchError, StoreError
from lf_lightning.store import ScorerCard, ScoreStore, Status, keys

Rows = Callable[..., Any]


def test_scores_are_joined_by_content_over_shards_and_scorers(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    rng = np.random.default_rng(3)
    texts = [f"text {number}" for number in range(200)]
    second = ScorerCard("other", ("tech", "world", "sport"), "multiclass", {})
    reference: dict[tuple[str, str], np.ndarray] = {}
    for scorer in (card, second):
        kept = rng.permutation(200)[:150]
        for number, part in enumerate(np.array_split(kept, 4)):
            values = distributions(len(part), seed=10 * number + len(scorer.name))
            store.append(scorer, [texts[row] for row in part], values)
            for row, value in zip(part, values, strict=True):
                reference[scorer.name, texts[row]] = value
    asked = [texts[row] for row in rng.integers(0, 200, 300)] + ["unknown"]
    labels = ["sport", "tech", "world"]
    joined = ScoreStore(store.path).join(asked, ["other", "gpt"], labels)
    assert joined.scores.shape == (301, 2, 3)
    assert [str(array.dtype) for array in (joined.scores, joined.scored, joined.status)] == ["float32", "bool", "uint8"]
    assert joined.names == ("other", "gpt")
    assert joined.fingerprints == (second.fingerprint, card.fingerprint)
    for n, text in enumerate(asked):
        for m, scorer in enumerate((second, card)):
            expected = reference.get((scorer.name, text))
            assert joined.scored[n, m] == (expected is not None)
            assert joined.status[n, m] == (Status.ABSENT if expected is None else Status.SCORED)
            wanted = np.zeros(3) if expected is None else [expected[scorer.labels.index(label)] for label in labels]
            assert joined.scores[n, m].tolist() == list(wanted)


def test_rows_without_a_score_are_zero_and_not_scored(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["r", "u"], distributions(2), status=[Status.REFUSED, Status.UNPARSED])
    joined = store.join(["u", "r", "absent"], ["gpt"], card.labels)
    assert joined.status[:, 0].tolist() == [Status.UNPARSED, Status.REFUSED, Status.ABSENT]
    assert not joined.scored.any()
    assert not joined.scores.any()


def test_other_label_sets_are_refused_by_name(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["a"], distributions(1))
    with pytest.raises(ScoreMismatchError, match=r"it has no \['business'\], and has \['tech'\] besides"):
        store.join(["a"], ["gpt"], ["world", "sport", "business"])
    with pytest.raises(ScoreMismatchError, match=r"has no \[\], and has \['tech'\]"):
        store.join(["a"], ["gpt"], ["world", "sport"])
    with pytest.raises(ConfigurationError, match="names a label twice"):
        store.join(["a"], ["gpt"], ["world", "sport", "sport"])


def test_two_unicode_forms_of_one_label_are_pointed_out(store: ScoreStore) -> None:
    store.append(ScorerCard("s", ("é", "b"), "multilabel", {}), ["a"], [[1, 0]])
    with pytest.raises(ScoreMismatchError, match=r"differ only in their Unicode form: '\\xe9'"):
        store.join(["a"], ["s"], ["e\u0301", "b"])


def test_scores_of_other_texts_are_refused_with_counts(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["a", "b"], distributions(2))
    with pytest.raises(ScoreMismatchError, match="belong to other texts: none of the 3 texts is among its 2 rows"):
        store.join(["a ", "A", "c"], ["gpt"], card.labels)


def test_scorers_must_exist_and_differ(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["a"], distributions(1))
    with pytest.raises(StoreError, match=r"fits no scorer .* 'gpt'"):
        store.join(["a"], ["claude"], card.labels)
    with pytest.raises(ConfigurationError, match="names a scorer twice"):
        store.join(["a"], ["gpt", card.fingerprint], card.labels)


def test_no_texts_and_no_scorers(store: ScoreStore, card: ScorerCard, distributions: Rows) -> None:
    store.append(card, ["a"], distributions(1))
    assert store.join([], ["gpt"], card.labels).scores.shape == (0, 1, 3)
    assert store.join(["a", "b"], [], card.labels).scores.shape == (2, 0, 3)


class _Digest:
    """Stands in for SHA-256: keys that share all but their last bytes, and end in NULs."""

    def __init__(self, data: bytes) -> None:
        self._tail = sha256(data).digest()[:2]

    def digest(self) -> bytes:
        return bytes(28) + self._tail + bytes(2)


def test_texts_whose_hashes_share_a_prefix_are_not_confused(
    store: ScoreStore, card: ScorerCard, distributions: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "sha256", _Digest)
    texts = [f"{number}" for number in range(60)]
    assert len({keys.text_key(text) for text in texts}) == 60
    values = distributions(60)
    store.append(card, texts[:30], values[:30])
    store.append(card, texts[30:50], values[30:50])
    joined = ScoreStore(store.path).join(texts[::-1], ["gpt"], card.labels)
    assert joined.scored[::-1, 0].tolist() == [True] * 50 + [False] * 10
    assert joined.scores[::-1, 0][:50].tolist() == values[:50].tolist()
