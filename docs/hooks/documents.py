"""Documents of the repository as pages of the site, sections of them inside other pages, and links that hold on both sides.

Every text is kept once. PAPERS.md and the like become pages as they are; a page takes a section of a document by the line
`<!-- section FILE: HEADING -->`, or what stands before the first heading by `<!-- opening FILE -->`. Links are written as they
work in the repository: a link to a page leads to the page, one to another file of the repository becomes its name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = {
    "PAPERS.md": "papers.md",
    "benchmarks/README.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""The documents that are pages, by their pages."""
HOMES = {**DOCUMENTS, "README.md": "index.md"}
"""Where a link to a document leads on the site."""

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_INCLUDED = re.compile(r"^<!-- (section|opening) ([\w./-]+)(?:: (.+?))? -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\[\]]+)\]\(([^)\s#]+)(#[^)\s]+)?\)")
_CODE = re.compile(r"`[^`\n]+`")


def opening(text: str) -> str:
    r"""Returns what stands between a document's title and its first section.

    >>> opening("# A\n\nSays.\n\n## B\n")
    'Says.'
    """
    return re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0].partition("\n")[2].strip()


def section(text: str, heading: str) -> str:
    r"""Returns what stands under a heading of the second level, without the heading.

    >>> section("# A\n\n## B\n\nb\n\n## C\n\nc\n", "B")
    'b'

    Raises:
        PluginError: The document has no such heading, or has it twice.
    """
    parts = _FENCED.split(text)
    for number in range(0, len(parts), 2):  # the others are blocks, where ## is a shell's comment
        parts[number] = re.sub(r"^## ", "\x00", parts[number], flags=re.MULTILINE)
    sections = (part.partition("\n") for part in "".join(parts).split("\x00")[1:])
    found = [body for name, _, body in sections if name == heading]
    if len(found) != 1:
        raise PluginError(f"heading {heading!r}: {len(found)} of them. Way out: name a heading (##) of the document.")
    return found[0].strip()


def linked(text: str, source: str, page: str) -> str:
    """Returns Markdown with its links as the site has them.

    Args:
        text: Markdown that lies in the repository.
        source: Its file, from the repository's root.
        page: The page that it stands on, from the root of the pages.

    Raises:
        PluginError: A link leads to a file that is not there.
    """

    def led(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        home = HOMES.get(path) or (path.removeprefix("docs/") if re.fullmatch(r"docs/.+\.md", path) else None)
        if home is None and source.startswith("docs/") and target.startswith("reference/"):
            home = target  # made by reference.py
        if home is None:
            if not (ROOT / path).exists():
                raise PluginError(f"{source} links to {target}, which is not in the repository. Way out: mend the link.")
            return label if label.startswith("`") else f"`{path}`"
        return f"[{label}]({posixpath.relpath(home, posixpath.dirname(page) or '.')}{anchor})"

    def plain(part: str) -> str:
        # A bar inside code needs a backslash in a table on the repository's side, and none here.
        return _LINK.sub(led, _CODE.sub(lambda found: found[0].replace("\\|", "|"), part))

    return "".join(part if number % 2 else plain(part) for number, part in enumerate(_FENCED.split(text)))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents as pages."""
    for source, page in DOCUMENTS.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  passed by name
    """Puts sections in and links right."""
    name = page.file.src_uri
    source = next((source for source, home in DOCUMENTS.items() if home == name), f"docs/{name}")

    def put(found: re.Match[str]) -> str:
        text = (ROOT / found[2]).read_text(encoding="utf-8")
        return linked(section(text, found[3]) if found[1] == "section" else opening(text), found[2], name)

    return _INCLUDED.sub(put, linked(markdown, source, name))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Has the pages built anew when a document changes, while they are served."""
    config.watch.extend(str(ROOT / name) for name in HOMES)
    return config
