"""Limits, and the end of waiting: what happens to connections that are too many, or that do not finish."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.backend import rest
from tests.support.echo import EchoServer
from tests.support.ports import free_port
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


def two_listeners(directory: Path, backend: int, second: int, own: str, server: str = "") -> str:
    """The first listener has limits of its own, the second has not."""
    plain = f'[[listeners]]\nname = "plain"\nbind = ["127.0.0.1:{second}"]\nbackend = "127.0.0.1:{backend}"\n'
    return configuration(directory, backend, server) + own + "\n" + plain


def test_a_full_listener_lets_its_clients_wait_and_others_go_on(tmp_path: Path) -> None:
    second = free_port()
    with EchoServer() as backend:
        text = two_listeners(tmp_path, backend.port, second, "max_connections = 1")
        with Snigate(tmp_path, text) as snigate, opened(snigate.port) as one:
            waiting = TlsSocket(snigate.port)
            waiting.tls.handshake()
            waiting.socket.sendall(waiting.tls.output())
            wait_for(lambda: "listener web: its max_connections (1) is reached" in snigate.log, "the log says why")
            with opened(second) as other, opened(second) as another:
                other.send(b"not the full one's")
                assert other.read(18) == b"not the full one's"
                another.send(b"nor this")
                assert another.read(8) == b"nor this"
            assert not readable(waiting.socket)
            one.send_close_notify()
            assert one.rest() == (b"", "close_notify")
            waiting.tls.receive(waiting.socket.recv(1 << 16))
            waiting.handshake()
            waiting.send(b"my turn")
            assert waiting.read(7) == b"my turn"
            waiting.close()


def test_a_listeners_own_limit_for_a_client_replaces_the_servers_for_it_alone(tmp_path: Path) -> None:
    second = free_port()
    with EchoServer() as backend:
        text = two_listeners(
            tmp_path, backend.port, second, "max_connections_per_client = 2", "max_connections_per_client = 1"
        )
        with Snigate(tmp_path, text) as snigate, opened(snigate.port), opened(snigate.port), opened(second) as one:
            assert answer_to_silence(snigate.port) == (b"", "RST")
            assert answer_to_silence(second) == (b"", "RST")
            one.send(b"unharmed")
            assert one.read(8) == b"unharmed"
            for name in ("web", "plain"):
                wait_for(
                    lambda name=name: (
                        snigate.metric("snigate_connections_total", listener=name, outcome="refused") == 1
                    ),
                    "it is counted",
                )


def test_a_listeners_own_time_outs_hold_for_it_and_not_for_others(tmp_path: Path) -> None:
    second = free_port()
    own = 'handshake_timeout = "300ms"\nidle_timeout = "300ms"'
    with (
        EchoServer() as backend,
        Snigate(tmp_path, two_listeners(tmp_path, backend.port, second, own)) as snigate,
        opened(second) as idle,
        socket.create_connection(("127.0.0.1", second), timeout=TIMEOUT) as silent,
    ):
        assert answer_to_silence(snigate.port) == (b"", "FIN")
        with opened(snigate.port) as one:
            assert one.rest()[1] == "FIN"
        assert not readable(silent)
        idle.send(b"still here")
        assert idle.read(10) == b"still here"
        wait_for(lambda: snigate.metric("snigate_connections_total", outcome="idle") == 1, "its end is counted")


def test_who_floods_with_unfinished_handshakes_ends_theirs_and_holds_nobody_up(tmp_path: Path) -> None:
    with EchoServer() as backend, contextlib.ExitStack() as stack:
        text = configuration(tmp_path, backend.port, 'max_handshakes = 80\nhandshake_timeout = "1h"')
        snigate = stack.enter_context(Snigate(tmp_path, text))
        slow = stack.enter_context(contextlib.closing(TlsSocket(snigate.port, source="127.0.0.9")))
        slow.tls.handshake()
        hello = slow.tls.output()
        slow.socket.sendall(hello[:100])
        strangers = [stack.enter_context(silent(snigate.port, "127.0.0.8")) for _ in range(400)]
        for address in ("127.0.0.1", "127.0.0.8"):
            with opened(snigate.port, source=address) as one:
                one.send(b"held up by nobody")
                assert one.read(17) == b"held up by nobody"
        slow.socket.sendall(hello[100:])
        slow.tls.receive(slow.socket.recv(1 << 16))
        slow.handshake()
        slow.send(b"slow, and served")
        assert slow.read(16) == b"slow, and served"

        def ended() -> list[socket.socket]:
            return [one for one in strangers if readable(one)]

        def counted() -> float:
            return snigate.metric("snigate_handshake_failures_total", reason="crowded_out")

        wait_for(lambda: 320 <= counted() == len(ended()), "the others had to go")
        with pytest.raises(ConnectionResetError):
            ended()[0].recv(1)
        assert snigate.metric("snigate_connections_active") <= 81
        assert " 80 handshakes are unfinished, as many as may be (server.max_handshakes), 79 of them" in snigate.log
        assert " end=handshake_failed by=client reason=crowded_out" in snigate.log


def test_strangers_from_many_addresses_neither_fill_a_worker_nor_lock_anybody_out(tmp_path: Path) -> None:
    with EchoServer() as backend, contextlib.ExitStack() as stack:
        text = configuration(tmp_path, backend.port, 'max_connections = 150\nhandshake_timeout = "1h"')
        snigate = stack.enter_context(Snigate(tmp_path, text))
        for number in range(600):
            stack.enter_context(silent(snigate.port, f"127.1.{number // 200}.{number % 200 + 1}"))
            if not number % 20:
                with opened(snigate.port) as one:
                    one.send(b"served")
                    assert one.read(6) == b"served"
        wait_for(lambda: snigate.metric("snigate_handshake_failures_total", reason="crowded_out") >= 500, "they go")
        assert "max_connections (150) is reached" not in snigate.log


def test_strangers_who_stall_do_not_fill_a_listener_with_a_limit_of_its_own(tmp_path: Path) -> None:
    with EchoServer() as backend, contextlib.ExitStack() as stack:
        text = configuration(tmp_path, backend.port, 'handshake_timeout = "1h"') + "max_connections = 150\n"
        snigate = stack.enter_context(Snigate(tmp_path, text))
        for number in range(400):
            stack.enter_context(silent(snigate.port, "127.0.0.8"))
            if not number % 20:
                with opened(snigate.port) as one:
                    one.send(b"served")
                    assert one.read(6) == b"served"
        wait_for(lambda: snigate.metric("snigate_handshake_failures_total", reason="crowded_out") >= 300, "they go")
        assert "max_connections (150) is reached" not in snigate.log
        assert (
            " 100 handshakes are unfinished, as many as listener web may have (by its max_connections), " in snigate.log
        )


def test_strangers_who_stall_do_not_take_all_the_files_where_these_are_few(tmp_path: Path) -> None:
    with EchoServer() as backend, contextlib.ExitStack() as stack:
        text = configuration(tmp_path, backend.port, 'handshake_timeout = "1h"')
        snigate = Snigate(tmp_path, text)
        snigate.under = ("prlimit", "--nofile=256")
        stack.enter_context(snigate)
        assert "open files are limited to 256: a worker has room for some 128 connections and 64 unf" in snigate.log
        for number in range(400):
            stack.enter_context(silent(snigate.port, "127.0.0.8"))
            if not number % 20:
                with opened(snigate.port) as one:
                    one.send(b"served")
                    assert one.read(6) == b"served"
        assert "Too many open files" not in snigate.log


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


def silent(port: int, address: str) -> socket.socket:
    """A client from this address that says nothing."""
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT, source_address=(address, 0))


def readable(sock: socket.socket) -> bool:
    """Whether there is something to read now, be it an end."""
    return bool(select.select([sock], [], [], 0)[0])


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
