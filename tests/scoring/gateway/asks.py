"""What the tests of the gateway ask, and a process that asks it: python asks.py '{"url": ..., "folder": ..., "count": ...}'."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lf_lightning.scoring.gateway import Gateway, Progress
from lf_lightning.scoring.prices import Price
from lf_lightning.scoring.providers import OpenAICompatible
from lf_lightning.scoring.requests import Request

PRICE = Price(1.0, 4.0)
"""That of the fault server."""
KEY_NAME = "LF_FAULT_SERVER_KEY"


def requests(count: int, first: int = 0) -> list[Request]:
    return [Request("", f"text {number}", 1, top_logprobs=5) for number in range(first, first + count)]


def provider(url: str) -> OpenAICompatible:
    return OpenAICompatible("m", url, api_key_env=KEY_NAME)


def gateway(folder: Path | str, **arguments: Any) -> Gateway:
    return Gateway(str(folder), **{"price": PRICE, "timeout": 60.0, **arguments})


def main(order: dict[str, Any]) -> None:
    def tell(progress: Progress) -> None:
        print(json.dumps({"done": progress.done}), flush=True)

    answers = gateway(order["folder"], **order.get("gateway", {})).ask(
        provider(order["url"]), requests(order["count"], order.get("first", 0)), max_cost=order.get("max_cost"), advance=tell
    )
    halt = None if answers.halt is None else type(answers.halt).__name__
    code = 0 if answers.halt is None else answers.halt.exit_code
    print(
        json.dumps({"answered": len(answers.responses), "failed": len(answers.failures), "asked": answers.asked, "halt": halt})
    )
    sys.exit(code)


if __name__ == "__main__":
    assert os.environ[KEY_NAME]
    main(json.loads(sys.argv[1]))
