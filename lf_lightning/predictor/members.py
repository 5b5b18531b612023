"""What a member of an ensemble is, and which texts it was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lf_lightning.callbacks.judging import Opinion
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.answering import ScoresOf
from lf_lightning.predictor.fitted_run import evened


class TextClassifier(Protocol):
    """What can be a member: a `Predictor`, an `Ensemble`, or anything that answers like one."""

    labels: list[str]
    task: Task
    scorers: list[str]

    def opinion(self, texts: Sequence[str], scores: ScoresOf = None) -> Opinion:
        """Returns probabilities and decisions of n texts."""


def as_read(member: TextClassifier, texts: Sequence[str]) -> list[str]:
    """Returns the n texts as a member reads them: cut to its `max_words`, if it has any."""
    read: Callable[[Sequence[str]], list[str]] = getattr(member, "texts_read", list)
    return read(texts)


def trained_on(name: str, member: Any, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Returns (n,) bool: which texts are train rows of a member.

    Args:
        name: What the member is called, for the error message.
        member: A `TextClassifier`.
        texts: n texts.

    Raises:
        ConfigurationError: Nobody knows.
    """
    if hasattr(member, "trained_on"):  # an ensemble
        inside: NDArray[np.bool_] = member.trained_on(texts)
        return inside
    try:
        if (source := getattr(member, "source", None)) is None:
            raise ConfigurationError("it was not loaded from a run.")
        known = source.fitted_texts(("train",))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"on_fitted='refuse': which rows {name} was fitted on is not known: {error} Way out: load it from its run folder, "
            "in the folder that the fit was started from; or, with rows that you know to be others, on_fitted='trust'."
        ) from error
    return np.array([evened(text) in known for text in as_read(member, texts)], dtype=np.bool_)
