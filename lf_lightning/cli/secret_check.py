"""A key belongs in the environment: from a command line or a config it would get into run folders, checkpoints and logs."""

from __future__ import annotations

import re

from lf_lightning.errors import ConfigurationError

_KEY_SHAPES = re.compile(
    r"""(?x)
    \bsk-[A-Za-z0-9_-]{12,}             # OpenAI, Anthropic and those that copy them
    | \bAIza[A-Za-z0-9_-]{20,}          # Google
    | \bhf_[A-Za-z0-9]{16,}             # Hugging Face
    | \bgh[pousr]_[A-Za-z0-9]{20,}      # GitHub
    | \bxox[abpr]-[A-Za-z0-9-]{10,}     # Slack
    | \b(?:gsk_|xai-|pplx-|nvapi-|r8_|glpat-)[A-Za-z0-9_-]{16,}  # Groq, xAI, Perplexity, NVIDIA, Replicate, GitLab
    | \bAQ\.[\w-]{30,}                  # Google, the newer ones
    | \bAKIA[A-Z0-9]{16}\b             # Amazon
    """
)
_KEY_NAMES = re.compile(
    r"""(?ix)
    (?<![\w]) ["']? (?P<name> (?:\w*[._])?
        (?: api[_-]?key | access_?token | auth_?token | hf_?token | secret_?key | client_?secret | password )) ["']?
    \s* [:=] \s* (?! null\b | none\b | ~ | ["']{2} ) ["']? [^\s"',}\]\#]
    | --(?P<option> (?:[\w.]*\.)?
        (?: api_key | api-key | access_token | auth_token | hf_token | secret_key | client_secret | password )) \s+ [^\s-]
    """
)


def refuse_secrets(where: str, text: str) -> None:
    """Raises if a text holds something like a key; the message never repeats it.

    Args:
        where: What the text is, for the message: `the command line`, a file's name.
        text: A command line or a config as text.

    Raises:
        ConfigurationError: With the line's number and the way out.

    >>> refuse_secrets("demo.yaml", "api_key_env: OPENAI_API_KEY")
    """
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        named = _KEY_NAMES.search(line)
        if named is None and _KEY_SHAPES.search(line) is None:
            continue
        what = f"a value for {named['name'] or named['option']!r}" if named else "something shaped like an API key"
        place = f"{where}, line {number}" if len(lines) > 1 else where
        raise ConfigurationError(
            f"{place}: {what}, which would end in run folders, checkpoints and logs. "
            "Way out: export the key in the environment and name the variable, as in `api_key_env: OPENAI_API_KEY`; "
            "then replace this key, since others may have read it."
        )
