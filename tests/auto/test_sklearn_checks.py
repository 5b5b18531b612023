"""scikit-learn's own checks, all of them: on numbers that a subclass reads as words, for they know no texts."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

from lf_lightning import AutoFusionClassifier
from tests.auto.numbers_as_texts import NumbersAsTexts

EXPECTED_FAILURES: dict[str, str] = {}
"""Checks that may fail, with the reason: none. Texts need the subclass, and no further exemption."""
NOT_APPLICABLE = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set, and texts are no arrays of an array library",
    "check_classifiers_multilabel_output_format_decision_function": "there are probabilities, and no decision_function",
}


def test_the_classifier_says_that_it_reads_texts() -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):  # so its checks of numbers end here
        check_estimator(AutoFusionClassifier(verbose=0))


@pytest.mark.slow
@pytest.mark.filterwarnings("default::sklearn.exceptions.DataConversionWarning")
def test_every_check_of_scikit_learn_passes(tiny_encoder: str) -> None:
    classifier = NumbersAsTexts(
        ml_model=tiny_encoder, frozen_layers=0, num_epochs=5, ml_learning_rate=3e-3, max_length=8, device="cpu", verbose=0
    )
    results: list[dict[str, Any]] = check_estimator(
        classifier, expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None
    )
    failed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}
    assert {result["check_name"] for result in results if result["status"] == "skipped"} == set(NOT_APPLICABLE)
    assert sum(result["status"] == "passed" for result in results) >= 50
