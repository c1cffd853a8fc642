"""Ask an ASGI application in memory."""

from __future__ import annotations

import asyncio

import httpx
from starlette.types import ASGIApp

TOKEN = "a-token-of-some-length"
BASE = "http://127.0.0.1:9180"


def ask(app: ASGIApp, path: str, method: str = "GET", *, token: str | None = TOKEN, **headers: str) -> httpx.Response:
    """One request; `headers` with "_" for "-"."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent.setdefault("authorization", f"Bearer {token}")
    return request(app, path, method, list(sent.items()))


def request(
    app: ASGIApp,
    path: str,
    method: str = "GET",
    headers: list[tuple[str, str]] | list[tuple[bytes, bytes]] | None = None,
    content: bytes | None = None,
) -> httpx.Response:
    """One request with exactly these headers (httpx adds Host when it is not among them)."""

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(send())
