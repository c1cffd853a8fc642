"""What a client is told when it is refused: the very bytes of the alert, and the reason that is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import client_hellos as hellos
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, context, request
from tests.support.tls_socket import NO_ALERT, alert_in, exchange_raw

PAIR = self_signed("www.example.com")
NAME = hellos.server_name(b"www.example.com")
CAPABLE = (NAME, hellos.schemes(0x0403, 0x0804), hellos.groups(29, 23))
SSL2 = bytes.fromhex("802e 0100 0200 1500 0000 1007 00c0")


def hello(*extensions: tuple[int, bytes], ciphers: tuple[int, ...] = (0xC02B,), version: int = 0x0303) -> bytes:
    """A TLS 1.2 ClientHello in one record."""
    return hellos.records(hellos.message(extensions, ciphers, version))


Case = tuple[Callable[[], bytes], int, str]
CASES: dict[str, Case] = {
    "a name without a certificate": (lambda: hellos.from_stdlib("other.example.org"), 112, "unrecognized_name"),
    "no name at all": (lambda: hellos.from_stdlib(None), 112, "unrecognized_name"),
    "a name that is none": (lambda: hello(hellos.server_name(b"a b")), 112, "bad_server_name"),
    "only other protocols": (lambda: hellos.from_stdlib(alpn=("imap", "pop3")), 120, "no_application_protocol"),
    "SSLv2": (lambda: SSL2, 70, "sslv2"),
    "TLS 1.1": (lambda: hello(*CAPABLE, ciphers=(0xC009,), version=0x0302), 70, "unsupported_protocol"),
    "no cipher in common": (lambda: hello(*CAPABLE, ciphers=(0x0005,)), 40, "no_shared_cipher"),
    "a ClientHello with rubbish in it": (
        lambda: hellos.records(b"\1" + hellos.vector(b"\3\3" + b"\xff" * 80, 3)),
        50,
        "malformed_client_hello",
    ),
    "a ClientHello of more than 64 KiB": (
        lambda: hellos.records(b"\1" + (70_000).to_bytes(3) + bytes(70_000)),
        22,
        "client_hello_too_large",
    ),
    "another protocol": (lambda: b"SSH-2.0-OpenSSH_9.2\r\n", NO_ALERT, "not_tls"),
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snigate, int]]:
    """A strict listener that serves two protocols, and the port of one that is not and serves none."""
    lenient = free_port()
    snigate = Snigate(
        tmp_path_factory.mktemp("strict"),
        '[[listeners]]\nname = "strict"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\nstrict_sni = true\n'
        'alpn = ["h2", "http/1.1"]\n'
        f'[[listeners]]\nname = "lenient"\nbind = ["127.0.0.1:{lenient}"]\nbackend = "welcome"\n',
        name="www.example.com",
    )
    PAIR.write(snigate.certs)
    with snigate:
        yield snigate, lenient


def refusals(snigate: Snigate, reason: str) -> float:
    return snigate.metric("snigate_handshake_failures_total", listener="strict", reason=reason)


@pytest.mark.parametrize("case", CASES)
def test_a_refused_client_is_sent_its_alert_and_nothing_else(strict: tuple[Snigate, int], case: str) -> None:
    make, alert, reason = CASES[case]
    snigate = strict[0]
    before = refusals(snigate, reason)
    answer, end = exchange_raw(snigate.port, make())
    assert alert_in(answer) == alert
    assert end == "FIN"  # a reset could overtake the alert
    wait_for(lambda: refusals(snigate, reason) == before + 1, f"{reason} is counted")


def test_a_refusal_reads_the_same_when_the_hello_comes_in_pieces(strict: tuple[Snigate, int]) -> None:
    whole = hellos.from_stdlib("other.example.org")
    pieces = [whole[at : at + 50] for at in range(0, len(whole), 50)]
    assert alert_in(exchange_raw(strict[0].port, *pieces)[0]) == 112


def test_a_client_with_one_protocol_in_common_or_none_at_all_is_served(strict: tuple[Snigate, int]) -> None:
    port = strict[0].port
    for offered, chosen in ((("imap", "http/1.1"), "http/1.1"), (("http/1.1", "h2"), "h2"), ((), None)):
        with connect(port, "www.example.com", using=context(alpn=offered)) as tls:
            assert tls.selected_alpn_protocol() == chosen
            tls.unwrap()


def test_a_listener_without_alpn_ignores_what_is_offered(strict: tuple[Snigate, int]) -> None:
    with connect(strict[1], "www.example.com", using=context(alpn=("imap",))) as tls:
        assert tls.selected_alpn_protocol() is None
        assert b"none negotiated" in request(tls)


def test_a_listener_that_is_not_strict_serves_its_default_to_strangers(strict: tuple[Snigate, int]) -> None:
    for name in ("other.example.org", None):
        with connect(strict[1], name) as tls:
            assert b"<td>9 (the default certificate)</td>" in request(tls)


def test_the_log_names_each_refused_client_and_its_reason(strict: tuple[Snigate, int]) -> None:
    exchange_raw(strict[0].port, hellos.from_stdlib("named.example.org"))
    wait_for(lambda: "sni=named.example.org" in strict[0].log, "the access log has it")
    line = next(line for line in strict[0].log.splitlines() if "sni=named.example.org" in line)
    assert " end=handshake_failed by=client reason=unrecognized_name" in line
    assert " strict 127.0.0.1:" in line


def test_plain_http_to_a_mail_listener_gets_no_answer(tmp_path: Path) -> None:
    text = '[[listeners]]\nname = "imaps"\nbind = ["127.0.0.1:{port}"]\nprotocol = "imap"\nbackend = "127.0.0.1:1"\n'
    with Snigate(tmp_path, text) as snigate:
        answer, end = exchange_raw(snigate.port, b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
        assert (answer, end) == (b"", "FIN")


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_plain_http_to_another_listener_is_told_to_speak_https(tmp_path: Path, protocol: str) -> None:
    listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
    with Snigate(tmp_path, f'{listener}protocol = "{protocol}"\n') as snigate:
        answer, end = exchange_raw(snigate.port, b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert f"Content-Length: {len(body)}".encode() in head
        assert end == "FIN"
        wait_for(lambda: snigate.metric("snigate_handshake_failures_total", reason="plain_http") == 1, "it is counted")
