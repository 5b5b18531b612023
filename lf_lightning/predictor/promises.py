"""Promises of a fitted system about new texts: sets of labels that hold the true one, and answers that are rarely wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lf_lightning.callbacks.judging import Opinion
from lf_lightning.errors import ConfigurationError
from lf_lightning.guarantees import Abstention, AdaptiveSets, LeastAmbiguousSets, PredictionSets, RecallSets, confidence_of
from lf_lightning.predictor.answering import ScoresOf
from lf_lightning.predictor.deferring import Deferred, decisions_of, validated
from lf_lightning.predictor.predictor import Predictor
from lf_lightning.systems.fusion import FusionLightningModule

SetsBy = Literal["lac", "aps", "raps"]
_PENALTY, _FREE = 0.01, 2


class Promises:
    """Prediction sets and abstentions, fitted on the validation rows that a fusion keeps.

    They hold for texts that are exchangeable with those rows: of the same source and time, and asked about as those are, which
    is why the plan of a deferral belongs to them. Without one, a text's rows are the validation rows with as many scorers.

    Args:
        module: The fusion, fitted with validation rows.

    Raises:
        ConfigurationError: It is no fusion.
        NotFittedError: There were no validation rows at the fit.
    """

    def __init__(self, module: Any) -> None:
        if not isinstance(module, FusionLightningModule):
            raise ConfigurationError(f"{type(module).__name__} keeps no validation rows that a promise could be fitted on.")
        self.module = module
        self.probabilities, self.right, _ = validated(module)
        self.labels = module.validation_rows.arrays()[1]

    def prediction_sets(
        self,
        opinion: Opinion,
        depths: NDArray[np.int64],
        coverage: float = 0.9,
        by: SetsBy = "lac",
        by_label: bool = False,
        planned: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        """Returns which labels are in the set of each of n texts, (n, K).

        Multi-class: the set holds the true label with a probability of `coverage`. Multi-label: it holds that share of the true
        labels on average, and `by` and `by_label` are not read.

        Args:
            opinion: Of the texts.
            depths: (n,) how many scorers had a say, see `depths_of`; a text with -1 gets all labels.
            coverage: In (0, 1).
            by: lac (smallest sets), aps or raps (sets that grow with difficulty).
            by_label: Promise it for the texts of each label.
            planned: (v,) how many scorers were asked about each validation row under the plan by which the texts were
                answered; None: no plan.

        Raises:
            ConfigurationError: `coverage` out of range, or an unknown `by`.
        """
        found = np.ones((len(depths), len(self.module.labels)), dtype=np.bool_)
        for rows, like in self._groups(depths, planned):
            found[rows] = (
                _sets(self.module.task, coverage, by, by_label).fit(like, self.labels).sets(opinion.probabilities[rows])
            )
        return found

    def answered(
        self,
        opinion: Opinion,
        depths: NDArray[np.int64],
        error: float = 0.05,
        certainty: float = 0.95,
        planned: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        """Returns which of n texts may be answered, (n,), so that among the answers at most a share `error` is wrong.

        Args:
            opinion: Of the texts.
            depths: (n,) how many scorers had a say, see `depths_of`; a text with -1 is not answered.
            error: Promised share of wrong answers, in (0, 1).
            certainty: Probability that the promise holds.
            planned: As for `prediction_sets`.

        Raises:
            ConfigurationError: A number out of range.
        """
        found = np.zeros(len(depths), dtype=np.bool_)
        for rows, like in self._groups(depths, planned):
            made = decisions_of(self.module, like)
            fitted = Abstention(error, certainty).fit(confidence_of(like, made), self._right(made))
            found[rows] = fitted.answers(confidence_of(opinion.probabilities[rows], opinion.decisions[rows]))
        return found

    def _groups(
        self, depths: NDArray[np.int64], planned: NDArray[np.int64] | None
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Texts, and what is said of the validation rows that are like them."""
        if planned is not None:
            return [(np.arange(len(depths)), self.probabilities[planned, np.arange(len(planned))])]
        return [(np.flatnonzero(depths == depth), self.probabilities[depth]) for depth in np.unique(depths[depths >= 0])]

    def _right(self, decisions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray((decisions == self.labels).reshape(len(decisions), -1).all(1))


def depths_of(scored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns how many scorers had a say (n,), of who had one (n, M).

    -1 where one is silent before another that spoke: nothing is known of validation rows with such opinions.

    >>> depths_of(np.array([[True, False], [False, True], [True, True]])).tolist()
    [1, -1, 2]
    """
    leading = np.logical_and.accumulate(scored, axis=1)
    return np.asarray(np.where((leading == scored).all(1), leading.sum(1), -1), dtype=np.int64)


def prediction_sets(
    predictor: Predictor,
    texts: Sequence[str],
    scores: ScoresOf = None,
    coverage: float = 0.9,
    by: SetsBy = "lac",
    by_label: bool = False,
) -> list[list[str]]:
    """Returns for each text the labels of its prediction set, the likeliest first; see `Promises`.

    Args:
        predictor: Of a fusion.
        texts: Any strings.
        scores: As for `Predictor.predict`.
        coverage: See `Promises.prediction_sets`.
        by: See `Promises.prediction_sets`.
        by_label: See `Promises.prediction_sets`.
    """
    promises = Promises(predictor.module)
    opinion, depths = _opinion(predictor, texts, scores)
    return names_of(promises.prediction_sets(opinion, depths, coverage, by, by_label), opinion, predictor.labels)


def answer_or_abstain(
    predictor: Predictor, texts: Sequence[str], scores: ScoresOf = None, error: float = 0.05, certainty: float = 0.95
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the decisions on n texts, as `Predictor.predict`, and which of them (n,) may be given; see `Promises`.

    Args:
        predictor: Of a fusion.
        texts: Any strings.
        scores: As for `Predictor.predict`.
        error: See `Promises.answered`.
        certainty: See `Promises.answered`.
    """
    promises = Promises(predictor.module)
    opinion, depths = _opinion(predictor, texts, scores)
    return opinion.decisions, promises.answered(opinion, depths, error, certainty)


def of_deferred(
    module: Any, deferred: Deferred, coverage: float | None = None, error: float | None = None
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Returns prediction sets (n, K) and answered texts (n,) of what a deferral answered, each if it is promised.

    Args:
        module: The fusion.
        deferred: Its answers.
        coverage: See `Promises.prediction_sets`.
        error: See `Promises.answered`.
    """
    promises, depths, planned = Promises(module), deferred.asked.sum(1), deferred.plan.depths
    sets = None if coverage is None else promises.prediction_sets(deferred.opinion, depths, coverage, planned=planned)
    return sets, None if error is None else promises.answered(deferred.opinion, depths, error, planned=planned)


def names_of(sets: NDArray[np.bool_], opinion: Opinion, labels: Sequence[str]) -> list[list[str]]:
    """Returns the labels of each set (n, K), the likeliest first."""
    order = np.argsort(-opinion.probabilities, axis=1, kind="stable")
    return [[labels[k] for k in ranked if inside[k]] for ranked, inside in zip(order, sets, strict=True)]


def _opinion(predictor: Predictor, texts: Sequence[str], scores: ScoresOf) -> tuple[Opinion, NDArray[np.int64]]:
    _, scored = predictor._scores_of(predictor.texts_read(texts), scores)
    return predictor.opinion(texts, scores), depths_of(scored)


def _sets(task: str, coverage: float, by: str, by_label: bool) -> PredictionSets | RecallSets:
    if task == "multilabel":
        return RecallSets(coverage)
    if by == "lac":
        return LeastAmbiguousSets(coverage, by_label)
    if by == "aps":
        return AdaptiveSets(coverage, by_label)
    if by == "raps":
        return AdaptiveSets(coverage, by_label, _PENALTY, _FREE)
    raise ConfigurationError(f"by={by!r} is none of lac, aps, raps.")
