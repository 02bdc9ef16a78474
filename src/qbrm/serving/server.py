"""`qbrm serve`: load a model, bind a socket, answer until told to stop."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from qbrm.errors import InputError
from qbrm.model.energy_reward_model import EnergyRewardModel
from qbrm.serving.app import create_app
from qbrm.serving.authentication import LOOPBACK_NAMES, VARIABLE, read_token
from qbrm.serving.http_protocol import PatientProtocol
from qbrm.serving.settings import Limits, ServerSettings

SPARE_FILES = 64
KEEP_ALIVE_SECONDS = 30


def serve(settings: ServerSettings, tell: Callable[..., None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are still answered.

    Raises:
        InputError: if the token, the model or the address is not usable.
    """
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _stop)
    try:
        _serve(settings, tell)
    except SystemExit as end:
        if end.code:
            raise
    tell("stopped", "all requests are answered")


def _stop(number: int, frame: FrameType | None) -> None:
    """End with code 0. While uvicorn runs it catches the signal itself, and raises it again when all is answered."""
    raise SystemExit(0)


def _serve(settings: ServerSettings, tell: Callable[..., None]) -> None:
    token = read_token(settings.token_file)
    with _bind(settings.host, settings.port) as listener:
        address, port = listener.getsockname()[:2]
        local = ip_address(address).is_loopback
        model = EnergyRewardModel.from_pretrained(settings.model, **settings.options)
        model.score(["warm"], ["up"])  # the first call is slow and may fail: make it before a user does
        gc.collect()
        gc.freeze()  # what lives as long as the server is not searched again and again, which takes long
        hosts = {*LOOPBACK_NAMES, settings.host.lower()} if local and token is None else None
        app = create_app(model, Path(settings.model).name, settings.limits, token=token, hosts=hosts)
        if not local and token is None:
            tell("warning", f"no token is required from clients that reach {address}; set {VARIABLE} or --token-file")
        listener.listen()  # clients may connect as soon as the address is printed; uvicorn answers once it runs
        shown = f"[{address}]" if ":" in address else address
        tell("serving", settings.model, f"http://{shown}:{port}", "Ctrl-C stops")
        configure(app, settings.limits).run(sockets=[listener])


def configure(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """Configure uvicorn with all of its limits, and with :class:`PatientProtocol` for the limits it lacks."""
    logging.getLogger("uvicorn.error").addFilter(_not_the_clients_fault)
    _make_room_for(PatientProtocol.most_connections)
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.body_seconds + limits.answer_seconds) + 1,
    )
    return uvicorn.Server(config)


def _bind(host: str, port: int) -> socket.socket:
    """Reserve the address before the model is loaded, which may take long; accept connections only after."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}; expected a free port.") from error
    return listener


def _not_the_clients_fault(record: logging.LogRecord) -> bool:
    """Keep invalid requests out of the log, which clients could otherwise fill; they are answered all the same."""
    return "Invalid HTTP request" not in record.getMessage()


def _make_room_for(connections: int) -> None:
    """Raise the limit of open files to one per connection; where it stays lower, accept fewer connections."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    PatientProtocol.most_connections = allowed - SPARE_FILES
