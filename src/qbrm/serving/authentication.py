"""The token that a request must bear, and the host names that the server answers to."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from qbrm.errors import InputError
from qbrm.serving.request_limits import Check, Refusal

VARIABLE = "QBRM_TOKEN"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


def read_token(file: Path | None) -> str | None:
    """The token in a file, else in the environment; never on the command line, which all users of a machine can read.

    Raises:
        InputError: if the file cannot be read, or the token is not one word of printable ASCII.
    """
    if file is not None:
        try:
            token, source = file.read_text(encoding="ascii", errors="replace").strip(), str(file)
        except OSError as error:
            raise InputError(f"token file {file} cannot be read: {error.strerror}.") from error
    elif VARIABLE in os.environ:
        token, source = os.environ[VARIABLE].strip(), VARIABLE
    else:
        return None
    if not token or not all("!" <= letter <= "~" for letter in token):
        raise InputError(f"the token in {source} is not usable; expected one word of printable ASCII.")
    return token


def bears(token: str, public: Collection[str]) -> Check:
    """Demand the token, as ``Authorization: Bearer`` or as the password of ``Basic``, for all but the public paths.

    Basic serves clients that take only a URL, such as OpenRLHF's: ``http://any:TOKEN@host/get_reward``.
    Digests of equal length are compared in constant time, so neither the token's letters nor its length leak.
    """
    expected = sha256(token.encode()).digest()
    refusal = Refusal(
        HTTPStatus.UNAUTHORIZED, "expected the server's token, as Authorization: Bearer TOKEN.", 'Bearer realm="qbrm"'
    )

    def check(scope: Scope) -> Refusal | None:
        given = _presented(Headers(scope=scope).get("authorization", ""))
        right = hmac.compare_digest(sha256(given).digest(), expected)
        return None if right or scope["path"] in public else refusal

    return check


def _presented(header: str) -> bytes:
    scheme, _, credentials = header.strip().partition(" ")
    given = credentials.strip().encode("latin-1", "replace")
    if scheme.lower() == "bearer":
        return given
    if scheme.lower() == "basic":
        with suppress(ValueError):
            return base64.b64decode(given, validate=True).partition(b":")[2]
    return b""


def answers_to(names: Collection[str]) -> Check:
    """Demand one of these names in the Host header.

    A web page elsewhere can point a name of its own at 127.0.0.1 and so read what a server on loopback answers (DNS
    rebinding); its requests carry that other name. Starlette's TrustedHostMiddleware is not used because it answers
    plain text before the body is read, and its older releases refuse every IPv6 literal.
    """
    refusal = Refusal(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"this server answers to {', '.join(sorted(names))} only; set a token to open it to other names.",
    )

    def check(scope: Scope) -> Refusal | None:
        host = Headers(scope=scope).get("host", "").lower()
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdecimal():
            name = host
        return None if name in names else refusal

    return check
