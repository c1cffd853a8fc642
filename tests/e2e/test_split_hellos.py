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
from tests.support.ports import free_port
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


class Place(NamedTuple):
    """The ports of three listeners of a running snigate, which tell the same names apart."""

    web: int
    proxied: int  # takes a PROXY header from this machine
    mail: int  # SMTP with STARTTLS; its backends greet, and end


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    proxied, mail = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        words = {name: stack.enter_context(Greeter(name)) for name in PAIRS}
        greeter, echo = stack.enter_context(Greeter("220 mx ESMTP\r\n")), stack.enter_context(EchoServer())
        routes = {name: route(name, f"127.0.0.1:{words[name].port}") for name in NAMES}
        text = (
            f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = []\ndefault = "{OTHER}"\n'
            f'[backends.mail]\nservers = ["127.0.0.1:{greeter.port}"]\nclient_address = "none"\n'
            f'{listener("web", "{port}")}backend = "127.0.0.1:{words[OTHER].port}"\n'
            f'{"".join(routes.values())}{route(THROUGH, f"127.0.0.1:{echo.port}")}action = "passthrough"\n'
            f'{listener("proxied", proxied)}backend = "127.0.0.1:{words[OTHER].port}"\n'
            f'accept_proxy_from = ["127.0.0.1"]\n{"".join(routes.values())}'
            f'{listener("mail", mail)}backend = "mail"\nprotocol = "smtp"\ntls = "starttls"\ndefault = "{OTHER}"\n'
        )
        one = Snigate(tmp_path_factory.mktemp("split"), text)
        for name, pair in PAIRS.items():
            pair.write(one.certs, name)
        stack.enter_context(one)
        yield Place(one.port, proxied, mail)


def listener(name: str, port: int | str) -> str:
    return f'[[listeners]]\nname = "{name}"\nbind = ["127.0.0.1:{port}"]\n'


def route(name: str, backend: str) -> str:
    return f'[[listeners.routes]]\nhosts = ["{name}"]\nbackend = "{backend}"\n'


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


def said_behind_a_proxy_header(client: TlsSocket) -> bytes:
    """A ClientHello, and the PROXY header that goes before it."""
    return b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\n" + said_first(client)


def said_behind_starttls(client: TlsSocket) -> bytes:
    """A mail client's ClientHello, once it was told to go on."""
    heard = b""
    while b"\n" not in heard:
        heard += client.socket.recv(1 << 10)
    client.socket.sendall(b"STARTTLS\r\n")
    while heard.count(b"\n") < 2:
        heard += client.socket.recv(1 << 10)
    return said_first(client)


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
    port: int,
    context: SSL.Context,
    cut: Cut,
    said: Callable[[TlsSocket], bytes] = said_first,
    due: Callable[[str], Served] = expected,
) -> list[tuple[int, str, Served | str]]:
    """Of ClientHellos for NAMES in turn, cut at each place: where, for whom and how it was not served as it should."""
    client = TlsSocket(port, NAMES[0], context)
    everywhere = places(cut, said(client))
    client.close()
    assert len(everywhere) > 200
    asked = [(NAMES[at % len(NAMES)], at) for at in everywhere]
    found = outcomes(port, context, [(name, functools.partial(cut, place=at)) for name, at in asked], said)
    return [(at, name, outcome) for (name, at), outcome in zip(asked, found, strict=True) if outcome != due(name)]


@KINDS
def test_whole_clienthellos_tell_two_routes_and_the_default_apart(place: Place, kind: str) -> None:
    asked = [(name, lambda said: [said]) for name in PAIRS]
    assert outcomes(place.web, CLIENTS[kind], asked) == [expected(name) for name in PAIRS]


@CUTS
@KINDS
def test_a_clienthello_cut_in_two_anywhere_gets_its_route_and_certificate(place: Place, kind: str, cut: Cut) -> None:
    assert cut_everywhere(place.web, CLIENTS[kind], cut) == []


@CUTS
def test_a_clienthello_that_is_said_again_may_be_cut_in_two_anywhere(place: Place, cut: Cut) -> None:
    assert cut_everywhere(place.web, RETRIES, cut, said_again) == []


def test_a_proxy_header_and_the_clienthello_behind_it_may_be_cut_in_two_anywhere(place: Place) -> None:
    found = cut_everywhere(place.proxied, CLIENTS["TLS 1.3"], two_segments, said_behind_a_proxy_header)
    assert found == []


@CUTS
def test_a_clienthello_behind_starttls_may_be_cut_in_two_anywhere(place: Place, cut: Cut) -> None:
    found = cut_everywhere(
        place.mail, CLIENTS["TLS 1.2"], cut, said_behind_starttls, lambda name: Served(name, "", "close_notify")
    )
    assert found == []


@pytest.mark.parametrize("how", SINGLE)
@KINDS
def test_a_clienthello_in_single_bytes_gets_its_route_and_certificate(place: Place, kind: str, how: str) -> None:
    found = outcomes(place.web, CLIENTS[kind], [(name, SINGLE[how]) for name in PAIRS])
    assert found == [expected(name) for name in PAIRS]


@CUTS
def test_a_clienthello_that_passes_through_reaches_the_backend_as_it_was_cut(place: Place, cut: Cut) -> None:
    hello = from_pyopenssl(THROUGH.encode())
    everywhere = places(cut, hello)
    assert len(everywhere) > 1500
    assert echoed(place.web, [cut(hello, at) for at in everywhere]) == []


def test_a_clienthello_in_single_bytes_passes_through_as_it_is(place: Place) -> None:
    hello = from_pyopenssl(THROUGH.encode())
    assert echoed(place.web, [made(hello) for made in SINGLE.values()]) == []


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
