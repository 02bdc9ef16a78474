"""Routes that read JSON at little cost: bytes to values in one step, a long body outside the event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from qbrm.serving.request_limits import SHORT_BODY

HALF_A_PAIR = re.compile("surrogate|hex escape")


class JsonRequest(Request):
    """A request whose JSON is read without a copy of its text, which may need four times its bytes."""

    async def json(self) -> Any:
        """The values in the body.

        Raises:
            HTTPException: if it is not JSON, or has half a surrogate pair in it, which no tokenizer takes.
        """
        body = await self.body()
        try:
            return from_json(body) if len(body) <= SHORT_BODY else await asyncio.to_thread(from_json, body)
        except ValueError as error:
            half = "half a surrogate pair, " if HALF_A_PAIR.search(str(error)) else ""
            raise HTTPException(422, f"body: {half}{error}; expected JSON, and text that UTF-8 can hold.") from error


class JsonRoute(APIRoute):
    """A route that reads its requests so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Answer a request as FastAPI does, but for how the body is read."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await answer(JsonRequest(request.scope, request.receive))

        return handler
