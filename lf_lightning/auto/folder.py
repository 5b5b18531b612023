"""A fitted `AutoFusionClassifier` on the disk and on the hub: the folder of `Predictor.save`, and what scikit-learn adds to it.

`classifier.json` stands beside the predictor's files: classes, the form of the labels, arguments that are plain values (no key,
no path of data), who was asked and what it cost. Neither it nor any other file is run.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from lf_lightning.auto.inputs import FORMS
from lf_lightning.auto.training import Choices
from lf_lightning.errors import ConfigurationError, DataError
from lf_lightning.predictor.predictor import Predictor
from lf_lightning.predictor.saving import save as save_predictor
from lf_lightning.scoring.base import Scorer
from lf_lightning.store.cards import check_plain

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier

FILE, CARD = "classifier.json", "README.md"
FORMAT = 1
MAX_BYTES = 16 << 20
SAVED = "saved"
"""`llm_provider` of `load`: those that the folder names."""
MADE_HERE = ("config", "scores", "output_dir", "responses", "device", "verbose")
"""Arguments that say where a fit ran, not what it was; they are not saved."""
WHO = ("llm_provider", "llm_model", "api_key_env")
"""Arguments that say who is asked: a folder from elsewhere must not decide where texts and a key are sent."""

_DTYPE = re.compile(r"bool|object|u?int(8|16|32|64)|float(16|32|64)|<U\d{1,5}")


def save(classifier: AutoFusionClassifier, folder: str | os.PathLike[str]) -> None:
    """Writes a fitted classifier, see `AutoFusionClassifier.save`."""
    facts = _facts(classifier)  # whatever cannot be saved is found before a file is written
    predictor = classifier.predictor_
    origin = {"fitted_on": classifier._facts, "figures": {"validation": classifier.figures_}}
    save_predictor(folder, predictor.module, predictor.tokenizer, predictor.max_length, predictor.max_words, origin)
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (Path(folder).expanduser() / FILE).write_text(text, encoding="ascii")


def load(
    cls: type[AutoFusionClassifier], folder: str | os.PathLike[str], llm_provider: Any, device: str
) -> AutoFusionClassifier:
    """Returns a saved classifier, see `AutoFusionClassifier.load`."""
    path = Path(folder).expanduser()
    facts = _read(path / FILE)
    predictor = Predictor.of_run(path, dtype=facts["dtype"], device=device)
    params = dict(facts["params"])
    who = {name: params.pop(name, None) for name in WHO}
    saved = isinstance(llm_provider, str) and llm_provider == SAVED
    if saved and facts["asked"] and who["llm_provider"] is None:
        raise ConfigurationError(
            f"llm_provider='saved': the fit was given objects for {predictor.scorers}, which JSON cannot hold. "
            "Way out: llm_provider: the same `Scorer` or `Provider`."
        )
    params.update(who if saved else {"llm_provider": llm_provider})
    unknown = sorted(set(params) - set(cls._get_param_names()))
    if unknown:
        raise DataError(f"{str(path / FILE)!r} has the unknown arguments {unknown}. It was changed or made by others.")
    made = cls(**params, device=device)
    made.classes_, made.task_, made._form = _classes(facts["classes"], path), facts["task"], facts["form"]
    if ([str(name) for name in made.classes_.tolist()], made.task_) != (predictor.labels, predictor.task):
        raise DataError(f"{str(path / FILE)!r}: its classes or its task are not those of lf.json. Way out: save it again.")
    made.predictor_, made.figures_, made.cost_usd_ = predictor, facts["figures"], float(facts["cost_usd"])
    made.choices_, made._facts = Choices(**{**facts["choices"], "device": predictor.device}), facts["fitted_on"]
    made._named, made._asked = facts["asked"], _asked(made, facts["asked"], predictor.scorers)
    return made


def _asked(made: AutoFusionClassifier, before: list[Any], names: list[str]) -> list[Scorer] | None:
    """Who is asked about new texts; None: somebody would have to be, and nobody was named."""
    if made.llm_provider is None:
        return None if before else []
    members = made._members(made._targets)
    if len(members) != len(names):
        raise ConfigurationError(f"llm_provider names {len(members)} LLMs; the model was fitted with {len(names)}: {names}.")
    return members


def push_to_hub(
    classifier: AutoFusionClassifier, repo_id: str, test: Any, license: str | None, private: bool, token: str | None
) -> str:
    """Uploads, see `AutoFusionClassifier.push_to_hub`."""
    from huggingface_hub import HfApi

    card = classifier.model_card(test, license)
    with tempfile.TemporaryDirectory(prefix="lf_lightning_") as folder:
        target = Path(folder) / "model"
        save(classifier, target)
        (target / CARD).write_text(card, encoding="utf-8")
        api = HfApi(token=token)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=target, commit_message="AutoFusionClassifier of lf_lightning")
    return str(address)


def fetched(repo_id_or_folder: str | os.PathLike[str], revision: str | None) -> Path:
    """Returns the folder, from the hub (or its cache) if there is none of this name here.

    Raises:
        ConfigurationError: The hub does not have it, or cannot be reached.
    """
    path = Path(repo_id_or_folder).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                str(repo_id_or_folder), revision=revision, allow_patterns=["*.json", "*.safetensors", "tokenizer/*"]
            )
        )
    except Exception as error:  # the hub client's errors have no common base
        raise ConfigurationError(
            f"repo_id_or_folder={str(repo_id_or_folder)!r} is no folder here, and the hub gave none: "
            f"{str(error).splitlines()[0][:200]} Way out: a folder that save wrote, or user/name of a repository you may read."
        ) from error


def identity_of(scorer: Scorer) -> dict[str, Any]:
    """Returns name and identity of a scorer, plain values without a key, for people."""
    spec = scorer.card.spec
    provider = spec.get("provider")
    known: Mapping[str, Any] = provider if isinstance(provider, Mapping) else spec
    shown = {key: known[key] for key in ("provider", "model", "scorer") if isinstance(known.get(key), str)}
    return {"name": scorer.card.name, **shown, "mode": str(spec.get("mode", ""))}


def _facts(classifier: AutoFusionClassifier) -> dict[str, Any]:
    given = classifier._said().get_params(deep=False)
    asked = [identity_of(scorer) for scorer in classifier._asked] if classifier._asked is not None else classifier._named
    params = {name: _plain(value) for name, value in given.items() if name not in MADE_HERE}
    who = params["llm_provider"]
    if not asked or not all(isinstance(name, str) for name in (who if isinstance(who, list) else [who])):
        params.update(dict.fromkeys(WHO))
    if not isinstance(params["mode"], str):
        params["mode"] = "auto"
    if not isinstance(params["random_state"], int):
        params["random_state"] = None
    facts = {
        "format": FORMAT,
        "classes": {"dtype": _dtype(classifier.classes_), "values": classifier.classes_.tolist()},
        "form": classifier._form,
        "task": classifier.task_,
        "params": params,
        "asked": asked,
        "cost_usd": classifier.cost_usd_,
        "dtype": classifier.predictor_.dtype,
        "figures": classifier.figures_,
        "fitted_on": classifier._facts,
        "choices": {name: value for name, value in classifier.choices_._asdict().items() if name != "device"},
    }
    check_plain(facts, "the classifier")
    return facts


def _plain(value: Any) -> Any:
    """A value as JSON holds it; objects become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    return value if value is None or type(value) in (str, int, float, bool) else None


def _dtype(classes: NDArray[Any]) -> str:
    name = classes.dtype.str if classes.dtype.kind == "U" else str(classes.dtype)
    if not _DTYPE.fullmatch(name) or not all(type(label) in (str, int, float, bool) for label in classes.tolist()):
        raise ConfigurationError(
            f"classes_ of the type {name} cannot be saved as JSON. Way out: labels that are strings, numbers or booleans."
        )
    return name


def _classes(facts: Mapping[str, Any], path: Path) -> NDArray[Any]:
    dtype, values = facts.get("dtype"), facts.get("values")
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or not isinstance(values, list):
        raise DataError(f"{str(path / FILE)!r}: its classes cannot be read. Way out: save it again.")
    made = np.empty(len(values), dtype=np.dtype(dtype))
    made[:] = values
    return made


_KINDS: dict[str, Any] = {
    "classes": dict,
    "form": str,
    "task": str,
    "params": dict,
    "asked": list,
    "cost_usd": (int, float),
    "dtype": str,
    "figures": dict,
    "fitted_on": dict,
    "choices": dict,
}


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{str(file)!r} is larger than {MAX_BYTES:,} bytes, so it was not read. It is none of ours.")
        facts = json.loads(file.read_text(encoding="ascii"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"folder={str(file.parent)!r} has no {FILE}. Way out: a folder that AutoFusionClassifier.save wrote; what "
            "Predictor.save wrote is read by Predictor.of_run."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {str(error)[:200]}. Way out: save it again.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise DataError(f"{str(file)!r} is not of format {FORMAT}. Way out: save it again, or the release that saved it.")
    wrong = [name for name, kind in _KINDS.items() if not isinstance(facts.get(name), kind)]
    if wrong or facts["form"] not in FORMS or facts["dtype"] not in ("float32", "bfloat16"):
        raise DataError(
            f"{str(file)!r}: {wrong or ['form', 'dtype']} are not what save writes. It was changed: do not load it."
        )
    if set(facts["choices"]) | {"device"} != set(Choices._fields):
        raise DataError(f"{str(file)!r}: 'choices' are not what save writes. Way out: save it again.")
    return cast("dict[str, Any]", facts)
