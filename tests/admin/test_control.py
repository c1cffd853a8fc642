from __future__ import annotations

import json
import os
import socket

import httpx

from admin.control import run, where_the_token_is
from admin.state import StateDirectory
from admin.surroundings import Sockets, Surroundings
from certstore.unix_path import socket_address
from config.addresses import TcpAddress
from proxy.channel import Channel, encode
from proxy.metrics import empty_directory
from proxy.sockets import bind_tcp, bind_unix
from tests.admin.asking import TOKEN
from tests.admin.conftest import Place, said


def _surroundings(place: Place) -> Surroundings:
    config = place.config
    state = StateDirectory(config.server.state_directory)
    anywhere = TcpAddress("127.0.0.1", 0)
    return Surroundings(
        config=config,
        sockets=Sockets(bind_tcp("admin", anywhere), bind_tcp("metrics", anywhere), bind_unix(state.control_socket)),
        keeper_socket=state.new_keeper_socket(1),
        metrics_directory=empty_directory(state.path),
        token=TOKEN,
        listeners={"web": ["127.0.0.1:8443"]},
        started_at=1_700_000_000.0,
    )


def test_control_serves_all_its_sockets_and_ends_with_the_supervisor(place: Place) -> None:
    given = _surroundings(place)
    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        try:
            run(given, Channel(far))
        finally:
            os._exit(1)
    far.close()
    with near, near.makefile("rb") as lines:
        near.sendall(encode(said()))
        assert json.loads(lines.readline()) == {"ready": True}
        addresses = given.sockets.addresses
        with (
            socket_address(given.config.server.state_directory / "control.sock") as path,
            httpx.Client(transport=httpx.HTTPTransport(uds=path)) as local,
        ):
            status = local.get("http://snigate/api/v1/status").json()
            assert len(status["processes"]) == 4, "it answers nothing before it knows"
            assert status["admin"] == addresses
            assert status["started_at"] == "2023-11-14T22:13:20Z"
        assert httpx.get(f"http://{addresses['admin']}/readyz").text == "ready\n"
        assert httpx.get(f"http://{addresses['admin']}/api/v1/status").status_code == 401
        assert httpx.get(f"http://{addresses['metrics']}/metrics").status_code == 200
        assert httpx.get(f"http://{addresses['metrics']}/api/v1/status").status_code == 404
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for sock in given.sockets.every:
        sock.close()


def test_the_tokens_place_is_told_without_telling_where_on_the_machine(place: Place) -> None:
    assert where_the_token_is(place.config) == 'the file "token" in the state directory'
    place.configure(listener='[admin]\ntoken_file = "/etc/elsewhere"')
    assert where_the_token_is(place.config) == "the file that admin.token_file names"
