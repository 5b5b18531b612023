"""scikit-learn's own checks feed numbers; this subclass reads them as words, and changes nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from lf_lightning import AutoFusionClassifier

WORDS = "minister vote election parliament law party senate campaign treaty reform goal match coach team league".split()


class NumbersAsTexts(AutoFusionClassifier):
    """A text is a word for each column of a row, chosen by column and value; X is checked as any estimator of arrays does."""

    def fit(self, X: Any, y: Any = None, *, scores: Any = None, validation: Any = None) -> NumbersAsTexts:
        validate_data(self, X, reset=True)
        super().fit(X, y, scores=scores, validation=validation)
        return self

    def _opinion(self, X: Any, scores: Any) -> Any:
        if hasattr(self, "classes_"):
            validate_data(self, X, reset=False)
        return super()._opinion(X, scores)

    def _texts(self, X: Any) -> list[str]:
        values = np.floor(np.asarray(validate_data(type(self)(), X, reset=True), dtype=np.float64) * 2).astype(np.int64)
        return [" ".join(WORDS[(9 * column + value) % len(WORDS)] for column, value in enumerate(row)) for row in values]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags
