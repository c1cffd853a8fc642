"""Whatever a client says before TLS, and a mail server before the client is heard, a session ends, is counted once, and
raises nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.mail import MailService
from proxy.proxy_header import ProxyHeaderReader
from proxy.proxy_protocol import encode_v2
from proxy.session import Session
from proxy.starttls.protocols import PROTOCOLS
from tests.fuzz.test_session_fuzz import ENDS, PAIR, TIMEOUT, assert_counted_once, leave, over, shake_hands
from tests.fuzz.test_starttls_fuzz import ANSWERS, COMMANDS, speech
from tests.support.engine import MemoryClient
from tests.support.loop import in_loop, tcp_pair
from tests.support.pool import pool
from tests.support.service import service

HEADER = encode_v2(("192.0.2.1", 1), ("192.0.2.2", 2))
BEGIN_TLS = {"smtp": b"STARTTLS\r\n", "imap": b"a STARTTLS\r\n", "pop3": b"STLS\r\n", "sieve": b"STARTTLS\r\n"}
chunks_ = st.lists(st.binary(min_size=1, max_size=60), max_size=3)


def say_and_leave(server: socket.socket, words: bytes) -> asyncio.Task[None]:
    """Say this to whoever connects, and end."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(server)
            with connection, contextlib.suppress(OSError):
                await loop.sock_sendall(connection, words)

    return asyncio.get_running_loop().create_task(serve())


async def play(
    name: str, chunks: list[bytes], server_says: bytes, end: str, *, require_tls: bool, tls: bool, introduced: bool
) -> None:
    """One client that says these chunks; with `tls`, behind which it does a whole handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        serving = say_and_leave(listening, server_says)
        backend = pool(listening.getsockname()[1])
        await backend.resolver.first()
        mail = MailService(PROTOCOLS[name], "mx.example.com", starttls=True, require_tls=require_tls)
        seconds = 5 if tls else TIMEOUT
        one = service(
            PAIR, preamble_timeout=seconds, handshake_timeout=seconds, idle_timeout=TIMEOUT, backend=backend, mail=mail
        )
        near, far = tcp_pair()
        if introduced:
            one.limits.admit_unnamed()
        else:
            assert one.limits.admit("127.0.0.1")
        session = Session(one, near, ("127.0.0.1", 1), ProxyHeaderReader() if introduced else None)
        for chunk in [HEADER, *chunks] if introduced else chunks:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(far, chunk)
            await asyncio.sleep(0)
        if tls:
            await begin_tls(far, BEGIN_TLS[name])
        leave(far, end)
        await over(session)
        assert_counted_once(one, near)
        assert len(one.prefaces) == len(one.handshakes) == 0
        far.close()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def begin_tls(sock: socket.socket, command: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, command)
    heard = b""
    while not any(word in heard for word in (b"220 2.0.0", b"Begin TLS negotiation now")):
        heard += await loop.sock_recv(sock, 4096)
    await shake_hands(MemoryClient(), sock)


names_ = pytest.mark.parametrize(("name", "require_tls"), [*((name, True) for name in PROTOCOLS), ("smtp", False)])


@names_
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_is_said_before_tls_ends_in_one_account(name: str, require_tls: bool, data: st.DataObject) -> None:
    said = data.draw(st.one_of(chunks_, st.lists(speech(COMMANDS[name]).filter(bool), max_size=3)))
    server_says = data.draw(speech(ANSWERS[name]))
    end, introduced = data.draw(st.sampled_from(ENDS)), data.draw(st.booleans())
    in_loop(play)(name, said, server_says, end, require_tls=require_tls, tls=False, introduced=introduced)


@names_
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_a_server_greets_with_ends_in_one_account(name: str, require_tls: bool, data: st.DataObject) -> None:
    server_says = data.draw(st.one_of(st.binary(max_size=60), speech(ANSWERS[name])))
    end = data.draw(st.sampled_from(ENDS))
    in_loop(play)(name, [], server_says, end, require_tls=require_tls, tls=True, introduced=False)
