"""FixMatch and FreeMatch as ModSSC has them, on the frozen vectors that self-training learns from.

ModSSC (Barbaux & Boukir 2025, arXiv 2512.13228) is needed here alone: `pip install modssc==1.2.2`. It wants Python 3.11 and
NumPy below 2.4, so it does not go with `constraints.txt`. Methods, their settings, classifier and views are the library's. Its
documentation has for vectors of sentences: a layer of 128 units, noise as the weak view, a fifth of the features dropped as the
strong one. Its learning rate, 0.001, is too low for the 125 to 167 steps here: 0.01 was chosen on
validation rows (subset 1 of both events).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from benchmarks.cotraining_vectors import SPLITS, vectors_of
from benchmarks.fits import seeded
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.errors import MissingDependencyError

CONSISTENCY = {"FixMatch": "fixmatch", "FreeMatch": "free_match"}
"""By method of the benchmark: the library's name."""
NOISE, DROPPED = 0.01, 0.2
"""Standard deviation of the weak view's noise, share of a text's features that the strong view lacks."""
VIEWS, EPOCHS = 50, 1
"""Views of each text, and how often each is learned from."""


def consistency(data: ScoredTextDataModule, method: str, encoder: str, seed: int, kept: Path) -> dict[str, Any]:
    """Returns a cell of FixMatch or FreeMatch: gold rows and unlabelled texts, without an LLM's labels.

    Args:
        data: The rows.
        method: A key of `CONSISTENCY`.
        encoder: Whose vectors.
        seed: Of classifier, views and batches.
        kept: File of the event's vectors; written if it is not there.

    Raises:
        MissingDependencyError: ModSSC is not installed.
    """
    started = time.perf_counter(), time.process_time()
    vectors, labels = kept_vectors(data, encoder, kept)
    known = labels["train"] >= 0
    train = torch.from_numpy(vectors["train"])
    learner = learned(method, train[known], torch.from_numpy(labels["train"][known]), train[~known], len(data.labels), seed)
    made = {split: learner.predict(torch.from_numpy(vectors[split])).tolist() for split in ("validation", "test")}
    steps = EPOCHS * -(-VIEWS * int((~known).sum()) // (learner.spec.mu * learner.spec.batch_size))
    return {
        "system": made["test"],
        "labels": labels["test"].tolist(),
        "validation": {"system": made["validation"], "labels": labels["validation"].tolist()},
        "weights": {},
        "steps": steps,
        "seconds": time.perf_counter() - started[0],
        "cpu_seconds": time.process_time() - started[1],
    }


def learned(method: str, gold: torch.Tensor, labels: torch.Tensor, pool: torch.Tensor, k: int, seed: int) -> Any:
    """Returns the library's fitted method.

    Args:
        method: A key of `CONSISTENCY`.
        gold: (n, d) vectors.
        labels: (n,) their labels.
        pool: (m, d) vectors without labels.
        k: Number of labels.
        seed: Of classifier, views and batches.

    Raises:
        MissingDependencyError: ModSSC is not installed.
    """
    try:
        from modssc.data_augmentation import AugmentationContext, get_op, make_context_rng
        from modssc.inductive import DeviceSpec, InductiveDataset, get_method_class
        from modssc.inductive.deep import build_torch_bundle_from_classifier
        from modssc.inductive.methods.fixmatch import FixMatchSpec
        from modssc.inductive.methods.free_match import FreeMatchSpec
    except ImportError as error:
        raise MissingDependencyError(f"The method {method!r} needs ModSSC. Way out: pip install modssc==1.2.2.") from error

    seeded(seed)
    classifier = build_torch_bundle_from_classifier(
        classifier_id="mlp",
        classifier_backend="torch",
        classifier_params={"hidden_sizes": [128], "dropout": 0.1, "lr": 1e-2},
        sample=gold,
        num_classes=k,
        seed=seed,
        ema=False,
    )
    texts = pool.repeat(VIEWS, 1)
    views = []
    for number, operation in enumerate(
        (get_op("tabular.gaussian_noise", std=NOISE), get_op("tabular.feature_dropout", p=DROPPED))
    ):
        context = AugmentationContext(seed=seed, sample_id=number, modality="tabular")
        views.append(operation(texts, rng=make_context_rng(context), ctx=context))
    spec = FixMatchSpec if method == "FixMatch" else FreeMatchSpec
    learner = get_method_class(CONSISTENCY[method])(spec(model_bundle=classifier, max_epochs=EPOCHS))
    rows = InductiveDataset(X_l=gold, y_l=labels, X_u=texts, X_u_w=views[0], X_u_s=views[1])
    return learner.fit(rows, device=DeviceSpec("cpu"), seed=seed)


def kept_vectors(
    data: ScoredTextDataModule, encoder: str, kept: Path
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
    """Returns vectors (n, d) of length 1 and labels (n,), -1 where unknown, by split; an event's vectors are made once.

    Args:
        data: The rows.
        encoder: Whose vectors.
        kept: Where they lie from the first cell on.
    """
    if not kept.exists():
        np.savez(kept, **vectors_of(data, encoder)[0])
    data.setup("fit")
    data.setup("test")
    with np.load(kept) as found:
        vectors = {split: normalize(found[split]) for split in SPLITS}
    return vectors, {split: data.scores_and_labels(split)[2].numpy() for split in SPLITS}
