"""Limits, and the end of waiting: what happens to connections that are too many, or that do not finish."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.backend import rest
from tests.support.echo import EchoServer
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT
from tests.support.tls_socket import TlsSocket, opened


def configuration(directory: Path, port: int, server: str) -> str:
    return (
        f'[server]\nworkers = 1\nstate_directory = "{directory}/state"\n{server}\n'
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\n'
        f'backend = "127.0.0.1:{port}"\n'
    )


def test_a_full_worker_lets_the_next_client_wait_until_there_is_room(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, "max_connections = 2")
        with Snigate(tmp_path, text) as snigate, opened(snigate.port) as one, opened(snigate.port) as two:
            waiting = TlsSocket(snigate.port)
            assert not waiting.tls.handshake()
            waiting.socket.sendall(waiting.tls.output())
            waiting.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                waiting.socket.recv(1)
            two.send(b"still served")
            assert two.read(12) == b"still served"
            one.send_close_notify()
            assert one.rest() == (b"", "close_notify")
            one.close()
            waiting.socket.settimeout(TIMEOUT)
            waiting.tls.receive(waiting.socket.recv(1 << 16))
            waiting.handshake()
            waiting.send(b"my turn")
            assert waiting.read(7) == b"my turn"
            waiting.close()
            assert snigate.metric("snigate_connections_total", outcome="refused") == 0


def test_a_client_at_its_limit_is_reset_at_once_and_another_address_is_served(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, "max_connections_per_client = 2")
        with Snigate(tmp_path, text) as snigate:
            with opened(snigate.port) as one, opened(snigate.port):
                assert answer_to_silence(snigate.port) == (b"", "RST")
                with socket.create_connection(
                    ("127.0.0.1", snigate.port), timeout=TIMEOUT, source_address=("127.0.0.9", 0)
                ) as other:
                    other.sendall(b"not TLS, but admitted")
                    assert rest(other) == (b"", "FIN")
                wait_for(
                    lambda: snigate.metric("snigate_connections_total", outcome="refused") == 1, "the reset is counted"
                )
                one.send(b"unharmed")
                assert one.read(8) == b"unharmed"
            wait_for(lambda: snigate.metric("snigate_connections_active") == 0, "they have gone")
            with opened(snigate.port) as again:
                again.send(b"there is room again")
                assert again.read(19) == b"there is room again"


def test_a_client_that_is_too_fast_is_reset_before_its_handshake_and_others_are_not(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, "max_connection_rate_per_client = 1")
        with Snigate(tmp_path, text) as snigate:
            fast = "127.0.0.8"

            def answer() -> tuple[bytes, str]:
                try:
                    with socket.create_connection(
                        ("127.0.0.1", snigate.port), timeout=TIMEOUT, source_address=(fast, 0)
                    ) as one:
                        one.sendall(b"not TLS, but admitted")
                        return rest(one)
                except ConnectionError:  # as early as that
                    return b"", "RST"

            answers = [answer() for _ in range(20)]
            assert answers[:10] == [(b"", "FIN")] * 10
            assert (b"", "RST") in answers[10:]
            with opened(snigate.port) as one:
                one.send(b"unharmed")
                assert one.read(8) == b"unharmed"


def test_a_connection_that_does_not_finish_within_drain_is_reset_and_the_exit_status_is_0(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, 'drain = "500ms"')
        with Snigate(tmp_path, text) as snigate:
            with opened(snigate.port) as client:
                client.send(b"hello")
                assert client.read(5) == b"hello"
                assert snigate.process is not None
                snigate.process.send_signal(signal.SIGTERM)
                assert client.rest() == (b"", "RST")
            assert snigate.process.wait(TIMEOUT) == 0
        assert " end=drained by=snigate" in snigate.log


def test_a_second_signal_cuts_open_connections_by_a_reset_and_the_exit_status_is_0(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, 'drain = "60s"')
        with Snigate(tmp_path, text) as snigate:
            with opened(snigate.port) as client:
                client.send(b"hello")
                assert client.read(5) == b"hello"
                assert snigate.process is not None
                snigate.process.send_signal(signal.SIGTERM)
                wait_for(lambda: not connects(snigate.port), "new connections are refused")
                while "told to stop again" not in snigate.log:  # those within a second count as one
                    snigate.process.send_signal(signal.SIGTERM)
                    time.sleep(0.1)
                assert client.rest() == (b"", "RST")
            assert snigate.process.wait(TIMEOUT) == 0
        assert " end=drained by=snigate" in snigate.log


def test_while_draining_new_connections_are_refused_and_open_ones_go_on(tmp_path: Path) -> None:
    with EchoServer() as backend:
        text = configuration(tmp_path, backend.port, 'drain = "30s"')
        with Snigate(tmp_path, text) as snigate:
            with opened(snigate.port) as client:
                assert snigate.process is not None
                snigate.process.send_signal(signal.SIGTERM)
                wait_for(lambda: not connects(snigate.port), "new connections are refused")
                client.send(b"last words")
                client.send_close_notify()
                assert client.rest() == (b"last words", "close_notify")
            assert snigate.process.wait(TIMEOUT) == 0


def answer_to_silence(port: int) -> tuple[bytes, str]:
    """What a client that says nothing is told. A reset may come while it still waits for its own connect to return."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock:
            return rest(sock)
    except ConnectionResetError:
        return b"", "RST"


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
