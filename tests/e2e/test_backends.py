"""Backends that a test plays itself: what they are told first, and what their ways to end do to the client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.support.backend import PlayedBackend, read, rest
from tests.support.echo import EchoServer
from tests.support.engine import client_context
from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_socket import TlsSocket, opened

NAME = "www.example.com"
PAIR = self_signed(NAME)
UPLOAD = 20 << 20


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snigate, PlayedBackend, PlayedBackend, int]]:
    """A backend given by its address, and one that is told the client by PROXY v2 with the port of its listener.

    Connections end after a second of silence.
    """
    directory, told = tmp_path_factory.mktemp("played"), free_port()
    with PlayedBackend() as plain, PlayedBackend() as named:
        snigate = Snigate(
            directory,
            f'[server]\nworkers = 2\nstate_directory = "{directory}/state"\nidle_timeout = "1s"\n'
            f'[backends.named]\nservers = ["127.0.0.1:{named.port}"]\nclient_address = "proxy-v2"\n'
            '[[listeners]]\nname = "tcp"\nbind = ["127.0.0.1:{port}"]\nalpn = ["h2"]\n'
            f'backend = "127.0.0.1:{plain.port}"\n'
            f'[[listeners]]\nname = "told"\nbind = ["127.0.0.1:{told}"]\nalpn = ["h2"]\nbackend = "named"\n',
            name=NAME,
        )
        PAIR.write(snigate.certs)
        with snigate:
            plain.accept().close()  # start-up's own look at the listener
            yield snigate, plain, named, told


def outcomes(snigate: Snigate, outcome: str) -> float:
    return snigate.metric("snigate_connections_total", outcome=outcome)


Played = tuple[Snigate, PlayedBackend, PlayedBackend, int]


def test_a_backend_may_speak_first(played: Played) -> None:
    snigate, backend, _, _ = played
    with opened(snigate.port, NAME) as client, backend.accept() as server:
        server.sendall(b"* OK ready\r\n")
        assert client.read(12) == b"* OK ready\r\n"
        client.send_close_notify()
        assert rest(server) == (b"", "FIN")


def test_a_proxy_header_comes_first_and_whole_and_tells_of_client_name_and_tls(played: Played) -> None:
    _, _, backend, port = played
    with opened(port, NAME) as client, backend.accept() as server:
        client.send(b"hello")
        header = read(server, 16)
        assert header[:13] == b"\r\n\r\n\0\r\nQUIT\n\x21"
        assert header[13] == 0x11  # TCP over IPv4
        block = read(server, int.from_bytes(header[14:]))
        assert block[:8] == socket.inet_aton("127.0.0.1") * 2
        assert block[8:12] == client.socket.getsockname()[1].to_bytes(2) + port.to_bytes(2)
        assert tlv(2, NAME.encode()) in block
        assert tlv(0x21, b"TLSv1.3") in block
        assert read(server, 5) == b"hello"
        client.send_close_notify()
        assert rest(server) == (b"", "FIN")


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def test_an_early_answer_reaches_a_client_that_is_still_sending_and_does_not_pass_for_an_orderly_end(
    played: Played,
) -> None:
    snigate, backend, _, _ = played
    before = outcomes(snigate, "reset_by_backend")
    with opened(snigate.port, NAME) as client, backend.accept() as server:
        failed = threading.Event()

        def upload() -> None:
            try:
                for _ in range(UPLOAD >> 16):
                    client.socket.sendall(ciphertext.pop())
            except OSError:
                failed.set()

        ciphertext = [client.tls.write(bytes(1 << 16)) for _ in range(UPLOAD >> 16)][::-1]
        sending = threading.Thread(target=upload)
        sending.start()
        read(server, 1000)
        server.sendall(b"413 Content Too Large")
        server.close()  # with much unread: a reset
        answer, end = client.rest()
        sending.join(20)
        assert failed.is_set()
        assert answer == b"413 Content Too Large"
        assert end != "close_notify"
    wait_for(lambda: outcomes(snigate, "reset_by_backend") == before + 1, "it is counted")


def test_a_silent_connection_ends_and_neither_side_takes_that_for_a_whole_stream(played: Played) -> None:
    snigate, backend, _, _ = played
    before = outcomes(snigate, "idle")
    with opened(snigate.port, NAME) as client, backend.accept() as server:
        client.send(b"half a mess")
        server.sendall(b"half an answer")
        assert rest(server) == (b"half a mess", "RST")
        assert client.rest() == (b"half an answer", "FIN")
    wait_for(lambda: outcomes(snigate, "idle") == before + 1, "it is counted")


def test_a_backend_that_was_dialled_early_gets_a_clean_end_when_the_handshake_fails(played: Played) -> None:
    snigate, backend, _, _ = played
    client = TlsSocket(snigate.port, NAME)
    assert not client.tls.handshake()
    client.socket.sendall(client.tls.output())
    with backend.accept() as server:
        client.socket.sendall(bytes.fromhex("15 03 03 00 02 02 30"))  # a fatal alert: unknown_ca
        assert rest(server) == (b"", "FIN")
    client.close()
    refused = "certificate_refused"
    wait_for(lambda: snigate.metric("snigate_handshake_failures_total", reason=refused) == 1, "it is counted")


def test_a_backend_with_a_proxy_header_is_not_dialled_before_the_handshake_is_done(played: Played) -> None:
    _, _, backend, port = played
    with pytest.raises(SSL.Error, match="no application protocol"), opened(port, NAME, client_context(alpn=[b"imap"])):
        pass
    failed = TlsSocket(port, NAME)
    assert not failed.tls.handshake()
    failed.socket.sendall(failed.tls.output())
    assert failed.socket.recv(1 << 16)
    failed.socket.sendall(bytes.fromhex("15 03 03 00 02 02 30"))
    failed.close()
    with opened(port, NAME) as client, backend.accept() as server:
        header = read(server, 16)
        block = read(server, int.from_bytes(header[14:]))
        assert block[8:10] == client.socket.getsockname()[1].to_bytes(2), "the first connection that the backend sees"
        client.send_close_notify()
        assert rest(server) == (b"", "FIN")


def test_a_unix_socket_is_relayed_to_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "backend.sock"
    with EchoServer(str(path)):
        listener = f'[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{{port}}"]\nbackend = "unix:{path}"\n'
        with Snigate(tmp_path, listener) as snigate:
            with opened(snigate.port) as client:
                client.send(b"hello" * 50_000)
                client.send_close_notify()
                assert client.rest() == (b"hello" * 50_000, "close_notify")
            path.unlink()
            with opened(snigate.port) as client:
                assert client.rest() == (b"", "RST")
            assert f"backend unix:{path} cannot be reached: No such file or directory" in snigate.log
            reached = 'snigate_backend_up{backend="unix:' + str(path)
            assert reached in snigate.get("/metrics", token=False)[1]
