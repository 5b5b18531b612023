"""The data module: texts, labels and cached scores of LLMs, as batches."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader

from lf_lightning.contract import Batch, PhasedSystem, Split, Task
from lf_lightning.data.batches import TokenizedRows, evaluation_loader, ranks, resume_point, train_loader
from lf_lightning.data.labels import EmptyLabel, LabelReader, check_names, class_counts
from lf_lightning.data.preparation import Preparation, Source, SplitPlan
from lf_lightning.data.sampling import LengthGroupedBatchSampler, Rows, evaluation_order
from lf_lightning.data.scores import OnMissing, ScoreSource
from lf_lightning.data.splits import blocked_folds, stratified_folds, text_groups
from lf_lightning.data.tokenizer import load_tokenizer, tokenize
from lf_lightning.errors import ConfigurationError

_SPLITS: tuple[Split, ...] = ("train", "validation", "test", "predict")
_STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}


class ScoredTextDataModule(LightningDataModule):
    """Texts with labels and with the scores that LLMs gave them.

    A source is a CSV, TSV, JSONL or Parquet file, a folder of `<label>/*.txt`, `hf:NAME:SPLIT`, `package:NAME/PATH`, or a
    data frame.

    Args:
        train: Source of the train rows; validation and test rows are cut from it where they have no source.
        validation: Source of the validation rows.
        test: Source of the test rows.
        predict: Source of the rows to predict; its labels are not read.
        tokenizer: Hub name, local folder or `package:NAME/PATH`, the same as the encoder's (linked to it).
        text_columns: The text column, or several, joined with a newline; scores are found by the SHA-256 of that exact text.
        label_column: Column with a label, or in multi-label several joined by `label_separator` or as a list.
        label_columns: One column of 0 and 1 for each label, instead of `label_column`.
        label_separator: Between the labels of a multi-label cell.
        empty_label: An empty multi-label cell says that no label applies (none) or that nobody looked (unlabelled).
        task: One label a row (multiclass) or any number (multilabel).
        labels: The label names in order; None: those of the train source, sorted.
        allow_absent_classes: Accept labels that no train row has.
        validation_share: Share of the train source's labelled rows cut as validation rows if they have no source; 0: none.
        test_share: Share cut as test rows if they have no source; 0: none.
        split_seed: Fixes which rows are cut, apart from `seed`, so that several seeds are tested on the same rows.
        fold_order: Folds of even classes (stratified), or runs of consecutive rows (blocked) for rows in order of time.
        labelled_column: Column of 0 and 1 in the train source; rows with 0 are unlabelled, and their labels are not read.
        labels_per_class: Keep so many labelled train rows of each label; the others become unlabelled.
        labelled_fraction: Keep this share of the labelled train rows; the others become unlabelled.
        validation_labels_per_class: Keep so many validation rows of each label.
        keep_unlabelled: Keep unlabelled train rows, for systems that learn from them.
        seed: Fixes the labelled subset and the order of the batches.
        drop_duplicates: Drop train rows whose text came before, white space aside, before anything is cut.
        max_words: Keep a text's first so many words; the scores must have been made on the same words.
        scores: Folder of a score store, `package:` allowed; None: no scores.
        scorers: Names or fingerprints of the scorers to join; None: all in the store, by name.
        reasons: Folder of a score store with reasons for the train rows (lf reason); None: those that came with the scores.
        reason_writers: Names or fingerprints of the scorers there whose reasons are taken; None: all.
        on_missing: Rows that are not scored stop the run (error), are marked (mask), or go (drop, in every split).
        class_weights: Weights of the labels in the loss; balanced makes rare labels count as much as frequent ones.
        max_length: Longer texts are cut to so many tokens (or the tokenizer's own limit, if lower).
        batch_size: Train rows in a batch, on each device.
        eval_batch_size: Rows in a batch elsewhere, on each device.
        num_workers: Worker processes; batches come from memory, so 0 is fast.
        group_by_length: Put texts of similar length into a batch, which saves padding.
        pad_to_multiple_of: Pad batches to a multiple of so many tokens (8 suits tensor cores).

    Raises:
        ConfigurationError: An argument is out of range, or two contradict each other.
    """

    def __init__(
        self,
        train: Source = None,
        validation: Source = None,
        test: Source = None,
        predict: Source = None,
        tokenizer: str = "roberta-base",
        text_columns: str | list[str] = "text",
        label_column: str | None = "label",
        label_columns: list[str] | None = None,
        label_separator: str = "|",
        empty_label: EmptyLabel = "error",
        task: Task = "multiclass",
        labels: list[str] | None = None,
        allow_absent_classes: bool = False,
        validation_share: float = 0.1,
        test_share: float = 0.0,
        split_seed: int = 0,
        fold_order: Literal["stratified", "blocked"] = "stratified",
        labelled_column: str | None = None,
        labels_per_class: int | None = None,
        labelled_fraction: float | None = None,
        validation_labels_per_class: int | None = None,
        keep_unlabelled: bool = False,
        seed: int = 0,
        drop_duplicates: bool = False,
        max_words: int | None = None,
        scores: str | None = None,
        scorers: list[str] | None = None,
        reasons: str | None = None,
        reason_writers: list[str] | None = None,
        on_missing: OnMissing = "error",
        class_weights: Literal["none", "balanced"] = "none",
        max_length: int = 256,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        group_by_length: bool = True,
        pad_to_multiple_of: int = 1,
    ) -> None:
        super().__init__()
        numbers = {
            "max_length": max_length,
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "pad_to_multiple_of": pad_to_multiple_of,
            "max_words": 1 if max_words is None else max_words,
        }
        for name, number in numbers.items():
            if number < 1:
                raise ConfigurationError(f"{name}={number}: give at least 1.")
        if labels_per_class is not None and labelled_fraction is not None:
            raise ConfigurationError("labels_per_class and labelled_fraction are both set. Give one of them.")
        if label_columns is not None and labels is not None and labels != label_columns:
            raise ConfigurationError("label_columns are the labels, in their order. Way out: leave `labels` out.")
        self._prepared = Preparation(
            {"train": train, "validation": validation, "test": test, "predict": predict},
            [text_columns] if isinstance(text_columns, str) else list(text_columns),
            max_words,
            LabelReader(task, label_column, label_columns, label_separator, empty_label),
            None if labels is None else check_names(labels),
            SplitPlan(
                validation_share=validation_share,
                test_share=test_share,
                split_seed=split_seed,
                labels_per_class=labels_per_class,
                labelled_fraction=labelled_fraction,
                validation_labels_per_class=validation_labels_per_class,
                keep_unlabelled=keep_unlabelled,
                seed=seed,
                drop_duplicates=drop_duplicates,
                allow_absent_classes=allow_absent_classes,
                labelled_column=labelled_column,
            ),
            ScoreSource(scores, scorers, on_missing),
        )
        self._reasons = None if reasons is None else ScoreSource(reasons, reason_writers, "mask")
        self._seed, self._class_weights, self._fold_order = seed, class_weights, fold_order
        self._tokenizer_name, self._max_length = tokenizer, max_length
        self._batch_size, self._eval_batch_size, self._num_workers = batch_size, eval_batch_size, num_workers
        self._group_by_length, self._multiple_of = group_by_length, pad_to_multiple_of
        self._tokenizer: Any = None
        self._tokenized: dict[Split, TokenizedRows] = {}

    # ---- what the model is linked to, readable before `setup`

    @property
    def task(self) -> Task:
        """Multi-class or multi-label."""
        return self._prepared.reader.task

    @property
    def labels(self) -> list[str]:
        """The K label names in order; reads the train source if they were not given."""
        return self._prepared.labels

    @property
    def scorer_names(self) -> list[str]:
        """The M scorers as given; else those of the whole store."""
        return self._prepared.scores.names

    @property
    def scorer_fingerprints(self) -> dict[str, str]:
        """The scorers' fingerprints by their names, for the record of a run."""
        return self._prepared.scores.fingerprints

    @property
    def seed(self) -> int:
        """The seed of the labelled subset and of the batches' order."""
        return self._seed

    @property
    def num_scorers(self) -> int:
        """M."""
        return len(self.scorer_names)

    @property
    def class_weight(self) -> list[float] | None:
        """K weights, or None. Balanced: multi-class n / (K n_k); multi-label negatives / positives; 1 for an absent label."""
        if self._class_weights == "none":
            return None
        rows, _ = self._prepared.split("train")
        counts, n = class_counts(rows.labels, len(self.labels)), int(rows.labelled.sum())
        top = np.full(len(counts), n / len(counts)) if self.task == "multiclass" else n - counts
        return [float(a / b) if a and b else 1.0 for a, b in zip(top, counts, strict=True)]

    # ---- Lightning's hooks

    def setup(self, stage: str | None = None) -> None:
        """Reads, splits, joins and tokenises what the stage needs, each split once."""
        # Batches are slices of arrays in memory, so one process serves them as fast as several.
        warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers", category=UserWarning)
        if stage == "fit" and self._prepared.has("train"):
            self._prepared.warn_of_shared_texts()
        for split in _STAGES[stage] if stage else _SPLITS:
            if self._prepared.has(split):
                self._rows_of(split)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of the epoch that comes next; after a restart within an epoch, of its remaining batches."""
        dataset = self._rows_of("train")
        trainer: Any = self.trainer  # some of its attributes have no declaration
        rank, world = ranks(self.trainer)
        epoch, skip = (0, 0) if trainer is None else resume_point(trainer.fit_loop)
        chosen = None
        if trainer is not None and isinstance(trainer.lightning_module, PhasedSystem):
            chosen = trainer.lightning_module.rows_of_epoch(epoch)
            if chosen is not None and trainer.reload_dataloaders_every_n_epochs != 1:
                raise ConfigurationError(
                    f"trainer.reload_dataloaders_every_n_epochs={trainer.reload_dataloaders_every_n_epochs}: "
                    f"{type(trainer.lightning_module).__name__} chooses its rows each epoch, so it has to be 1."
                )
        rows = self._chosen("train", chosen)
        if trainer is not None and trainer.overfit_batches:
            return evaluation_loader(dataset, rows[rank::world], self._batch_size, self._num_workers)
        sampler = LengthGroupedBatchSampler(
            dataset.lengths, rows, self._batch_size, self._seed, epoch, skip, rank, world, self._group_by_length
        )
        return train_loader(dataset, sampler, self._num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Returns the validation loader, or none (of which Lightning warns) if there are no validation rows."""
        return self.rows_dataloader("validation") if self._prepared.has("validation") else []

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the test loader."""
        return self.rows_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of the rows to predict."""
        return self.rows_dataloader("predict")

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run must find unchanged, as plain values."""
        state: dict[str, Any] = {"labels": self.labels, "seed": self._seed, "batch_size": self._batch_size}
        if "train" in self._prepared.ready:
            state["train"] = self.dataset_fingerprint["train"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuses a checkpoint of other labels and, to go on training, of other train rows or other batches.

        Raises:
            ConfigurationError: Something differs; the message names it.
        """
        if state_dict["labels"] != self.labels:
            raise ConfigurationError(f"labels={self.labels!r}, but the checkpoint was trained on {state_dict['labels']!r}.")
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        for name, value in {"seed": self._seed, "batch_size": self._batch_size}.items():
            if state_dict[name] != value:
                raise ConfigurationError(f"{name}={value}, but the run to be resumed had {state_dict[name]}.")
        if "train" in state_dict and state_dict["train"] != self.dataset_fingerprint.get("train"):
            raise ConfigurationError(
                "The run to be resumed had other train rows. Give the same data and seeds, or start a new run."
            )

    # ---- contract.RowsData

    def rows_dataloader(self, split: Split, rows: Tensor | None = None) -> DataLoader[Batch]:
        """See `contract.RowsData`. Long texts come first when `group_by_length` is on.

        Raises:
            ConfigurationError: There is no such split, or `rows` are not among its rows.
        """
        dataset = self._rows_of(split)
        order = evaluation_order(
            dataset.lengths, self._chosen(split, rows), *ranks(self.trainer), grouped=self._group_by_length
        )
        return evaluation_loader(dataset, order, self._eval_batch_size, self._num_workers)

    def number_of_rows(self, split: Split) -> int:
        """See `contract.RowsData`; 0 if there is no such split."""
        return len(self._prepared.split(split)[0]) if self._prepared.has(split) else 0

    def folds(self, k: int, seed: int) -> Tensor:
        """See `contract.RowsData`."""
        rows, _ = self._prepared.split("train")
        groups = text_groups(rows.texts)
        folds = blocked_folds(groups, k) if self._fold_order == "blocked" else stratified_folds(rows.labels, groups, k, seed)
        return torch.from_numpy(folds)

    def scores_and_labels(self, split: Split) -> tuple[Tensor, Tensor, Tensor]:
        """See `contract.RowsData`."""
        rows, scores = self._prepared.split(split)
        return torch.from_numpy(scores.scores), torch.from_numpy(scores.scored), torch.from_numpy(rows.labels)

    # ---- what results and predictions write down

    def texts(self, split: Split) -> list[str]:
        """Returns the exact texts of a split, by row number within it."""
        return list(self._prepared.split(split)[0].texts)

    def rationales(self, split: Split) -> dict[str, list[str | None]]:
        """Returns each scorer's reasons for the rows of a split, by row number within it; scorers without any are left out."""
        return self._prepared.scores.rationales(self.texts(split))

    def reasons(self, split: Split) -> dict[str, list[str | None]]:
        """Returns what a system may learn to reason from: by writer, its reasons by row number; those without any left out."""
        return (self._reasons or self._prepared.scores).rationales(self.texts(split))

    def score_costs(self, split: Split) -> dict[str, dict[str, float | None]]:
        """Returns what each scorer's answers about a split took: `texts`, `input_tokens`, `output_tokens`, `cost_usd`."""
        return self._prepared.scores.costs(self.texts(split))

    @property
    def split_ids(self) -> dict[str, list[int]]:
        """Row numbers in the source table, for each split in use; `train_labelled` where some train rows are unlabelled."""
        return self._prepared.ids

    @property
    def dataset_fingerprint(self) -> dict[str, str]:
        """SHA-256 over texts, label names and labels of each split in use."""
        return self._prepared.fingerprints

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """For each split in use: rows, labelled rows, rows of each label, empty texts, dropped rows, scores by status."""
        return self._prepared.summary

    # ---- inside

    def _rows_of(self, split: Split) -> TokenizedRows:
        if split not in self._tokenized:
            rows, scores = self._prepared.split(split)
            if self._tokenizer is None:
                self._tokenizer = load_tokenizer(self._tokenizer_name)
            limit = min(self._max_length, int(self._tokenizer.model_max_length))
            ids, offsets = tokenize(self._tokenizer, rows.texts, limit)
            pad = self._tokenizer.pad_token_id
            self._tokenized[split] = TokenizedRows(
                ids,
                offsets,
                torch.from_numpy(rows.labels),
                torch.from_numpy(scores.scores),
                torch.from_numpy(scores.scored),
                0 if pad is None else int(pad),  # masked either way
                self._multiple_of,
            )
        return self._tokenized[split]

    def _chosen(self, split: Split, rows: Tensor | None) -> Rows:
        n = len(self._rows_of(split))
        if rows is None:
            return np.arange(n, dtype=np.int64)
        chosen: Rows = rows.cpu().numpy().astype(np.int64)
        if not len(chosen) or chosen.min() < 0 or chosen.max() >= n:
            span = f"{chosen.min()}..{chosen.max()}" if len(chosen) else "none"
            raise ConfigurationError(f"rows: asked for {span} of the {n} rows of {split}. They are numbered from 0.")
        return chosen
