"""LLMScorer over the real gateway and a provider in the process: modes, statuses, what is asked once, what the card holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lf_lightning.errors import ConfigurationError, LFError, ProviderAccessError
from lf_lightning.scoring import FixedExamples, Label, LLMScorer, Logprob, RandomExamples, Scores, Verbalized, Vote
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.prices import Price
from lf_lightning.scoring.providers import OpenAICompatible
from lf_lightning.scoring.providers.base import ProviderError
from lf_lightning.scoring.requests import Reply, Request
from lf_lightning.store import Status
from tests.scoring.fake_provider import Answer, FakeProvider, rejected
from tests.scoring.frames import texts_in
from tests.scoring.gateway.fault_server import KEY, FaultServer

LABELS = ["sport", "politics", "tech"]
WORDS = {"goal": "sport", "vote": "politics", "chip": "tech"}
Build = Callable[..., LLMScorer]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Returns `build(answer, **arguments)`: a scorer with its own provider; all share one response cache."""

    def make(answer: Answer, model: str = "fake-1", **arguments: Any) -> LLMScorer:
        gateway = Gateway(str(tmp_path / "responses"), attempts=1, timeout=5)
        given = {"name": "llm", "labels": LABELS, "mode": "verbalized", "gateway": gateway, **arguments}
        return LLMScorer(provider=FakeProvider(answer, model), **given)

    return make


def asked(scorer: LLMScorer) -> list[Request]:
    provider = scorer.provider
    assert isinstance(provider, FakeProvider)
    return provider.asked


def topic(text: str) -> str | None:
    return next((label for word, label in WORDS.items() if word in text), None)


def options_in(request: Request) -> dict[str, str]:
    """Keys and names as they are shown, in that order."""
    lines = request.prompt.partition("Labels:\n")[2].partition("\n\n")[0].split("\n")
    return dict(line.split(": ", 1) if ": " in line else (line, line) for line in lines)


def clever(request: Request) -> Any:
    """Answers rightly in whatever mode it is asked, 80 to 10 to 10."""
    texts = texts_in(request.prompt)
    if request.top_logprobs and "Label: " in request.prompt:
        name = request.prompt.partition("Label: ")[2].split("\n")[0]
        return {"Yes": log(0.9), "No": log(0.1)} if name == topic(texts[-1]) else {"Yes": log(0.2), "No": log(0.8)}
    if request.top_logprobs:
        return {key: log(0.8 if name == topic(texts[-1]) else 0.1) for key, name in options_in(request).items()}
    numbers = [{label: 80 if label == topic(text) else 10 for label in LABELS} for text in texts]
    if request.schema is not None and "answers" in request.schema["properties"]:
        single = "label" in request.schema["properties"]["answers"]["items"]["properties"]
        said = [{"label": topic(t)} if single else {"scores": n} for t, n in zip(texts, numbers, strict=True)]
        items = [{"id": str(number), **answer} for number, answer in enumerate(said, 1)]
        return json.dumps({"answers": items[::-1]})
    if request.schema is not None:
        return json.dumps({"scores": numbers[-1]})
    return str(topic(texts[-1]) or "none").upper()


TEXTS = ["a goal", "the vote", "a new chip"]
RIGHT = np.full((3, 3), 0.1) + 0.7 * np.eye(3)


@pytest.mark.parametrize("mode", ["logprob", "verbalized", Verbalized(texts_per_request=2), Logprob(content_free="N/A")])
@pytest.mark.parametrize("shuffle", [True, False])
def test_modes_that_give_probabilities(build: Build, mode: Any, shuffle: bool) -> None:
    scores = build(clever, mode=mode, shuffle_options=shuffle).score(TEXTS)
    assert scores.status.tolist() == [Status.SCORED] * 3
    if isinstance(mode, Logprob):  # the prior is 0.1 for each label but none is favoured
        assert scores.probabilities.argmax(1).tolist() == [0, 1, 2]
    else:
        np.testing.assert_allclose(scores.probabilities, RIGHT, atol=1e-6)
    assert scores.probabilities.dtype == np.float32
    assert scores.halt is None


def test_multilabel_rows_are_independent(build: Build) -> None:
    scores = build(clever, mode="logprob", task="multilabel").score(TEXTS)
    np.testing.assert_allclose(scores.probabilities, np.full((3, 3), 0.2) + 0.7 * np.eye(3), atol=1e-6)
    scores = build(clever, mode="verbalized", task="multilabel").score(TEXTS)
    np.testing.assert_allclose(scores.probabilities, RIGHT, atol=1e-6)
    scores = build(clever, mode="label", task="multilabel").score([*TEXTS, "nothing"])
    np.testing.assert_allclose(scores.probabilities[:3], np.full((3, 3), 0.15) + 0.7 * np.eye(3), atol=1e-6)
    np.testing.assert_allclose(scores.probabilities[3], 0.15, atol=1e-6)


def test_the_store_is_told_what_each_text_cost_where_there_is_a_price(build: Build, tmp_path: Path) -> None:
    priced = Gateway(str(tmp_path / "priced"), attempts=1, timeout=5, price=Price(2.0, 8.0))
    for mode in (Vote(samples=3), "verbalized"):
        for _ in range(2):  # asked now, and found in the cache
            notes = build(clever, mode=mode, gateway=priced).score(TEXTS).usage or []
            tokens = [(note or {})["input_tokens"] * 2e-6 + (note or {})["output_tokens"] * 8e-6 for note in notes]
            assert [(note or {})["cost_usd"] for note in notes] == pytest.approx(tokens)
    assert all("cost_usd" not in (note or {}) for note in build(clever).score(TEXTS).usage or [])


def test_votes_and_bare_labels(build: Build) -> None:
    voted = build(clever, mode=Vote(samples=3))
    np.testing.assert_allclose(voted.score(TEXTS).probabilities, (np.full((3, 3), 0.5) + 3 * np.eye(3)) / 4.5, atol=1e-6)
    assert sorted(request.sample for request in asked(voted)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(build(clever, mode="label").score(TEXTS).probabilities.max(1), 0.85, atol=1e-6)
    np.testing.assert_allclose(build(clever, mode=Label(texts_per_request=3)).score(TEXTS).probabilities.argmax(1), [0, 1, 2])


def test_equal_texts_are_asked_once_and_the_second_time_nobody_is(build: Build) -> None:
    first = build(clever)
    scores = first.score([*TEXTS, TEXTS[0]])
    assert len(asked(first)) == 3
    again = build(clever)
    np.testing.assert_array_equal(again.score(TEXTS[::-1]).probabilities, scores.probabilities[2::-1])
    assert asked(again) == []
    assert first.card.fingerprint == again.card.fingerprint


@pytest.mark.parametrize("examples", [None, RandomExamples, FixedExamples])
def test_neighbours_change_nothing(build: Build, tmp_path: Path, examples: Any) -> None:
    (tmp_path / "pool.csv").write_text("text,label\n" + "".join(f"pool row {i},{LABELS[i % 3]}\n" for i in range(12)))
    prompts = []
    for texts in (TEXTS, TEXTS[1:2]):
        chooser = None if examples is None else examples(str(tmp_path / "pool.csv"), count=3)
        scorer = build(lambda request: "x", examples=chooser, model=f"of {len(texts)}")
        scorer.score(texts)
        prompts.append({request.prompt for request in asked(scorer)})
        if examples is not None:
            shown = texts_in(asked(scorer)[0].prompt)
            assert (len(shown), shown[-1] in texts) == (4, True)
    assert prompts[1] < prompts[0]


def test_options_are_in_an_order_of_each_texts_own(build: Build) -> None:
    def first_options(**arguments: Any) -> list[str]:
        scorer = build(clever, mode="logprob", **arguments)
        scorer.score([f"text {number}" for number in range(60)])
        return [next(iter(options_in(request).values())) for request in asked(scorer)]

    shuffled = first_options()
    assert min(shuffled.count(label) for label in LABELS) > 10
    assert set(first_options(shuffle_options=False)) == {"sport"}
    assert build(clever, seed=1).card.fingerprint != build(clever).card.fingerprint
    assert (
        build(clever, seed=1, shuffle_options=False).card.fingerprint == build(clever, shuffle_options=False).card.fingerprint
    )


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (Reply("", "refused"), Status.REFUSED, "refused"),
        (Reply('{"scores": {', "length"), Status.UNPARSED, "cut off"),
        ("<html>", Status.UNPARSED, "no JSON"),
        ("no choices", Status.UNPARSED, "the reply cannot be read: no choices"),
        (rejected("too many tokens"), Status.ABSENT, "rejected: too many tokens"),
        (ProviderError("timeout", "no reply"), Status.ABSENT, "timeout: no reply"),
    ],
)
def test_one_bad_reply_is_a_status_and_the_others_go_on(build: Build, answer: Any, status: Status, reason: str) -> None:
    def one_bad(request: Request) -> Any:
        return answer if "vote" in request.prompt else clever(request)

    scores = build(one_bad).score(TEXTS)
    assert scores.status.tolist() == [Status.SCORED, status, Status.SCORED]
    assert scores.probabilities[1].tolist() == [0, 0, 0]
    assert scores.usage is not None
    assert reason in (scores.usage[1] or {})["reason"]
    assert "reason" not in (scores.usage[0] or {})


def test_what_halts_the_run_keeps_what_was_answered(build: Build) -> None:
    def no_credit(request: Request) -> Any:
        return ProviderError("quota", "no credit") if "vote" in request.prompt else clever(request)

    scorer = build(no_credit)
    scorer.gateway.concurrency = 1
    scores = scorer.score(TEXTS)
    assert isinstance(scores.halt, ProviderAccessError)
    assert scores.status[1] == Status.ABSENT
    again = build(clever).score(TEXTS)
    assert again.halt is None
    assert again.status.tolist() == [Status.SCORED] * 3


def test_long_texts_are_cut_and_counted(build: Build) -> None:
    scorer = build(clever, max_tokens=5)
    scores = scorer.score(["a goal " + "ж" * 30, "a goal"])
    assert scores.usage is not None
    assert [(note or {}).get("dropped_tokens") for note in scores.usage] == [12, None]
    assert sorted(texts_in(request.prompt)[0] for request in asked(scorer)) == ["a goal", "a goal " + "ж" * 6]


def test_long_texts_are_cut_by_a_tokenizer(build: Build, tiny_tokenizer: str) -> None:
    scorer = build(clever, max_tokens=2, tokenizer=tiny_tokenizer)
    scores = scorer.score(["the goal of the match", "the goal"])
    assert [(note or {}).get("dropped_tokens") for note in scores.usage or []] == [3, None]
    assert sorted({texts_in(request.prompt)[0] for request in asked(scorer)}) == ["the goal"]
    assert "tokenizer_sha256" in scorer.card.spec
    assert tiny_tokenizer not in str(scorer.card.plain())


@pytest.mark.parametrize("labels", [["yes", "no"], ["null", "1"], ['"', "'"], ["a, b", "a"], ["two\nlines", "😀", "שלום"]])
@pytest.mark.parametrize("mode", ["logprob", "verbalized", "label"])
def test_label_names_of_any_kind(build: Build, labels: list[str], mode: Any) -> None:
    def by_key(request: Request) -> Any:
        shown = list(request.prompt.partition("Labels:\n")[2].partition("\n\n")[0].split("\n"))
        names = [line.split(": ")[-1] for line in shown]
        wanted = json.dumps(labels[1], ensure_ascii=False) if "\n" in labels[1] else labels[1]
        key = shown[names.index(wanted)].split(": ")[0]
        if mode == "logprob":
            return {"ABCDEFG"[place]: log(0.9 if name == wanted else 0.05) for place, name in enumerate(names)}
        keys = [line.split(": ")[0] for line in shown]
        return json.dumps({"scores": {one: 90 * (one == key) for one in keys}}) if mode == "verbalized" else key

    scores = build(by_key, labels=labels, mode=mode).score(["a text", "another", "more"])
    assert scores.status.tolist() == [Status.SCORED] * 3
    assert scores.probabilities.argmax(1).tolist() == [1, 1, 1]


def test_two_hundred_labels(build: Build) -> None:
    labels = [f"label number {number}" for number in range(200)]
    answer = json.dumps({"scores": {f"label_number_{number}": int(number == 150) for number in range(200)}})
    assert build(lambda request: answer, labels=labels).score(["x"]).probabilities.argmax() == 150
    assert build(lambda request: "LABEL number 77", labels=labels, mode="label").score(["x"]).probabilities.argmax() == 77
    with pytest.raises(ConfigurationError, match="verbalized"):
        build(clever, labels=labels, mode="logprob")


# Several texts in one request


def test_what_a_group_leaves_out_is_asked_alone_and_nothing_twice(build: Build) -> None:
    def forgetful(request: Request) -> Any:
        reply = clever(request)
        return reply.replace('"id": "2"', '"id": "7"') if "answers" in reply else reply

    texts = [f"{word} {number}" for number in range(3) for word in WORDS]
    first = build(forgetful, mode=Verbalized(texts_per_request=4))
    scores = first.score(texts)
    assert scores.status.tolist() == [Status.SCORED] * 9
    assert scores.probabilities.argmax(1).tolist() == [0, 1, 2] * 3
    sizes = sorted(len(texts_in(request.prompt)) for request in asked(first))
    assert sizes == [1, 1, 1, 4, 4]  # the ninth is a group of its own; texts 2 and 6 are asked alone
    for order in (texts, texts[::-1], texts[3:5]):
        again = build(forgetful, mode=Verbalized(texts_per_request=4))
        again.score(order)
        assert asked(again) == []
        assert again.estimate(order).to_ask == 0
    other = build(forgetful, mode=Verbalized(texts_per_request=2))
    other.score(texts)
    assert sorted({len(texts_in(request.prompt)) for request in asked(other)}) == [1, 2]


def test_a_group_that_cannot_be_read_is_asked_one_by_one_and_a_failed_one_again_later(build: Build) -> None:
    def garbles_groups(request: Request) -> Any:
        return "[" if "answers" in json.dumps(request.schema) else clever(request)

    scorer = build(garbles_groups, mode=Verbalized(texts_per_request=3))
    assert scorer.score(TEXTS).status.tolist() == [Status.SCORED] * 3
    assert len(asked(scorer)) == 4
    failing = build(lambda request: ProviderError("timeout", "no reply"), mode=Verbalized(texts_per_request=3), model="slow")
    scores = failing.score([*TEXTS, TEXTS[0]])
    assert scores.status.tolist() == [Status.ABSENT] * 4
    assert len(asked(failing)) == 1
    too_long = build(
        lambda request: rejected() if "answers" in json.dumps(request.schema) else clever(request),
        mode=Verbalized(texts_per_request=3),
        model="short",
    )
    assert too_long.score(TEXTS).status.tolist() == [Status.SCORED] * 3


def test_texts_in_one_request_cannot_have_examples_of_their_own(build: Build, tmp_path: Path) -> None:
    (tmp_path / "pool.csv").write_text("text,label\n" + "".join(f"pool row {i},{LABELS[i % 3]}\n" for i in range(12)))
    with pytest.raises(ConfigurationError, match="RandomExamples"):
        build(clever, mode=Verbalized(texts_per_request=2), examples=RandomExamples(str(tmp_path / "pool.csv"), count=2))
    fixed = FixedExamples(str(tmp_path / "pool.csv"), count=3)
    scorer = build(clever, mode=Verbalized(texts_per_request=2), examples=fixed)
    own = fixed.choose("anything")[0].whole
    scorer.score(["a goal", own])
    assert texts_in(asked(scorer)[0].prompt).count(own) == 1


# Modes


def test_auto_takes_the_best_that_the_model_can_give_and_remembers_it(build: Build) -> None:
    def no_logprobs(request: Request) -> Any:
        if request.top_logprobs:
            return ConfigurationError("this model gives no log-probabilities")
        return '{"ok": 1}' if "ok" in json.dumps(request.schema) else clever(request)

    def any_probe(request: Request) -> Any:
        return {"A": -0.1} if "<text" not in request.prompt else clever(request)

    assert build(any_probe, mode="auto", model="open").card.spec["mode"] == "logprob"
    closed = build(no_logprobs, mode="auto", model="closed")
    assert closed.score(TEXTS).status.tolist() == [Status.SCORED] * 3
    assert closed.card.spec["mode"] == "verbalized"
    later = build(any_probe, mode="auto", model="closed")  # the model gives them by now
    assert later.card.fingerprint == closed.card.fingerprint
    assert asked(later) == []

    def words_only(request: Request) -> Any:
        return rejected() if request.top_logprobs or request.schema else "yes"

    plain = build(words_only, mode="auto", model="plain")
    assert plain.card.spec["mode"] == "label"
    assert build(any_probe, mode="auto", model="plain").card.spec["mode"] == "label"
    many = build(any_probe, mode="auto", model="open", labels=[f"l{number}" for number in range(21)])
    assert many.card.spec["mode"] == "label"


def test_auto_is_not_decided_by_a_failure_or_without_asking(build: Build) -> None:
    with pytest.raises(LFError, match="run it again"):
        _ = build(lambda request: ProviderError("timeout", "no reply"), mode="auto").card
    with pytest.raises(ProviderAccessError):
        _ = build(lambda request: ProviderError("denied", "no key"), mode="auto").card
    scorer = build(clever, mode="auto")
    scorer.offline = True
    with pytest.raises(ConfigurationError, match="name the mode"):
        scorer.estimate(TEXTS)
    assert asked(scorer) == []


def test_auto_asks_nothing_without_asking_although_a_first_probe_is_known(build: Build) -> None:
    def stopped(request: Request) -> Any:
        return Reply("A", "stop") if request.top_logprobs else ProviderError("denied", "no credit")

    with pytest.raises(ProviderAccessError):
        _ = build(stopped, mode="auto").card
    scorer = build(clever, mode="auto")
    scorer.offline = True
    with pytest.raises(ConfigurationError, match="name the mode"):
        scorer.estimate(TEXTS)
    assert asked(scorer) == []


def test_log_probabilities_that_are_gone_stop_the_run(build: Build) -> None:
    scores = build(lambda request: Reply("A", "stop"), mode="logprob").score(TEXTS)
    assert isinstance(scores.halt, ConfigurationError)
    assert "another mode" in str(scores.halt)
    assert scores.status.tolist() == [Status.ABSENT] * 3
    now_and_then = build(
        lambda request: Reply("A", "stop") if "vote" in request.prompt else clever(request), mode="logprob", model="other"
    ).score(TEXTS)
    assert now_and_then.halt is None
    assert now_and_then.status.tolist() == [Status.SCORED, Status.UNPARSED, Status.SCORED]


def test_the_label_mass_is_kept_with_the_score(build: Build) -> None:
    scores = build(lambda request: {"A": log(0.2), "B": log(0.1), "The": log(0.7)}, mode="logprob").score(["x"])
    assert scores.usage is not None
    assert (scores.usage[0] or {})["label_mass"] == pytest.approx(0.3)
    assert float(scores.probabilities.sum()) == pytest.approx(1)


def test_the_content_free_question_is_asked_once_where_the_order_is_fixed(build: Build) -> None:
    scorer = build(clever, mode=Logprob(content_free="N/A"), shuffle_options=False)
    scorer.score(TEXTS)
    assert sorted(texts_in(request.prompt)[0] for request in asked(scorer)) == sorted([*TEXTS, "N/A"])


# Card, estimate, offline


def test_the_card_holds_what_changes_an_answer_and_nothing_else(build: Build, tmp_path: Path) -> None:
    card = build(clever).card
    same = [
        {"name": "other"},
        {"gateway": Gateway(str(tmp_path / "elsewhere"), concurrency=3, timeout=1, requests_per_minute=9)},
        {"mode": Verbalized()},
        {"temperature": 0},
    ]
    assert {build(clever, **change).card.fingerprint for change in same} == {card.fingerprint}
    mine = tmp_path / "mine.jinja"
    mine.write_text('{% extends "verbalized.jinja" %}{% block question %}Well?{% endblock %}')
    others: list[dict[str, Any]] = [
        {"labels": LABELS[::-1]},
        {"model": "fake-2"},
        {"mode": Verbalized(reason=True)},
        {"mode": Verbalized(texts_per_request=2)},
        {"mode": "label"},
        {"mode": Label(confidence=0.8)},
        {"mode": "vote"},
        {"mode": Vote(temperature=0.7)},
        {"mode": "logprob"},
        {"mode": Logprob(content_free="N/A")},
        {"task": "multilabel"},
        {"description": "News."},
        {"label_descriptions": {"tech": "gadgets"}},
        {"template": str(mine)},
        {"shuffle_options": False},
        {"seed": 1},
        {"max_tokens": 100},
        {"thinking_tokens": 500},
        {"temperature": None},
        {"temperature": 1},
    ]
    prints = {card.fingerprint, *(build(clever, **change).card.fingerprint for change in others)}
    assert len(prints) == len(others) + 1
    assert str(tmp_path) not in str(build(clever, template=str(mine)).card.plain())


def test_an_estimate_and_an_offline_scorer_ask_nobody(build: Build) -> None:
    build(clever).score(TEXTS[:1])
    scorer = build(clever)
    estimate = scorer.estimate([*TEXTS, TEXTS[2]])
    assert (estimate.cached, estimate.to_ask, estimate.cost_usd) == (1, 2, None)
    assert estimate.output_tokens >= 2 * 20
    scorer.offline = True
    scores: Scores = scorer.score(TEXTS)
    assert scores.status.tolist() == [Status.SCORED, Status.ABSENT, Status.ABSENT]
    assert scores.halt is None
    assert asked(scorer) == []


def test_progress_reaches_every_text(build: Build) -> None:
    scorer = build(clever)
    done: list[int] = []
    said: list[str] = []
    scorer.watch = said.append
    scorer.score([*TEXTS, TEXTS[0]], done.append)
    assert sum(done) == 4
    assert "cached" in said[-1]
    assert "failed" in said[-1]


def test_a_rationale_is_kept(build: Build) -> None:
    answer = json.dumps({"reason": "It names a goal.", "scores": dict.fromkeys(LABELS, 5)})
    assert build(lambda request: answer, mode=Verbalized(reason=True)).score(["x"]).rationales == ["It names a goal."]


def test_no_texts(build: Build) -> None:
    assert build(clever).score([]).probabilities.shape == (0, 3)
    assert build(clever, mode=Verbalized(texts_per_request=2)).score([]).probabilities.shape == (0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_descriptions": {"art": "x"}}, "label_descriptions"),
        ({"labels": ["only"]}, "at least two"),
        ({"labels": ["a", "a"]}, "given twice"),
        ({"labels": ["a", ""]}, "empty"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"thinking_tokens": -1}, "thinking_tokens"),
        ({"template": "nowhere.jinja"}, "cannot be read"),
    ],
)
def test_wrong_arguments_name_the_way_out(build: Build, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(clever, **changes)


# Over real HTTP


@pytest.mark.parametrize("mode", ["logprob", Verbalized(texts_per_request=3)])
def test_with_faults_every_text_ends_with_a_true_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    faults = dict.fromkeys(("429", "500", "reset", "cut", "garbled", "html", "empty", "refusal", "filtered", "length"), 0.03)
    texts = [f"text number {number}" for number in range(150)]

    def scorer() -> LLMScorer:
        provider = OpenAICompatible("small", server.url, api_key_env="A_KEY")
        gateway = Gateway(str(tmp_path / "responses"), attempts=4, timeout=5)
        return LLMScorer("llm", provider, ["a", "b", "c", "d"], mode=mode, gateway=gateway, shuffle_options=False)

    with FaultServer(faults=faults) as server:
        scores = scorer().score(texts)
        billed = sum(line["billed"] for line in server.record()["lines"].values())
        again = scorer().score(texts)
        assert sum(line["billed"] for line in server.record()["lines"].values()) - billed <= (again.status == 0).sum() + 3
    assert scores.halt is None
    rows = scores.probabilities[scores.status == Status.SCORED]
    assert len(rows) > 110
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-5)
    assert not scores.probabilities[scores.status != Status.SCORED].any()
    assert scores.usage is not None
    told = {(note or {}).get("reason", "").partition(":")[0] for note in scores.usage}
    assert all((note or {}).get("reason") for note, status in zip(scores.usage, scores.status, strict=True) if status != 1)
    if mode == "logprob":
        assert {"refused", "the reply cannot be read"} <= told
    settled = scores.status != Status.ABSENT
    np.testing.assert_array_equal(again.status[settled], scores.status[settled])
    np.testing.assert_array_equal(again.probabilities[settled], scores.probabilities[settled])
