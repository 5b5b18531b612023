"""Rows of question, answer and reason, as batches for a causal language model that learns to write the reason."""

from __future__ import annotations

import warnings
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lf_lightning.data.batches import TrainLoader, ranks, resume_point
from lf_lightning.data.packing import PackedBatchSampler
from lf_lightning.data.preparation import Source
from lf_lightning.data.tables import read_table
from lf_lightning.data.tokenizer import load_tokenizer
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.generation import ANSWER_CUE, REASON_CUE

NOT_LEARNT = -100


class ReasonBatch(TypedDict):
    """A batch of B sequences of T tokens, each of one row or of several."""

    input_ids: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64, the token where it is to be learnt (the reason and its end), else -100."""
    position_ids: Tensor
    """(B, T) int64, from 0 in each row."""
    segments: Tensor
    """(B, T) int64, the number of the row within the sequence from 1; 0 behind the last."""


class ReasonRowsDataModule(LightningDataModule):
    """Rows of question, answer and reason: `question, cue, answer, cue, **reason**, end`, of which the reason is learnt.

    Rows in which a cell is empty are left out, as are rows whose answer and reason alone have more than `max_length` tokens; a
    longer question is cut. Both are counted.

    Args:
        train: Source of the rows: CSV, TSV, JSONL, Parquet, `hf:NAME:SPLIT`, `package:NAME/PATH`, or a data frame.
        validation: Source of the validation rows.
        tokenizer: Hub name, folder or .gguf file, the same as the model's (linked to it).
        question_column: Column of the question, for a classifier the text.
        answer_column: Column of the answer, for a classifier the label.
        reason_column: Column of the reason.
        validation_share: Share of the train source cut as validation rows if they have no source.
        without_answer: Share of the rows that are learnt without their answer, so that the writer can do without it, too.
        answer_cue: What stands before an answer.
        reason_cue: What stands before a reason.
        max_length: Tokens of a sequence.
        packing: Put several rows into a sequence (none sees another); else rows of similar length share a batch.
        batch_size: Sequences in a batch, on each device.
        seed: Fixes the validation rows, the rows without an answer and the order.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    def __init__(
        self,
        train: Source = None,
        validation: Source = None,
        tokenizer: str = "HuggingFaceTB/SmolLM2-135M",
        question_column: str = "question",
        answer_column: str = "answer",
        reason_column: str = "reason",
        validation_share: float = 0.05,
        without_answer: float = 0.0,
        answer_cue: str = ANSWER_CUE,
        reason_cue: str = REASON_CUE,
        max_length: int = 512,
        packing: bool = True,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, share in {"validation_share": validation_share, "without_answer": without_answer}.items():
            if not 0 <= share < 1:
                raise ConfigurationError(f"{name}={share}: at least 0 and below 1.")
        if max_length < 8 or batch_size < 1:
            raise ConfigurationError(f"max_length={max_length}: at least 8. batch_size={batch_size}: at least 1.")
        self._sources = {"train": train, "validation": validation}
        self._tokenizer_name, self._columns = tokenizer, [question_column, answer_column, reason_column]
        self._validation_share, self._without_answer = validation_share, without_answer
        self._cues = [answer_cue, reason_cue]
        self._max_length, self._packing, self._batch_size, self._seed = max_length, packing, batch_size, seed
        self._rows: dict[str, ReasonRows] = {}

    def setup(self, stage: str | None = None) -> None:
        """Reads and tokenises, once."""
        warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers", category=UserWarning)
        if self._rows:
            return
        tables = {name: self._table(name) for name, source in self._sources.items() if source is not None}
        if "train" not in tables:
            raise ConfigurationError("train: give a source of rows.")
        if "validation" not in tables and self._validation_share:
            order = np.random.default_rng(self._seed).permutation(len(tables["train"]))
            cut = max(1, round(self._validation_share * len(order)))
            tables["validation"] = tables["train"].iloc[np.sort(order[:cut])]
            tables["train"] = tables["train"].iloc[np.sort(order[cut:])]
        tokenizer = load_tokenizer(self._tokenizer_name)
        self._rows = {name: self._tokenized(name, table, tokenizer) for name, table in tables.items()}

    def train_dataloader(self) -> TrainLoader:
        """Returns the loader of the epoch that comes next; after a restart within an epoch, of its remaining batches."""
        trainer: Any = self.trainer
        rank, world = ranks(trainer)
        epoch, skip = (0, 0) if trainer is None else resume_point(trainer.fit_loop)
        rows = self._rows["train"]
        if trainer is not None and trainer.overfit_batches:
            epoch, skip = 0, 0
        sampler = PackedBatchSampler(rows.lengths, self._capacity, self._batch_size, self._seed, epoch, skip, rank, world)
        loader: Any = TrainLoader  # of batches, whatever they are
        found: TrainLoader = loader(rows, batch_size=None, sampler=sampler, **_OPTIONS, generator=_generator())
        return found

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Returns the validation loader, or none if there are no validation rows."""
        if "validation" not in self._rows:
            return []
        rank, world = ranks(self.trainer)
        rows = self._rows["validation"]
        sampler = PackedBatchSampler(rows.lengths, self._capacity, self._batch_size, self._seed, 0, 0, rank, world)
        return DataLoader(rows, batch_size=None, sampler=sampler, **_OPTIONS, generator=_generator())

    @property
    def _capacity(self) -> int | None:
        return self._max_length if self._packing else None

    def _table(self, name: str) -> pd.DataFrame:
        table = read_table(self._sources[name], name)  # type: ignore[arg-type]  # None was sorted out
        missing = [column for column in self._columns if column not in table.columns]
        if missing:
            known = ", ".join(map(str, table.columns))
            raise ConfigurationError(
                f"{name}: there is no column {missing[0]!r}. Its columns: {known}. Way out: data.question_column, "
                "data.answer_column, data.reason_column."
            )
        return table[self._columns]

    def _tokenized(self, name: str, table: pd.DataFrame, tokenizer: Any) -> ReasonRows:
        cells = [[cell if isinstance(cell, str) else "" for cell in table[column]] for column in self._columns]
        whole = [row for row in zip(*cells, strict=True) if all(map(str.strip, row))]
        hidden = np.random.default_rng([self._seed, len(whole)]).random(len(whole)) < self._without_answer
        plain = {"add_special_tokens": False, "return_attention_mask": False}
        answer_cue, reason_cue = tokenizer(self._cues, **plain)["input_ids"]
        start, end = _around(tokenizer)
        questions, answers, reasons = (
            tokenizer([f"{space}{' '.join(row[k].split()) if k else row[k]}" for row in whole], **plain)["input_ids"]
            if whole
            else []
            for k, space in ((0, ""), (1, " "), (2, " "))
        )
        rows: list[tuple[list[int], int]] = []
        cut = 0
        for question, answer, reason, without in zip(questions, answers, reasons, hidden, strict=True):
            middle = [*([] if without else [*answer_cue, *answer]), *reason_cue]
            room = self._max_length - len(start) - len(middle) - len(reason) - 1
            if room < 1:
                continue
            cut += len(question) > room
            prefix = [*start, *question[:room], *middle]
            rows.append(([*prefix, *reason, end], len(prefix)))
        if not rows:
            raise DataError(f"{name}: none of {len(table)} rows has a question, an answer and a reason of at most max_length.")
        rank_zero_info(
            f"{name}: {len(rows)} rows with a reason, {int(hidden.sum())} without their answer, {cut} with a shortened "
            f"question; left out: {len(table) - len(whole)} with an empty cell, {len(whole) - len(rows)} too long."
        )
        return ReasonRows(rows)


class ReasonRows(Dataset[ReasonBatch]):
    """Tokenised rows in memory; an item is a whole batch.

    Args:
        rows: For each, its tokens, and where the part begins that is to be learnt.
    """

    def __init__(self, rows: list[tuple[list[int], int]]) -> None:
        self.rows = rows
        self.lengths: NDArray[np.int64] = np.array([len(ids) for ids, _ in rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, bins: list[list[int]]) -> ReasonBatch:
        """Returns the batch of these bins of rows."""
        width = max(int(self.lengths[packed].sum()) for packed in bins)
        batch: ReasonBatch = {
            "input_ids": torch.zeros(len(bins), width, dtype=torch.long),
            "targets": torch.full((len(bins), width), NOT_LEARNT),
            "position_ids": torch.zeros(len(bins), width, dtype=torch.long),
            "segments": torch.zeros(len(bins), width, dtype=torch.long),
        }
        for number, packed in enumerate(bins):
            place = 0
            for segment, row in enumerate(packed, start=1):
                ids, learnt = self.rows[row]
                here = slice(place, place + len(ids))
                batch["input_ids"][number, here] = torch.tensor(ids)
                batch["targets"][number, place + learnt : place + len(ids)] = torch.tensor(ids[learnt:])
                batch["position_ids"][number, here] = torch.arange(len(ids))
                batch["segments"][number, here] = segment
                place += len(ids)
        return batch


def _as_it_is(batch: ReasonBatch) -> ReasonBatch:
    return batch


_OPTIONS: dict[str, Any] = {"collate_fn": _as_it_is, "num_workers": 0, "pin_memory": torch.cuda.is_available()}


def _generator() -> torch.Generator:
    """Its own: a new iterator would draw a seed from torch's global one, and a resumed run would differ."""
    return torch.Generator().manual_seed(0)


def _around(tokenizer: Any) -> tuple[list[int], int]:
    """What the tokenizer puts before a text, and what ends one."""
    ends = [token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None]
    if not ends:
        raise ConfigurationError("The tokenizer has no token that ends a text (eos_token). Way out: another model.")
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    first = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:first], int(ends[0])
