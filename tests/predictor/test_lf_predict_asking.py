"""`lf predict` with a budget, a live scorer and promises, as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lf_lightning import cli
from lf_lightning.cli.asking import wishes_of
from lf_lightning.errors import ConfigurationError
from tests.scoring.gateway.fault_server import KEY, FaultServer


@pytest.fixture
def lf_predict(fusion: Path, new_texts: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    def run(*options: str) -> tuple[int, pd.DataFrame, str]:
        pd.DataFrame({"text": new_texts}).to_json(tmp_path / "new.jsonl", orient="records", lines=True)
        (fusion / "predictions.csv").unlink(missing_ok=True)
        code = cli.main(["predict", "--run", str(fusion), "--data.predict", str(tmp_path / "new.jsonl"), *options])
        said = capfd.readouterr()
        written = fusion / "predictions.csv"
        frame = pd.read_csv(written, keep_default_na=False) if written.exists() else pd.DataFrame()
        return code, frame, said.out + said.err

    return run


def test_a_budget_asks_about_the_share_and_says_whom(lf_predict) -> None:
    code, frame, said = lf_predict("--llm-budget", "0.25", "--llm-price", "0.001,0.003")
    assert code == 0
    n = len(frame)
    cost = (frame["asked_good"] * 0.001 + frame["asked_weak"] * 0.003).sum()
    assert 0 < cost <= 0.25 * 0.004 * n
    assert f"good: asked about {frame['asked_good'].sum()} of {n} texts" in said
    assert "Accuracy on validation rows" in said
    assert f"Cost: expected ${0.25 * 0.004 * n:.4f}." in said
    assert (frame.loc[~frame["asked_good"], "predicted_good"] == "").all()
    assert (frame.loc[frame["asked_good"], "predicted_good"] != "").any()


def test_none_and_all_are_the_plain_prediction(lf_predict) -> None:
    code, plain, _ = lf_predict("--data.on_missing", "mask")
    assert code == 0
    assert "asked_good" not in plain
    _, everybody, _ = lf_predict("--llm-budget", "1")
    columns = [name for name in plain if name.startswith("p_")]
    assert np.abs(everybody[columns] - plain[columns]).to_numpy().max() < 1e-5
    _, nobody, said = lf_predict("--llm-budget", "0")
    assert not nobody[["asked_good", "asked_weak"]].to_numpy().any()
    assert np.abs(nobody[columns] - plain[columns]).to_numpy().max() > 1e-3
    assert "asked about 0 of" in said


def test_promises_are_columns(lf_predict) -> None:
    _, frame, said = lf_predict("--coverage", "0.9", "--max-error", "0.4", "--llm-budget", "0.5")
    sets = [cell.split("|") for cell in frame["prediction_set"]]
    assert all(made in names for made, names in zip(frame["predicted"], sets, strict=True))
    assert f"Prediction sets at 90%: {np.mean([len(s) for s in sets]):.2f} labels" in said
    assert frame["answered"].any()
    _, alone, said = lf_predict("--coverage=0.9", "--max-error=0.001", "--data.on_missing=mask")
    assert not alone["answered"].any()
    assert "do not bear this promise" in said


def test_a_live_scorer_is_asked_about_the_chosen_texts_only(lf_predict, new_texts: list[str], tmp_path: Path) -> None:
    tables, configs = {}, []
    for name in ("good", "weak"):
        tables[name] = tmp_path / f"{name}.csv"
        pd.DataFrame({"text": new_texts, "said": "sport"}).to_csv(tables[name], index=False)
        configs.append(tmp_path / f"{name}.yaml")
        configs[-1].write_text(
            f"source: x\nstore: x\nscorer:\n  class_path: lf_lightning.scoring.StatedLabelScorer\n  init_args:\n"
            f"    name: {name}\n    tables: [{tables[name]}]\n    labels: [politics, science, sport]\n    label_column: said\n",
            encoding="utf-8",
        )
    code, frame, _ = lf_predict("--llm-budget=0.4", "--scorer", str(configs[0]), "--scorer", str(configs[1]))
    assert code == 0
    asked = frame["asked_good"]
    assert 0 < asked.sum() < len(frame)
    assert (frame.loc[asked, "p:good:sport"].astype(float) > 0.5).sum() >= asked.sum() - 1  # of a text cut to its first words
    assert (frame.loc[~asked, "p:good:sport"] == "").all()


def test_what_cannot_be_is_said_at_once(lf_predict) -> None:
    code, _, said = lf_predict("--target-accuracy", "1.0")
    assert code in (0, 2)
    if code:
        assert "Way out: a target of" in said
    code, _, said = lf_predict("--max-cost", "1")
    assert code == 2
    assert "--llm-price" in said
    with pytest.raises(ConfigurationError, match="--llm-budget 'much' is no number"):
        wishes_of(["--llm-budget", "much"])


def test_options_are_taken_and_the_rest_is_left() -> None:
    words, wishes = wishes_of(["--run", "r", "--llm-budget=0.2", "--scorer", "a.yaml", "--scorer=b.yaml", "--llm-price", "1,2"])
    assert words == ["--run", "r", "--data.on_missing=mask"]
    assert (wishes.budget, wishes.scorers, wishes.prices) == (0.2, ["a.yaml", "b.yaml"], [1.0, 2.0])
    assert wishes_of(["--data.on_missing", "drop", "--llm-budget=1"])[0] == ["--data.on_missing", "drop"]
    words, wishes = wishes_of(["--run", "r"])
    assert words == ["--run", "r"]
    assert wishes.callback([]) == []


def test_an_llm_is_paid_for_the_chosen_texts_once(
    lf_predict, new_texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    table, configs = tmp_path / "weak.csv", []
    pd.DataFrame({"text": new_texts, "said": "sport"}).to_csv(table, index=False)
    with FaultServer() as server:
        scorers = {
            "good": f"""LLMScorer
  init_args:
    name: good
    provider:
      class_path: lf_lightning.scoring.providers.OpenAICompatible
      init_args: {{model: small, base_url: "{server.url}", api_key_env: A_KEY}}
    mode: logprob
    gateway: {{responses: {tmp_path / "responses"}, price: {{input: 1.0, output: 4.0}}}}
""",
            "weak": f"StatedLabelScorer\n  init_args:\n    name: weak\n    tables: [{table}]\n    label_column: said\n",
        }
        for name, text in scorers.items():
            configs += ["--scorer", str(tmp_path / f"{name}.yaml")]
            head = "source: x\nstore: x\nscorer:\n  class_path: lf_lightning.scoring."
            labels = "    labels: [politics, science, sport]\n"
            (tmp_path / f"{name}.yaml").write_text(head + text + labels, encoding="utf-8")
        wish = ["--max-cost", "0.01", "--llm-price", "0.0005,0.0005", *configs]
        code, frame, said = lf_predict(*wish)
        assert code == 0, said
        asked = int(frame["asked_good"].sum())
        assert 0 < asked <= 20
        assert (frame["asked_good"].sum() + frame["asked_weak"].sum()) * 0.0005 <= 0.01
        first = server.record()["lines"]
        assert len(first) == asked
        paid = float(said.split("paid $")[1].split(".\n")[0])
        assert 0 < paid < 0.01
        code, again, said = lf_predict(*wish)
        assert server.record()["lines"] == first
        assert again.equals(frame)
        assert "paid $0.0000" in said
        code, _, said = lf_predict("--max-cost", "0.00000001", "--llm-price", "0.000000001,0.000000001", *configs)
        assert code == 0 or "max_cost" in said
        assert server.record()["lines"] == first
