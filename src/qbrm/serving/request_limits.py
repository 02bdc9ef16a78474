"""Check host, token, type, size and pace of a request before a route sees it, and whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qbrm.serving.settings import MEBIBYTE, Limits

DISCARDING_SECONDS = 5.0
# A shorter body is read within the event loop; a longer one keeps it waiting too long.
SHORT_BODY = 65_536
# One of them stands before every value of JSON but the first.
VALUE_MARKS = (b",", b"[", b"{")


class Refusal(NamedTuple):
    """Why a request is refused: the answer's status, one line for the client, and the WWW-Authenticate of a 401."""

    status: HTTPStatus
    detail: str
    challenge: str | None = None


Check: TypeAlias = Callable[[Scope], Refusal | None]


class ClientLeftError(Exception):
    """The client closed the connection before its request was complete."""


class Body:
    """The body of a request, part by part, from what the server gives an application to read with."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self.more = receive, True

    async def part(self) -> bytes:
        """The next part.

        Raises:
            ClientLeftError: if there is none, because the client closed the connection.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        self.more = message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    async def discard(self) -> None:
        """Read and drop the rest, for at most `DISCARDING_SECONDS`."""
        with anyio.move_on_after(DISCARDING_SECONDS):
            while self.more:
                await self.part()


class RequestLimits:
    """Middleware that refuses requests that fail a check, and passes on the others once their whole body has arrived.

    A body of many small values would take much time and memory to parse, so they are counted first. A request whose
    client leaves before the answer is cancelled.

    A refused body is read and dropped for some seconds after the answer: a client that still sends would else see a
    reset connection instead of it.

    Args:
        app: what answers.
        limits: size of a body and of all bodies, and the time for one to arrive.
        checks: of the headers, in order.
    """

    def __init__(self, app: ASGIApp, limits: Limits, checks: Sequence[Check]) -> None:
        self._app, self._limits, self._checks = app, limits, checks
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with its refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, held = Body(receive), list[bytes]()
        try:
            refusal = self._refusal(scope) or await self._read(body, held)
            if refusal is not None:
                self._forget(held)
                await _refuse(refusal, body, scope, send)
                return
            await self._answer(scope, held[0], receive, send)
        except ClientLeftError:
            return
        finally:
            self._forget(held)

    def _refusal(self, scope: Scope) -> Refusal | None:
        checks = (*self._checks, _announced_type, _announced_once, self._announced_size)
        return next((refusal for check in checks if (refusal := check(scope)) is not None), None)

    def _announced_size(self, scope: Scope) -> Refusal | None:
        length = Headers(scope=scope).get("content-length", "0")
        return self._too_large() if not length.isdecimal() or int(length) > self._limits.body_bytes else None

    async def _read(self, body: Body, held: list[bytes]) -> Refusal | None:
        """Read the body into `held`; its bytes count towards what all requests hold together."""
        try:
            with anyio.fail_after(self._limits.body_seconds):
                size = 0
                while body.more:
                    part = await body.part()
                    size += len(part)
                    if size > self._limits.body_bytes:
                        return self._too_large()
                    if self._buffered + len(part) > self._limits.buffered_bytes:
                        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many large requests; try again later.")
                    self._buffered += len(part)
                    held.append(part)
        except TimeoutError:
            late = f"the body did not arrive within {self._limits.body_seconds:g} s."
            return Refusal(HTTPStatus.REQUEST_TIMEOUT, late)
        held[:] = [b"".join(held)]
        return await self._too_many_values(held[0])

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Pass a request on, and cancel it if its client closes the connection before the answer.

        Raises:
            ClientLeftError: if it does.
        """
        if scope["method"] != "POST":
            await self._app(scope, _replay(body, receive), send)
            return
        answered = False

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        task = asyncio.ensure_future(self._app(scope, _replay(body, receive), noting))
        leaving = asyncio.ensure_future(receive())  # the body is complete: what comes now is the end of the connection
        try:
            await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not (task.done() or answered):
                raise ClientLeftError
            await task
        finally:
            leaving.cancel()
            task.cancel()

    async def _too_many_values(self, body: bytes) -> Refusal | None:
        most = self._limits.values
        if sum(body.count(mark) for mark in VALUE_MARKS) <= most:  # those within texts included
            return None
        if len(body) <= SHORT_BODY:
            many = has_more_marks(body, most)
        else:
            many = await asyncio.to_thread(has_more_marks, body, most)
        if not many:
            return None
        large = f"the body has more than {most} commas and opening brackets outside of texts; expected fewer values."
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, large)

    def _forget(self, held: list[bytes]) -> None:
        self._buffered -= sum(map(len, held))
        held.clear()

    def _too_large(self) -> Refusal:
        expected = f"expected at most {self._limits.body_bytes / MEBIBYTE:g} MiB."
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large; {expected}")


def has_more_marks(body: bytes, most: int) -> bool:
    """Whether JSON has more than `most` of these marks outside strings, in time and memory proportional to it."""
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")  # now a quotation mark opens or closes a string
    marks = strings = place = 0
    while marks <= most and strings <= 2 * (most + 1):  # a string is a value or the key of one
        opening = bare.find(b'"', place)
        end = len(bare) if opening < 0 else opening
        marks += sum(bare.count(mark, place, end) for mark in VALUE_MARKS)
        closing = bare.find(b'"', opening + 1) if opening >= 0 else -1
        if closing < 0:
            return marks > most
        strings, place = strings + 1, closing + 1
    return True


def _announced_once(scope: Scope) -> Refusal | None:
    """Refuse a request with two lengths, of which a proxy in front may have believed the other one."""
    headers = Headers(scope=scope)
    if "content-length" in headers and "transfer-encoding" in headers:
        return Refusal(HTTPStatus.BAD_REQUEST, "both Content-Length and Transfer-Encoding; expected one of them.")
    return None


def _announced_type(scope: Scope) -> Refusal | None:
    """Require JSON: browsers send a form to another site without a preflight request, but not JSON."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if scope["method"] != "POST" or kind == "application/json":
        return None
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json.")


async def _refuse(refusal: Refusal, body: Body, scope: Scope, send: Send) -> None:
    challenge = {} if refusal.challenge is None else {"www-authenticate": refusal.challenge}
    response = JSONResponse({"detail": refusal.detail}, refusal.status, {"connection": "close", **challenge})
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if "expect" not in Headers(scope=scope):
        await body.discard()
    await send({"type": "http.response.body"})


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
