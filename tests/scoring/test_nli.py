"""The NLI scorer against a pair-by-pair computation with the same tiny model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.nli import ZeroShotNLIScorer
from lf_lightning.store import Status

LABELS = ["sport", "politics", "science {x}"]
TEXTS = ["goal match coach", "minister vote election parliament law party " * 3, "", "atom", "a\ud800b \x00 team", "star cell"]
THREE = {0: "CONTRADICTION", 1: "neutral", 2: "Entailment"}

Save = Callable[[dict[int, str]], str]


@pytest.fixture(scope="module")
def save_nli(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: str) -> Save:
    from transformers import BertConfig, BertForSequenceClassification

    def save(names: dict[int, str]) -> str:
        folder = tmp_path_factory.mktemp("nli")
        shutil.copytree(tiny_tokenizer, folder, dirs_exist_ok=True)
        config = BertConfig(
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.5,
            pad_token_id=0,
            num_labels=len(names),
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            BertForSequenceClassification(config).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="module")
def nli(save_nli: Save) -> str:
    return save_nli(THREE)


def pair_logits(folder: str, texts: list[str], hypotheses: list[str]) -> np.ndarray[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        for hypothesis in hypotheses:
            with torch.inference_mode():
                pair = tokenizer(text.replace("\ud800", "?"), hypothesis, return_tensors="pt")
                rows.append(model(**pair).logits[0].double().numpy())
    return np.array(rows).reshape(len(texts), len(hypotheses), -1)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_multiclass_is_a_softmax_over_entailment(nli: str, batch_size: int) -> None:
    scorer = ZeroShotNLIScorer(
        "nli", nli, LABELS, "the {label} of {label}", verbalizers={"sport": "game"}, batch_size=batch_size
    )
    hypotheses = ["the game of game", "the politics of politics", "the science {x} of science {x}"]
    entailed = pair_logits(nli, TEXTS, hypotheses)[..., 2]
    weights = np.exp(entailed)
    done: list[int] = []
    scores = scorer.score(TEXTS, done.append)
    np.testing.assert_allclose(scores.probabilities, weights / weights.sum(1, keepdims=True), atol=1e-5)
    assert scores.probabilities.std(0).min() > 1e-3, "the random model tells texts apart"
    assert (scores.status == Status.SCORED).all()
    assert sum(done) == len(TEXTS)


def test_multilabel_is_entailment_against_contradiction(nli: str) -> None:
    scorer = ZeroShotNLIScorer("nli", nli, LABELS, task="multilabel")
    logits = np.exp(pair_logits(nli, TEXTS, [f"This text is about {label}." for label in LABELS]))
    expected = logits[..., 2] / (logits[..., 2] + logits[..., 0])
    np.testing.assert_allclose(scorer.score(TEXTS).probabilities, expected, atol=1e-5)


def test_two_classes_are_enough(save_nli: Save) -> None:
    folder = save_nli({0: "entailment", 1: "not_entailment"})
    scorer = ZeroShotNLIScorer("nli", folder, LABELS, task="multilabel")
    logits = np.exp(pair_logits(folder, TEXTS[:1], scorer.hypotheses))
    np.testing.assert_allclose(scorer.score(TEXTS[:1]).probabilities, logits[..., 0] / logits.sum(-1), atol=1e-5)


def test_a_score_does_not_depend_on_the_other_texts(nli: str) -> None:
    scorer = ZeroShotNLIScorer("nli", nli, LABELS, batch_size=3)
    together = scorer.score(TEXTS).probabilities
    alone = np.concatenate([scorer.score([text]).probabilities for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert scorer.score([]).probabilities.shape == (0, 3)


def test_long_texts_are_cut_and_told(nli: str) -> None:
    scorer = ZeroShotNLIScorer("nli", nli, LABELS, max_tokens=3)
    scores = scorer.score(["goal match coach team league", "goal match coach"])
    assert scores.usage == [{"dropped_tokens": 2}, None]
    np.testing.assert_allclose(scores.probabilities[0], scores.probabilities[1], atol=1e-6)
    with pytest.raises(ConfigurationError, match="smaller max_tokens"):
        ZeroShotNLIScorer("nli", nli, LABELS, max_tokens=200).score(["goal " * 200])


def test_a_model_without_entailment_is_refused(save_nli: Save) -> None:
    folder = save_nli({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    with pytest.raises(ConfigurationError, match=r"LABEL_1.*begin with 'entail'"):
        ZeroShotNLIScorer("nli", folder, LABELS).score(["x"])
    only = save_nli({0: "entailment", 1: "neutral"})
    with pytest.raises(ConfigurationError, match="'contra'"):
        ZeroShotNLIScorer("nli", only, LABELS, task="multilabel").score(["x"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hypothesis": "About it."}, "has no {label}"),
        ({"verbalizers": {"sports": "x"}}, "none of the labels"),
        ({"max_tokens": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_arguments_that_cannot_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ZeroShotNLIScorer("nli", "nowhere", LABELS, **options)


def test_the_card_is_by_content_and_by_what_changes_the_answer(nli: str, save_nli: Save, tmp_path: Path) -> None:
    def print_of(folder: str = nli, **options: Any) -> str:
        return ZeroShotNLIScorer(options.pop("name", "nli"), folder, options.pop("labels", LABELS), **options).card.fingerprint

    moved = tmp_path / "elsewhere" / Path(nli).name
    shutil.copytree(nli, moved)
    assert print_of() == print_of(str(moved)) == print_of(name="other", batch_size=1, device="cpu")
    others: list[dict[str, Any]] = [
        {"hypothesis": "{label}"},
        {"verbalizers": {"sport": "games"}},
        {"labels": LABELS[::-1]},
        {"task": "multilabel"},
        {"dtype": "bfloat16"},
        {"max_tokens": 9},
        {"folder": save_nli({0: "entailment", 1: "contradiction"})},
    ]
    assert len({print_of(), *(print_of(**each) for each in others)}) == 8
