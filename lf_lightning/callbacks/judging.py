"""A split's outputs as probabilities and decisions, of the system and of its members: what every callback here reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from lf_lightning.calibration import probabilities
from lf_lightning.contract import Outputs, Split, Task
from lf_lightning.errors import NotFiniteError
from lf_lightning.losses import labelled
from lf_lightning.metrics import decide, evaluate

SYSTEM = "system"
"""The name of the system itself among its members."""

Figures: TypeAlias = dict[str, dict[str, float]]
"""`metrics.evaluate` and `rows`, by name: `system`, then the members."""


@dataclass(frozen=True)
class Opinion:
    """What the system, or one member, says of n rows and K labels.

    Attributes:
        probabilities: (n, K) float64, calibrated; rows of NaN without an opinion.
        decisions: (n,) int64 class numbers, or (n, K) of 0 and 1; -1 without an opinion.
        known: (n,) bool, rows with an opinion.
    """

    probabilities: NDArray[np.float64]
    decisions: NDArray[np.int64]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """A split as the system and its members judge it: n rows, each once, sorted by index.

    Attributes:
        task: Multi-class or multi-label.
        labels: The K label names.
        index: (n,) int64, the rows' numbers within their split.
        truth: (n,) int64 class numbers, or (n, K) of 0 and 1; -1 where unlabelled.
        labelled: (n,) bool.
        uncalibrated: (n, K) float64, the system's probabilities before calibration.
        opinions: By name: `system` first, then the members that there are.
    """

    task: Task
    labels: list[str]
    index: NDArray[np.int64]
    truth: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    uncalibrated: NDArray[np.float64]
    opinions: dict[str, Opinion]

    @property
    def system(self) -> Opinion:
        """The system's opinion; it has one on every row."""
        return self.opinions[SYSTEM]

    @property
    def members(self) -> dict[str, Opinion]:
        """The members' opinions."""
        return {name: opinion for name, opinion in self.opinions.items() if name != SYSTEM}


def judge(module: LightningModule, split: Split) -> Judged | None:
    """Returns how `module` judges a split, from `module.evaluated[split]`; None if it was not evaluated or has no row.

    Decisions are by `module.decision` (the plug-in rule or thresholds), and by `module.member_decisions` for the members; where
    there is none, the most probable label, or every label at 0.5.

    Args:
        module: With `evaluated`, `labels`, `task`, `calibrator`, `decision`, `member_names` and `member_calibrators`.
        split: Which.

    Raises:
        NotFiniteError: A logit of the system is not finite, or a member's is not, though others in its row are.
        NotFittedError: The calibrators or decisions have not been fitted.
    """
    system: Any = module
    outputs: Outputs | None = system.evaluated.get(split)
    return None if outputs is None or not len(outputs.index) else judge_outputs(module, outputs, split)


def judge_outputs(module: LightningModule, outputs: Outputs, where: str) -> Judged:
    """Returns how `module` judges the rows of `outputs`; see `judge`.

    Args:
        module: As for `judge`; `evaluated` is not read.
        outputs: Of n rows, on the CPU.
        where: What rows they are, for error messages: `test`, `predict`.

    Raises:
        NotFiniteError: See `judge`.
        NotFittedError: See `judge`.
    """
    system: Any = module
    logits, task = outputs.logits.float(), system.task
    finite = torch.isfinite(logits).all(-1)
    if not finite.all():
        raise NotFiniteError(
            f"The logits of {int((~finite).sum())} of {len(finite)} {where} rows are NaN or infinite, the first is row "
            f"{int(outputs.index[~finite][0])}. "
            "Way out: a smaller learning rate, trainer.gradient_clip_val: 1.0, or precision 32-true."
        )
    known = labelled(outputs.labels)
    shown = known if outputs.labels.ndim == 1 else known.unsqueeze(-1)
    opinions = {SYSTEM: _opinion(logits, system.calibrator, system.decision, module.device, task)}
    rules = getattr(system, "member_decisions", None)
    for position, (name, calibrator) in enumerate(zip(system.member_names, system.member_calibrators, strict=True)):
        if name in outputs.members:
            own = outputs.members[name].float()
            _check_rows(own, name, where)
            opinions[name] = _opinion(own, calibrator, rules[position] if rules else None, module.device, task)
    return Judged(
        task,
        list(system.labels),
        outputs.index.numpy(),
        outputs.labels.masked_fill(~shown, -1).long().numpy(),
        known.numpy(),
        probabilities(logits.double(), task).numpy(),
        opinions,
    )


def figures_of(judged: Judged) -> Figures:
    """Returns the numbers of the system and of each member on the labelled rows that it has an opinion on; `rows` counts them.

    A member without any such row has no figures, and no one has where no row is labelled.
    """
    figures: Figures = {}
    for name, opinion in judged.opinions.items():
        rows = judged.labelled & opinion.known
        if rows.any():
            numbers = evaluate(opinion.probabilities[rows], judged.truth[rows], judged.task, opinion.decisions[rows])
            figures[name] = {**numbers, "rows": float(rows.sum())}
    return figures


def label_cells(table: NDArray[np.int64], labels: Sequence[str], separator: str = "|") -> list[str]:
    """Returns decisions or true labels (n,) or (n, K) as names; '' where there is none, several joined by `separator`.

    Example:
        >>> label_cells(np.array([1, -1]), ["a", "b"]), label_cells(np.array([[1, 1], [0, 0]]), ["a", "b"])
        (['b', ''], ['a|b', ''])
    """
    if table.ndim == 1:
        return ["" if number < 0 else labels[number] for number in table.tolist()]
    return [separator.join(labels[k] for k, given in enumerate(row.tolist()) if given > 0) for row in table]


def texts_of(trainer: Trainer, split: Split, index: NDArray[np.int64]) -> list[str] | None:
    """Returns the texts of rows (n,) of a split, None if the data cannot tell them."""
    texts = getattr(getattr(trainer, "datamodule", None), "texts", None)
    if not callable(texts):
        return None
    all_texts = texts(split)
    return [str(all_texts[row]) for row in index.tolist()]


def original_rows(trainer: Trainer, split: Split, index: NDArray[np.int64]) -> list[Any]:
    """Returns the numbers of rows (n,) in the table that they came from; within the split if the data cannot tell."""
    ids = getattr(getattr(trainer, "datamodule", None), "split_ids", None)
    found = ids.get(split) if isinstance(ids, Mapping) else None
    if found is None:
        return [int(row) for row in index.tolist()]
    return [found[row].item() if hasattr(found[row], "item") else found[row] for row in index.tolist()]


def _opinion(logits: Tensor, calibrator: Any, rule: Any, device: torch.device, task: Task) -> Opinion:
    known = torch.isfinite(logits).all(-1)
    # Double precision on the CPU: some devices have none, and a sum over labels in single precision is not 1.
    p = probabilities(calibrator(logits.to(device)).cpu().double(), task)
    decisions = torch.full(logits.shape[:1] if task == "multiclass" else logits.shape, -1)
    decisions[known] = decisions_of(p[known], rule, device, task)
    return Opinion(p.numpy(), decisions.numpy(), known.numpy())


def decisions_of(p: Tensor, rule: Any, device: torch.device, task: Task) -> Tensor:
    """Returns the decisions (n,) or (n, K), on the CPU, of probabilities (n, K) by a system's rule; None: the plain one."""
    return torch.from_numpy(decide(p, task)) if rule is None else rule.decide(p.float().to(device)).cpu()


def _check_rows(logits: Tensor, name: str, where: str) -> None:
    broken = ~torch.isfinite(logits).all(-1) & ~torch.isnan(logits).all(-1)
    if broken.any():
        raise NotFiniteError(
            f"The logits of member {name!r} are partly NaN or infinite in {int(broken.sum())} {where} rows. "
            "Way out: a row without an opinion is NaN throughout; any other is finite."
        )
