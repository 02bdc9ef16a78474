"""uvicorn's HTTP/1.1 with time limits for untrusted clients.

uvicorn limits the size of headers and the pause between two requests. It waits without limit for headers that arrive
slowly and for a client that does not read its answer, and drops the answer to a client that closed its sending side.
Here both waits are limited, and that answer is sent. :class:`qbrm.serving.request_limits.RequestLimits` limits bodies.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_BYTES = 16_384


class PatientProtocol(H11Protocol):
    """A connection with a time limit for every wait.

    Attributes:
        header_seconds: for the headers of a request to arrive, from the connection or the request's first byte on.
        reading_seconds: for a client to read what was sent.
        most_connections: open at once; further ones are closed immediately.
    """

    header_seconds: ClassVar[float] = 10.0
    reading_seconds: ClassVar[float] = 20.0
    most_connections: ClassVar[int] = 2048

    _header_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        # With no room in the buffer, every byte that the client has not taken yet is reported to pause_writing.
        transport.set_write_buffer_limits(high=0)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Parse data, and check whether the headers are complete."""
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch_headers()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a request that is complete, and refuse one that no longer can be, before the connection closes."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return True
        if answering or self.conn.trailing_data[0]:
            self._refuse(HTTPStatus.BAD_REQUEST, "The request ended before it was complete.")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        for timer in (self._header_timer, self._reading_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        if self._reading_timer is None:
            self._reading_timer = self.loop.call_later(self.reading_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client has read everything."""
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _watch_headers(self) -> None:
        """Run the header timer while headers are incomplete and uvicorn's keep-alive timer does not run."""
        waiting = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        if waiting and self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.header_seconds, self._headers_late)
        elif not waiting and self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The headers did not arrive in time.")
        self.transport.close()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.transport.is_closing():
            return
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (response, h11.Data(data=reason.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
