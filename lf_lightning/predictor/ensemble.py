"""`Ensemble`: several fitted systems that answer as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lf_lightning.calibration import Calibrator, PlugInDecision, TemperatureScaling, Thresholds, probabilities
from lf_lightning.calibration.rows import usable_rows
from lf_lightning.callbacks.judging import Figures, Opinion
from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError, DataError, NotFittedError
from lf_lightning.heads import Evidence, FusionHead, MajorityFusion, PooledFusion
from lf_lightning.heads.functional import normalise, opinions
from lf_lightning.heads.voting import decided_by
from lf_lightning.metrics import decide, evaluate
from lf_lightning.predictor.answering import Answering, ScoresOf
from lf_lightning.predictor.fitted_run import evened
from lf_lightning.predictor.members import TextClassifier, as_read, trained_on
from lf_lightning.store.keys import text_key

OnFitted: TypeAlias = Literal["refuse", "trust"]
Rule: TypeAlias = Callable[[int, int, int, Task], FusionHead]


class Ensemble(Answering):
    """Fitted systems, possibly ensembles themselves, whose opinions one rule combines. It answers like a `Predictor`.

    The rules are the fusion heads, of which the members' calibrated probabilities are the opinions: `AverageFusion` (soft
    voting) and `MajorityFusion` (hard voting, by the members' decisions) need no `fit`; `MixtureFusion` (weighted),
    `PooledFusion` with `correction=False` (weighted in logarithms), `RoutedFusion` (for each label the member that is best on
    it), `PooledFusion` and `LinearStack` (stacked) do. After a `fit` the probabilities are calibrated and the decisions tuned.

    Args:
        members: At least two, of one task and the same labels in any order.
        rule: Builds the rule from (K, members, 0, task).
        calibrator: Builds the calibrator of the combined opinion from (K, task).
        tune_decisions: Tune decisions on the rows of the fit, as a system does; a majority stays a majority.
        names: What the members are called; default: member 1, member 2, ...

    Attributes:
        labels: The K label names, in the order of the first member.
        task: Multi-class or multi-label.
        scorers: Names of all scorers that a member reads, each once.
        figures: After `fit`, the figures of `ensemble` and of each member on its rows. Those of the ensemble are held out: the
            rule that gave a row's opinion was not fitted on it.

    Raises:
        ConfigurationError: Fewer than two members, or members of another task or other labels.
    """

    def __init__(
        self,
        members: Sequence[TextClassifier],
        rule: Rule = PooledFusion,
        calibrator: Callable[[int, Task], Calibrator] = TemperatureScaling,
        tune_decisions: bool = True,
        names: Sequence[str] | None = None,
    ) -> None:
        if len(members) < 2:
            raise ConfigurationError(f"members: an ensemble needs two or more, there are {len(members)}.")
        self.members = list(members)
        self.names = [f"member {m + 1}" for m in range(len(members))] if names is None else list(names)
        if len(set(self.names)) < len(members) or len(self.names) != len(members) or "ensemble" in self.names:
            raise ConfigurationError(f"names={self.names!r}: give each of the {len(members)} members one of its own.")
        first = members[0]
        for name, member in zip(self.names, members, strict=True):
            if member.task != first.task or sorted(member.labels) != sorted(first.labels):
                raise ConfigurationError(
                    f"{name}: {member.task} of {member.labels!r}, but {self.names[0]}: {first.task} of {first.labels!r}. "
                    "Members of an ensemble have one task and the same labels, in any order."
                )
        self.labels, self.task = list(first.labels), first.task
        self.scorers = list(dict.fromkeys(scorer for member in members for scorer in member.scorers))
        k = len(self.labels)
        self.rule, self.calibrator_rule, self.tune_decisions = rule, calibrator, tune_decisions
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = rule(k, len(members), 0, self.task).eval()
        self.calibrator = calibrator(k, self.task)
        self.decision: PlugInDecision | Thresholds | None = None
        if tune_decisions and not isinstance(self.head, MajorityFusion):
            self.decision = PlugInDecision(k) if self.task == "multiclass" else Thresholds(k)
        self.is_fitted = False
        self.fitted_keys: set[bytes] = set()
        """Of the texts that the rule was fitted on; see `store.keys.text_key`."""
        self.figures: Figures = {}

    def fit(self, texts: Sequence[str], labels: ArrayLike, scores: ScoresOf = None, on_fitted: OnFitted = "refuse") -> Ensemble:
        """Fits rule, calibrator and decisions on rows that no member's weights were fitted on, such as validation rows.

        Where validation rows chose a member's epoch, and its calibrator was fitted on them, the member looks a little better
        there than it is. That is much the same for all members of one data set, so the weights between them bear it; but a
        member that was validated on other rows is then at a disadvantage, and `figures` are a little too good. With labels to
        spare, fit on rows that no member has seen at all.

        Args:
            texts: n texts.
            labels: (n,) numbers of labels, -1 where unlabelled; multi-label (n, K) of 0 and 1, rows of NaN where unlabelled.
            scores: What the scorers said of them; see `predict_proba`.
            on_fitted: Rows that are train rows of a member are refused, and so are all rows if a member (a saved model, or one
                that was not loaded from a run) does not know its train rows; trust: you know better, nothing is checked.

        Returns:
            Itself.

        Raises:
            ConfigurationError: Rows of a member's training, or a rule that has to be trained.
            DataError: No labelled row, or a label that is none.
        """
        if on_fitted == "refuse":
            self._refuse_train_rows(texts)
        found = [member.opinion(texts, self._scores_of(member, scores, len(texts))) for member in self.members]
        members = self._opinions_of(found)
        truth = torch.tensor(np.array(labels))
        truth = truth.long() if self.task == "multiclass" else truth.float()
        usable_rows(members[:, 0], truth, len(self.labels), self.task, name="opinions")  # shapes and values
        kept = truth >= 0 if truth.ndim == 1 else ~truth.isnan().any(1)
        if not kept.any():
            raise DataError("labels: none of the rows is labelled. Way out: labelled rows that no member was fitted on.")
        members, truth = members[kept], truth[kept]
        present = torch.ones(members.shape[:2], dtype=torch.bool)
        before = {name: tensor.clone() for name, tensor in self.head.state_dict().items()}
        held = self.head.start(Evidence(members, present, truth))
        if held is None and before:
            raise ConfigurationError(
                f"rule: {type(self.head).__name__} has to be trained epoch by epoch. Way out: one of AverageFusion, "
                "MajorityFusion, MixtureFusion, RoutedFusion, PooledFusion, LinearStack."
            )
        held = self._combined(members) if held is None else held
        self.calibrator.fit(held, truth)
        with torch.no_grad():
            p = probabilities(self.calibrator(held).double(), self.task)
        if self.decision is not None:
            self.decision.fit(p.float(), truth)
        self.is_fitted = True
        self.fitted_keys = {key for key, used in zip(self._keys(texts), kept.tolist(), strict=True) if used}
        y, own = truth.long().numpy(), kept.numpy()
        self.figures = {"ensemble": evaluate(p.numpy(), y, self.task, self._decided(p))}
        for name, member, opinion in zip(self.names, self.members, found, strict=True):
            said = opinion.probabilities[own][:, self._order(member)]
            made = self._in_order(member, opinion.decisions[own])
            self.figures[name] = evaluate(said, y, self.task, made)
        return self

    def opinion(self, texts: Sequence[str], scores: ScoresOf = None) -> Opinion:
        """Returns probabilities and decisions of n texts, each member asked once.

        Args:
            texts: As for `predict_proba`.
            scores: As for `predict_proba`.
        """
        if not self.is_fitted and self.head.state_dict():
            raise NotFittedError(
                f"{type(self.head).__name__} was used before it was fitted. Way out: Ensemble.fit on rows that no member was "
                "fitted on; or AverageFusion or MajorityFusion, which need none."
            )
        found = [member.opinion(texts, self._scores_of(member, scores, len(texts))) for member in self.members]
        logits = self._combined(self._opinions_of(found))
        with torch.no_grad():
            p = probabilities((self.calibrator(logits) if self.is_fitted else logits).double(), self.task)
        return Opinion(p.numpy(), self._decided(p), np.ones(len(p), dtype=np.bool_))

    def texts_read(self, texts: Sequence[str]) -> list[str]:
        """Returns the n texts as the members read them, and as their scores are kept: cut to the members' `max_words`.

        Raises:
            ConfigurationError: Members cut texts differently, so that no one text is the scorers'.
        """
        readings = [getattr(member, "texts_read", list)(texts) for member in self.members]
        if any(reading != readings[0] for reading in readings):
            raise ConfigurationError(
                "members cut texts to different max_words. Way out: scores as an array, or members of one."
            )
        return list(readings[0])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the ensemble and its members into a folder, for `load_system`: safetensors and JSON, no pickle.

        Args:
            folder: New, or empty.

        Raises:
            ConfigurationError: There is something in it, it cannot be written, or a member cannot be saved.
        """
        from lf_lightning.predictor.saved_ensemble import save

        save(self, folder)

    def modules(self) -> nn.ModuleDict:
        """Returns what `fit` fits: rule, calibrator and decision."""
        parts: dict[str, nn.Module] = {"head": self.head, "calibrator": self.calibrator}
        return nn.ModuleDict(parts | ({} if self.decision is None else {"decision": self.decision}))

    def trained_on(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Returns (n,) bool: which texts the rule, or the weights of a member, were fitted on.

        Raises:
            ConfigurationError: A member does not know.
        """
        found = np.array([key in self.fitted_keys for key in self._keys(texts)], dtype=np.bool_)
        for name, member in zip(self.names, self.members, strict=True):
            found |= trained_on(name, member, texts)
        return found

    def _refuse_train_rows(self, texts: Sequence[str]) -> None:
        for name, member in zip(self.names, self.members, strict=True):
            rows = np.flatnonzero(trained_on(name, member, texts))
            if len(rows):
                raise ConfigurationError(
                    f"on_fitted='refuse': {name} was fitted on {len(rows)} of the {len(texts)} rows (first: row {rows[0]}), "
                    "where it is better than on any other text. Way out: rows that no member was fitted on, such as the "
                    "validation rows of the same data and split_seed."
                )

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        """Keys of the texts, cut as the first member reads them, white space evened out."""
        return [text_key(evened(text)) for text in as_read(self.members[0], texts)]

    def _order(self, member: TextClassifier) -> list[int]:
        """For each label of the ensemble its place among the member's."""
        return [member.labels.index(label) for label in self.labels]

    def _in_order(self, member: TextClassifier, decisions: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.task == "multilabel":
            return decisions[:, self._order(member)]
        return np.array([self.labels.index(label) for label in member.labels], dtype=np.int64)[decisions]

    def _opinions_of(self, found: Sequence[Opinion]) -> Tensor:
        """(n, members, K) opinions of what the members said, in the order of the labels."""
        read = []
        for member, opinion in zip(self.members, found, strict=True):
            p, made = opinion.probabilities[:, self._order(member)], self._in_order(member, opinion.decisions)
            read.append(decided_by(p, made) if isinstance(self.head, MajorityFusion) else p)
        return normalise(opinions(torch.from_numpy(np.stack(read, 1)), self.task), self.task)

    @torch.no_grad()
    def _combined(self, members: Tensor) -> Tensor:
        present = torch.ones(members.shape[:2], dtype=torch.bool)
        logits: Tensor = self.head(members, present, torch.zeros(len(members), 0))
        return logits

    def _decided(self, p: Tensor) -> NDArray[np.int64]:
        if self.is_fitted and self.decision is not None:
            decisions: NDArray[np.int64] = self.decision.decide(p.float()).numpy()
            return decisions
        shape = (0, len(self.labels)) if self.task == "multilabel" else (0,)
        return decide(p, self.task) if len(p) else np.zeros(shape, dtype=np.int64)

    def _scores_of(self, member: TextClassifier, scores: ScoresOf, rows: int) -> ScoresOf:
        if scores is None or isinstance(scores, (str, os.PathLike)):
            return scores
        given = np.asarray(scores, dtype=np.float32)
        shape = (rows, len(self.scorers), len(self.labels))
        if rows and given.shape != shape:
            raise ConfigurationError(
                f"scores have the shape {given.shape}; {rows} texts, {shape[1]} scorers {self.scorers} and {shape[2]} labels "
                f"need {shape}. Way out: NaN where a scorer gave none, or None without scores."
            )
        places = [self.scorers.index(scorer) for scorer in member.scorers]
        labels = [self.labels.index(label) for label in member.labels]
        return given[:, places][:, :, labels] if rows else None
