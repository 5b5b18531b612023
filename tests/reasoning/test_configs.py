"""The whole way from text and labels to a reasoning classifier and its fusion with an encoder: one config a stage."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lf_lightning import cli
from lf_lightning.cli.configs import configs_folder
from lf_lightning.store import ScoreStore, Status
from tests.reasoning.conftest import LABELS

pytestmark = pytest.mark.config

FOLDER = configs_folder() / "reasoning"
STAGES = {
    "writer": "fit",
    "reasons": "reason",
    "reasons_llm": "reason",
    "classifier": "fit",
    "score": "score",
    "fusion": "fit",
}
QUICK = ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"]


def test_each_says_how_to_run_it_and_none_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(STAGES)
    for name, command in STAGES.items():
        assert f"lf {command} --config reasoning/{name}.yaml" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_whole_way(
    world: Path, lm: str, tiny_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LF_RUN_DIR", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "not-asked")
    train = pd.read_csv(world / "train.csv")
    train.rename(columns={"text": "question", "label": "answer"}).to_json("rows.jsonl", orient="records", lines=True)
    train[:24].to_csv("train.csv", index=False)
    train[24:48].to_csv("rest.csv", index=False)
    train[48:].to_csv("rest_validation.csv", index=False)
    for name in ("validation", "test"):
        pd.read_csv(world / f"{name}.csv").to_csv(f"{name}.csv", index=False)

    def run(name: str, *words: str) -> str:
        assert cli.main([STAGES[name], "--config", f"reasoning/{name}.yaml", *words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    run("writer", *QUICK, "--data.train", "rows.jsonl", "--model.encoder", lm, "--model.epochs", "12", "--model.lr", "0.01",
        "--data.max_length", "96")  # fmt: skip
    assert (Path("runs/writer/latest/checkpoints/last.ckpt")).is_file()

    judge = yaml.safe_load((FOLDER / "reasons.yaml").read_text(encoding="utf-8"))
    judge["filters"][2]["init_args"]["scorer"]["init_args"].update(model=lm, device="cpu")
    Path("filters.yaml").write_text(yaml.safe_dump({"filters": judge["filters"]}), encoding="utf-8")
    said = run("reasons", "--config", "filters.yaml", "--writer.device", "cpu")
    assert "dropped by LeadsToLabel" in said
    store = ScoreStore("reasons")
    assert [card.name for card in store.cards.values()] == ["writer", "writer 2"]
    kept = [reason for reason in store.rationales("writer", train["text"].tolist()) if reason]
    assert kept
    assert sum("speaks of" in reason for reason in kept) >= len(kept) / 2
    assert "24 to write" in run("reasons_llm", "--dry-run")

    run("classifier", *QUICK, "--model.encoder", lm, "--model.epochs", "8", "--model.lr", "0.01", "--data.batch_size", "8")
    assert cli.main(["test", "--run", "runs/classifier/latest"]) == 0
    assert cli.main(["predict", "--run", "runs/classifier/latest", "--data.predict", "rest.csv"]) == 0
    predictions = pd.read_csv("runs/classifier/latest/predictions.csv")
    assert predictions["rationale_system"].notna().mean() > 0.5
    assert cli.main(["report", "runs/classifier/latest"]) == 0
    page = next(Path("runs/classifier/latest").rglob("*.html")).read_text(encoding="utf-8")
    reason = pd.read_csv("runs/classifier/latest/predictions_test.csv")["rationale_system"][0]
    assert str(reason) in page

    run("score", "--scorer.device", "cpu")
    texts = train["text"].tolist()
    assert ScoreStore("scores").counts("reasoning")[Status.SCORED] == 64 - 24 + 33
    run("fusion", *QUICK, "--model.encoder", tiny_encoder, "--model.folds", "2", "--model.encoder_epochs", "2")
    assert cli.main(["test", "--run", "runs/fusion/latest"]) == 0
    figures = json.loads(Path("runs/fusion/latest/results.json").read_text(encoding="utf-8"))["metrics"]["test"]
    assert {"system", "encoder", "reasoning"} <= figures.keys()
    better = max(figures["reasoning"]["accuracy"], figures["encoder"]["accuracy"])
    assert figures["system"]["accuracy"] >= better - 0.1  # of 33 rows, three
    with pytest.raises(AssertionError):  # its own train rows are no evidence for a fusion
        run("score", "--scorer.device", "cpu", "--source", "train.csv")
    assert ScoreStore("scores").counts("reasoning")[Status.REFUSED] == 24
    assert set(LABELS) == set(train["label"])
    assert len(texts) == 64
