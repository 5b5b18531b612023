"""Loading from the hub, a folder or an installed package: local files first, and a clear error without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants

from lf_lightning.errors import ConfigurationError
from lf_lightning.packaged import locate


def load_pretrained(loader: Any, name: str, *, argument: str, extra: str = "quickstart", **options: Any) -> Any:
    """Returns `loader.from_pretrained(name)`, asking the network only for what is not on this machine.

    Code of the hub is never run (`trust_remote_code` stays off).

    Args:
        loader: A transformers Auto class, such as `AutoModel` or `AutoTokenizer`.
        name: Hub name, local folder, `.gguf` file, or `package:NAME/PATH`.
        argument: The argument that held `name`, for the error message.
        extra: The extra that brings `package:` names.
        options: Passed on to `from_pretrained`.

    Raises:
        ConfigurationError: There is no such folder, and the hub does not have it or cannot be reached.
        MissingDependencyError: The package of a `package:` name is not installed.
    """
    path = located = locate(name, extra=extra)
    if path.endswith(".gguf"):  # a folder with packed weights, for transformers
        path, options["gguf_file"] = str(Path(path).parent), Path(path).name
    options["trust_remote_code"] = False  # left open, transformers asks at the terminal whether to run it
    try:
        return loader.from_pretrained(path, local_files_only=True, **options)
    except (OSError, ValueError) as local:
        reason: Exception = local
    if path == located == name and not constants.HF_HUB_OFFLINE:
        try:
            HfApi().model_info(name, timeout=5)  # one try: without a network, from_pretrained would repeat for 46 s
            return loader.from_pretrained(path, **options)
        except Exception as remote:  # noqa: BLE001  the hub client's errors have no common base
            reason = remote
    raise ConfigurationError(
        f"{argument}={name!r} could not be loaded: {str(reason).splitlines()[0][:200]} "
        "Way out: a folder with the model, a hub name while online (it is kept for later), or package:NAME/PATH."
    ) from reason
