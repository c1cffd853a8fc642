"""Several servers in a backend: what a client notices when some are down, come back, or say they are ill."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from proxy.leg import reset
from tests.support.backend import PlayedBackend, read, rest
from tests.support.echo import EchoServer
from tests.support.ports import free_port
from tests.support.servers import nginx
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import connect, request
from tests.support.tls_socket import TlsSocket, opened


def configuration(*servers: str, keys: str = 'client_address = "none"') -> str:
    listed = ", ".join(f'"{server}"' for server in servers)
    return (
        f"[backends.web]\nservers = [{listed}]\n{keys}\n"
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "web"\n'
    )


def echoes(snigate: Snigate) -> bool:
    """Whether a connection gets through and back."""
    try:
        with opened(snigate.port) as client:
            client.send(b"hello")
            client.send_close_notify()
            return client.rest() == (b"hello", "close_notify")
    except OSError:
        return False


@pytest.mark.parametrize("balance", ["least-connections", "round-robin"])
def test_while_one_of_two_servers_is_down_no_request_fails(tmp_path: Path, balance: str) -> None:
    down = free_port()
    with EchoServer() as up:
        keys = f'client_address = "none"\nbalance = "{balance}"'
        servers = (f"127.0.0.1:{down}", f"127.0.0.1:{up.port}")
        with Snigate(tmp_path, configuration(*servers, keys=keys)) as snigate:
            assert all(echoes(snigate) for _ in range(40))
            assert snigate.metric("snigate_connections_total", outcome="backend_unreachable") == 0
            assert snigate.metric("snigate_backend_up", server=servers[0]) == 0
            assert snigate.metric("snigate_backend_up", server=servers[1]) == 1
            assert snigate.metric("snigate_backend_connect_failures_total", backend="web") >= 1
            said = f"backend web: server {servers[0]} cannot be reached: Connection refused; another server is used"
            assert said in snigate.log
            with EchoServer(port=down) as back:
                wait_for(lambda: echoes(snigate) and back.connections > 0, "the server that came back is used again")
                assert f"backend web: server {servers[0]} can be reached again" in snigate.log


def test_a_single_server_that_comes_back_serves_every_request_from_then_on(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(EchoServer())
        with Snigate(tmp_path, configuration(f"127.0.0.1:{first.port}")) as snigate:
            assert echoes(snigate)
            stack.close()
            assert not any(echoes(snigate) for _ in range(30))
            with EchoServer(port=first.port):
                assert [echoes(snigate) for _ in range(10)] == [True] * 10


def test_least_connections_spreads_connections_that_last(tmp_path: Path) -> None:
    with EchoServer() as one, EchoServer() as other:
        servers = [f"127.0.0.1:{each.port}" for each in (one, other)]
        with Snigate(tmp_path, configuration(*servers), workers=1) as snigate, contextlib.ExitStack() as stack:
            before = (one.connections, other.connections)
            clients = [stack.enter_context(opened(snigate.port)) for _ in range(10)]
            for client in clients:
                client.send(b"here")
                assert client.read(4) == b"here"
            assert (one.connections - before[0], other.connections - before[1]) == (5, 5)


def met(port: int, stack: contextlib.ExitStack, backend: PlayedBackend) -> tuple[TlsSocket, socket.socket]:
    """A client, and the far end of its connection on this server, whose turn it is."""
    client = stack.enter_context(opened(port))
    server = stack.enter_context(backend.accept())
    client.send(b"1")
    assert read(server, 1) == b"1"
    return client, server


def test_a_server_that_dies_midway_takes_only_its_own_connections_along(tmp_path: Path) -> None:
    port = free_port()
    with PlayedBackend() as dying, PlayedBackend() as other:
        text = (
            f'[backends.web]\nservers = ["127.0.0.1:{dying.port}", "127.0.0.1:{other.port}"]\n'
            'client_address = "none"\nbalance = "round-robin"\n'
            '[[listeners]]\nname = "probed"\nbind = ["127.0.0.1:{port}"]\nbackend = "welcome"\n'
            f'[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nbackend = "web"\n'
        )
        with Snigate(tmp_path, text, workers=1), contextlib.ExitStack() as stack:
            victim, lost = met(port, stack, dying)
            survivor, far = met(port, stack, other)
            dying.close()
            reset(lost)
            assert victim.rest() == (b"", "RST")
            survivor.send(b"still")
            assert read(far, 5) == b"still"
            later = [met(port, stack, other) for _ in range(4)]
            for client, server in [(survivor, far), *later]:
                client.send_close_notify()
                assert rest(server) == (b"", "FIN")
                server.shutdown(socket.SHUT_WR)
                assert client.rest() == (b"", "close_notify")


def test_localhost_reaches_a_server_that_listens_on_ipv4_alone(tmp_path: Path) -> None:
    with EchoServer() as server, Snigate(tmp_path, configuration(f"localhost:{server.port}")) as snigate:
        assert all(echoes(snigate) for _ in range(10))
        assert snigate.metric("snigate_backend_connect_failures_total", backend="web") == 0


def test_a_name_that_does_not_resolve_leaves_its_server_out_and_no_request_waits_for_it(tmp_path: Path) -> None:
    with EchoServer() as server:
        servers = ("nowhere.invalid:80", f"127.0.0.1:{server.port}")
        with Snigate(tmp_path, configuration(*servers)) as snigate:
            assert all(echoes(snigate) for _ in range(10))
            assert "the name nowhere.invalid does not resolve" in snigate.log


def test_a_server_that_answers_503_is_taken_out_by_its_check_and_comes_back(tmp_path: Path) -> None:
    home = tmp_path / "nginx"
    ports = (free_port(), free_port())
    blocks = "\n".join(
        f"server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{\n"
        f'  if (-f {home}/ill{port}) {{ return 503; }} return 200 "from {port}"; }} }}'
        for port in ports
    )
    keys = 'client_address = "proxy-v2"\ncheck = "http"\ncheck_interval = "100ms"\ncheck_path = "/health"'
    servers = [f"127.0.0.1:{port}" for port in ports]
    with nginx(home, blocks, ports[0]), Snigate(tmp_path, configuration(*servers, keys=keys)) as snigate:

        def answers(count: int) -> set[bytes]:
            found = set()
            for _ in range(count):
                with connect(snigate.port) as client:
                    found.add(request(client).rpartition(b"\n")[2])
            return found

        both = {f"from {port}".encode() for port in ports}
        wait_for(lambda: answers(2) == both, "both are used")
        (home / f"ill{ports[0]}").touch()
        failing = f"server {servers[0]} fails its check: it answered GET /health with 503, not with 200"
        wait_for(lambda: snigate.log.count(failing) == 2, "both workers have checked")
        assert snigate.metric("snigate_backend_up", server=servers[0]) == 0
        assert answers(20) == {f"from {ports[1]}".encode()}
        (home / f"ill{ports[0]}").unlink()
        wait_for(lambda: snigate.metric("snigate_backend_up", server=servers[0]) == 1, "it passes again")
        wait_for(lambda: answers(2) == both, "both are used again")
        (home / f"ill{ports[0]}").touch()
        (home / f"ill{ports[1]}").touch()
        wait_for(lambda: snigate.metric("snigate_backend_up", backend="web") == 0, "both fail their checks")
        with connect(snigate.port) as client:
            assert b"503 Service" in request(client), "where all are ill, they are used all the same"
        assert "broken header" not in (home.parent / "nginx" / "nginx.out").read_text()
        assert snigate.metric("snigate_connections_total", outcome="backend_unreachable") == 0
