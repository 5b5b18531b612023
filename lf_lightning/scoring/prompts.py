"""Prompts for likelihoods: Jinja templates in which the text is data and the label is where the likelihood is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import BaseLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lf_lightning.errors import ConfigurationError

_MARK = "\ue000"  # of a private-use area; made longer than any run of it in the text


class Prompt:
    """A template with `text` and `label` (one label's phrase), and `labels` (all phrases) where a prompt lists the options.

    Args:
        template: The Jinja source, or the path of a file that ends in `.jinja`. One newline at its end does not count.

    Raises:
        ConfigurationError: The file is not there, or the template does not render or leaves out `text` or `label`.
    """

    def __init__(self, template: str) -> None:
        self.source = read_template(template) if template.endswith(".jinja") else template
        try:
            self._template = sandbox().from_string(self.source)
        except TemplateError as error:
            raise ConfigurationError(f"template={self.source!r} is not a Jinja template: {error}.") from error
        trial = self._render("<text>", "<label>", ["<label>"])
        if "<text>" not in trial or "<label>" not in trial:
            raise ConfigurationError(f"template={self.source!r} must show both {{{{ text }}}} and {{{{ label }}}}.")

    def __getstate__(self) -> dict[str, str]:
        return {"source": self.source}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.source = state["source"]
        self._template = sandbox().from_string(self.source)  # Jinja's own cannot be pickled

    def completion(self, text: str, phrases: Sequence[str]) -> tuple[str, list[str]]:
        """Returns what comes before the label, and for each of K phrases what is weighed: the phrase and the template's rest.

        Raises:
            ConfigurationError: The label is not shown exactly once.
        """
        mark = _MARK
        while mark in text or any(mark in phrase for phrase in phrases):
            mark += _MARK
        before, *after = self._render(text, mark, phrases).split(mark)
        if len(after) != 1:
            raise self._misplaced()
        return before, [phrase + after[0] for phrase in phrases]

    def statements(self, text: str, phrases: Sequence[str]) -> list[str]:
        """Returns K prompts, one about each phrase, to be answered yes or no."""
        return [self._render(text, phrase, phrases) for phrase in phrases]

    def require_completion(self) -> None:
        """Raises unless the template shows the label once and behind the text.

        Raises:
            ConfigurationError: It does not.
        """
        if "<text>" not in self.completion("<text>", ["<label>"])[0]:
            raise self._misplaced()

    def _misplaced(self) -> ConfigurationError:
        return ConfigurationError(
            f"template={self.source!r} must show {{{{ label }}}} once, behind {{{{ text }}}} and without a filter."
        )

    def _render(self, text: str, label: str, labels: Sequence[str]) -> str:
        try:
            return self._template.render(text=text, label=label, labels=list(labels))
        except TemplateError as error:
            raise ConfigurationError(
                f"template={self.source!r} does not render: {error}. It may use text, label and labels."
            ) from error


def sandbox(loader: BaseLoader | None = None) -> ImmutableSandboxedEnvironment:
    """Returns the environment of all prompts: what is not given is an error, and a template reaches nothing but its values.

    Args:
        loader: Finds the templates that another extends, which makes it the environment of whole files: lines that hold a
            statement alone leave no line behind.
    """
    files = loader is not None
    return ImmutableSandboxedEnvironment(
        loader=loader, undefined=StrictUndefined, autoescape=False, trim_blocks=files, lstrip_blocks=files
    )


def read_template(path: str) -> str:
    """Returns the source of a template.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"template={path!r} cannot be read: {error.strerror}.") from error
