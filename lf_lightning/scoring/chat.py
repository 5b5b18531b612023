"""Chat prompts of LLMs: Jinja files in which texts stand between marks that they cannot close."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from jinja2 import FunctionLoader, Template, TemplateError

from lf_lightning.contract import Task
from lf_lightning.errors import ConfigurationError
from lf_lightning.scoring.prompts import read_template, sandbox

TEMPLATES = Path(__file__).parent / "templates"
_CODE_DIGITS = 8


@dataclass(frozen=True)
class Option:
    """A label as a prompt shows it: what the model is to answer with, its name, and a description or nothing."""

    key: str
    name: str
    description: str = ""


class ChatPrompt:
    """The system's and the user's message of a request.

    Args:
        template: A file of `scoring/templates`, or a path that ends in `.jinja` of one's own, which may extend `base.jinja`.
        task: multiclass or multilabel.
        description: What the texts are and what is asked about them, in words.
        reason: Whether a reason is asked for.
        grouped: Whether a request holds several texts.
        lettered: Whether options have letters; else the model answers with names.

    Attributes:
        system: The system's message, the same for every text.
        sources: The template's source under "", and by name those that it extends.

    Raises:
        ConfigurationError: The file is not there, does not render, or does not show the texts and the options as they come.
    """

    def __init__(
        self,
        template: str,
        task: Task,
        description: str = "",
        reason: bool = False,
        grouped: bool = False,
        lettered: bool = True,
    ) -> None:
        self.name = template
        self._fixed = {
            "task": task,
            "description": description,
            "reason": reason,
            "grouped": grouped,
            "lettered": lettered,
        }
        own = read_template(str(TEMPLATES / template) if template in _packaged() else template)
        self.sources = {"": own}
        try:
            self._template: Template = sandbox(FunctionLoader(self._load)).from_string(own)
        except TemplateError as error:
            raise ConfigurationError(f"template={template!r} is not a Jinja template: {error}.") from error
        self.system = self._render("system")
        self._check()

    def user(
        self,
        texts: Sequence[str],
        options: Sequence[Option],
        examples: Sequence[tuple[str, str]] = (),
        about: Option | None = None,
    ) -> str:
        """Returns the user's message, which is the same whenever its arguments are.

        Args:
            texts: The texts to classify; the first has the id 1.
            options: The labels in the order to show.
            examples: Texts and their right answers.
            about: The label that a yes-or-no question is about.

        Raises:
            ConfigurationError: The template does not render.
        """
        code = closing_code([*(text for text, _ in examples), *texts])
        grouped = bool(self._fixed["grouped"])
        return self._render(
            "user",
            options=[Option(_line(option.key), _line(option.name), option.description) for option in options],
            examples=[{"text": framed(text, code), "answer": answer} for text, answer in examples],
            texts=[
                {"id": str(number), "text": framed(text, code, str(number) if grouped else None)}
                for number, text in enumerate(texts, start=1)
            ],
            about=None if about is None else Option(about.key, _line(about.name), about.description),
        )

    def _load(self, name: str) -> str | None:
        """Gives Jinja a file of `scoring/templates` that another extends, and notes its source."""
        if name not in _packaged():
            return None
        self.sources[name] = source = read_template(str(TEMPLATES / name))
        return source

    def _render(self, part: Literal["system", "user"], **values: Any) -> str:
        empty: dict[str, Any] = {"options": [], "examples": [], "texts": [], "about": None}
        try:
            return self._template.render({**empty, **self._fixed, **values, "part": part}).strip("\n")
        except TemplateError as error:
            raise ConfigurationError(
                f"template={self.name!r} does not render: {error}. It may use part, task, description, reason, grouped, "
                "lettered, options, examples, texts and about."
            ) from error

    def _check(self) -> None:
        text, key = " <&>\n{{ text }}", "<&key>"
        shown = self.user([text], [Option(key, key)], about=Option(key, key))
        if framed(text, closing_code([text]), "1" if self._fixed["grouped"] else None) not in shown or key not in shown:
            raise ConfigurationError(
                f"template={self.name!r} must show each of texts, and the keys of options or the name of about, in its part "
                '"user" and without a filter. Begin with {% extends "base.jinja" %} and change a block.'
            )


def framed(text: str, code: str, number: str | None = None) -> str:
    """Returns a text between its marks, each on a line of its own."""
    name = "" if number is None else f' id="{number}"'
    return f"<text-{code}{name}>\n{text}\n</text-{code}>"


def closing_code(texts: Sequence[str]) -> str:
    """Returns 8 hex digits that none of the texts holds: the beginning of a SHA-256 over them, of the first that will do.

    So no text can close its frame, even one that was written to, and equal texts make equal prompts.

    >>> closing_code(["a"]) == closing_code(["a"]), closing_code(["a"]) in closing_code([f"</text-{closing_code(['a'])}>"])
    (True, False)
    """
    digest = sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    lowered = [text.lower() for text in texts]
    while True:
        code = digest.hexdigest()[:_CODE_DIGITS]
        if not any(code in text for text in lowered):
            return code
        digest.update(b"again")


def _line(name: str) -> str:
    """A name on one line: one with newlines, other control signs or space around it is shown as a JSON string."""
    return name if name.isprintable() and name == name.strip() else json.dumps(name, ensure_ascii=False)


def _packaged() -> frozenset[str]:
    return frozenset(path.name for path in TEMPLATES.glob("*.jinja"))
