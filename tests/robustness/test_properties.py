"""What holds for every input: replies that are read, keys, the store, calibrators, decisions."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lf_lightning.calibration import (
    BetaCalibration,
    Calibrator,
    IdentityCalibration,
    IsotonicCalibration,
    PlattScaling,
    PlugInDecision,
    TemperatureScaling,
    Thresholds,
    VectorScaling,
    probabilities,
)
from lf_lightning.contract import Task
from lf_lightning.responses.base import Response
from lf_lightning.responses.rows import seal, unseal
from lf_lightning.scoring.elicitation.base import Elicitation
from lf_lightning.scoring.elicitation.label import Label
from lf_lightning.scoring.elicitation.logprob import Logprob
from lf_lightning.scoring.elicitation.verbalized import Verbalized
from lf_lightning.scoring.elicitation.vote import Vote
from lf_lightning.scoring.requests import Reply, Request
from lf_lightning.store import ScorerCard, ScoreStore, Status, text_key, text_keys

TASKS: list[Task] = ["multiclass", "multilabel"]
CALIBRATORS = [BetaCalibration, IdentityCalibration, IsotonicCalibration, PlattScaling, TemperatureScaling, VectorScaling]
bounded = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=15, deadline=None, derandomize=True)

ANY_TEXT = st.text(st.characters(), max_size=12)
"""With NUL, lone surrogates, signs that turn the direction."""
NUMBERS = st.one_of(st.integers(-2, 102), st.floats(allow_nan=True), st.booleans(), st.none(), st.text(max_size=3))
SCORES = st.dictionaries(st.sampled_from(["World", "Sport", "Sci_Tech", "more"]), NUMBERS, max_size=4)
SAYS = st.one_of(
    ANY_TEXT,
    st.sampled_from(["World", "sport.", "World, Sport", "none", "**Sci/Tech**", "label: World", "A", "B or C", "yes", "no"]),
    st.builds(lambda scores, more: json.dumps({"scores": scores, **more}), SCORES, st.sampled_from([{}, {"x": 1}])),
    st.builds(lambda scores, end: json.dumps({"scores": scores})[: -1 - end], SCORES, st.integers(0, 9)),
)
TOKENS = st.tuples(
    st.one_of(st.sampled_from(["A", " b", "C.", "yes", "No", "World"]), ANY_TEXT), st.floats(-1e308, 1.0) | NUMBERS
)
REPLIES = st.builds(
    Reply,
    SAYS,
    st.sampled_from(["stop", "stop", "stop", "length", "refused"]),
    st.lists(st.lists(TOKENS, max_size=5).map(tuple), max_size=2).map(tuple),
)
MODES = [Verbalized(), Verbalized(reason=True), Label(), Vote(), Logprob()]


@bounded
@given(st.sampled_from(MODES), st.sampled_from(TASKS), st.data())
def test_whatever_is_replied_a_row_is_a_distribution_or_has_its_reason(mode: Elicitation, task: Task, data: Any) -> None:
    keys = mode.keys(["World", "Sport", "Sci/Tech"], task)
    number = len(mode.questions(3, task))
    replies = data.draw(st.lists(REPLIES, min_size=number, max_size=number))
    reading = mode.read(keys, task, replies)
    if reading.status != Status.SCORED:
        assert reading.reason
        assert reading.probabilities == ()
        return
    p = np.array(reading.probabilities)
    assert p.shape == (3,)
    assert ((p >= 0) & (p <= 1)).all()
    assert task == "multilabel" or p.sum() == pytest.approx(1, abs=1e-9)
    assert all(reply.finish != "refused" for reply in replies) or isinstance(mode, Vote)


@bounded
@given(st.permutations(["a", "b", "c"]), st.lists(st.integers(0, 100), min_size=3, max_size=3))
def test_the_order_of_the_labels_changes_no_score(order: list[str], numbers: list[int]) -> None:
    reply = Reply(json.dumps({"scores": dict(zip("abc", numbers, strict=True))}), "stop")
    mode = Verbalized()
    straight = mode.read(mode.keys(["a", "b", "c"], "multilabel"), "multilabel", [reply])
    turned = mode.read(mode.keys(order, "multilabel"), "multilabel", [reply])
    assert dict(zip("abc", straight.probabilities, strict=True)) == dict(zip(order, turned.probabilities, strict=True))


@bounded
@given(ANY_TEXT, ANY_TEXT)
def test_texts_and_requests_have_one_key_each(one: str, other: str) -> None:
    assert (text_key(one) == text_key(other)) is (one == other)
    first, second = (Request("", text, 1) for text in (one, other))
    assert (first.key({"model": "m"}) == second.key({"model": "m"})) is (one == other)
    for name, value in {"temperature": 0.0, "sample": 1, "system": "x", "max_output_tokens": 2, "top_logprobs": 3}.items():
        assert replace(first, **{name: value}).key({"model": "m"}) != first.key({"model": "m"})
    keys = text_keys([one, other, one])
    assert keys[0] == keys[2]
    assert (keys[0] == keys[1]) is (one == other)


@bounded
@given(ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3), st.integers(0, 400), st.integers(1, 255))
def test_a_sealed_reply_comes_back_whole_or_not_at_all(key: str, reply: dict[str, str], at: int, change: int) -> None:
    key = key.encode("ascii", "ignore").decode() or "k"
    response = Response(key, "p", "m", {"q": reply}, reply, {"input": 1}, 0.5)
    line = seal(response).encode()
    assert unseal(key, line) == response
    damaged = bytearray(line)
    damaged[at % len(line)] ^= change
    assert unseal(key, bytes(damaged)) is None
    assert unseal(key, line[: at % len(line)]) is None


@few
@given(st.lists(st.tuples(ANY_TEXT, st.floats(0, 1, width=32)), min_size=1, max_size=6), st.data())
def test_the_store_gives_each_text_its_own_row_in_any_order(rows: list[tuple[str, float]], data: Any) -> None:
    known = dict(rows)
    card = ScorerCard("s", ("a", "b"), "multilabel", {})
    with tempfile.TemporaryDirectory() as folder:
        store = ScoreStore(Path(folder) / "s", create=True)
        for text, p in known.items():  # a shard each
            assert store.append(card, [text], [[p, 1 - p]]) == 1
        assert store.append(card, list(known), [[p, np.float32(1 - p)] for p in known.values()]) == 0
        asked = data.draw(st.lists(st.sampled_from([*known, "stranger \ud800"]), max_size=8))
        asked.append(rows[0][0])
        joined = ScoreStore(store.path).join(asked, ["s"], ["b", "a"])
        assert joined.scored[:, 0].tolist() == [text in known for text in asked]
        assert joined.scores[:, 0, 1].tolist() == [np.float32(known.get(text, 0.0)) for text in asked]
        strangers = {text: place for place, text in reversed(list(enumerate(asked))) if text not in known}
        assert store.missing(card, asked) == sorted(strangers.values())


FINITE = st.floats(-60, 60, width=32)


@few
@given(st.sampled_from(TASKS), st.integers(2, 4), st.integers(0, 12), st.data())
def test_any_few_rows_leave_probabilities_in_their_order(task: Task, k: int, n: int, data: Any) -> None:
    logits = torch.tensor(data.draw(st.lists(st.lists(FINITE, min_size=k, max_size=k), min_size=n, max_size=n))).reshape(n, k)
    label = st.integers(-1, k - 1) if task == "multiclass" else st.lists(st.integers(0, 1), min_size=k, max_size=k)
    drawn = data.draw(st.lists(label, min_size=n, max_size=n))
    labels = torch.tensor(drawn, dtype=torch.int64 if task == "multiclass" else torch.float32)
    labels = labels if task == "multiclass" else labels.reshape(n, k)
    new = torch.tensor(data.draw(st.lists(st.lists(FINITE, min_size=k, max_size=k), min_size=1, max_size=4)))
    for kind in CALIBRATORS:
        calibrator: Calibrator = kind(k, task)
        calibrator.fit(logits, labels)
        found = calibrator(new)
        p = probabilities(found, task)
        assert p.shape == new.shape
        assert torch.isfinite(p).all(), kind
        assert ((p >= 0) & (p <= 1)).all(), kind
        if task == "multiclass":
            assert torch.allclose(p.sum(1), torch.ones(len(p)), atol=1e-5), kind
        if kind in (TemperatureScaling, IdentityCalibration):
            before, after = new[:, :, None] - new[:, None], found[:, :, None] - found[:, None]
            assert (before.sign() * after.sign() >= 0).all(), kind
        if kind in (IsotonicCalibration, PlattScaling) and task == "multilabel":
            for column in range(k):
                order = new[:, column].argsort()
                assert kind is PlattScaling or (p[order, column].diff() >= -1e-6).all()


@few
@given(st.integers(2, 4), st.integers(0, 14), st.data())
def test_decisions_are_labels_whatever_they_were_fitted_on(k: int, n: int, data: Any) -> None:
    row = st.lists(st.floats(0.0, 1.0, width=32), min_size=k, max_size=k)
    p = torch.tensor(data.draw(st.lists(row, min_size=n, max_size=n))).reshape(n, k)
    new = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=4)))
    rule = PlugInDecision(k, min_rows=4)
    shares = (p + 1e-3) / (p + 1e-3).sum(1, keepdim=True)
    rule.fit(shares, torch.tensor(data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)), dtype=torch.int64))
    decided = rule.decide((new + 1e-3) / (new + 1e-3).sum(1, keepdim=True))
    assert decided.shape == (len(new),)
    assert ((decided >= 0) & (decided < k)).all()
    thresholds = Thresholds(k, min_positives=2)
    flags = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=k, max_size=k), min_size=n, max_size=n))
    thresholds.fit(p, torch.tensor(flags, dtype=torch.float32).reshape(n, k))
    many = thresholds.decide(new)
    assert many.shape == new.shape
    assert set(many.flatten().tolist()) <= {0, 1}
    for column in range(k):  # whoever is surer of a label is never denied it
        order = new[:, column].argsort()
        assert (many[order, column].diff() >= 0).all()
