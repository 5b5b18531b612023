"""The sample that scoring and benchmark share."""

from __future__ import annotations

import random
from collections import Counter

from lf_lightning.scoring import balanced_sample

TEXTS = [f"text {i}" for i in range(60)]
GROUPS = ["a"] * 40 + ["b"] * 15 + ["c"] * 5


def test_groups_are_even_as_far_as_they_go() -> None:
    assert Counter(GROUPS[i] for i in balanced_sample(TEXTS, GROUPS, 15, 0)) == {"a": 5, "b": 5, "c": 5}
    assert Counter(GROUPS[i] for i in balanced_sample(TEXTS, GROUPS, 40, 0)) == {"a": 20, "b": 15, "c": 5}
    assert balanced_sample(TEXTS, GROUPS, 1000, 0) == list(range(60))


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    chosen = {TEXTS[i] for i in balanced_sample(TEXTS, GROUPS, 12, 0)}
    order = random.Random(1).sample(range(60), 60)
    shuffled = [TEXTS[i] for i in order]
    assert {shuffled[i] for i in balanced_sample(shuffled, [GROUPS[i] for i in order], 12, 0)} == chosen
    assert {TEXTS[i] for i in balanced_sample(TEXTS, GROUPS, 12, 1)} != chosen


def test_equal_texts_are_taken_once() -> None:
    assert balanced_sample(["x", "x", "y", "\ud800"], ["a", "b", "a", "a"], 10, 0) == [0, 2, 3]
