from __future__ import annotations

from typing import Any

import pytest

from lf_lightning import pretrained
from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.pretrained import load_pretrained


class Loader:
    """Knows what is here, and what the hub has."""

    def __init__(self, here: bool) -> None:
        self.here = here
        self.calls: list[dict[str, Any]] = []

    def from_pretrained(self, name: str, **options: Any) -> str:
        self.calls.append(options)
        if options.get("local_files_only") and not self.here:
            raise OSError("not in the cache\nand a long explanation")
        return f"loaded {name}"


class Hub:
    asked: list[str]

    def __init__(self) -> None:
        pass

    def model_info(self, name: str, timeout: float) -> None:
        Hub.asked.append(name)
        if name == "gone/model":
            raise ConnectionError("no route")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    Hub.asked = []
    monkeypatch.setattr(pretrained.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "HfApi", Hub)
    return Hub


def test_what_is_here_asks_nobody(online: type[Hub]) -> None:
    loader = Loader(here=True)
    assert load_pretrained(loader, "some/model", argument="encoder", dtype=1) == "loaded some/model"
    assert loader.calls == [{"local_files_only": True, "dtype": 1, "trust_remote_code": False}]
    assert online.asked == []


def test_the_hub_is_asked_once_and_its_code_never_run(online: type[Hub]) -> None:
    loader = Loader(here=False)
    assert load_pretrained(loader, "some/model", argument="encoder") == "loaded some/model"
    assert online.asked == ["some/model"]
    assert all(call["trust_remote_code"] is False for call in loader.calls)


@pytest.mark.usefixtures("online")
def test_without_a_network_the_error_names_argument_value_and_way_out() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_pretrained(Loader(here=False), "gone/model", argument="tokenizer")
    assert "tokenizer='gone/model' could not be loaded: no route" in str(error.value)
    assert "Way out: a folder" in str(error.value)
    assert "\n" not in str(error.value)


def test_offline_asks_nobody(online: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError, match="not in the cache Way out"):
        load_pretrained(Loader(here=False), "some/model", argument="encoder")
    assert online.asked == []


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(MissingDependencyError, match="local-llm"):
        load_pretrained(Loader(here=True), "package:not_installed_at_all/x", argument="model", extra="local-llm")
