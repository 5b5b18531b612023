"""The fusion against other packages' way with few labels: the same texts, labels, LLM scores and test rows for all.

    python -m benchmarks.peers

* `tfidf`: words and pairs of words, logistic regression (scikit-learn), its strength by cross-validation.
* `setfit`: SetFit (`pip install setfit`) on the packaged MiniLM, its defaults; left out where it is not installed.
* `stacking`: scikit-learn's StackingClassifier over TF-IDF, MiniLM's vectors and the LLM's log-probabilities, each with a
  logistic regression, five folds.
* `zero_shot`: the LLM's most probable label, no labels used.
* `fusion`: ours, as in the quick start.

Everyone but `zero_shot` has all 2 n labels: the fusion n train and n validation rows of each class, the others fit on both.
Cells: BBC News with 8 labels a class, the very rows of the quick start, and Rotten Tomatoes with 32, those of
`fusion_low_data`. Seconds are of processor time in one thread, from texts on: vectors and tokens are computed within, the LLM's
scores are there for all.

What is done is kept (by cell, seed and peer), so that a stopped run goes on; `--fresh` begins anew.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.fits import Fit, fit, mean_difference, over_seeds, seeded, work_folder
from benchmarks.fusion_low_data import ENCODER, data_of, model_of, rotten_tomatoes, vectors_of
from benchmarks.quickstart import quickstart
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.packaged import locate
from lf_lightning.systems import FusionLightningModule

PEERS = ("zero_shot", "tfidf", "setfit", "stacking", "fusion")
FEWER_SEEDS = {"setfit": 3}
"""A fit of it takes minutes, so it has the first so many seeds; gaps are then those of these seeds."""
CELLS = ("bbc_news_8", "rotten_tomatoes_32")
Array = NDArray[Any]


@dataclass
class Rows:
    """What a peer is given.

    Attributes:
        texts: Of all labelled rows, then of all test rows.
        labels: (n,) int64 of the labelled rows.
        scores: (rows, K) of the LLM, in the order of `texts`.
        vectors: Computes MiniLM's vectors of some rows.
        data: Ours.
        model: Ours, not fitted.
        seed: Of everything.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    scores: Array
    vectors: Callable[[], Array]
    data: ScoredTextDataModule
    model: FusionLightningModule
    seed: int

    @property
    def known(self) -> int:
        """The number of labelled rows."""
        return len(self.labels)


def rows_of(cell: str, seed: int, frames: dict[str, Any]) -> tuple[Rows, NDArray[np.int64]]:
    """Returns what peers are given, and the labels of the test rows.

    Args:
        cell: One of `CELLS`.
        seed: Of the labelled rows and of all weights.
        frames: Tables that were read before, which grow.
    """
    if cell == "bbc_news_8":
        data, model = quickstart(seed)
    else:
        if cell not in frames:
            frames[cell] = rotten_tomatoes()
        data = data_of(frames[cell], "rotten_tomatoes", 32, seed)
        model = model_of(data, seed)
    splits = ("train", "validation", "test")
    sides = {split: data.scores_and_labels(split) for split in splits}  # type: ignore[arg-type]
    scores = np.concatenate([sides[split][0][:, 0].double().numpy() for split in splits])
    labels = np.concatenate([sides[split][2].numpy() for split in ("train", "validation")])
    texts = [text for split in splits for text in data.texts(split)]  # type: ignore[arg-type]

    def vectors() -> Array:
        return np.concatenate([vectors_of(data, model, split, {}) for split in splits])  # type: ignore[arg-type]

    return Rows(texts, labels, scores, vectors, data, model, seed), sides["test"][2].numpy()


def zero_shot(rows: Rows) -> Array:
    return rows.scores[rows.known :]


def tfidf(rows: Rows) -> Array:
    return _words(rows).fit(rows.texts[: rows.known], rows.labels).predict_proba(rows.texts[rows.known :])


def _words(rows: Rows) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=rows.seed)
    grid = {"logisticregression__C": [0.1, 1.0, 10.0, 100.0]}
    return GridSearchCV(make_pipeline(words, LogisticRegression(max_iter=5000)), grid, cv=folds, scoring="neg_log_loss")


def stacking(rows: Rows) -> Array:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import StackingClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline

    vectors = rows.vectors()
    dim, k = vectors.shape[1], rows.scores.shape[1]
    table = np.empty((len(rows.texts), 1 + dim + k), dtype=object)
    table[:, 0], table[:, 1 : 1 + dim], table[:, 1 + dim :] = rows.texts, vectors, np.log(rows.scores.clip(1e-4))

    def member(step: Any, columns: Any) -> Any:
        return make_pipeline(ColumnTransformer([("part", step, columns)]), LogisticRegression(max_iter=5000))

    members = [
        ("words", member(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), 0)),
        ("vectors", member("passthrough", list(range(1, 1 + dim)))),
        ("llm", member("passthrough", list(range(1 + dim, 1 + dim + k)))),
    ]
    folds = StratifiedKFold(5, shuffle=True, random_state=rows.seed)
    made = StackingClassifier(members, LogisticRegression(max_iter=5000), cv=folds, stack_method="predict_proba")
    return made.fit(table[: rows.known], rows.labels).predict_proba(table[rows.known :])


def setfit(rows: Rows) -> Array:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    made = SetFitModel.from_pretrained(locate(ENCODER), local_files_only=True)
    table = Dataset.from_dict({"text": rows.texts[: rows.known], "label": rows.labels.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, seed=rows.seed, report_to="none", save_strategy="no", show_progress_bar=False
        )
        Trainer(model=made, args=arguments, train_dataset=table).train()
    return np.asarray(made.predict_proba(rows.texts[rows.known :], as_numpy=True), dtype=float)


def fusion(rows: Rows) -> Fit:
    return fit(rows.data, rows.model)


METHODS: dict[str, Callable[[Rows], Array | Fit]] = {
    "zero_shot": zero_shot,
    "tfidf": tfidf,
    "setfit": setfit,
    "stacking": stacking,
    "fusion": fusion,
}


def done_by(peer: str, rows: Rows, file: Path) -> dict[str, Array]:
    """Returns a peer's test probabilities (n, K), decisions (n,) and seconds, from the file if it is there.

    Args:
        peer: One of `PEERS`.
        rows: What it is given.
        file: Where it is kept.
    """
    if not file.exists():
        seeded(rows.seed)
        begin = time.process_time()
        made = METHODS[peer](rows)
        seconds = time.process_time() - begin
        probabilities = made.test["fusion"] if isinstance(made, Fit) else made
        decisions = made.decisions["fusion"] if isinstance(made, Fit) else made.argmax(1)
        half = file.with_suffix(".half.npz")
        np.savez(half, probabilities=probabilities, decisions=decisions, seconds=seconds)
        half.replace(file)
    with np.load(file) as kept:
        return {name: kept[name] for name in kept.files}


def cell_of(found: dict[str, list[dict[str, Array]]], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Returns each peer's figures over the seeds, and the fusion's distance to it with a paired 95 % interval.

    Args:
        found: What `done_by` returned, by peer, one for each seed, or for the first of them.
        labels: (n,) of the test rows.
    """

    def fits(seeds: int) -> list[Fit]:
        both = {peer: kept[:seeds] for peer, kept in found.items() if len(kept) >= seeds}
        return [
            Fit(
                {peer: kept[s]["probabilities"] for peer, kept in both.items()},
                {peer: kept[s]["decisions"] for peer, kept in both.items()},
                labels,
                "fusion",
            )
            for s in range(seeds)
        ]

    return {
        "test_rows": len(labels),
        "peers": {
            peer: {
                **over_seeds(labels, [said["probabilities"] for said in kept], [said["decisions"] for said in kept]),
                "cpu_seconds": round(float(np.median([float(said["seconds"]) for said in kept])), 2),
                "seeds": len(kept),
            }
            for peer, kept in found.items()
        },
        "fusion_minus": {
            peer: {metric: mean_difference(fits(len(kept)), peer, metric) for metric in ("accuracy", "macro_f1")}
            for peer, kept in found.items()
            if peer != "fusion"
        },
    }


def main() -> None:
    """Runs what is not there yet, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS, help="fusion is always among them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers.json"))
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    wanted = [peer for peer in PEERS if peer in options.peers or peer == "fusion"]
    left_out = {"setfit": "not installed"} if "setfit" in wanted and find_spec("setfit") is None else {}
    wanted = [peer for peer in wanted if peer not in left_out]
    cells: dict[str, Any] = {}
    frames: dict[str, Any] = {}
    for cell in options.cells:
        found: dict[str, list[dict[str, Array]]] = {peer: [] for peer in wanted}
        for number, seed in enumerate(options.seeds):
            rows, labels = rows_of(cell, seed, frames)
            for peer in wanted:
                if number >= FEWER_SEEDS.get(peer, number + 1):
                    continue
                file = work_folder("peers") / f"{cell}-{seed}-{peer}.npz"
                if options.fresh:
                    file.unlink(missing_ok=True)
                found[peer].append(done_by(peer, rows, file))
                right = (found[peer][-1]["decisions"] == labels).mean()
                print(f"{cell} seed {seed} {peer}: {right:.3f} in {float(found[peer][-1]['seconds']):.1f} CPU s", flush=True)
        cells[cell] = cell_of(found, labels)
    every = [gap["accuracy"] for cell in cells.values() for gap in cell["fusion_minus"].values()]
    chosen = [f" --{name} {' '.join(map(str, given))}" for name, given, default in (
        ("cells", options.cells, list(CELLS)),
        ("peers", options.peers, list(PEERS)),
    ) if given != default]  # fmt: skip
    record.write(
        options.out,
        f"Fusion minus its peers in accuracy, {len(every)} comparisons: significantly above in "
        f"{sum(gap['low'] > 0 for gap in every)}, significantly below in {sum(gap['high'] < 0 for gap in every)}.",
        {"cells": cells, "left_out": left_out},
        f"python -m benchmarks.peers{''.join(chosen)}",
        options.seeds,
    )


if __name__ == "__main__":
    main()
