"""A fitted system as an ONNX file: token ids and scores in, calibrated probabilities out, for runtimes without torch."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.onnx
from torch import Tensor, nn

from lf_lightning.calibration import log_probabilities
from lf_lightning.contract import Batch
from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.systems.base import ClassifierModule

INPUTS = ("input_ids", "attention_mask", "scores", "scored")
OUTPUTS = ("probabilities", "logits")
TOLERANCE = 1e-4
"""Greatest difference of a probability from the system's own, above which no file is written."""


class Calibrated(nn.Module):
    """A system as a plain function of tensors.

    Args:
        system: Fitted; its calibrator is part of the graph, its decision rule is not.
    """

    def __init__(self, system: ClassifierModule) -> None:
        super().__init__()
        self.system = system

    def forward(self, input_ids: Tensor, attention_mask: Tensor, scores: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
        """Returns calibrated probabilities (B, K) and the logits (B, K) that they are made of, float32.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64, 1 on real tokens.
            scores: (B, M, K) float32 in [0, 1], anything finite where not scored.
            scored: (B, M) bool.
        """
        nobody = torch.zeros_like(input_ids[:, 0])
        batch = {"index": nobody, "input_ids": input_ids, "attention_mask": attention_mask, "labels": nobody}
        logits = self.system.outputs(cast("Batch", {**batch, "scores": scores, "scored": scored})).logits
        calibrator: Any = self.system.calibrator
        return log_probabilities(calibrator(logits), self.system.task).exp(), logits


def export_onnx(file: str | os.PathLike[str], system: ClassifierModule, num_scorers: int) -> None:
    """Writes the graph, with weights inside the file, once onnxruntime has given the same probabilities.

    Args:
        file: New or old; by custom `*.onnx`.
        system: Fitted, on the CPU, in evaluation mode.
        num_scorers: M.

    Raises:
        MissingDependencyError: The extra `onnx` is not installed.
        ConfigurationError: Some part of the system has no ONNX form, or says something else in it; or the file cannot be
            written.
        NotFittedError: The calibrator was not fitted.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingDependencyError.of(package, "onnx")
    graph = Calibrated(system).eval()
    batch = _random_batch(3, 5, num_scorers, len(system.labels))
    with torch.no_grad():
        graph(*batch)  # what is not fitted raises here; what is, is not looked at again by a tracer that could not
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    shapes = dict(zip(INPUTS, ({0: rows, 1: tokens}, {0: rows, 1: tokens}, {0: rows}, {0: rows}), strict=True))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                batch,
                dynamo=True,
                verbose=False,
                dynamic_shapes=shapes,
                input_names=INPUTS,
                output_names=OUTPUTS,
                custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid},
            )
    except torch.onnx.errors.OnnxExporterError as error:
        told = " ".join(str(error.__cause__ or error).split())[:300]
        raise ConfigurationError(f"{type(system).__name__} has no ONNX form: {told} Way out: Predictor.save.") from error
    assert program is not None
    with _written(Path(file).expanduser()) as partial:
        program.save(partial, external_data=False)
        _verify(partial, graph, num_scorers, len(system.labels))


def _verify(file: Path, graph: Calibrated, num_scorers: int, num_labels: int) -> None:
    """Raises unless the file says what the system says, of batches of other sizes than the tracer saw."""
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    for rows, tokens in ((1, 1), (7, 12)):
        batch = _random_batch(rows, tokens, num_scorers, num_labels)
        with torch.no_grad():
            expected = graph(*batch)[0].numpy()
        try:
            found = session.run(["probabilities"], {name: part.numpy() for name, part in zip(INPUTS, batch, strict=True)})[0]
        except Exception as error:  # its errors have no common base of their own
            raise ConfigurationError(f"The ONNX file does not take {rows} texts of {tokens} tokens: {error}") from error
        gap = float(np.abs(found - expected).max())
        if not gap < TOLERANCE:
            raise ConfigurationError(
                f"The ONNX file differs from the system by {gap:.1e} in a probability. Way out: Predictor.save."
            )


def _random_batch(rows: int, tokens: int, num_scorers: int, num_labels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids 0 and 1, which every vocabulary has; scores of some scorers, the first text's of none."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, 2, (rows, tokens), generator=generator)
    mask = (torch.arange(tokens) <= torch.arange(rows)[:, None]).long()
    scores = torch.rand(rows, num_scorers, num_labels, generator=generator).softmax(-1)
    scored = torch.rand(rows, num_scorers, generator=generator) < 0.5
    scored[0] = False
    return ids, mask, scores, scored


def _log_sigmoid(logits: Any) -> Any:
    """In the place of the exporter's log(sigmoid(z)): below -18 onnxruntime's sigmoid is at times less than 0."""
    from onnxscript import opset18 as op

    return op.Neg(op.Softplus(op.Neg(logits)))


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise ConfigurationError(f"file={str(target)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it would like, and on parts of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
