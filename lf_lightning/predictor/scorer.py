"""`FittedScorer`: a fitted system as a scorer, so that another system can learn from what it says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lf_lightning.data.scores import ScoreSource
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.fitted_run import FittedRun, evened
from lf_lightning.predictor.predictor import DType, Predictor
from lf_lightning.predictor.saved import SavedModel, find_fitted
from lf_lightning.scoring.base import Advance, Scorer, Scores
from lf_lightning.store import ScorerCard, Status

OnFitted = Literal["refuse", "score"]

_FITTED = "the system was fitted on this text"
_NOT_SCORED = "not in the store of its scorers"


class FittedScorer(Scorer):
    """Scores texts by a system that `lf fit` left in a run folder: calibrated probabilities, with its scorers' help or alone.

    A score that a system gives on rows that it was fitted on is not evidence: it is surer and better there than on any other
    text, and whatever learns from it trusts it too far. So texts of its train and validation rows are `REFUSED`. They are read
    from the sources in the run's config, relative paths seen from the working folder, and held against the fingerprints in the
    checkpoint. To get scores of all rows, fit one system on each half of them and let it score the other.

    A text that one of its scorers has no row for in `store` stays `ABSENT`, and is asked about again once it has.

    Args:
        name: What configs and tables call this scorer.
        run: Run folder (`runs/<experiment>/<time>` or `latest`), a file in its `checkpoints`, or a saved folder.
        checkpoint: best or last, where `run` is a run folder.
        store: Folder of the score store with the system's own scorers, `package:` allowed; None: its encoder alone.
        on_fitted: Texts that it was fitted on: refuse; or score, whose scores are another scorer's and no evidence.
        batch_size: Texts at once; changes speed and memory, not scores.
        dtype: bfloat16: the arithmetic of trainer.precision bf16-mixed.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    def __init__(
        self,
        name: str,
        run: str,
        checkpoint: str = "best",
        store: str | None = None,
        on_fitted: OnFitted = "refuse",
        batch_size: int = 64,
        dtype: DType = "float32",
        device: str = "auto",
    ) -> None:
        self.name, self.run, self.checkpoint, self.store, self.on_fitted = name, run, checkpoint, store, on_fitted
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    @cached_property
    def card(self) -> ScorerCard:
        """The checkpoint by content, how texts are cut, which scorers it reads; not where it lies, nor device or batch size."""
        run = self._found
        spec: dict[str, Any] = {
            "scorer": "fitted_system",
            "mode": "calibrated",
            "sha256": run.sha256(),
            "max_length": run.max_length,
            "max_words": run.max_words,
            "scorers": [] if self._source is None else [self._source.fingerprints[name] for name in run.scorers],
            "on_fitted": self.on_fitted,
            "dtype": self.dtype,
        }
        return ScorerCard(self.name, tuple(run.labels), run.task, spec)

    def score(self, texts: Sequence[str], advance: Advance | None = None) -> Scores:
        """Returns the calibrated probabilities.

        Args:
            texts: n texts, any strings.
            advance: Called once, at the end.

        Raises:
            ConfigurationError: Nobody knows which rows the system was fitted on, and `on_fitted` is not score.
        """
        kept, m = self._predictor.texts_read(texts), len(self._found.scorers)
        status = np.full(len(kept), Status.SCORED, dtype=np.uint8)
        usage: list[dict[str, Any] | None] = [None] * len(kept)
        members = np.full((len(kept), m, len(self._found.labels)), np.nan, dtype=np.float32)
        if self._source is not None:
            joined = self._source.join(kept, self._found.labels, may_be_strangers=True)
            members[joined.scored] = joined.scores[joined.scored]
            status[(joined.status == Status.ABSENT).any(1)] = Status.ABSENT
        status[[evened(text) in self._fitted for text in kept]] = Status.REFUSED
        for reason, state in ((_FITTED, Status.REFUSED), (_NOT_SCORED, Status.ABSENT)):
            for row in np.flatnonzero(status == state):
                usage[row] = {"reason": reason}
        rows = np.flatnonzero(status == Status.SCORED)
        probabilities = np.zeros((len(kept), len(self._found.labels)), dtype=np.float32)
        probabilities[rows] = self._predictor.predict_proba([kept[row] for row in rows], members[rows])
        if advance is not None:
            advance(len(kept))
        return Scores(probabilities, status, usage=usage)

    @cached_property
    def _found(self) -> FittedRun | SavedModel:
        return find_fitted(self.run, self.checkpoint)

    @cached_property
    def _source(self) -> ScoreSource | None:
        if self.store is not None and not self._found.scorers:
            raise ConfigurationError(f"store={self.store!r}: the system of {self.run!r} has no scorers. Way out: leave it out.")
        return None if self.store is None else ScoreSource(self.store, self._found.scorers, "mask")

    @cached_property
    def _predictor(self) -> Predictor:
        found = self._found  # not self.run, where `latest` may name another run by now
        path = found.folder if isinstance(found, SavedModel) else found.checkpoint
        return Predictor.of_run(path, batch_size=self.batch_size, dtype=self.dtype, device=self.device)

    @cached_property
    def _fitted(self) -> set[str]:
        if self.on_fitted == "score":
            return set()
        try:
            return self._found.fitted_texts()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"on_fitted='refuse': {error} Way out: start from the folder that the fit was started from; or, with texts "
                "that you know to be others, on_fitted: score."
            ) from error
