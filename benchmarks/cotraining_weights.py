"""What weights of LLM labels can gain at most, and what co-training's gain: linear classifiers on frozen vectors.

    python -m benchmarks.cotraining_weights --data FOLDER

The three phases of co-training on HumAID with GPT-4o's labels, with only the classifiers learning, so that weightings can be
compared over all published subsets and several seeds in minutes. `truth` is no method: it leaves out every wrong label, about
the most that weights can do. Classifiers of all subsets and seeds are fitted side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks import record
from benchmarks.cotraining_cell import BATCH, ENCODER, data_of
from benchmarks.cotraining_figures import METRICS, interval, resampled
from benchmarks.cotraining_vectors import vectors_of
from benchmarks.fits import work_folder
from benchmarks.fusion_llm_labels import SETS, store_of
from lf_lightning.dynamics import even_by_label, swapped_weights
from lf_lightning.systems.pseudo_labels import llm_labels

WEIGHTINGS = ("weights = 1", "co-training", "co-training, even labels", "half weights = 1", "truth")
STEPS = (200, 450, 100)
LR = 1e-2


class Rows:
    """An event's rows for several fits side by side.

    Args:
        options: The command line's.
        event: Which event.
        size: Gold labels per class.
        found: Vectors and labels by split, as `vectors_of` returns them, and the LLM's labels (N,) of the train rows.
        truth: (N,) the true labels of the train rows.
    """

    def __init__(self, options: argparse.Namespace, event: str, size: int, found: Sequence[Any], truth: Tensor) -> None:
        vectors, labels, said = found
        self.vectors = {split: torch.from_numpy(v) for split, v in vectors.items()}
        self.labels = labels
        self.truth = truth
        self.classes = int(truth.max()) + 1
        self.replicates = [(subset, seed) for subset in options.subsets for seed in range(options.seeds)]
        marks = pd.read_csv(options.data / SETS[event][0] / "train.csv")
        given = [torch.from_numpy(marks[f"labeled_{size}_set{s}"].to_numpy() == 1) for s, _ in self.replicates]
        gold = [g.nonzero().flatten() for g in given]
        pool = [(~g & (said >= 0)).nonzero().flatten() for g in given]
        self.gold, self.pool = (torch.stack([r[: min(map(len, rows))] for r in rows]) for rows in (gold, pool))
        self.taught = torch.stack([torch.where(g, truth, said) for g in given])
        self.halves = torch.stack([self._halves(g, seed) for g, (_, seed) in zip(gold, self.replicates, strict=True)])

    def _halves(self, gold: Tensor, seed: int) -> Tensor:
        """Returns (N, 2): 2 at the rows of a net's half, else 0; each class is halved."""
        out = torch.zeros(len(self.truth), 2)
        draw = torch.Generator().manual_seed(seed)
        for label in range(self.classes):
            rows = gold[self.truth[gold] == label]
            rows = rows[torch.randperm(len(rows), generator=draw)]
            out[rows, (torch.arange(len(rows)) + label) % 2] = 2.0
        return out


class Pairs:
    """Two linear classifiers for each replicate, trained by AdamW's rule with gradients clipped net by net.

    Args:
        rows: The rows.
        seed: Of first weights, dropout and batches.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows = rows
        self.draw = torch.Generator().manual_seed(seed)
        dim = rows.vectors["train"].shape[1]
        bound = dim**-0.5
        shape = (len(rows.replicates), 2, rows.classes, dim + 1)  # the last column is the bias
        self.weight = (2 * torch.rand(shape, generator=self.draw) - 1) * bound
        self.vectors = {s: torch.cat([v, torch.ones(len(v), 1)], 1) for s, v in rows.vectors.items()}

    def probabilities(self, split: str) -> Tensor:
        """Returns (replicates, 2, n, K)."""
        p: Tensor = (self.vectors[split] @ self.weight.transpose(-1, -2)).softmax(-1)
        return p

    def learn(
        self,
        chosen: Tensor,
        counts: Callable[[int], Tensor],
        steps: int,
        lr: float,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Trains a phase: the learning rate rises over a tenth of it, then falls to 0.

        Args:
            chosen: (replicates, n) its rows.
            counts: From the epoch to what each row counts (replicates, N, 2).
            steps: About so many.
            lr: Learning rate.
            after: Called after each epoch.
        """
        batches = -(-chosen.shape[1] // BATCH)
        epochs = max(1, round(steps / batches))
        every, first, second = epochs * batches, torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        step, warm = 0, max(1, epochs * batches // 10)
        here = torch.arange(len(chosen)).unsqueeze(1)
        for epoch in range(epochs):
            weights = counts(epoch)
            order = torch.rand(chosen.shape, generator=self.draw).argsort(1)
            for batch in torch.split(chosen.gather(1, order), BATCH, 1):
                step += 1
                gradient = self._gradient(batch, self.rows.taught[here, batch], weights[here, batch])
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.square(), 0.001)
                rate = lr * min(step / warm, (every - step + 1) / max(1, every - warm))
                self.weight[..., :-1] *= 1 - rate * 0.01
                self.weight -= rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            after()

    def _gradient(self, batch: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        x = self.vectors["train"][batch].clone()  # (replicates, B, d + 1)
        x[..., :-1] *= (torch.rand(x[..., :-1].shape, generator=self.draw) > 0.1) / 0.9
        p = (x.unsqueeze(1) @ self.weight.transpose(-1, -2)).softmax(-1)
        p.scatter_add_(-1, labels[:, None, :, None].expand(-1, 2, -1, 1), -torch.ones(*p.shape[:-1], 1))
        slopes = p * counts.transpose(1, 2).unsqueeze(-1) / batch.shape[1]
        gradient: Tensor = slopes.transpose(-1, -2) @ x.unsqueeze(1)
        norm = gradient.square().sum((-1, -2), keepdim=True).sqrt()
        return gradient / norm.clamp(min=1.0)


def fitted(rows: Rows, weighting: str, seed: int) -> tuple[NDArray[np.int64], float, float]:
    """Returns the pairs' decisions of the test rows (replicates, n), and of the first weights area and mean.

    Args:
        rows: The rows.
        weighting: One of `WEIGHTINGS`; where no weights follow from gold rows, the steps of that phase go to co-training.
        seed: Of the classifiers.
    """
    told: list[Tensor] = []
    first, second, third = STEPS
    pairs = Pairs(rows, seed)
    right = rows.taught == rows.truth
    known: list[tuple[float, float]] = []

    def tell() -> None:
        said = pairs.probabilities("train").transpose(1, 2)
        told.append(said.gather(-1, rows.taught[:, :, None, None].expand(-1, -1, 2, 1)).squeeze(-1))

    def counts(epoch: int) -> Tensor:
        if weighting == "weights = 1":
            return torch.ones_like(rows.halves)
        if weighting == "truth":
            return right.float().unsqueeze(-1).expand(-1, -1, 2)
        history = torch.stack(told)
        c, v = history.mean(0), history.std(0, unbiased=False)
        weights = torch.stack([swapped_weights(*pair) for pair in zip(c, v, strict=True)])
        if weighting == "co-training, even labels":
            for r, pool in enumerate(rows.pool):
                weights[r, pool] = even_by_label(weights[r, pool], rows.taught[r, pool])
        elif weighting == "half weights = 1":
            weights = 0.5 + 0.5 * weights
        if not epoch:
            pools = [(right[r, pool], weights[r, pool, 0]) for r, pool in enumerate(rows.pool)]
            known.append((float(np.mean([roc_auc_score(*p) for p in pools])), float(np.mean([w.mean() for _, w in pools]))))
        return weights

    plain = weighting in ("weights = 1", "truth")
    if not plain:
        pairs.learn(rows.gold, lambda _: rows.halves, first, LR, tell)
        pairs = Pairs(rows, seed)
    pairs.learn(rows.pool, counts, second + plain * first, LR, (lambda: None) if plain else tell)
    pairs.learn(rows.gold, lambda _: rows.halves, third, 0.1 * LR)
    made = pairs.probabilities("test").mean(1).argmax(-1).numpy()
    return made, *(known[0] if known else (float("nan"), 1.0))


def main() -> None:
    """Fits all, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--events", nargs="+", default=["kaikoura", "canada"], choices=["kaikoura", "canada", "maria"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[50, 10], choices=[5, 10, 25, 50])
    parser.add_argument("--subsets", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, default=5, help="for each subset")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cotraining_weights.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells: dict[tuple[str, int, int], dict[str, Any]] = {}
    weights: dict[str, dict[str, list[float]]] = {}
    right: dict[str, float] = {}
    for event in options.events:
        where, validation, column, confidence, _ = SETS[event]
        store = work_folder("cotraining") / f"{event}_scores"
        if not store.exists():
            store_of(options.data / where, validation, column, confidence, store)
        data = data_of(event, options.sizes[0], 1, options.data, store)
        vectors, labels = vectors_of(data, ENCODER)
        scores, scored, _ = data.scores_and_labels("train")
        said, _ = llm_labels(scores, scored, "multiclass", False)
        names = {name: number for number, name in enumerate(data.labels)}
        table = pd.read_csv(options.data / where / "train.csv", usecols=["label"])
        truth = torch.tensor(table["label"].map(names).tolist())
        for size in options.sizes:
            rows = Rows(options, event, size, (vectors, labels, said), truth)
            pools = [float((rows.taught == truth)[r, pool].float().mean()) for r, pool in enumerate(rows.pool)]
            right[f"{event}_{size}"] = float(np.mean(pools))
            for weighting in WEIGHTINGS:
                made, area, mean = fitted(rows, weighting, 0)
                for subset in options.subsets:
                    mine = [r for r, (s, _) in enumerate(rows.replicates) if s == subset]
                    cell = cells.setdefault((event, size, subset), {"rows": {}, "truth": {"labels": labels["test"]}})
                    cell["rows"][weighting] = made[mine]
                if np.isfinite(area):
                    weights.setdefault(weighting, {})[f"{event}_{size}"] = [area, mean]
                accuracy = (made == labels["test"]).mean()
                print(
                    f"{event} {size} {weighting}: accuracy {accuracy:.3f}, area {area:.3f}, mean weight {mean:.2f}", flush=True
                )
    write_record(cells, weights, right, options)


def write_record(
    cells: dict[tuple[str, int, int], dict[str, Any]],
    weights: dict[str, dict[str, list[float]]],
    right: dict[str, float],
    options: argparse.Namespace,
) -> None:
    """Writes each weighting's figures and its difference to weights = 1, by number of gold labels."""
    tables: dict[str, Any] = {}
    for size in options.sizes:
        here = {key: {"truth": cell["truth"]} for key, cell in cells.items() if key[1] == size}
        draws = resampled(here, [cells[key]["rows"] for key in here], WEIGHTINGS)
        tables[f"{size} per class"] = {
            name: {
                metric: {
                    **interval(draws[name][metric]),
                    "minus weights = 1": interval(draws[name][metric] - draws["weights = 1"][metric]),
                }
                for metric in METRICS
            }
            for name in WEIGHTINGS
        }
    said = [
        f"{size}: co-training {100 * t['co-training']['macro_f1']['minus weights = 1']['mean']:+.1f}, "
        f"truth {100 * t['truth']['macro_f1']['minus weights = 1']['mean']:+.1f}"
        for size, t in tables.items()
    ]
    figures = {"seeds_for_each_subset": options.seeds, "tables": tables, "weights": weights, "right_labels": right}
    claim = f"Over weights = 1, macro-F1 in points on frozen vectors. {'; '.join(said)}."
    record.write(options.out, claim, figures, "python -m benchmarks.cotraining_weights --data FOLDER", options.subsets)


if __name__ == "__main__":
    main()
