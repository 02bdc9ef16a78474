"""The page at ``/``: one file that fetches nothing but this server's own answers."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import fastapi_swagger
from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

SWAGGER = Path(fastapi_swagger.__file__).parent / "resources"
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def page_routes() -> APIRouter:
    """The page, and the documentation of the JSON API with its scripts from this computer."""
    routes = APIRouter(include_in_schema=False)
    page = files("qbrm.serving").joinpath("page.html").read_text(encoding="utf-8")
    docs = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="QBRM: the JSON API",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
    documentation = bytes(docs.body).decode()

    @routes.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": content_security_policy(page)})

    @routes.get("/docs")
    async def swagger_page() -> HTMLResponse:
        policy = content_security_policy(documentation, own_files=True)
        return HTMLResponse(documentation, headers={"content-security-policy": policy})

    @routes.get("/docs/swagger-ui-bundle.js")
    async def swagger_script() -> FileResponse:
        return FileResponse(SWAGGER / "swagger-ui-bundle.js")

    @routes.get("/docs/swagger-ui.css")
    async def swagger_style() -> FileResponse:
        return FileResponse(SWAGGER / "swagger-ui.css")

    return routes


def content_security_policy(html: str, *, own_files: bool = False) -> str:
    """A policy under which a browser runs only the inline scripts and styles of a page and contacts no other server.

    With `own_files` it may also load scripts, styles and data: images of this server.
    """
    own = "'self' " if own_files else ""
    rules = [
        "default-src 'none'",
        f"script-src {own}{_digests(html, 'script')}",
        f"style-src {own}{_digests(html, 'style')}".rstrip(),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(rules)


def _digests(html: str, tag: str) -> str:
    contents = (content for kind, content in INLINE.findall(html) if kind == tag)
    return " ".join(f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" for content in contents)
