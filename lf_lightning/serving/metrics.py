"""What is counted, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The numbers of one service, in a registry of its own; no label holds anything that a request said."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("lf_requests", "Requests by route and status.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "lf_request_seconds", "Seconds from a prediction request to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self.texts = Counter("lf_texts", "Texts that were answered.", registry=self.registry)
        self.batch = Histogram("lf_batch_texts", "Texts that the encoder read at once.", buckets=_TEXTS, registry=self.registry)
        self.waiting = Gauge("lf_waiting_texts", "Texts in the queue.", registry=self.registry)
        self.llm_calls = Counter(
            "lf_llm_calls", "Texts about which a scorer was asked, by whether it had an opinion.", ["scorer", "answered"],
            registry=self.registry,
        )  # fmt: skip
        self.llm_cost = Gauge(
            "lf_llm_cost_usd", "USD that the replies in the scorers' response caches cost, earlier runs included.",
            registry=self.registry,
        )  # fmt: skip

    def page(self) -> bytes:
        """Returns the numbers as Prometheus reads them."""
        return generate_latest(self.registry)
