"""What a config may cause to be imported, for parsers with and without Lightning."""

from __future__ import annotations

from jsonargparse import set_parsing_settings

from lf_lightning import imports

# Inside allowed packages, what reads or runs code that a config names.
NEVER = (
    "torch.hub",
    "torch.load",
    "torch.package",
    "torch.serialization",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
)


def limit_imports() -> None:
    """Lets a config name classes of the allowed packages only; the others are refused before they are imported."""
    set_parsing_settings(import_path_denylist=["*", *NEVER], import_path_allowlist=list(imports.allowed()))
