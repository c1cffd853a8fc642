"""The built-in backend "welcome": a page that tells a visitor what was negotiated.

It answers inside the worker, at the far end of a socket pair, so that its connections run through the same relay as
any other backend's.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import socket
from http import HTTPStatus

import h11

from config.model import WELCOME
from proxy.backend import Connected, Dial, Established, MailClient, Taker
from proxy.poller import Loop

SERVER = "built-in"  # what stands where other backends name a server
DEADLINE = 30.0  # seconds for a whole conversation
MAX_HEAD = 16 << 10  # bytes of a request's head

_HEADERS = [
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("x-content-type-options", "nosniff"),
    ("connection", "close"),
]
_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:44rem;margin:3rem auto;"
    "padding:0 1rem}th{text-align:left;padding-right:1.5rem;font-weight:600;vertical-align:top}"
    "td{overflow-wrap:anywhere}th,td{padding-block:.25rem}"
)


class WelcomeBackend:
    """Answers by itself; see proxy.backend.Backend."""

    name = WELCOME
    waits_for_handshake = True

    def __init__(self) -> None:
        self._conversations: set[asyncio.Task[None]] = set()

    def dial(self, loop: Loop, established: Established | None, taker: Taker, mail: MailClient | None = None) -> Dial:
        """See Backend.dial."""
        assert established is not None
        try:
            near, far = socket.socketpair()
        except OSError as error:
            return _Failure(loop.call_soon(taker.not_reached, os.strerror(error.errno or 0)))
        near.setblocking(False)
        far.setblocking(False)
        task = asyncio.get_running_loop().create_task(_converse(far, page(established)))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        return _PairDial(loop.call_soon(taker.reached, Connected(near, None, SERVER, b"")), near)


class _Failure:
    def __init__(self, handle: asyncio.Handle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class _PairDial:
    def __init__(self, handle: asyncio.Handle, near: socket.socket) -> None:
        self._handle = handle
        self._near = near

    def cancel(self) -> None:
        self._handle.cancel()
        self._near.close()


def page(established: Established) -> bytes:
    """The page, in UTF-8."""
    negotiated, level = established.negotiated, established.level
    assert negotiated is not None
    assert level is not None
    rows = {
        "Your address": f"{established.client[0]} port {established.client[1]}",
        "You reached": f"{established.local[0]} port {established.local[1]}, listener {established.listener}",
        "Server name (SNI)": established.server_name or "none sent",
        "TLS version": negotiated.version,
        "Cipher": negotiated.cipher,
        "Key exchange group": negotiated.group or "none",
        "Protocol (ALPN)": negotiated.alpn or "none negotiated",
        "Session": "resumed" if negotiated.resumed else "new",
        "Certificate": established.fingerprint,
        "Matched by": established.matched or "nothing: it was made at first start",
        "Level": f"{level.value} ({level.words})",
    }
    table = "".join(f"<tr><th scope=row>{head}</th><td>{html.escape(text)}</td></tr>\n" for head, text in rows.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>snigate works</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>\n'
        "<h1>snigate works</h1>\n<p>This page comes from snigate itself. "
        "It shows what your client and this listener agreed on.</p>\n"
        f"<table>\n{table}</table>\n</main></body></html>\n"
    ).encode()


async def _converse(sock: socket.socket, body: bytes) -> None:
    """One request, one answer. A peer that stalls or breaks HTTP is dropped."""
    loop = asyncio.get_running_loop()
    with sock, contextlib.suppress(h11.RemoteProtocolError, OSError, TimeoutError):
        async with asyncio.timeout(DEADLINE):
            await _answer(loop, sock, body)


async def _answer(loop: asyncio.AbstractEventLoop, sock: socket.socket, body: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await loop.sock_recv(sock, 4096))
    if not isinstance(event, h11.Request):
        return
    known = event.method in (b"GET", b"HEAD")
    headers = [*_HEADERS, ("content-length", str(len(body)))] if known else [*_HEADERS, ("allow", "GET, HEAD")]
    status = HTTPStatus.OK if known else HTTPStatus.METHOD_NOT_ALLOWED
    answer = connection.send(h11.Response(status_code=status, reason=status.phrase, headers=headers)) or b""
    if event.method == b"GET":
        answer += connection.send(h11.Data(data=body)) or b""
    await loop.sock_sendall(sock, answer)
