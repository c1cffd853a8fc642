"""The servers behind snigate, all in one process: HTTP with and without TLS, and four mail protocols.

    python -m soak.backends CERTIFICATE PORT_OF_HTTP PORT_OF_HTTPS PORT_OF_SMTP ...

Two paths misbehave on purpose: /reset resets the connection in mid-answer, and /cut, over TLS, ends it without TLS's
own end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from functools import partial
from typing import TypeAlias

import uvloop

from proxy.leg import reset
from soak import mail, stuff
from tests.support.mail_server import GREETINGS

SHORT = b"short answer\n"
PROMISED = 100_000  # bytes of an answer that comes to nothing
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


async def serve_http(reader: Reader, writer: Writer) -> None:
    """Requests, until the client or the answer ends it."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while await _answer(reader, writer):
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def _answer(reader: Reader, writer: Writer) -> bool:
    """Take one request; whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    method, path, _ = head.split(" ", 2)
    what, *numbers = path.strip("/").split("/")
    if what in ("reset", "cut"):
        await _break_off(reader, writer, what)
        return False
    body: bytes | memoryview = SHORT
    if what == "bytes":
        body = stuff.piece(*map(int, numbers))
    elif method == "put":
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = stuff.digest(await reader.readexactly(size)).encode()
    writer.write(_head(len(body)))
    writer.write(body)
    return "connection: close" not in head


def _head(size: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()


async def _break_off(reader: Reader, writer: Writer, how: str) -> None:
    writer.write(_head(PROMISED) + bytes(PROMISED // 2))
    await writer.drain()
    sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    if how == "reset":
        writer.transport.abort()
        await asyncio.sleep(0)
        reset(sock)
        return
    with sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)  # beneath TLS
        await reader.read()


async def serve_mail(protocol: str, reader: Reader, writer: Writer) -> None:
    """Greet, answer, and hang up when asked to."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        writer.write(GREETINGS[protocol])
        line = b""
        while line.partition(b" ")[0].upper() not in mail.ENDING_WORDS:
            line = (await reader.readuntil(b"\r\n"))[:-2]
            writer.write(mail.answer(protocol, line))
    with contextlib.suppress(OSError):
        writer.close()


async def serve(certificate: str, http: int, https: int, *mails: int) -> None:
    """Listen on all ports, and serve until the process is told to end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listen = partial(asyncio.start_server, host="127.0.0.1", backlog=1024, limit=1 << 20)
    await listen(serve_http, port=http)
    await listen(serve_http, port=https, ssl=context)
    for protocol, port in zip(mail.PROTOCOLS, mails, strict=True):
        await listen(partial(serve_mail, protocol), port=port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(sys.argv[1], *map(int, sys.argv[2:])))
