"""The reference of the command and of the packages, made from the help texts, the parsers and the docstrings."""

from __future__ import annotations

import ast
import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lf_lightning"
MODULES = ("contract", "encoders", "errors", "losses")
"""Modules that are no packages and that a user meets."""
SILENT = ("cli",)
"""Packages that are met by the command line only."""
WITH_ALL_OPTIONS = ("fit", "score", "reason", "serve")
"""Commands whose parsers are made from signatures; validate, test and predict take what fit takes."""
WITH_INHERITED = ("auto", "predictor")
"""Packages whose classes have methods of a base that is no page's."""
WIDTH = "96"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the reference."""
    pages = {"reference/cli.md": commands(), "reference/python/index.md": overview()}
    pages |= {f"reference/python/{name}.md": of_module(name) for name in modules()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def commands() -> str:
    """Returns the page of `lf`: each command's help, and every option where a parser knows more."""
    from lf_lightning.cli import COMMANDS, help_texts

    parts = [
        "# The command `lf`",
        "What `lf --help` and `lf COMMAND --help` print.",
        f"```text\n{help_texts.OVERVIEW}```",
    ]
    for command in COMMANDS:
        parts += [f"## lf {command}", f"```text\n{help_texts.of(command)}```"]
        if command in WITH_ALL_OPTIONS:
            everything = "".join(f"    {line}".rstrip() + "\n" for line in all_options(command).splitlines())
            parts.append(f'??? note "Every option: lf {command} --help-all"\n    ```text\n{everything}    ```')
    return "\n\n".join(parts) + "\n"


def all_options(command: str) -> str:
    """Returns what a command's parser says of itself.

    Raises:
        PluginError: The command did not print its options.
    """
    from lf_lightning import cli

    printed = io.StringIO()
    with patch.dict(os.environ, COLUMNS=WIDTH), redirect_stdout(printed):
        code = cli.main([command, "--help-all"])
    if code != 0 or not printed.getvalue():
        raise PluginError(f"lf {command} --help-all ended with {code}. Way out: pip install the extra `docs`.")
    return printed.getvalue()


def modules() -> list[str]:
    """Returns the modules that have a page, by their names without the package's."""
    packages = [
        ".".join(file.parent.relative_to(PACKAGE).parts)
        for file in sorted(PACKAGE.rglob("__init__.py"))
        if file.parent != PACKAGE and public(file)
    ]
    return sorted([*(name for name in packages if name not in SILENT), *MODULES])


def public(file: Path) -> list[str]:
    """Returns the names of a module's `__all__`, without importing it; none where it has none."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def first_line(file: Path) -> str:
    """Returns the first paragraph of a module's docstring."""
    return " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())


def file_of(name: str) -> Path:
    """Returns the file of a module."""
    path = PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def overview() -> str:
    """Returns the list of modules, with what each says of itself."""
    top = [name for name in public(PACKAGE / "__init__.py") if not name.startswith("_")]
    rows = [f"| [`{name}`]({name}.md) | {first_line(file_of(name))} |" for name in modules()]
    return "\n".join(
        [
            "# Python",
            "",
            f"`from lf_lightning import ...`: {', '.join(f'`{name}`' for name in top)}. All else is in the packages:",
            "",
            "| `lf_lightning.` | |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


def of_module(name: str) -> str:
    """Returns the page of a module: what it exports, then its formulas."""
    file = file_of(name)
    exported = public(file)
    whole = f"lf_lightning.{name}"
    parts = [f"# {name}"]
    if exported:
        parts.append(documented(whole, "members: false, show_root_heading: false, show_root_toc_entry: false"))
        inherited = ", inherited_members: true" if name in WITH_INHERITED else ""
        parts += [documented(f"{whole}.{member}", f"heading_level: 2{inherited}") for member in exported]
    else:
        parts.append(documented(whole, "heading_level: 1, show_root_heading: false, show_root_toc_entry: false"))
    if file.name == "__init__.py" and (file.parent / "functional.py").is_file():
        parts.append(f"## {whole}.functional")
        parts.append(
            documented(f"{whole}.functional", "heading_level: 2, show_root_heading: false, show_root_toc_entry: false")
        )
    return "\n\n".join(parts) + "\n"


def documented(name: str, options: str) -> str:
    """Returns what mkdocstrings replaces by the docstrings of a name."""
    return f"::: {name}\n    options: {{{options}}}"
