"""Finding and loading causal language models: hub names, folders, installed packages, GGUF files; and what identifies them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lf_lightning.errors import ConfigurationError, MissingDependencyError
from lf_lightning.packaged import locate
from lf_lightning.pretrained import load_pretrained

DType = Literal["float32", "bfloat16", "float16"]
_WEIGHTS = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja")


@dataclass(frozen=True)
class CausalModel:
    """Where a model lies and which one it is.

    Attributes:
        path: A folder, or a hub name.
        gguf_file: The file inside the folder whose packed weights are meant, if any.
        revision: The hub's revision, if one was asked for.
        identity: Plain values that name the weights wherever they lie: the file's or folder's name with the SHA-256 of the
            content, or the hub name with the commit.
    """

    path: str
    gguf_file: str | None
    revision: str | None
    identity: dict[str, str] = field(hash=False)


def find_model(model: str, gguf_file: str | None = None, revision: str | None = None) -> CausalModel:
    """Returns where a model lies, having read its files for their SHA-256 but not loaded it.

    Args:
        model: Hub name, folder, `.gguf` file, or `package:NAME/PATH` of a folder or `.gguf` file.
        gguf_file: A `.gguf` file inside the folder `model`.
        revision: Branch, tag or commit of a hub name.

    Raises:
        ConfigurationError: There is no such file, folder or hub name.
        MissingDependencyError: A package that the model needs is not installed.
    """
    path = Path(locate(model, extra="local-llm"))
    if path.suffix == ".gguf":
        if gguf_file is not None:
            raise ConfigurationError(f"gguf_file={gguf_file!r}: model={model!r} is a .gguf file already. Give one of the two.")
        path, gguf_file = path.parent, path.name
    if gguf_file is not None:
        if not (path / gguf_file).is_file():
            raise ConfigurationError(f"model={model!r}, gguf_file={gguf_file!r}: there is no such file.")
        for package in ("gguf", "accelerate"):
            if find_spec(package) is None:
                raise MissingDependencyError.of(package, "local-llm")
        return CausalModel(str(path), gguf_file, None, {"model": gguf_file, "sha256": _digest([path / gguf_file])})
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS)
        return CausalModel(str(path), None, None, {"model": path.resolve().name, "sha256": _digest(files)})
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    config = load_pretrained(AutoConfig, model, argument="model", extra="local-llm", **options)
    commit = getattr(config, "_commit_hash", None) or revision or "main"
    return CausalModel(model, None, revision, {"model": model, "revision": commit})


def load_model(found: CausalModel, dtype: DType, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Returns the model in evaluation mode on its device, and its tokenizer. GGUF weights are unpacked.

    Args:
        found: From `find_model`.
        dtype: Type of the weights and of the arithmetic.
        device: `auto` (CUDA, else Apple's, else the CPU) or a torch device.

    Raises:
        ConfigurationError: It cannot be loaded.
    """
    options: dict[str, Any] = {} if found.revision is None else {"revision": found.revision}
    weights = dict(options)
    if found.gguf_file is not None:
        options["gguf_file"] = weights["gguf_file"] = found.gguf_file
        unpacked = getattr(transformers, "GgufConfig", None)  # older releases have no packed layers and need no such wish
        if unpacked is not None:
            weights["quantization_config"] = unpacked(dequantize=True)
    tokenizer = load_pretrained(AutoTokenizer, found.path, argument="model", extra="local-llm", **options)
    model = load_pretrained(
        AutoModelForCausalLM, found.path, argument="model", extra="local-llm", dtype=getattr(torch, dtype), **weights
    )
    return model.eval().to(device_of(device)), tokenizer


def device_of(device: str) -> torch.device:
    """Returns a torch device, having chosen it where `device` is auto."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _digest(files: list[Path]) -> str:
    """SHA-256 over names and contents: one file's own digest where there is one, so that it can be checked with sha256sum."""
    digests = []
    for file in files:
        digest = sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        digests.append(digest.hexdigest())
    if len(files) == 1:
        return digests[0]
    return sha256("".join(f"{d}  {f.name}\n" for d, f in zip(digests, files, strict=True)).encode()).hexdigest()
