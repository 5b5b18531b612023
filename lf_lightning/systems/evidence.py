"""Out-of-sample opinions of the encoder on train rows: which rows each phase may see, and what was said of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lf_lightning.contract import Phase, RowsData
from lf_lightning.errors import ConfigurationError

EvidenceMode = Literal["crossfit", "holdout", "joint"]


class HeldOut(NamedTuple):
    """The head's evidence for calibrators and decision rules: n train and validation rows, as if nothing was fitted on them.

    Its classes are as frequent as among the validation rows.

    Attributes:
        members: (n, M + 1, K).
        present: (n, M + 1) bool.
        labels: (n,) or (n, K).
        correction: (n, K), added to the head's logits: those held out less those fitted, when the head began.
        references: (R, n, K) logits of the reference combinations, held out.
    """

    members: Tensor
    present: Tensor
    labels: Tensor
    correction: Tensor
    references: Tensor


class EncoderEvidence:
    """The plan of a fusion fit, and the encoder's logits on rows that it was not fitted on.

    `crossfit`: as many encoders as folds, each fitted without its fold, say what the head learns from; then one encoder on
    all rows. `holdout`: one encoder on a share of the rows; the head learns from the rest. `joint`: encoder and head together
    on all rows (the paper's way: the head sees the encoder on rows that it was fitted on).

    Args:
        mode: One of the three.
        folds: Number of folds of `crossfit`, at least 2.
        holdout: Share of the rows that `holdout` keeps for the head, to the nearest hundredth.
        encoder_epochs: Epochs of each encoder.
        head_epochs: Epochs of the head.
        seed: Fixes the folds.
    """

    def __init__(
        self, mode: EvidenceMode, folds: int, holdout: float, encoder_epochs: int, head_epochs: int, seed: int
    ) -> None:
        if folds < 2:
            raise ConfigurationError(f"folds={folds}: cross-fitting needs 2 at least. Way out: folds: 5, or evidence: holdout.")
        if not 0.01 <= holdout <= 0.99:
            raise ConfigurationError(f"holdout={holdout} is not within [0.01, 0.99]. Way out: 0.2.")
        for name, value in (("encoder_epochs", encoder_epochs), ("head_epochs", head_epochs)):
            if value < 1:
                raise ConfigurationError(f"{name}={value}. Way out: 1 or more.")
        self.mode, self.folds, self.holdout = mode, folds, holdout
        self.encoder_epochs, self.head_epochs, self.seed = encoder_epochs, head_epochs, seed
        self.logits: Tensor | None = None
        """(N, K) float32 over the train split; a row of NaN where the encoder has not spoken out of sample."""
        self.held_out: HeldOut | None = None
        self.shift: Tensor | None = None
        """(K,) `calibration.share_shift` of the train rows, once the head has begun; None: there is none."""

    def plan(self) -> list[Phase]:
        """Returns the phases of a fit with a head."""
        if self.mode == "joint":
            return [Phase("joint", self.encoder_epochs)]
        head = Phase("head", self.head_epochs)
        if self.mode == "holdout":
            return [Phase("encoder", self.encoder_epochs), head]
        folds = [Phase(f"fold {k + 1}/{self.folds}", self.encoder_epochs) for k in range(self.folds)]
        return [*folds, Phase("encoder", self.encoder_epochs), head]

    def rows_of(self, position: int, data: RowsData) -> Tensor | None:
        """Returns the train rows (n,) that phase `position` is fitted on, or None for all."""
        if self.mode == "holdout":
            kept = self._held_out(0, data)
            return _where(kept if position == 1 else ~kept)
        if self.mode == "crossfit" and position < self.folds:
            return _where(~self._held_out(position, data))
        return None

    def rows_after(self, position: int, data: RowsData) -> Tensor | None:
        """Returns the train rows (n,) that the encoder of phase `position` speaks of out of sample, or None."""
        spoken = (self.mode == "crossfit" and 0 <= position < self.folds) or (self.mode == "holdout" and position == 0)
        return _where(self._held_out(position, data)) if spoken else None

    def add(self, rows: Tensor, logits: Tensor, total: int) -> None:
        """Keeps logits (n, K) of train rows (n,), of `total` rows in the split."""
        if self.logits is None:
            self.logits = torch.full((total, logits.shape[-1]), torch.nan)
        self.logits[rows] = logits.float().cpu()

    def state(self) -> dict[str, Any]:
        """Plain values and tensors for the checkpoint."""
        return {"logits": self.logits, "held_out": self.held_out and self.held_out._asdict(), "shift": self.shift}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self.logits, self.shift = state["logits"], state.get("shift")
        self.held_out = HeldOut(**state["held_out"]) if state["held_out"] else None

    def _held_out(self, fold: int, data: RowsData) -> Tensor:
        if self.mode == "crossfit":
            return data.folds(self.folds, self.seed) == fold
        share = Fraction(self.holdout).limit_denominator(100)
        return data.folds(share.denominator, self.seed) < share.numerator


def _where(rows: Tensor) -> Tensor:
    return rows.nonzero().flatten()
