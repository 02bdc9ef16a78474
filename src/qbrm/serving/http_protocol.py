"""uvicorn's HTTP/1.1 with limits for untrusted clients.

uvicorn limits the pause between two requests, and the size of headers only while they are incomplete. It waits without
limit for headers that arrive slowly and for a client that does not read its answer, reads a body however small its
chunks are, and drops the answer to a client that closed its sending side. Here the size, both waits and the number of
chunks are limited, and that answer is sent. :class:`qbrm.serving.request_limits.RequestLimits` limits bodies.

A client that closed the connection looks like one that closed its sending side, until it refuses something that is
sent to it. So such a client is sent ``100 Continue`` now and then while it waits, which clients have to ignore.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_BYTES = 16_384
FREE_CHUNKS, CHUNK_BYTES = 4096, 256
END_OF_HEAD = re.compile(rb"\n\r?\n")


class FewChunks(h11.Connection):
    """The parser of a connection, which refuses a body in so many small chunks that reading them keeps others waiting.

    Attributes:
        chunks: that the body may still have; some thousand, and one more for every 256 bytes.
    """

    chunks = 0.0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event.

        Raises:
            h11.RemoteProtocolError: if what arrived is no HTTP, or its chunks are too many.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = float(FREE_CHUNKS)
        elif isinstance(event, h11.Data) and event.chunk_start:
            self.chunks += len(event.data) / CHUNK_BYTES - 1
            if self.chunks < 0:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class PatientProtocol(H11Protocol):
    """A connection with a time limit for every wait.

    Attributes:
        header_seconds: for the headers of a request to arrive, from the connection or the request's first byte on.
        reading_seconds: for a client to read what was sent.
        most_connections: open at once; further ones are closed immediately.
        probe_seconds: until a client that sends no more is first asked whether it is still there; then twice as long.
        refusing_seconds: for a client to read why it is refused before the connection is closed.
    """

    header_seconds: ClassVar[float] = 10.0
    reading_seconds: ClassVar[float] = 20.0
    most_connections: ClassVar[int] = 2048
    probe_seconds: ClassVar[float] = 0.25
    refusing_seconds: ClassVar[float] = 1.0

    _header_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None
    _probe_timer: asyncio.TimerHandle | None = None
    _refused = False

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.conn = FewChunks(h11.SERVER, HEADER_BYTES)

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
        if self._refused:
            return
        super().data_received(data)
        self._watch_headers()

    def handle_events(self) -> None:
        """Parse what has arrived, unless the headers of the next request are too large."""
        if self.conn.their_state is h11.IDLE and self._size_of_head() > HEADER_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The headers exceed {HEADER_BYTES} bytes.")
            return
        super().handle_events()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch_headers()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a request that is complete, and refuse one that no longer can be, before the connection closes."""
        if self._refused:
            return None
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.cycle.more_body:
            self.cycle.keep_alive = False
            self._probe_after(self.probe_seconds)
            return True
        if answering or self.conn.trailing_data[0]:
            self._refuse(HTTPStatus.BAD_REQUEST, "The request ended before it was complete.")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        super().connection_lost(exc)
        for timer in (self._header_timer, self._reading_timer, self._probe_timer):
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

    def _probe_after(self, seconds: float) -> None:
        if self.conn.their_http_version == b"1.1":  # an older client does not know 100 Continue
            self._probe_timer = self.loop.call_later(seconds, self._probe, 2 * seconds)

    def _probe(self, seconds: float) -> None:
        """Send what a client that is gone refuses, which ends the connection at the next attempt to send."""
        if self.cycle.response_started or self.transport.is_closing():
            return
        probe = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
        self.transport.write(self.conn.send(probe) or b"")
        self._probe_after(seconds)

    def _size_of_head(self) -> int:
        """Bytes of the next request's first line and headers that have arrived."""
        received = self.conn.trailing_data[0]
        if len(received) <= HEADER_BYTES:
            return len(received)
        end = END_OF_HEAD.search(received, 0, HEADER_BYTES + 1)
        return len(received) if end is None else end.end()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Write nothing to the log, which clients could otherwise fill; the request is answered without the upgrade."""

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
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answer that nothing more is answered. Closed while the client still sends, it might not see why."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or self.transport.is_closing():
            self.transport.close()
            return
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (response, h11.Data(data=reason.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(self.refusing_seconds, self.transport.close)
