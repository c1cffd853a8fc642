"""Protocols that hold a connection for long or use it in both directions at once: WebSocket, HTTP/2, IMAP IDLE."""

from __future__ import annotations

import imaplib
import re
import ssl
import subprocess
import threading
from pathlib import Path

from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import ServerConnection, serve

from tests.support.pki import self_signed
from tests.support.ports import free_port
from tests.support.servers import dovecot, needs, nginx
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import context

REQUESTS = 5000
BIG = "x" * (1 << 20)


def echo(websocket: ServerConnection) -> None:
    for message in websocket:
        websocket.send(message)


def test_a_websocket_echoes_through(tmp_path: Path) -> None:
    with serve(echo, "127.0.0.1", 0, max_size=4 << 20, compression=None) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        port = server.socket.getsockname()[1]
        listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\n'
        with Snigate(tmp_path, f'{listener}backend = "127.0.0.1:{port}"\n') as snigate:
            url = f"wss://127.0.0.1:{snigate.port}/"
            with connect_websocket(url, ssl=context(), max_size=4 << 20, compression=None) as websocket:
                for number in range(200):
                    websocket.send(str(number))
                assert [websocket.recv(10) for _ in range(200)] == [str(number) for number in range(200)]
                websocket.send(BIG)
                assert websocket.recv(10) == BIG
                assert websocket.ping().wait(10)
        server.shutdown()
        serving.join(10)


def test_h2load_gets_every_answer_through_to_an_h2c_nginx(tmp_path: Path) -> None:
    h2c = free_port()
    home = tmp_path / "nginx"
    servers = (
        f"server {{ listen 127.0.0.1:{h2c} http2; keepalive_requests 100000; location / {{ return 200 hello; }} }}"
    )
    with nginx(home, servers, h2c):
        listener = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nalpn = ["h2"]\n'
        with Snigate(tmp_path, f'{listener}backend = "127.0.0.1:{h2c}"\n') as snigate:
            said = subprocess.run(
                [needs("h2load"), "-n", str(REQUESTS), "-c", "20", "-m", "10", f"https://127.0.0.1:{snigate.port}/"],
                check=True,
                capture_output=True,
                text=True,
                timeout=60,
            ).stdout
            assert f"requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded" in said
            assert re.search(r"Application protocol: h2\b", said)
            wait_for(lambda: snigate.metric("snigate_connections_total", outcome="served") >= 20, "all are served")


def test_an_imap_session_goes_on_through_idle_and_much_mail(tmp_path: Path) -> None:
    imap = free_port()
    certificate, key = self_signed("unused.example").write(tmp_path, "dovecots-own")
    configuration = (
        f'[backends.imap]\nservers = ["127.0.0.1:{imap}"]\n'
        '[[listeners]]\nname = "imaps"\nbind = ["127.0.0.1:{port}"]\nprotocol = "imap"\nbackend = "imap"\n'
    )
    with (
        dovecot(tmp_path / "dovecot", imap, free_port(), certificate, key),
        Snigate(tmp_path, configuration) as snigate,
    ):
        idler, other = (imaplib.IMAP4_SSL("127.0.0.1", snigate.port, ssl_context=context(), timeout=20) for _ in "12")
        for one in (idler, other):
            one.login("alice", "secret")
            one.select("INBOX")
        idler.send(b"i1 IDLE\r\n")
        assert idler.readline().startswith(b"+")
        mails = 50
        body = b"Subject: long\r\n\r\n" + b"line\r\n" * 20_000
        for number in range(mails):
            assert other.append("INBOX", "", "", body)[0] == "OK"
            if number == 0:
                assert b"EXISTS" in idler.readline()
        idler.send(b"DONE\r\n")
        while not idler.readline().startswith(b"i1 OK"):
            pass
        for number in range(1, mails + 1):
            (fetched,) = (part for part in idler.fetch(str(number), "(BODY.PEEK[])")[1] if isinstance(part, tuple))
            assert fetched[1] == body
        assert isinstance(idler.sock, ssl.SSLSocket)
        assert idler.logout()[0] == other.logout()[0] == "BYE"
