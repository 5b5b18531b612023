"""Puts a report together: facts into a template, with styles, script and rows inside, and writes the file."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lf_lightning import __version__
from lf_lightning.errors import ConfigurationError
from lf_lightning.report.comparison_facts import comparison_facts
from lf_lightning.report.run_facts import run_facts
from lf_lightning.results import atomic_file
from lf_lightning.results.finding import find_runs
from lf_lightning.results.predictions import encodable

MOST_ROWS = 2000
MOST_RUNS = 8

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    by: str = "macro_f1",
    most_rows: int = MOST_ROWS,
) -> Path:
    """Writes the page of a run, or of a comparison of several, and returns its path.

    Args:
        runs: Run folders, experiments or patterns, as `lf compare` takes them.
        out: The file; None: `report.html` in the run folder, or `comparison.html` in the working folder.
        by: What ranks a comparison.
        most_rows: Rows with their text on the page at most; mistakes and disagreements come first.

    Raises:
        ConfigurationError: No run, runs that cannot be compared, or a file that cannot be written.
        DataError: A record or a table of predictions is damaged.
    """
    if most_rows < 0:
        raise ConfigurationError(f"rows={most_rows}: give 0 or more.")
    found = find_runs(runs)
    if len(found.records) == 1:
        folder, record = next(iter(found.records.items()))
        path = Path(out) if out is not None else folder / "report.html"
        html = render("run.html", run_facts(folder, record, most_rows))
    else:
        path = Path(out) if out is not None else Path("comparison.html")
        html = render("comparison.html", comparison_facts(found.records, by, MOST_RUNS, most_rows))
    try:
        with atomic_file(path) as file:
            file.write(html.encode("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--out {str(path)!r} cannot be written: {error.strerror}. Way out: another file.") from error
    return path


def render(template: str, facts: dict[str, Any]) -> str:
    """Returns a page as HTML. Everything that is not markup of the templates is escaped.

    The script is named by its hash in the page's Content-Security-Policy, so no other script runs, whatever a text says; and
    nothing may be fetched.

    Args:
        template: `run.html` or `comparison.html`.
        facts: What it shows; `data` goes to the script as JSON.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    html = environment.get_template(template).render(
        **facts,
        version=__version__,
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        json_data=_json(facts["data"]),
    )
    return encodable(html)


def _json(data: Any) -> str:
    """JSON that no HTML parser sees an end of its element in."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
