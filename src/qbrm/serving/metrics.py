"""Metrics for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLIENT_LEFT = 499  # as nginx counts a request whose client closed the connection before the answer
METHODS = ("GET", "HEAD", "POST")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        self.requests = counter("qbrm_requests", "Requests answered.", ("method", "path", "status"))
        self.request_seconds = histogram("qbrm_request_seconds", "From headers to answer.", ("path",), buckets=SECONDS)
        self.scored = counter("qbrm_responses_scored", "Responses that the model scored.")
        self.batch_size = histogram("qbrm_batch_responses", "Responses in a batch.", buckets=SIZES)
        self.model_seconds = histogram("qbrm_model_seconds", "Model time of a batch.", buckets=SECONDS)
        waiting = "Responses that wait for the model or are in it."
        self.waiting = Gauge("qbrm_responses_waiting", waiting, registry=registry)

    @contextmanager
    def batch(self, responses: int) -> Iterator[None]:
        """Measure a batch that goes through the model."""
        with self.model_seconds.time():
            yield
        self.batch_size.observe(responses)
        self.scored.inc(responses)

    def render(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)


class CountRequests:
    """Middleware that counts and times requests; unknown paths and methods share one label, so that labels stay few."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = CLIENT_LEFT, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, path, str(status)).inc()
            self._metrics.request_seconds.labels(path).observe(time.perf_counter() - start)
