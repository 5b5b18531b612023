"""The framed texts of a prompt, read back out of it."""

from __future__ import annotations

import re


def texts_in(prompt: str) -> list[str]:
    """Returns the texts between the marks of a prompt, found by the code of the last closing mark, as a strict reader would.

    Raises:
        AssertionError: Marks of that code do not open and close by turns.
    """
    code = re.findall(r"^</text-([0-9a-f]{8})>$", prompt, flags=re.M)[-1]
    texts, rest = [], prompt
    while (opened := re.search(rf'^<text-{code}(?: id="\d+")?>\n', rest, flags=re.M)) is not None:
        assert f"</text-{code}>" not in rest[: opened.start()]
        inside, closed, rest = rest[opened.end() :].partition(f"\n</text-{code}>")
        assert closed
        assert f"<text-{code}" not in inside
        texts.append(inside)
    assert code not in rest
    return texts
