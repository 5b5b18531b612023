"""The HTTP application: POST /predict, GET /health, /info, /metrics, /openapi.json, and a page to try it by hand."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

import lf_lightning
from lf_lightning.serving.batching import QueueFullError
from lf_lightning.serving.limits import PROBLEM, BoundedBody, Limits, Problem
from lf_lightning.serving.messages import (
    PredictRequest,
    PredictResponse,
    ProblemBody,
    answered,
    explained,
    questions_of,
)
from lf_lightning.serving.service import Service

_PAGE = Path(__file__).with_name("page.html")
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_WRONG = {
    400: "Broken JSON",
    413: "Too many, too long, too large",
    422: "Wrong body",
    503: "Busy: see Retry-After",
    500: "Failed",
}

_log = logging.getLogger(__name__)


def create_app(service: Service, limits: Limits | None = None) -> FastAPI:
    """Returns the application.

    Args:
        service: What answers; it begins and ends with the application.
        limits: What a request may ask for.
    """
    bounds = Limits() if limits is None else limits

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="lf serve",
        version=lf_lightning.__version__,
        summary="Calibrated labels of texts.",
        description=f"A request may have {bounds.max_texts} texts of {bounds.max_characters:,} characters, and "
        f"{bounds.max_body:,} bytes. What goes wrong is told as `{PROBLEM}` (RFC 9457).",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service, app.state.limits = service, bounds
    app.add_middleware(BoundedBody, limits=bounds)
    app.add_api_route(
        "/predict",
        _predict,
        methods=["POST"],
        response_model=PredictResponse,
        summary="Label texts",
        responses={status: {"model": ProblemBody, "description": said} for status, said in _WRONG.items()},
        openapi_extra={"responses": {"200": {"content": {"application/json": {"example": _example(service)}}}}},
    )
    app.add_api_route("/health", _health, methods=["GET"], summary="Whether texts are answered: 200 ready, 503 not")
    app.add_api_route("/info", _info, methods=["GET"], summary="Labels, task, scorers, fingerprint of the model, limits")
    app.add_api_route("/metrics", _metrics, methods=["GET"], summary="Counts for Prometheus", response_class=Response)
    app.add_api_route("/", _page, methods=["GET"], include_in_schema=False, response_class=HTMLResponse)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


async def _predict(body: PredictRequest, request: Request) -> Response:
    service: Service = request.app.state.service
    limits: Limits = request.app.state.limits
    start = time.perf_counter()
    questions = questions_of(body, limits, service)
    try:
        answers = await asyncio.wait_for(service.answer(questions), limits.timeout)
    except QueueFullError as error:
        detail = f"{service.waiting} texts wait already. Way out: try again later, as Retry-After says."
        raise Problem(503, "Busy", detail, retry_after=error.seconds) from error
    except asyncio.TimeoutError as error:
        detail = f"There was no answer within {limits.timeout:g} s. Way out: fewer texts, or again later."
        raise Problem(503, "Too slow", detail, retry_after=limits.timeout) from error
    except Exception as error:
        # Not its message, which may repeat a text.
        _log.error("a batch failed: %s", type(error).__name__)
        raise Problem(500, "Failed", "The model could not answer. The log has the kind of the error.") from error
    service.metrics.texts.inc(len(answers))
    service.metrics.seconds.observe(time.perf_counter() - start)
    service.metrics.requests.labels("/predict", "200").inc()
    return JSONResponse(answered(answers, service).model_dump())


async def _health(request: Request) -> Response:
    ready = request.app.state.service.is_ready
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


async def _info(request: Request) -> Response:
    return JSONResponse({**request.app.state.service.facts(), "limits": vars(request.app.state.limits)})


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    service.metrics.waiting.set(service.waiting)
    return Response(service.metrics.page(), media_type="text/plain; version=0.0.4")


async def _page() -> HTMLResponse:
    return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_SAFE)


async def _of_problem(request: Request, error: Any) -> Response:
    if request.url.path == "/predict":
        request.app.state.service.metrics.requests.labels("/predict", str(error.status)).inc()
    return JSONResponse(error.body, error.status, headers=error.headers, media_type=PROBLEM)


async def _of_body(request: Request, error: Any) -> Response:
    return await _of_problem(request, explained(error.errors()))


async def _of_route(request: Request, error: Any) -> Response:
    ways = {404: "Way out: POST /predict, GET /health, /info, /metrics, /openapi.json or /.", 405: "Way out: POST /predict."}
    problem = Problem(error.status_code, str(error.detail), ways.get(error.status_code, str(error.detail)))
    problem.headers.update(error.headers or {})
    return await _of_problem(request, problem)


_HANDLERS: dict[Any, Any] = {Problem: _of_problem, RequestValidationError: _of_body, HTTPException: _of_route}


def _example(service: Service) -> dict[str, Any]:
    labels = service.predictor.labels
    shares = [0.9, *([0.1 / (len(labels) - 1)] * (len(labels) - 1))] if len(labels) > 1 else [0.9]
    prediction = {
        "labels": labels[:1],
        "probabilities": dict(zip(labels, shares, strict=True)),
        "asked": [],
        "answered": [],
        "reason": None,
    }
    return {"predictions": [prediction], "fingerprint": service.fingerprint}
