"""The application: all routes, and the middleware in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import qbrm
from qbrm.errors import InputError
from qbrm.serving.authentication import answers_to, bears
from qbrm.serving.batching import Batcher, Model, OverloadedError
from qbrm.serving.classify import classify_routes
from qbrm.serving.metrics import CountRequests, Metrics
from qbrm.serving.openrlhf import openrlhf_routes
from qbrm.serving.page import page_routes
from qbrm.serving.request_limits import Check, RequestLimits
from qbrm.serving.routes import v1_routes
from qbrm.serving.settings import Limits
from qbrm.serving.slime import slime_routes

# Paths that need no token: they reveal nothing about the model or its requests.
PUBLIC = ("/", "/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json", "/healthz", "/readyz")
DESCRIPTION = (
    "Rewards refined by an energy score, with the whole distribution p(r | e). Every refusal is a JSON object with one "
    "line of `detail`."
)
LONGEST_PLACE = 200
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


def create_app(
    model: Model,
    name: str,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        model: what answers.
        name: of the model, for people.
        limits: size and time limits; None for the defaults.
        token: that requests must bear; None requires none.
        hosts: names that the server answers to; None for any.
    """
    limits = limits or Limits()
    metrics = Metrics()
    batcher = Batcher(model, limits, metrics)
    app = FastAPI(
        title="QBRM",
        description=DESCRIPTION,
        version=qbrm.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _running(batcher),
        exception_handlers={
            RequestValidationError: _not_as_expected,
            InputError: _not_as_expected,
            OverloadedError: _too_much,
            TimeoutError: _try_again,
            Exception: _failed,
        },
    )
    # RequestLimits checks the token; this documents it, and gives the documentation page a field for it.
    documented = [] if token is None else [Depends(HTTPBearer(auto_error=False))]
    scoring = v1_routes(name, batcher, limits), openrlhf_routes(batcher, limits)
    for routes in (*scoring, classify_routes(name, batcher, limits), slime_routes(batcher, limits)):
        app.include_router(routes, dependencies=documented)
    app.include_router(_status_routes(batcher, metrics))
    app.include_router(page_routes())
    checks: list[Check] = [] if hosts is None else [answers_to(hosts)]
    if token is not None:
        checks.append(bears(token, PUBLIC))
    paths = frozenset(app.openapi()["paths"]) | frozenset(PUBLIC)
    return SafeHeaders(CountRequests(RequestLimits(app, limits, checks), metrics, paths))


class SafeHeaders:
    """Middleware that adds security headers for browsers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)


@asynccontextmanager
async def _running(batcher: Batcher) -> AsyncIterator[None]:
    batcher.start()
    yield
    await batcher.stop()


def _status_routes(batcher: Batcher, metrics: Metrics) -> APIRouter:
    routes = APIRouter(tags=["status"])

    @routes.get("/healthz", responses={503: {"description": "Nothing answers requests any more."}})
    async def healthy() -> JSONResponse:
        """Answer while the process lives, and the thread that uses the model."""
        alive = batcher.alive
        return JSONResponse({"status": "alive" if alive else "dead"}, 200 if alive else 503)

    @routes.get("/readyz", responses={503: {"description": "A request made now would have to wait too long."}})
    async def ready() -> JSONResponse:
        """Say whether a request made now can expect an answer in time."""
        ready = batcher.ready
        return JSONResponse({"status": "ready" if ready else "busy"}, 200 if ready else 503)

    @routes.get("/metrics", response_class=Response)
    async def for_prometheus() -> Response:
        """Counters in Prometheus's text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return routes


async def _not_as_expected(request: Request, error: Exception) -> JSONResponse:
    detail = _first(error) if isinstance(error, RequestValidationError) else str(error)
    return JSONResponse({"detail": detail}, 422)


def _first(error: RequestValidationError) -> str:
    """One line on the first error, without the input, which may be large or not even valid text."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:LONGEST_PLACE]
    return f"{place}: {first['msg']}"


async def _too_much(request: Request, error: Exception) -> JSONResponse:
    retry = error.retry_seconds if isinstance(error, OverloadedError) else 1
    return JSONResponse({"detail": str(error)}, 429, {"retry-after": str(retry)})


async def _try_again(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, {"retry-after": "1"})


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the model failed; the server's log says why."}, 500)
