"""Names of any kind get keys that can be told apart in every provider's JSON and in a plain reply."""

from __future__ import annotations

import json
import re

import pytest

from lf_lightning.scoring.elicitation.keys import field_names, spoken_names
from lf_lightning.scoring.elicitation.label import Label, stated_keys
from lf_lightning.scoring.elicitation.verbalized import Verbalized
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

NAMES = [
    ["world news", "sci/tech"],
    ['he said "no"', "it's"],
    ["a, b", "a"],
    ["two\nlines", "one"],
    ["😀", "😡"],
    ["שלום", "עולם"],
    ["e\u0301", "é"],
    ["yes", "no"],
    ["null", "1"],
    ["none", "some"],
    ["sport", "sports", "sports car"],
    ["A", "a"],
    ["_a", "a"],
    ["c", "c++", "c#"],
    [" padded ", "padded"],
    ["naïve", "naive"],
    ["label: x", "x"],
    ["ß", "ss"],
    ["a\x00b", "ab"],
    ["x" * 300, "y"],
    [f"class {number}" for number in range(200)],
    ["only"],
]


@pytest.mark.parametrize("labels", NAMES, ids=lambda names: repr(names[0])[:20])
def test_every_name_comes_back_as_itself(labels: list[str]) -> None:
    fields = field_names(labels)
    assert len({field.casefold() for field in fields}) == len(labels)
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", field) for field in fields)
    spoken = spoken_names(labels)
    for task in ("multiclass", "multilabel"):
        for place, key in enumerate(spoken):
            assert stated_keys(key, spoken, task) == [place]
            assert stated_keys(key.upper() + ".", spoken, task) == [place]
    if len(labels) > 1:
        for place in range(len(labels)):
            scores = {field: 100 * (number == place) for number, field in enumerate(fields)}
            reading = Verbalized().read(fields, "multiclass", [Reply(json.dumps({"scores": scores}), "stop")])
            assert reading.probabilities[place] == 1
            assert Label().read(spoken, "multiclass", [Reply(spoken[place], "stop")]).status == Status.SCORED


def test_plain_names_stand_for_themselves() -> None:
    assert field_names(["sports", "World_News"]) == ("sports", "World_News")
    assert spoken_names(["Sci/Tech", "política", "世界"]) == ("Sci/Tech", "política", "世界")
    assert field_names(["世界", "a"]) == spoken_names(["a, b", "a"]) == ("L1", "L2")
