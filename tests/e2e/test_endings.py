"""How connections end, over real sockets: what one leg says, the other is told."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect
from tests.support.tls_socket import opened

RESET = struct.pack("ii", 1, 0)
LARGE = 50 << 20
STALLED = 200


class Backend:
    """Hands the test each accepted connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._accepted: Queue[socket.socket] = Queue()
        self.answers = False  # until then, whoever connects is only let go again
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.settimeout(20)
                if not self.answers:
                    connection.close()
                    continue
                self._accepted.put(connection)

    def accepted(self) -> socket.socket:
        return self._accepted.get(timeout=20)

    def forget(self) -> None:
        while not self._accepted.empty():
            self._accepted.get().close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snigate, Backend]]:
    backend = Backend()
    listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = '
    with Snigate(tmp_path_factory.mktemp("endings"), f'{listener}"127.0.0.1:{backend.port}"\n') as snigate:
        backend.answers = True
        yield snigate, backend
    backend.close()


@contextlib.contextmanager
def both(running: tuple[Snigate, Backend]) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """A connection through snigate: the client's end and the backend's."""
    snigate, backend = running
    wait_for(lambda: snigate.metric("snigate_connections_active") == 0, "it is quiet")
    backend.forget()
    with connect(snigate.port) as client, backend.accepted() as server:
        client.sendall(b"hello")
        assert server.recv(5, socket.MSG_WAITALL) == b"hello"
        yield client, server


def ended(running: tuple[Snigate, Backend], outcome: str, before: float) -> None:
    wait_for(
        lambda: running[0].metric("snigate_connections_total", outcome=outcome) == before + 1, f"{outcome} is counted"
    )


def count(running: tuple[Snigate, Backend], outcome: str) -> float:
    wait_for(lambda: running[0].metric("snigate_connections_active") == 0, "it is quiet")
    return running[0].metric("snigate_connections_total", outcome=outcome)


def was_reset(client: ssl.SSLSocket) -> bool:
    """Whether the peer sends a reset within 20 s; the ssl module reports it like a bare FIN, the kernel does not."""
    poll = select.poll()
    poll.register(client, 0)
    return any(events & select.POLLERR for _, events in poll.poll(20_000))


def test_a_large_answer_arrives_whole_after_the_clients_close_notify(running: tuple[Snigate, Backend]) -> None:
    snigate, backend = running
    before = count(running, "served")
    backend.forget()
    with opened(snigate.port) as client:
        client.send(b"hello")
        with backend.accepted() as server:
            assert server.recv(5, socket.MSG_WAITALL) == b"hello"
            client.send_close_notify()  # TCP stays open
            assert server.recv(1) == b""  # it has become FIN
            sender = threading.Thread(target=send_whole, args=(server, LARGE))
            sender.start()
            answer, end = client.rest()
            sender.join(60)
    assert answer == bytes(LARGE)
    assert end == "close_notify"
    ended(running, "served", before)


def send_whole(server: socket.socket, size: int) -> None:
    server.sendall(bytes(size))
    server.shutdown(socket.SHUT_WR)


def test_a_backends_fin_becomes_close_notify_and_not_a_bare_fin(running: tuple[Snigate, Backend]) -> None:
    before = count(running, "served")
    with both(running) as (client, server):
        server.sendall(b"bye")
        server.shutdown(socket.SHUT_WR)
        vars(client)["suppress_ragged_eofs"] = False
        assert client.recv(3) == b"bye"
        assert client.recv(1) == b""  # a bare FIN would raise SSLEOFError
        client.sendall(b"still here")  # the client's direction is open
        assert server.recv(10, socket.MSG_WAITALL) == b"still here"
        client.unwrap()
        assert server.recv(1) == b""
    ended(running, "served", before)


def test_a_client_that_is_cut_off_resets_the_backend(running: tuple[Snigate, Backend]) -> None:
    before = count(running, "truncated_by_client")
    with both(running) as (client, server):
        client.shutdown(socket.SHUT_WR)  # FIN without close_notify
        with pytest.raises(ConnectionResetError):
            server.recv(1)
    ended(running, "truncated_by_client", before)


def test_a_clients_reset_is_the_backends_reset(running: tuple[Snigate, Backend]) -> None:
    before = count(running, "reset_by_client")
    with both(running) as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        with pytest.raises(ConnectionResetError):
            server.recv(1)
    ended(running, "reset_by_client", before)


def test_a_backends_reset_is_the_clients_reset(running: tuple[Snigate, Backend]) -> None:
    before = count(running, "reset_by_backend")
    with both(running) as (client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.close()
        assert was_reset(client)
    ended(running, "reset_by_backend", before)


def test_200_clients_that_stop_reading_cost_a_megabyte_each_at_most_and_hold_nobody_up(
    running: tuple[Snigate, Backend],
) -> None:
    with stalled(running) as (_, servers):
        for server in servers:
            server.setblocking(False)
        fill(servers, BlockingIOError)


def test_200_uploads_to_a_stalled_backend_cost_a_megabyte_each_at_most_and_hold_nobody_up(
    running: tuple[Snigate, Backend],
) -> None:
    with stalled(running) as (clients, _):
        for client in clients:
            client.setblocking(False)
        fill(clients, ssl.SSLWantWriteError)


@contextlib.contextmanager
def stalled(running: tuple[Snigate, Backend]) -> Iterator[tuple[list[ssl.SSLSocket], list[socket.socket]]]:
    """STALLED connections that the block fills; afterwards the workers' memory is bounded and others are served."""
    snigate, backend = running
    count(running, "served")
    backend.forget()
    before = sum(one.resident for one in snigate.workers())
    with contextlib.ExitStack() as stack:
        clients, servers = [], []
        for _ in range(STALLED):
            clients.append(stack.enter_context(connect(snigate.port)))
            servers.append(stack.enter_context(backend.accepted()))
        yield clients, servers
        with connect(snigate.port) as client, backend.accepted() as server:
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            server.shutdown(socket.SHUT_WR)
            client.unwrap()
        grown = sum(one.resident for one in snigate.workers()) - before
        assert grown < STALLED * (1 << 20)


def fill(ends: list[ssl.SSLSocket] | list[socket.socket], full: type[OSError]) -> None:
    """Send as much as each connection takes, and a gigabyte at most; return when none takes more."""
    sent = dict.fromkeys(ends, 0)
    progress = True
    while progress:
        progress = False
        for end in ends:
            with contextlib.suppress(full):
                sent[end] += end.send(bytes(1 << 20))
                progress = True
    assert 0 < max(sent.values()) < 1 << 30


def test_a_client_is_reset_when_the_backend_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = '
    snigate = Snigate(tmp_path, f'{listener}"127.0.0.1:{port}"\n')
    with snigate:
        before = snigate.metric("snigate_backend_connect_failures_total")
        with connect(snigate.port) as client:
            assert was_reset(client)
        wait_for(lambda: snigate.metric("snigate_backend_connect_failures_total") == before + 1, "it is counted")
        assert snigate.metric("snigate_backend_up", backend=f"127.0.0.1:{port}") == 0
        assert f"backend 127.0.0.1:{port} cannot be reached: Connection refused" in snigate.log
        with (
            socket.create_server(("127.0.0.1", port)) as back,
            connect(snigate.port) as client,
            back.accept()[0] as server,
        ):
            client.sendall(b"x")
            assert server.recv(1) == b"x"
            server.shutdown(socket.SHUT_WR)
            client.unwrap()
