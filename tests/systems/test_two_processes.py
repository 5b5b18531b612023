"""Two processes on the CPU (DDP, gloo) and 67 rows: metrics and predictions of one process, and the same evidence on both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch

from tests.processes import run_script
from tests.systems.parts import differing, evaluated, fit, model_of, trained, without_dropout

ONE: dict[str, Any] = {"devices": 1}


class Ran(NamedTuple):
    world: Path
    out: Path
    checkpoint: str
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ran(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out = tmp_path_factory.mktemp("two_processes")
    world = without_dropout(world, out / "world")
    pd.read_csv(world / "test.csv")[5:6].to_csv(world / "one.csv", index=False)
    fit(world, out / "fit", last=0)
    checkpoint = str(out / "fit/checkpoints/last.ckpt")
    run_script(Path(__file__).with_name("two_processes.py"), world, checkpoint, out)
    return Ran(world, out, checkpoint, [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("case", ["test", "one row"])
def test_metrics_and_outputs_of_a_checkpoint_are_those_of_one_process(case: str, ran: Ran, tmp_path: Path) -> None:
    rows = {} if case == "test" else {"test": str(ran.world / "one.csv")}
    single = evaluated(str(ran.world), ran.checkpoint, tmp_path, ONE, **rows)
    assert single["index"].tolist() == list(range(67 if case == "test" else 1))
    for rank in ran.ranks:
        two = rank[case]
        assert two["metrics"].keys() == single["metrics"].keys()
        assert len(two["metrics"]) > 10
        for name, value in single["metrics"].items():
            assert two["metrics"][name] == pytest.approx(value, abs=1e-6), name
        assert torch.equal(two["index"], single["index"])
        assert torch.allclose(two["logits"], single["logits"], atol=1e-6)
        for name, logits in single["members"].items():
            assert torch.allclose(two["members"][name], logits, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_the_predictions_file_has_each_row_once(ran: Ran, tmp_path: Path) -> None:
    evaluated(str(ran.world), ran.checkpoint, tmp_path, ONE)
    single, two = (pd.read_csv(folder / "predictions_test.csv") for folder in (tmp_path, ran.out / "test"))
    assert two["row"].tolist() == list(range(67))
    numbers = [name for name in single.columns if name.startswith("p_")]
    assert len(numbers) == 3
    pd.testing.assert_frame_equal(two[numbers], single[numbers], atol=2e-6)
    pd.testing.assert_frame_equal(two.drop(columns=numbers), single.drop(columns=numbers))
    assert len(pd.read_csv(ran.out / "predict/predictions.csv")) == 1


@pytest.mark.parametrize("evidence", ["crossfit", "holdout", "joint"])
def test_both_processes_end_with_the_same_evidence_and_weights(evidence: str, ran: Ran) -> None:
    first, second = (rank[evidence] for rank in ran.ranks)
    assert differing(first["state"], second["state"]) == []
    for name, value in first["metrics"].items():
        if not name.endswith("_step"):  # a step's loss is each process's own
            assert second["metrics"][name] == pytest.approx(value), name
    if evidence == "joint":
        assert first["evidence"] is None
    else:
        assert torch.equal(first["evidence"].nan_to_num(9.0), second["evidence"].nan_to_num(9.0))
        assert first["evidence"].isfinite().any()
        if evidence == "crossfit":
            assert first["evidence"].isfinite().all()


def test_training_in_two_processes_is_training_in_one(ran: Ran, tmp_path: Path) -> None:
    # The mean gradient of two half batches is that of the whole one, but where a row comes twice to make the halves even.
    options = {"evidence": "crossfit", "dropout": 0.0, "score_dropout": 0.0, "data": {"batch_size": 8}}
    single, two = trained(ran.world, tmp_path, ONE, **options), ran.ranks[0]["crossfit"]
    assert two["steps"] == single["steps"]
    initial = dict(model_of(ran.world).named_parameters())
    moved, apart = (
        torch.cat(
            [(value - other[name]).flatten() for name, value in single["state"].items() if name.startswith("encoder.model")]
        )
        for other in ({name: value.detach() for name, value in initial.items()}, two["state"])
    )
    assert float(apart.norm() / moved.norm()) < 0.2
    assert torch.allclose(single["evidence"].softmax(-1), two["evidence"].softmax(-1), atol=0.1)


def test_a_strategy_that_would_wait_for_unused_weights_is_refused(ran: Ran) -> None:
    for rank in ran.ranks:
        assert "trainer.strategy: ddp_find_unused_parameters_true" in rank["refused"]
