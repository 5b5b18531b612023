"""The index of what must be survived stays true: every case has tests, and every test that it names is there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

TESTS = Path(__file__).parent.parent
CASES: dict[str, dict[str, list[str]]] = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8"))


@cache
def functions(path: Path) -> frozenset[str]:
    """The tests of a file, those of classes with the class before them; a test that is always skipped does not count."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for one in inner:
            skipped = any("mark.skip" in ast.unparse(mark) and "skipif" not in ast.unparse(mark) for mark in _marks(one))
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and one.name.startswith("test_") and not skipped:
                found.add(f"{node.name}.{one.name}" if isinstance(node, ast.ClassDef) else one.name)
    return frozenset(found)


def _marks(node: ast.stmt) -> list[ast.expr]:
    return list(getattr(node, "decorator_list", []))


def test_all_38_cases_are_there_in_order() -> None:
    assert [int(name.split(" ", 1)[0]) for name in CASES] == list(range(1, 39))


@pytest.mark.parametrize("case", CASES)
def test_every_named_test_exists(case: str) -> None:
    named = [(path, name) for path, names in CASES[case].items() for name in names]
    assert named
    assert len(set(named)) == len(named)
    missing = [f"{path}::{name}" for path, name in named if not (TESTS / path).is_file() or name not in functions(TESTS / path)]
    assert not missing


def test_each_file_of_this_folder_proves_a_case() -> None:
    named = {path for case in CASES.values() for path in case}
    ours = {f"robustness/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert ours - named == {"robustness/test_cases.py"}
