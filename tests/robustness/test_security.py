"""What stays shut: sockets during a fit, and releases of dependencies that were tampered with."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

TAMPERED = {"lightning": ["2.6.2", "2.6.3"]}
"""Releases that carried somebody else's code."""
RUNS_CODE = {"lightning": ["2.6.5"], "torch": ["2.5.1"], "jinja2": ["3.1.4"]}
"""Releases in which a checkpoint or a text could run code."""


def test_no_socket_is_opened_by_a_fit_and_a_test(odd_run: Path, connections: list[object]) -> None:
    assert (odd_run / "results.json").is_file()
    assert connections == []


def test_tampered_and_unsafe_releases_are_excluded() -> None:
    wanted = [Requirement(line) for line in metadata.requires("lf-lightning") or []]
    floors = {requirement.name: requirement.specifier for requirement in wanted}
    lines = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    for name, versions in [*TAMPERED.items(), *RUNS_CODE.items()]:
        assert not [version for version in versions if version in floors[name]], name
        assert pinned[name].strip() in floors[name]
