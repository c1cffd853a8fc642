"""Strangers that send anything but an orderly ClientHello: closed by the deadline, counted by reason, no traceback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.support.pki import self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, request, shown

DEADLINE = 1.5  # seconds, handshake_timeout in these tests
GRACE = 3.0  # seconds that a busy machine may be late


@pytest.fixture(scope="module")
def snigate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snigate]:
    directory = tmp_path_factory.mktemp("hostile")
    configuration = (
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
        '[[listeners.routes]]\nhosts = ["modern.example"]\nprofile = "modern"\n'
        '[[listeners.routes]]\nhosts = ["old.example"]\nprofile = "old"\n'
        f'[server]\nworkers = 2\nstate_directory = "{directory}/state"\nhandshake_timeout = "{DEADLINE * 1000:.0f}ms"\n'
    )
    one = Snigate(directory, configuration)
    PAIR.write(one.certs)
    with one:
        yield one


PAIR = self_signed("split.example")


def hello(name: str = "split.example") -> bytes:
    """A ClientHello as the stdlib sends it, record header included."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def told(snigate: Snigate, *chunks: bytes, pause: float = 0.0, fin: bool = False) -> tuple[bytes, float]:
    """Send the chunks; what came back until the end, and after how many seconds the end came."""
    answer = b""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", snigate.port), timeout=DEADLINE + GRACE) as sock:
        with contextlib.suppress(ConnectionError):  # it may be closed while we still send
            for chunk in chunks:
                sock.sendall(chunk)
                time.sleep(pause)
            if fin:
                sock.shutdown(socket.SHUT_WR)
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionError:
            pass
    return answer, time.monotonic() - began


def failures(snigate: Snigate, reason: str) -> float:
    return snigate.metric("snigate_handshake_failures_total", listener="web", reason=reason)


def record(body: bytes) -> bytes:
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


# Announces 64 KiB; what is sent behind the refusal would turn the close into a reset that may overtake the alert.
OVERSIZED = b"\x01\x01\x00\x00" + bytes(70_000)

CASES = {
    "nothing": ((), "timeout", b""),
    "garbage": ((b"\x80garbage that is not TLS at all" * 10,), "not_tls", b""),
    "64 KiB of nothing": ((bytes(1 << 16),), "not_tls", b""),
    "plain HTTP": ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",), "plain_http", b"HTTP/1.1 400"),
    "truncated ClientHello": ((hello()[:-7],), "timeout", b""),
    "malformed ClientHello": (
        (record(b"\x01\x00\x00\x04\x03\x03\xff\xff"),),
        "malformed_client_hello",
        b"\x15\x03\x03",
    ),
    "oversized ClientHello": ((record(OVERSIZED[:16000]),), "client_hello_too_large", b"\x15\x03\x03"),
    "SNI that is no name": (
        (hello("a" * 60 + ".example").replace(b"aaaa", b"a a "),),
        "bad_server_name",
        b"\x15\x03\x03",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_clienthello_is_closed_by_the_deadline_and_counted_by_reason(snigate: Snigate, case: str) -> None:
    chunks, reason, beginning = CASES[case]
    before = failures(snigate, reason)
    answer, seconds = told(snigate, *chunks)
    assert answer.startswith(beginning)
    assert len(answer) <= 7 or beginning.startswith(b"HTTP")
    assert seconds < DEADLINE + GRACE
    wait_for(lambda: failures(snigate, reason) == before + 1, f"{reason} is counted")


def test_one_byte_at_a_time_does_not_move_the_deadline(snigate: Snigate) -> None:
    before = failures(snigate, "timeout")
    whole = hello()
    answer, seconds = told(snigate, *(whole[at : at + 1] for at in range(40)), pause=0.1)
    assert answer == b""
    assert seconds < DEADLINE + GRACE + 4
    wait_for(lambda: failures(snigate, "timeout") == before + 1, "it is counted")


def test_a_client_that_goes_away_in_the_middle_is_counted_as_disconnected(snigate: Snigate) -> None:
    before = failures(snigate, "disconnected")
    told(snigate, hello()[:100], fin=True)
    wait_for(lambda: failures(snigate, "disconnected") == before + 1, "it is counted")


@pytest.mark.parametrize("size", [1, 3, 6, 37, 200])
def test_a_clienthello_in_any_pieces_reaches_its_certificate(snigate: Snigate, size: int) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context().wrap_bio(incoming, outgoing, server_hostname="split.example")
    with socket.create_connection(("127.0.0.1", snigate.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                said = outgoing.read()
                if said[:1] == b"\x16":  # the ClientHello: cut into records of `size`, and each into two segments
                    for at in range(5, len(said), size):
                        piece = record(said[at : min(at + size, len(said))])
                        sock.sendall(piece[:4])
                        sock.sendall(piece[4:])
                else:
                    sock.sendall(said)
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        leaf = client.getpeercert(binary_form=True)
    assert leaf == PAIR.der


def test_a_client_with_x25519mlkem768_is_told_so_on_the_welcome_page(snigate: Snigate) -> None:
    page = by_openssl(snigate, groups=None, request_=True)
    for expected in (b"X25519MLKEM768", b"TLSv1.3", b"TLS_AES_128_GCM_SHA256", b"<td>2 (self-signed, exact)</td>"):
        assert expected in page


@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048"])
def test_groups_outside_the_profile_are_refused(snigate: Snigate, group: str) -> None:
    with pytest.raises(SSL.Error, match="handshake failure"):
        by_openssl(snigate, groups=group)


@pytest.mark.parametrize(
    ("name", "version", "accepted"),
    [
        ("modern.example", SSL.TLS1_2_VERSION, False),
        ("split.example", SSL.TLS1_2_VERSION, True),
        ("split.example", SSL.TLS1_1_VERSION, False),
        ("old.example", SSL.TLS1_VERSION, True),
    ],
)
def test_each_profile_takes_its_versions_and_no_older_ones(
    snigate: Snigate, name: str, version: int, accepted: bool
) -> None:
    if accepted:
        by_openssl(snigate, name=name, version=version)
    else:
        with pytest.raises(SSL.Error, match="protocol version"):
            by_openssl(snigate, name=name, version=version)


def test_those_who_behave_are_served_all_the_while(snigate: Snigate) -> None:
    with connect(snigate.port, "split.example") as tls:
        assert b"snigate works" in request(tls)
    assert shown(snigate.port, "split.example").fingerprint == PAIR.fingerprint


def by_openssl(
    snigate: Snigate,
    *,
    name: str = "split.example",
    groups: str | None = None,
    version: int | None = None,
    request_: bool = False,
) -> bytes:
    """Handshake with the OpenSSL that cryptography brings, which knows more than the system's."""
    using = SSL.Context(SSL.TLS_METHOD)
    using.set_cipher_list(b"ALL:@SECLEVEL=0")
    if version is not None:
        using.set_min_proto_version(version)
        using.set_max_proto_version(version)
    if groups is not None:
        assert SSL._lib.SSL_CTX_set1_curves_list(using._context, groups.encode()) == 1  # type: ignore[attr-defined]
    with socket.create_connection(("127.0.0.1", snigate.port)) as sock:
        sock.settimeout(None)
        client = SSL.Connection(using, sock)
        client.set_tlsext_host_name(name.encode())
        client.set_connect_state()
        client.do_handshake()
        page = b""
        if request_:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                while True:
                    page += client.recv(65536)
            except SSL.ZeroReturnError:
                pass
        client.shutdown()
    return page
