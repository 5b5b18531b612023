from __future__ import annotations

import pytest

from lf_lightning import imports
from lf_lightning.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_allowed", list(imports.allowed()))


@pytest.mark.parametrize("path", ["lf_lightning.heads.GatedFusion", "torch.nn.Linear", "transformers.BertModel", "FusionMLP"])
def test_allowed_packages_pass(path: str) -> None:
    imports.check_class_paths({"model": {"head": {"class_path": path}}})


@pytest.mark.parametrize("path", ["os.system", "torchy.Linear", "my_heads.Head", "lf_lightning_evil.Head", "builtins.eval"])
@pytest.mark.parametrize("key", ["class_path", "_class_path"])
def test_others_are_refused_wherever_they_stand(key: str, path: str) -> None:
    trees = [
        {key: path},
        {"a": {"b": {key: path}}},
        {"a": [1, {key: path}]},
        [({key: path},)],
        {key: "torch.nn.Linear", "init_args": {"x": {key: path}}},
    ]
    for tree in trees:
        with pytest.raises(
            ConfigurationError, match=f"'{path}' is not of an allowed package.*--allow-imports {path.partition('.')[0]}"
        ):
            imports.check_class_paths(tree)


def test_the_user_allows_packages() -> None:
    imports.allow(["my_heads", "my_heads"])
    assert imports.allowed().count("my_heads") == 1
    imports.check_class_paths({"class_path": "my_heads.Head"})
    with pytest.raises(ConfigurationError):
        imports.check_class_paths({"class_path": "my_heads2.Head"})
