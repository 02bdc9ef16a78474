"""A refined reward model over HTTP: the reward protocols of trainers, a typed JSON API, and a page to look at.

http_protocol -> request_limits (host, token, size, time) -> routes (also trainers'), page -> batching -> the model
"""

from __future__ import annotations

from collections.abc import Callable

from qbrm.errors import InputError
from qbrm.serving.settings import ServerSettings

PACKAGES = ("fastapi", "fastapi_swagger", "prometheus_client", "uvicorn")


def serve(settings: ServerSettings, tell: Callable[..., None]) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Raises:
        InputError: if the packages for serving are not installed, or the token, model or address is not usable.
    """
    try:
        from qbrm.serving.server import serve as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in PACKAGES:
            raise
        raise InputError(f"serving needs {error.name}; install it with: pip install 'qbrm[serve]'") from error
    run(settings, tell)
