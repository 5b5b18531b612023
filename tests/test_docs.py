"""The documentation site: pages and code blocks as they stand, and the site as `make docs` builds it."""

from __future__ import annotations

import ast
import csv
import doctest
import importlib.util
import io
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytest.importorskip("mkdocs")

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError

from lf_lightning.cli import COMMANDS
from tests.report.conftest import Browser, browser  # noqa: F401  the fixture

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(DOCS.rglob("*.md"))


def hook(name: str) -> ModuleType:
    """A hook as MkDocs loads it: by its file, since `docs` is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


documents, reference = hook("documents"), hook("reference")
SOURCES = [*WRITTEN, ROOT / "README.md", *(ROOT / name for name in documents.DOCUMENTS)]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [
    pytest.param(found[1], found[2], id=f"{path.relative_to(ROOT)}-{number}")
    for path in SOURCES
    for number, found in enumerate(FENCED.finditer(path.read_text(encoding="utf-8")))
]
ELSEWHERE = (
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*",
    r"<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon)[^>]*\bhref=[\"']?(?:https?:)?//[^>]*",
)
"""What a browser would load from another server."""


def leaves(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from leaves(part)


def test_the_navigation_names_every_page_once() -> None:
    nav = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    made = ["reference/cli.md", "reference/python/index.md", *(f"reference/python/{name}.md" for name in reference.modules())]
    written = [path.relative_to(DOCS).as_posix() for path in WRITTEN]
    assert sorted(nav) == sorted([*written, *made, *documents.DOCUMENTS.values()])


def test_every_how_to_is_in_the_list_of_the_readme() -> None:
    listed = documents.section((ROOT / "README.md").read_text(encoding="utf-8"), "How to")
    for page in (DOCS / "how-to").glob("*.md"):
        assert page.name == "index.md" or f"](docs/how-to/{page.name})" in listed, page.name


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_a_code_block_is_of_a_known_language_and_parses(language: str, text: str) -> None:
    if language == "python":
        ast.parse(text)
    elif language == "bash":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True, capture_output=True)
    elif language == "yaml":
        assert isinstance(yaml.safe_load(text), dict)
    elif language == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(text))}) == 1
    else:
        assert language == ""  # the figure and the tree


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_block_hides_from_the_tests(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\s+```|~~~", line)] == []
    assert sum(line.startswith("```") for line in lines) % 2 == 0


@pytest.mark.parametrize("module", [documents, reference], ids=["documents", "reference"])
def test_examples_of_the_hooks(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


def test_a_section_ends_at_the_next_and_a_comment_in_a_block_is_none() -> None:
    text = "# A\n\n## B\n\n```bash\n## no heading\nlf fit\n```\n\n### C\n\nc\n\n## D\n\nd\n"
    assert documents.section(text, "B") == "```bash\n## no heading\nlf fit\n```\n\n### C\n\nc"
    with pytest.raises(PluginError, match="'E': 0 of them"):
        documents.section(text, "E")


def test_links_lead_where_the_site_has_the_text() -> None:
    linked = documents.linked
    assert linked("[a](PAPERS.md#losses)", "README.md", "how-to/index.md") == "[a](../papers.md#losses)"
    assert linked("[a](docs/how-to/budget.md)", "README.md", "index.md") == "[a](how-to/budget.md)"
    assert linked("[a](../../README.md)", "docs/how-to/x.md", "how-to/x.md") == "[a](../index.md)"
    assert linked("[the file](CITATION.cff)", "README.md", "index.md") == "`CITATION.cff`"
    assert linked("```\n[a](nowhere)\n```", "README.md", "index.md") == "```\n[a](nowhere)\n```"
    assert linked("[a](https://example.org) `p \\| q`", "README.md", "index.md") == "[a](https://example.org) `p | q`"
    with pytest.raises(PluginError, match=r"README\.md links to nowhere"):
        linked("[a](nowhere)", "README.md", "index.md")


def test_each_module_with_public_names_has_a_page() -> None:
    assert {"auto", "heads", "scoring.providers", "losses", "systems"} <= set(reference.modules())
    assert "::: lf_lightning.heads.PooledFusion" in reference.of_module("heads")
    assert "::: lf_lightning.heads.functional" in reference.of_module("heads")
    assert all(reference.first_line(reference.file_of(name)) for name in reference.modules())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors, in this process: the parsers of `lf` import what other tests have imported."""
    folder = tmp_path_factory.mktemp("site")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore")  # of the tools' own code; what they say of the pages is logged, and strict
        patched.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.run_event("startup", command="build", dirty=False)
        build(config)
    return folder


@pytest.mark.slow
def test_the_site_is_built_and_knows_commands_and_names(site: Path) -> None:
    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f'id="lf-{command}"' in page, command
    for option in ("--trainer.accumulate_grad_batches", "--max_failed", "--sees_label", "--max_queue"):
        assert option in page, option
    for name in reference.modules():
        text = (site / "reference" / "python" / f"{name}.html").read_text(encoding="utf-8")
        for public in reference.public(reference.file_of(name)):
            assert f'id="lf_lightning.{name}.{public}"' in text, f"{name}.{public}"
    for name, method in {"predictor": "Ensemble.predict_proba", "auto": "AutoFusionClassifier.push_to_hub"}.items():
        text = (site / "reference" / "python" / f"{name}.html").read_text(encoding="utf-8")
        assert f'id="lf_lightning.{name}.{method}"' in text, method
    assert "<td>encoder alone</td>" in (site / "index.html").read_text(encoding="utf-8")
    assert "co-training  reads them as PSEUDO-LABELS" in (site / "concepts.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere_and_names_no_path(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = [found for pattern in ELSEWHERE for found in re.findall(pattern, text)]
        assert loaded == [], page.name
        for path in (str(ROOT), sys.prefix, "site-packages", "/home/", "/root/"):
            assert path not in text, (page.name, path)


@pytest.mark.slow
def test_a_page_from_disk_finds_words_and_asks_nobody(site: Path, browser: Browser) -> None:  # noqa: F811  the fixture
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver = browser.open(site / "index.html")
    driver.get(f"{(site / 'index.html').as_uri()}?q=deferral")
    found = WebDriverWait(driver, 120).until(lambda it: it.find_elements(By.CSS_SELECTOR, ".md-search-result__item"))
    assert any(
        "reference/python/deferral.html" in (link.get_attribute("href") or "")
        for item in found
        for link in item.find_elements(By.TAG_NAME, "a")
    )
    assert {address.partition(":")[0] for address in browser.requests()} <= {"about", "blob", "data", "file"}
    assert browser.complaints() == []
