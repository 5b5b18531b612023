"""Stated numbers: strict JSON or a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lf_lightning.scoring.elicitation.json_reply import group_schema, split_group
from lf_lightning.scoring.elicitation.verbalized import Verbalized
from lf_lightning.scoring.requests import Reply
from lf_lightning.store import Status

KEYS = ("a", "b")


def read(text: str, task: Any = "multiclass", reason: bool = False, finish: Any = "stop") -> Any:
    return Verbalized(reason).read(KEYS, task, [Reply(text, finish)])


def test_numbers_become_shares_or_probabilities_of_their_own() -> None:
    assert read('{"scores": {"a": 30, "b": 10}}').probabilities == (0.75, 0.25)
    assert read('{"scores": {"a": 30, "b": 10}}', "multilabel").probabilities == (0.3, 0.1)
    assert read('{"scores": {"b": 0, "a": 100.0}}').probabilities == (1, 0)
    assert read('```json\n{"scores": {"a": 1, "b": 1}}\n```').probabilities == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no reply"),
        ("Sure! The label is a.", "no JSON"),
        ('{"scores": {"a": 30, "b": ', "no JSON"),
        ("[1, 2]", "no object"),
        ('{"scores": [30, 10]}', "no object"),
        ('{"scores": {"a": 30}}', "lacks 'b'"),
        ('{"scores": {"a": 30, "b": 1, "c": 5}}', "has 'c' besides"),
        ('{"scores": {"a": 30, "b": 1}, "note": 1}', "has 'note' besides"),
        ('{"a": 30, "b": 1}', "lacks 'scores'"),
        ('{"scores": {"a": NaN, "b": 1}}', "is nan"),
        ('{"scores": {"a": Infinity, "b": 1}}', "is inf"),
        ('{"scores": {"a": -1, "b": 1}}', "outside 0 to 100"),
        ('{"scores": {"a": 1e300, "b": 1}}', "outside 0 to 100"),
        ('{"scores": {"a": 101, "b": 1}}', "outside 0 to 100"),
        ('{"scores": {"a": 1%s, "b": 1}}' % ("0" * 400), "outside 0 to 100"),
        ('{"scores": {"a": 1%s, "b": 1}}' % ("0" * 5000), "too many digits"),
        ('{"scores": {"a": "30", "b": 1}}', "is no number"),
        ('{"scores": {"a": true, "b": 1}}', "is no number"),
        ('{"scores": {"a": null, "b": 1}}', "is no number"),
        ('{"scores": {"a": 1, "a": 99, "b": 1}}', "comes twice"),
        ('{"scores": {"a": 0, "b": 0}}', "all scores are 0"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_anything_else_is_unparsed_with_a_reason(text: str, reason: str) -> None:
    reading = read(text)
    assert (reading.status, reading.probabilities) == (Status.UNPARSED, ())
    assert reason in reading.reason
    assert len(reading.reason) < 250


def test_no_label_may_fit_in_a_multilabel_task() -> None:
    assert read('{"scores": {"a": 0, "b": 0}}', "multilabel").probabilities == (0, 0)


def test_a_reply_that_was_cut_or_refused_is_not_read() -> None:
    whole = '{"scores": {"a": 30, "b": 10}}'
    assert read(whole, finish="length").status == Status.UNPARSED
    refused = read("I cannot help with that.", finish="refused")
    assert (refused.status, refused.reason) == (Status.REFUSED, "refused: 'I cannot help with that.'")


def test_a_reason_is_kept_as_the_rationale() -> None:
    reading = read('{"reason": "A bank is named.", "scores": {"a": 1, "b": 3}}', reason=True)
    assert (reading.rationale, reading.probabilities) == ("A bank is named.", (0.25, 0.75))
    assert read('{"scores": {"a": 1, "b": 3}}', reason=True).status == Status.UNPARSED
    assert read('{"reason": 7, "scores": {"a": 1, "b": 3}}', reason=True).status == Status.UNPARSED


def test_schemas_are_strict_and_their_fields_sorted() -> None:
    schema = Verbalized(True).item_schema(("b", "a"), "multiclass")
    assert list(schema["properties"]) == schema["required"] == ["reason", "scores"]
    assert list(schema["properties"]["scores"]["properties"]) == schema["properties"]["scores"]["required"] == ["a", "b"]
    group = group_schema(schema)
    assert group["properties"]["answers"]["items"]["required"] == ["id", "reason", "scores"]

    def strict(part: Any) -> bool:
        if isinstance(part, dict) and part.get("type") == "object":
            return part["additionalProperties"] is False and all(map(strict, part["properties"].values()))
        return not isinstance(part, dict) or all(map(strict, part.values()))

    assert strict(group)


def test_answers_about_several_texts_are_matched_by_id() -> None:
    item = {"scores": {"a": 1, "b": 1}}
    answers = [{"id": "2", **item}, {"id": 1, **item}, {"id": "3", **item}, {"id": "3", **item}, {"id": "9", **item}, "x"]
    assert split_group(json.dumps({"answers": answers}), ["1", "2", "3", "4"]) == {"1": item, "2": item}
    assert split_group('{"answers": [{"id": "1", "scores": {"a": NaN}}]}', ["1"]) == {}
