"""The paper's dict and keywords are one set of arguments; a typo is refused where it is made, a key is never repeated."""

from __future__ import annotations

import pytest
from sklearn.base import clone

from lf_lightning import AutoFusionClassifier
from lf_lightning.errors import ConfigurationError

KEY = "sk-canary-0123456789abcdef"
PAPER = {
    "llm_provider": "deepseek",
    "label_columns": ["positive", "negative", "neutral"],
    "multi_label": False,
    "ml_model": "roberta-base",
    "max_length": 512,
    "batch_size": 16,
    "num_epochs": 3,
    "fusion_epochs": 10,
    "output_dir": "fusion_output",
}


def test_the_papers_dict_is_the_keywords() -> None:
    from_dict, from_keywords = AutoFusionClassifier(PAPER)._said(), AutoFusionClassifier(**PAPER)._said()
    assert from_dict.get_params() == from_keywords.get_params()
    assert from_dict.batch_size == 16
    assert AutoFusionClassifier(PAPER).get_params()["config"] is PAPER
    assert AutoFusionClassifier(PAPER).batch_size is None  # __init__ stores, and no more


def test_a_keyword_that_is_set_goes_before_the_dict() -> None:
    classifier = AutoFusionClassifier(PAPER, num_epochs=7)
    assert (classifier._said().num_epochs, classifier._said().fusion_epochs) == (7, 10)
    assert clone(classifier).set_params(fusion_epochs=2)._said().fusion_epochs == 2


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("llm_providr", "nearest is 'llm_provider'"),
        ("label_colums", "nearest is 'label_columns'"),
        ("top_p", "LLMScorer"),
        ("config", "no argument"),
        ("api_key", "environment"),
        (7, "has the key 7"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        AutoFusionClassifier({key: KEY})
    assert KEY not in str(raised.value)


def test_what_set_params_brings_is_checked_by_fit() -> None:
    with pytest.raises(ConfigurationError, match="nearest is 'max_length'"):
        AutoFusionClassifier().set_params(config={"max_lenght": 3}).fit(["a", "b"], [0, 1])
    with pytest.raises(ConfigurationError, match="config is a list"):
        AutoFusionClassifier([1]).fit(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="Invalid parameter 'max_lenght'"):
        AutoFusionClassifier().set_params(max_lenght=3)


@pytest.mark.parametrize("given", [{"api_key_env": KEY}, {"config": {"api_key_env": KEY}}])
def test_a_key_in_the_place_of_its_name_is_not_kept(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="no name of an environment variable") as raised:
        AutoFusionClassifier(**given)
    assert KEY not in str(raised.value)
