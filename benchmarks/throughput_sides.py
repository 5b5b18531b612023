"""The sides of the throughput benchmark: the fusion system, hand-written loops and `transformers.Trainer`, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import TrainerCallback, get_linear_schedule_with_warmup

from benchmarks.throughput_rows import LABELS, Rows
from benchmarks.turns import Turns
from lf_lightning.callbacks import default_callbacks
from lf_lightning.contract import Batch
from lf_lightning.data import ScoredTextDataModule
from lf_lightning.data.tokenizer import load_tokenizer
from lf_lightning.systems import FusionLightningModule


class Joint(nn.Module):
    """The fusion system's joint model as a plain module: encoder, mean of its tokens, classifier and head.

    Args:
        system: Whose parts it takes.
    """

    def __init__(self, system: FusionLightningModule) -> None:
        super().__init__()
        assert system.head is not None
        self.encoder, self.classifier, self.head = system.encoder.model, system.classifier, system.head
        self.dropout = nn.Dropout(system.dropout.p)
        self.score_dropout, self.auxiliary_weight = system.score_dropout, system.auxiliary_weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, scores: Tensor) -> dict[str, Tensor]:
        """Returns `loss` and the fused `logits`."""
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(tokens.dtype)
        vectors = (tokens * mask).sum(1) / mask.sum(1)
        own = self.classifier(self.dropout(vectors))
        members = torch.cat([own.log_softmax(-1)[:, None], scores.clamp(1e-4, 1).log().log_softmax(-1)], 1)
        present = torch.ones(members.shape[:2], dtype=torch.bool)
        if self.training:
            present[:, 1:] = torch.rand(len(members), 1) >= self.score_dropout
        fused = self.head(members, present, vectors)
        entropy = nn.functional.cross_entropy
        return {"loss": entropy(fused, labels) + self.auxiliary_weight * entropy(own, labels), "logits": fused}

    def groups(self, lrs: dict[str, float], weight_decay: float) -> list[dict[str, Any]]:
        """Returns AdamW's groups: a learning rate for each part, decay for matrices only."""
        return [
            {"params": [p for p in part.parameters() if (p.ndim > 1) == decays], "lr": lrs[name], "weight_decay": decay}
            for name, part in {"encoder": self.encoder, "classifier": self.classifier, "head": self.head}.items()
            for decays, decay in ((True, weight_decay), (False, 0.0))
        ]


def system_of(rows: Rows, passes: int) -> FusionLightningModule:
    """Returns the system that is measured: the default fusion, trained jointly, which is one pass over the rows an epoch."""
    return FusionLightningModule(LABELS, scorers=["llm"], encoder=rows.encoder, evidence="joint", encoder_epochs=passes)


# ---- the sides


class SameBatches(ScoredTextDataModule):
    """The data module, with the batches that all sides get in the place of those that its sampler draws.

    Args:
        rows: The rows.
        arguments: The data module's.
    """

    def __init__(self, rows: Rows, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rows = rows

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the loader of the next epoch."""
        loader = super().train_dataloader()
        assert self.trainer is not None
        order: Any = self.rows.epoch(self.trainer.current_epoch)
        return DataLoader(loader.dataset, batch_size=None, sampler=order, collate_fn=loader.collate_fn)


class TakeTurns(Callback):
    """Tells `Turns` of the trainer's passes and batches."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.turns.batch(len(batch["index"]), batch_idx + 1 == trainer.num_training_batches)

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.turns.begin()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.turns.batch(len(batch["index"]), batch_idx + 1 == trainer.num_predict_batches[0])


def ours(rows: Rows, passes: int, folder: Path) -> Callable[[Turns], None]:
    """Returns the fusion system's side, with the callbacks and the logger of `lf fit` and `lf predict`."""

    def work(turns: Turns) -> None:
        data = SameBatches(
            rows,
            train=rows.table,
            validation=rows.validation,
            predict=rows.table[["text"]],
            tokenizer=rows.encoder,
            labels=LABELS,
            scores=str(rows.store),
            batch_size=rows.batch_size,
            eval_batch_size=rows.batch_size,
        )
        model = system_of(rows, passes)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=-1,
            use_distributed_sampler=False,
            default_root_dir=folder,
            logger=CSVLogger(folder),
            callbacks=[*default_callbacks(), TakeTurns(turns)],
            enable_model_summary=False,
        )
        trainer.fit(model, data)
        for _ in range(passes):
            trainer.predict(model, data, return_predictions=False)

    return work


def hand_written(rows: Rows, passes: int, width: int | None = None, share: int = 1) -> Callable[[Turns], None]:
    """Returns the plain loop's side.

    Args:
        rows: The rows.
        passes: Over the rows.
        width: Pad to so many tokens; None: to the longest text of the batch.
        share: Only every so manieth batch, where all cost the same.
    """

    def work(turns: Turns) -> None:
        model = Joint(system := system_of(rows, passes))
        optimizer = torch.optim.AdamW(model.groups(system.lrs, system.weight_decay), fused=True)
        steps = passes * len(rows.batches)
        warm: Any = get_linear_schedule_with_warmup  # has no annotations
        schedule = warm(optimizer, int(system.warmup * steps), steps)
        model.train()
        for number in range(passes):
            batches = rows.epoch(number)[::share]
            turns.begin()
            total = torch.zeros(())
            for place, index in enumerate(batches):
                loss = model(**rows.batch(index, width))["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
                turns.batch(len(index), place + 1 == len(batches))
        model.eval()
        batches = rows.evaluation()[::share]
        for _ in range(passes):
            turns.begin()
            for place, index in enumerate(batches):
                with torch.inference_mode():
                    model(**rows.batch(index, width))["logits"].softmax(-1)
                turns.batch(len(index), place + 1 == len(batches))

    return work


def transformers_trainer(rows: Rows, passes: int, folder: Path) -> Callable[[Turns], None]:
    """Returns the side of `transformers.Trainer`: its own optimizer and loops, but without clipping, which no side does."""

    def work(turns: Turns) -> None:
        from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

        class Report(TrainerCallback):
            def __init__(self) -> None:
                self.done = 0

            def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.done = 0
                turns.begin()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self.done += 1
                turns.batch(rows.batch_size, self.done == len(rows.batches))

            on_prediction_step = on_step_end

        class Timed(Trainer):
            def _get_train_sampler(self, train_dataset: Any = None) -> Any:
                return _InOrder(rows)

            def _get_eval_sampler(self, eval_dataset: Any) -> Any:
                return np.concatenate(rows.evaluation()).tolist()

            def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
                report.on_epoch_begin(None, None, None)
                return super().evaluation_loop(*args, **kwargs)

        report, tokenizer = Report(), load_tokenizer(rows.encoder)
        system = system_of(rows, passes)
        trainer = Timed(
            Joint(system),
            TrainingArguments(
                output_dir=str(folder),
                num_train_epochs=passes,
                per_device_train_batch_size=rows.batch_size,
                per_device_eval_batch_size=rows.batch_size,
                learning_rate=system.lrs["encoder"],
                weight_decay=system.weight_decay,
                warmup_steps=system.warmup,
                max_grad_norm=0.0,
                remove_unused_columns=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            DataCollatorWithPadding(tokenizer),
            train_dataset=_Items(rows),
            processing_class=tokenizer,
            callbacks=[report],
        )
        trainer.train()
        for _ in range(passes):
            trainer.predict(_Items(rows))

    return work


class _InOrder(Sampler[int]):
    """Every epoch's rows in the order of its batches."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.epoch = rows, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows.ids)

    def __iter__(self) -> Iterator[int]:
        yield from np.concatenate(self.rows.epoch(self.epoch)).tolist()


class _Items(Dataset[dict[str, Any]]):
    def __init__(self, rows: Rows) -> None:
        self.items = [
            {"input_ids": ids.tolist(), "labels": label, "scores": scores}
            for ids, label, scores in zip(rows.ids, rows.labels.tolist(), rows.scores.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]
