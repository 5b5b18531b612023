"""`serve`: loads a model, and answers over HTTP until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import uvicorn

from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.deferring import Deferring, ask_scorers
from lf_lightning.predictor.ensemble import Ensemble
from lf_lightning.predictor.predictor import DType, Predictor
from lf_lightning.predictor.saved_ensemble import load_system
from lf_lightning.scoring.base import Scorer
from lf_lightning.serving.app import create_app
from lf_lightning.serving.limits import Limits
from lf_lightning.serving.service import Service, check_queue

GRACE = 30
"""Seconds that requests under way get to end, once the server was told to stop."""


def serve(
    model: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_batch: int = 32,
    max_wait: float = 0.0,
    max_queue: int = 1024,
    max_texts: int = 256,
    max_characters: int = 20_000,
    max_body: int = 4 << 20,
    timeout: float = 30.0,
    dtype: DType = "float32",
    device: str = "auto",
    compile: bool = False,
    scorers: Sequence[Scorer] = (),
    llm_budget: float | None = None,
    target_accuracy: float | None = None,
    max_cost: float | None = None,
) -> None:
    """Serves a model until SIGTERM or Ctrl-C; then takes no more requests, answers those under way, and returns.

    `lf serve` then ends with 0 after SIGTERM, and with 130 after Ctrl-C, as every command.

    Args:
        model: Folder that Predictor.save or Ensemble.save wrote, run folder, or checkpoint.
        host: Address to listen on; 127.0.0.1 is this machine only. There is no access control: put a proxy before others.
        port: Its port; 0 takes a free one.
        max_batch: Texts that the encoder reads at once.
        max_wait: Seconds that a text waits for others while the encoder is idle; what waits while it is busy is read together.
        max_queue: Texts that may wait; a request beyond gets 503 and Retry-After.
        max_texts: Texts in a request.
        max_characters: Characters of a text.
        max_body: Bytes of a request.
        timeout: Seconds for a request.
        dtype: float32, bfloat16 or float16.
        device: auto, cpu, cuda, cuda:1, mps.
        compile: Compile the encoder first; not of an ensemble.
        scorers: Who can be asked about texts: live scorers of the system, by name.
        llm_budget: Share of the texts, within 0 and 1, about which they are asked: those where it pays most.
        target_accuracy: Instead: ask as often as this accuracy took on the validation rows.
        max_cost: USD that the scorers' response caches may ever add up to, per cache; then the encoder goes on alone.

    Raises:
        ConfigurationError: A number is out of range, the port is taken, there are scorers without a budget or the reverse, or
            an ensemble should ask scorers.
        KeyboardInterrupt: After Ctrl-C, in the end.
    """
    check_queue(max_batch, max_wait, max_queue)
    limits = Limits(max_texts, max_characters, max_body, timeout)
    asking = llm_budget is not None or target_accuracy is not None
    if asking != bool(scorers):
        raise ConfigurationError(
            f"llm_budget={llm_budget}, target_accuracy={target_accuracy} and {len(scorers)} scorers: a budget needs a scorer "
            "to ask, and a scorer needs a budget. Way out: --scorer scoring.yaml --llm-budget 0.2."
        )
    with closing(_bound(host, port)) as listener:
        predictor: Predictor | Ensemble
        if compile:
            predictor = Predictor.of_run(model, "best", max_batch, dtype, device, compile)
        else:
            predictor = load_system(model, "best", max_batch, dtype, device)
        deferral: dict[str, Any] = {}
        if asking:
            if not isinstance(predictor, Predictor):
                raise ConfigurationError(f"{model!r} is an ensemble, which asks no scorer. Way out: one of its members.")
            deferring = Deferring(predictor.module)
            lacking = [name for name in predictor.scorers if name not in [scorer.card.name for scorer in scorers]]
            if lacking:
                raise ConfigurationError(
                    f"the system has the scorers {predictor.scorers}, of which {lacking} cannot be asked. Way out: the config "
                    "of each by --scorer."
                )
            for scorer in scorers:
                scorer.max_cost = max_cost
            plan = deferring.plan(budget=llm_budget, target_accuracy=target_accuracy)
            deferral = {"deferring": deferring, "plan": plan, "ask": ask_scorers(scorers, predictor.labels)}
        service = Service(predictor, max_batch, max_wait, max_queue, **deferral)
        _count_costs(service, scorers)
        predictor.predict(["a first text, so that the second finds all in place"])
        where = "http://{}:{}".format(*listener.getsockname()[:2])
        said = f"lf serve: {model} at {where} (the page), {where}/openapi.json. Ctrl-C ends it."
        _run(_Server(_config(create_app(service, limits), limits), service, said), listener)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, said: str) -> None:
        super().__init__(config)
        self._service, self._said = service, said

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._said, flush=True)  # who waits for this line may connect

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.hurry()
        await super().shutdown(sockets)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    # uvicorn answers what is under way, then raises the signal anew, which would end this process as if it had failed.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _config(app: Any, limits: Limits) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # a path may hold what was meant for a body
        server_header=False,
        timeout_graceful_shutdown=max(GRACE, int(limits.timeout) + 1),
        backlog=2048,
    )


def _bound(host: str, port: int) -> socket.socket:
    """A socket that holds the port; it listens only once there is a model, so that nobody waits before."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"host={host!r}, port={port}: {error}. Way out: another --port, or 0 for a free one."
        ) from error
    return listener


def _count_costs(service: Service, scorers: Sequence[Scorer]) -> None:
    ledgers = [
        ledger for scorer in scorers if (ledger := getattr(getattr(scorer, "gateway", None), "ledger", None)) is not None
    ]
    if ledgers:
        service.metrics.llm_cost.set_function(lambda: sum(ledger.total().spent for ledger in ledgers) / 1e9)
