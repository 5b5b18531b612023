"""What the LLMs say of texts: given by the user or asked for, before a fit and after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lf_lightning.auto.asking import ask_all, keep_given, require_some, scores_from
from lf_lightning.auto.fit_rows import FitRows
from lf_lightning.callbacks.judging import Opinion
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.deferring import Deferring
from lf_lightning.scoring.base import Scorer
from lf_lightning.store import ScoreStore

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier


class FitScores(NamedTuple):
    """The scores that a fit reads.

    Attributes:
        store: Folder of their store; None: there are none.
        names: The scorers among those in it; None: all.
        on_missing: What becomes of a text that one of them did not score.
        paid: What they cost now, in USD.
    """

    store: str | None
    names: list[str] | None
    on_missing: Literal["error", "mask"]
    paid: float


def scores_of_fit(said: AutoFusionClassifier, rows: FitRows, given: Any, members: Sequence[Scorer], folder: Path) -> FitScores:
    """Returns the scores of the rows of a fit.

    Args:
        said: The arguments, merged.
        rows: Of the fit.
        given: An array, a score store's folder, or None.
        members: Who is asked, if none are given.
        folder: Where a store is made, unless one is given.

    Raises:
        ConfigurationError: An array of another shape, or one that does not reach validation rows.
        LFError: See `asking.ask_all`.
    """
    store = str(folder / "scores")
    if members:
        kept = ScoreStore(store, create=True)
        paid = ask_all(members, rows.texts, kept, said.max_cost, said.on_missing, said._tell, tell_all=True)
        require_some(members, kept)
        # Who had to answer has done so, or has been named.
        return FitScores(store, [scorer.card.name for scorer in members], "mask", paid)
    if given is None:
        return FitScores(None, None, said.on_missing, 0.0)
    if isinstance(given, (str, os.PathLike)):
        return FitScores(os.fspath(given), None, said.on_missing, 0.0)
    if rows.validation is not None:
        raise ConfigurationError(
            "scores as an array know nothing of the rows of `validation`. Way out: a score store, or no validation."
        )
    values = np.asarray(given)
    if values.ndim < 2 or len(values) != rows.total:
        raise ConfigurationError(
            f"scores have the shape {values.shape}; {rows.total} texts need ({rows.total}, scorers, labels)."
        )
    own = values[rows.train["place"].to_numpy()]
    names = keep_given(own, rows.texts, rows.targets.names, rows.targets.task, ScoreStore(store, create=True))
    return FitScores(store, names, "mask", 0.0)


def opinion_of(classifier: AutoFusionClassifier, X: Any, scores: Any) -> Opinion:
    """Returns what a fitted classifier says of texts, with the scores that are given, or those of LLMs that it asks.

    Args:
        classifier: The classifier.
        X: See `AutoFusionClassifier.predict`.
        scores: See there.

    Raises:
        ConfigurationError: Nobody is named who may be asked, or `llm_budget` is out of range.
        LFError: See `asking.ask_all`.
    """
    said = classifier._said()
    texts, predictor, asked = said._texts(X), classifier.predictor_, classifier._asked
    known = said.scores if scores is None else scores
    if known is not None:
        if not isinstance(known, (str, os.PathLike)):
            known = np.asarray(known, dtype=np.float32)
            known = known[:, None] if known.ndim == 2 else known
        return predictor.opinion(texts, known)
    if asked is None and said.on_missing == "error":
        raise ConfigurationError(
            f"The model was fitted with {', '.join(predictor.scorers)}, and nobody is named who may be asked now. "
            "Way out: load(folder, llm_provider=...), where 'saved' takes the folder's word; scores=...; or "
            "set_params(on_missing='mask'), and the encoder decides."
        )
    if not asked:
        return predictor.opinion(texts)
    names = classifier._targets.names
    with tempfile.TemporaryDirectory(prefix="lf_lightning_") as folder:
        store = ScoreStore(Path(folder) / "scores", create=True)

        def ask(who: Sequence[Scorer], chosen: list[str]) -> NDArray[Any]:
            ask_all(who, chosen, store, said.max_cost, said.on_missing, said._tell, tell_all=False)
            return scores_from(store, who, chosen, names)

        if said.llm_budget is None:
            return predictor.opinion(texts, ask(asked, texts))
        if not 0 <= said.llm_budget <= 1:
            raise ConfigurationError(f"llm_budget={said.llm_budget}: a share in [0, 1]. Way out: 0.2, or None for all texts.")
        by_name = {scorer.card.name: scorer for scorer in asked}
        deferring = Deferring(predictor.module)
        plan = deferring.plan(budget=said.llm_budget)
        found = deferring.answer(predictor, texts, lambda name, some: ask([by_name[name]], some)[:, 0], plan, stream=True)
        return found.opinion
