"""The parser of fit, validate, test and predict: exact keys, short errors."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from lf_lightning.cli.hints import complaint


class CommandParser(LightningArgumentParser):
    """LightningCLI's parser, without completion of prefixes and without the usage of all options after an error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix that argparse completes would make a mistyped key pass on the command line and fail in a YAML.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the message with the nearest right names and exits with 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        print(complaint(self, message), file=sys.stderr)
        self.exit(2)
