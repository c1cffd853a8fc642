"""A ClientHello cut into segments and into records at every place: it is served as the whole one is.

A client's transcript covers handshake messages and not the records that carry them (RFC 8446 section 4.4.1): a real
client whose ClientHello is put into other records finishes its handshake, if the server has understood the same.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import pytest
from OpenSSL import SSL

from tests.support.backend import rest
from tests.support.client_hellos import from_pyopenssl, message_of, record, records
from tests.support.echo import EchoServer
from tests.support.engine import client_context
from tests.support.greeter import Greeter
from tests.support.pki import self_signed
from tests.support.segments import send_apart
from tests.support.snigate import Snigate
from tests.support.tls_client import TIMEOUT
from tests.support.tls_socket import TlsSocket

AT_ONCE = 200  # connections
NAMES = ("one.example", "two.example")
OTHER = "any.example"  # the default's
PAIRS = {name: self_signed(name) for name in (*NAMES, OTHER)}
THROUGH = "through.example"
OP_TLSEXT_PADDING = 0x10  # pads what is larger than 255 bytes to 512, as browsers do

CLIENTS = {
    "TLS 1.2": client_context(maximum=SSL.TLS1_2_VERSION),
    "TLS 1.3": client_context(groups="X25519:P-256:P-384", alpn=(b"h2", b"http/1.1")),
    "X25519MLKEM768": client_context(alpn=(b"h2", b"http/1.1")),
}
CLIENTS["TLS 1.3"].set_options(OP_TLSEXT_PADDING)
RETRIES = client_context(minimum=SSL.TLS1_3_VERSION, groups="X448:X25519")  # its first key share is of no use
CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"  # stands before a ClientHello that is said again


class Cut(Protocol):
    """The segments to send in place of a ClientHello, which is cut at a place."""

    def __call__(self, said: bytes, place: int) -> list[bytes]: ...


class Served(NamedTuple):
    """What a client comes to: whose certificate, which backend's word, how the stream ends."""

    certificate: str
    word: str
    end: str


def two_segments(said: bytes, place: int) -> list[bytes]:
    return [said[:place], said[place:]]


def two_records(said: bytes, place: int) -> list[bytes]:
    before, message = taken_apart(said)
    return [before + record(message[:place]) + record(message[place:])]


def two_records_in_two_segments(said: bytes, place: int) -> list[bytes]:
    before, message = taken_apart(said)
    return [before + record(message[:place]), record(message[place:])]


def taken_apart(said: bytes) -> tuple[bytes, bytes]:
    """What stands before the ClientHello, and its message."""
    before = CHANGE_CIPHER_SPEC if said.startswith(CHANGE_CIPHER_SPEC) else b""
    return before, message_of(said[len(before) :])


def places(cut: Cut, said: bytes) -> range:
    """Where this can be cut in two."""
    return range(1, len(said if cut is two_segments else taken_apart(said)[1]))


CUTS = pytest.mark.parametrize("cut", [two_segments, two_records, two_records_in_two_segments])
KINDS = pytest.mark.parametrize("kind", CLIENTS)
SINGLE: dict[str, Callable[[bytes], list[bytes]]] = {
    "a byte a segment": lambda said: [said[at : at + 1] for at in range(len(said))],
    "a byte a record, all in a segment": lambda said: [records(message_of(said), 1)],
    "a byte a record, a record a segment": lambda said: [record(bytes([byte])) for byte in message_of(said)],
}


@pytest.fixture(scope="module")
def snigate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snigate]:
    with contextlib.ExitStack() as stack:
        words = {name: stack.enter_context(Greeter(name)) for name in PAIRS}
        echo = stack.enter_context(EchoServer())
        text = (
            f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = []\ndefault = "{OTHER}"\n'
            '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\n'
            f'backend = "127.0.0.1:{words[OTHER].port}"\n'
        )
        for name in NAMES:
            text += f'[[listeners.routes]]\nhosts = ["{name}"]\nbackend = "127.0.0.1:{words[name].port}"\n'
        text += f'[[listeners.routes]]\nhosts = ["{THROUGH}"]\naction = "passthrough"\n'
        text += f'backend = "127.0.0.1:{echo.port}"\n'
        one = Snigate(tmp_path_factory.mktemp("split"), text)
        for name, pair in PAIRS.items():
            pair.write(one.certs, name)
        yield stack.enter_context(one)


def expected(name: str) -> Served:
    return Served(name, name, "close_notify")


def served(client: TlsSocket) -> Served | str:
    """What comes of a client whose ClientHello was sent; in words where its handshake fails."""
    try:
        client.handshake()
    except (SSL.Error, OSError) as error:
        return f"closed: {error!r}"
    leaf = client.tls.connection.get_peer_certificate(as_cryptography=True)
    data, end = client.rest()
    return Served(next(name for name, pair in PAIRS.items() if pair.certificate == leaf), data.decode(), end)


def said_first(client: TlsSocket) -> bytes:
    """A client's ClientHello."""
    assert not client.tls.handshake()
    return client.tls.output()


def said_again(client: TlsSocket) -> bytes:
    """The ClientHello with which a client answers that its first key share was of no use."""
    client.socket.sendall(said_first(client))
    client.tls.receive(client.socket.recv(1 << 16))
    assert not client.tls.handshake()
    return client.tls.output()


def outcomes(
    port: int,
    context: SSL.Context,
    asked: Sequence[tuple[str, Callable[[bytes], list[bytes]]]],
    said: Callable[[TlsSocket], bytes] = said_first,
) -> list[Served | str]:
    """What comes of clients that ask for these names, and send what is made of their ClientHello."""
    found: list[Served | str] = []
    for start in range(0, len(asked), AT_ONCE):
        with contextlib.ExitStack() as stack:
            clients = []
            for name, made in asked[start : start + AT_ONCE]:
                client = TlsSocket(port, name, context)
                stack.callback(client.close)
                clients.append((client, made(said(client))))
            send_apart({client.socket: segments for client, segments in clients})
            found += [served(client) for client, _ in clients]
    return found


def cut_everywhere(
    port: int, context: SSL.Context, cut: Cut, said: Callable[[TlsSocket], bytes] = said_first
) -> list[tuple[int, str, Served | str]]:
    """Of ClientHellos for each of NAMES, cut at each place: where, for whom and how it was not served as it should."""
    client = TlsSocket(port, NAMES[0], context)
    everywhere = places(cut, said(client))
    client.close()
    assert len(everywhere) > 200
    asked = [(name, place) for place in everywhere for name in NAMES]
    found = outcomes(port, context, [(name, functools.partial(cut, place=place)) for name, place in asked], said)
    return [
        (place, name, outcome) for (name, place), outcome in zip(asked, found, strict=True) if outcome != expected(name)
    ]


@KINDS
def test_whole_clienthellos_tell_two_routes_and_the_default_apart(snigate: Snigate, kind: str) -> None:
    asked = [(name, lambda said: [said]) for name in PAIRS]
    assert outcomes(snigate.port, CLIENTS[kind], asked) == [expected(name) for name in PAIRS]


@CUTS
@KINDS
def test_a_clienthello_cut_in_two_anywhere_gets_its_route_and_certificate(
    snigate: Snigate, kind: str, cut: Cut
) -> None:
    assert cut_everywhere(snigate.port, CLIENTS[kind], cut) == []


@CUTS
def test_a_clienthello_that_is_said_again_may_be_cut_in_two_anywhere(snigate: Snigate, cut: Cut) -> None:
    assert cut_everywhere(snigate.port, RETRIES, cut, said_again) == []


@pytest.mark.parametrize("how", SINGLE)
@KINDS
def test_a_clienthello_in_single_bytes_gets_its_route_and_certificate(snigate: Snigate, kind: str, how: str) -> None:
    found = outcomes(snigate.port, CLIENTS[kind], [(name, SINGLE[how]) for name in PAIRS])
    assert found == [expected(name) for name in PAIRS]


@CUTS
def test_a_clienthello_that_passes_through_reaches_the_backend_as_it_was_cut(snigate: Snigate, cut: Cut) -> None:
    hello = from_pyopenssl(THROUGH.encode())
    everywhere = places(cut, hello)
    assert len(everywhere) > 1500
    assert echoed(snigate.port, [cut(hello, place) for place in everywhere]) == []


def test_a_clienthello_in_single_bytes_passes_through_as_it_is(snigate: Snigate) -> None:
    hello = from_pyopenssl(THROUGH.encode())
    assert echoed(snigate.port, [made(hello) for made in SINGLE.values()]) == []


def echoed(port: int, sent: Sequence[list[bytes]]) -> list[tuple[int, bytes, str]]:
    """Which of what was sent, segment by segment, did not come back from the backend byte by byte."""
    wrong = []
    for start in range(0, len(sent), AT_ONCE):
        with contextlib.ExitStack() as stack:
            some = [
                (stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)), segments)
                for segments in sent[start : start + AT_ONCE]
            ]
            send_apart(dict(some))
            for number, (sock, segments) in enumerate(some, start):
                sock.shutdown(socket.SHUT_WR)
                data, end = rest(sock)
                if (data, end) != (b"".join(segments), "FIN"):
                    wrong.append((number, data, end))
    return wrong
