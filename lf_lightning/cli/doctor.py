"""`lf doctor`: what this machine has, and what a config needs that is missing. Makes no connection unless asked to."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lf_lightning import __version__
from lf_lightning.cli import configs
from lf_lightning.errors import ConfigurationError, LFError
from lf_lightning.packaged import PREFIX, locate

DISTRIBUTION = "lf-lightning"
KEY_VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY", "HF_TOKEN", "WANDB_API_KEY")
HUB_TIMEOUT = 1.0
HUB_TABLE = "hf:"

State = Literal["ok", "absent", "missing"]
"""`absent`: not there, and nothing asks for it. `missing`: something asks for it, so the exit code is 1."""

_TABLE_FILE = re.compile(r"\.(csv|tsv|jsonl|json|parquet)$", re.IGNORECASE)
_PATH_KEY = re.compile(r"(^|_)(file|files|path|folder|dir|store)$")
_OUTPUT_KEY = re.compile(r"(save_dir|default_root_dir|dirpath|ckpt_path)$")
_SOURCE_KEYS = ("train", "validation", "test", "predict", "scores")
_MODEL_KEYS = ("encoder", "tokenizer", "model_name")


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        part: What it is about, such as `package` or `device`.
        name: Of the thing.
        state: Whether it is there.
        note: Version, value or way out.
    """

    part: str
    name: str
    state: State
    note: str


def main(argv: Sequence[str]) -> int:
    """Prints the report.

    Returns:
        1 if something that is needed is missing, else 0.
    """
    parser = argparse.ArgumentParser(prog="lf doctor", allow_abbrev=False)
    parser.add_argument("--config", help="also check what this config names")
    parser.add_argument("--online", action="store_true", help="also try whether the model hub answers")
    given = parser.parse_args(argv)
    findings = [*machine(), *packages(), *extras(), *keys(), *hub(given.online), *packaged_configs()]
    if given.config is not None:
        findings += needs(configs.find(given.config))
    show(findings, Console())
    missing = [finding for finding in findings if finding.state == "missing"]
    for finding in missing:
        print(f"lf doctor: missing: {finding.part} {finding.name}: {finding.note}", file=sys.stderr)
    return 1 if missing else 0


def machine() -> Iterator[Finding]:
    """Yields Python, cores, memory, and each device with the precisions it can train in."""
    import torch

    yield Finding(
        "python", platform.python_version(), "ok", f"{platform.system()} {platform.machine()}, lf_lightning {__version__}"
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", f"{usable}", "ok", f"torch uses {torch.get_num_threads()} threads")
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        yield Finding("memory", f"{total / 2**30:.0f} GiB", "ok", "")
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("device", "cpu", "ok", f"{capability}: 32-true; bf16-mixed works, faster only with bf16 instructions")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        precisions = "32-true, 16-mixed" + (", bf16-mixed" if torch.cuda.is_bf16_supported() else "")
        yield Finding(
            "device", f"cuda:{number}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB: {precisions}"
        )
    if not torch.cuda.is_available():
        yield Finding("device", "cuda", "absent", "none is usable by this torch")
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", "ok", "32-true")


def packages() -> Iterator[Finding]:
    """Yields each dependency with its version, and whether that satisfies this package's floor."""
    for requirement in _requirements():
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _installed("package", requirement, "missing", f'pip install "{requirement}"')


def extras() -> Iterator[Finding]:
    """Yields each extra: installed, or the pip line that brings it."""
    names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    for extra in names:
        of_extra = [item for item in _requirements() if item.marker is not None and not item.marker.evaluate({"extra": ""})]
        of_extra = [item for item in of_extra if item.marker is not None and item.marker.evaluate({"extra": extra})]
        way_out = f'pip install "{DISTRIBUTION}[{extra}]"'
        found = [_installed("extra", item, "absent", way_out) for item in of_extra]
        lacking = [item.name for item in found if item.state != "ok"]
        note = (
            f"without {', '.join(lacking)}: {way_out}" if lacking else ", ".join(f"{item.name} {item.note}" for item in found)
        )
        yield Finding("extra", extra, "absent" if lacking else "ok", note)


def keys() -> Iterator[Finding]:
    """Yields whether each provider's variable is set, never what it holds."""
    for variable in KEY_VARIABLES:
        is_set = bool(os.environ.get(variable))
        yield Finding("key", variable, "ok" if is_set else "absent", "set" if is_set else "not set")


def hub(online: bool) -> Iterator[Finding]:
    """Yields whether the model hub answers, if asked to look."""
    if not online:
        yield Finding("hub", "not tried", "ok", "lf doctor --online tries")
        return
    from huggingface_hub import constants

    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT).close()  # noqa: S310
    except urllib.error.HTTPError as answer:
        yield Finding("hub", constants.ENDPOINT, "ok", f"answers ({answer.code})")
    except OSError as error:
        yield Finding("hub", constants.ENDPOINT, "absent", f"{error}. Use package: names or local folders")
    else:
        yield Finding("hub", constants.ENDPOINT, "ok", "answers")


def packaged_configs() -> Iterator[Finding]:
    """Yields the packaged configs."""
    names = configs.packaged_names()
    yield Finding("configs", str(len(names)), "ok" if names else "absent", ", ".join(names))


def needs(config: Path) -> list[Finding]:
    """Returns what a config names: packages, files, models, environment variables.

    Args:
        config: A YAML file; paths in it are seen from the working folder.

    Raises:
        ConfigurationError: It is no YAML mapping.
    """
    tree = configs.tree_of(config)
    if not isinstance(tree, Mapping):
        raise ConfigurationError(f"{config} holds no mapping of options.")
    found = [finding for key, value in _leaves(tree) if (finding := _need(key, value)) is not None]
    return list(dict.fromkeys(found))


def _need(key: str, value: str) -> Finding | None:
    part = "config needs"
    if value.startswith(PREFIX):
        try:
            return Finding(part, value, "ok", locate(value))
        except LFError as error:
            return Finding(part, value, "missing", str(error))
    if key.endswith("_env"):
        is_set = bool(os.environ.get(value))
        return Finding(
            part, f"${value}", "ok" if is_set else "missing", "set" if is_set else f"not set. Way out: export {value}=..."
        )
    if _OUTPUT_KEY.search(key):
        return None
    if key == "class_path":
        return _class(part, value)
    if value.startswith(HUB_TABLE):
        return Finding(part, value, "absent", "a data set of the hub: the first run fetches it (extra `datasets`)")
    if _TABLE_FILE.search(value) or _PATH_KEY.search(key) or key in _SOURCE_KEYS:
        exists = Path(value).expanduser().exists()
        return Finding(
            part, value, "ok" if exists else "missing", "exists" if exists else f"{key}: not found from {Path.cwd()}"
        )
    if key in _MODEL_KEYS:
        return _model(part, value)
    return None


def _class(part: str, path: str) -> Finding | None:
    package, dot, _ = path.partition(".")
    if not dot:
        return None
    with suppress(ValueError):  # no name of a package
        if find_spec(package) is not None:  # found, never imported
            return None
    return Finding(part, path, "missing", f"the package {package!r} is not installed")


def _model(part: str, name: str) -> Finding:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if Path(name).expanduser().is_dir():
        return Finding(part, name, "ok", "a local folder")
    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return Finding(part, name, "ok", "in the hub's cache on this machine")
    except HFValidationError:
        return Finding(part, name, "missing", "neither a folder on this machine nor a name that the hub could have")
    return Finding(part, name, "absent", "not on this machine: the first run fetches it from the hub (lf doctor --online)")


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, key)
    elif isinstance(tree, str):
        yield key, tree


def _requirements() -> list[Requirement]:
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise ConfigurationError(f"{DISTRIBUTION} is not installed here, only imported. Way out: pip install -e .") from None
    return [Requirement(line) for line in lines]


def _installed(part: str, requirement: Requirement, otherwise: State, way_out: str) -> Finding:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(part, requirement.name, otherwise, f"not installed: {way_out}")
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(part, requirement.name, otherwise, f"{version}, but {requirement.specifier} is asked for: {way_out}")
    return Finding(part, requirement.name, "ok", version)


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints a table on a terminal, and one line for each finding, parted by tabs, elsewhere."""
    if not console.is_terminal:
        for finding in findings:
            print("\t".join(finding))
        return
    table = Table("part", "name", "state", "note", title="lf doctor")
    colours = {"ok": "green", "absent": "yellow", "missing": "bold red"}
    for finding in findings:  # Text: the brackets of `lf-lightning[wandb]` are no markup
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.part, Text(finding.name), state, Text(finding.note))
    console.print(table)
