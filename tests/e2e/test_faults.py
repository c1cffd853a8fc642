"""What breaks around snigate, and what is lost by it: nothing but what had to be.

At the end of each test connections and descriptors are back where they were, see Snigate.settled.
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.pki import self_signed
from tests.support.snigate import Snigate, wait_for
from tests.support.tls_client import TIMEOUT, connect, context, shown

WELCOME = '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
STRANGERS = 1000
SWAPS = 10_000


def answered(snigate: Snigate) -> bool:
    """Whether a client is served, from the handshake to the answer."""
    with connect(snigate.port, "www.example.com") as tls:
        tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return tls.recv(12) == b"HTTP/1.1 200"


@contextlib.contextmanager
def strangers(port: int, said: list[bytes]) -> Iterator[list[socket.socket]]:
    """Connections that have each said something, and then nothing more."""
    with contextlib.ExitStack() as stack:
        held = []
        for one in said:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT))
            sock.sendall(one)
            held.append(sock)
        yield held


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing, server_hostname="www.example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_a_thousand_who_stall_before_the_handshakes_end_hold_nobody_up_and_go_at_the_deadline(tmp_path: Path) -> None:
    site = Snigate(tmp_path, WELCOME)
    site.file.write_text(site.file.read_text().replace('drain = "3s"', 'drain = "3s"\nhandshake_timeout = "8s"'))
    hello, chosen = client_hello(), random.Random(7)
    said = [hello[: chosen.randint(0, len(hello))] for _ in range(STRANGERS)]
    with site, strangers(site.port, said) as held:
        wait_for(lambda: site.metric("snigate_connections_active") >= STRANGERS, "all are accepted")
        assert all(answered(site) for _ in range(20))
        wait_for(lambda: site.metric("snigate_connections_active") == 0, "the deadline ends them")
        for sock in held:
            while sock.recv(1 << 16):  # some were sent their part of the handshake
                pass
        assert site.metric("snigate_handshake_failures_total", reason="timeout") == STRANGERS


def test_without_descriptors_accepting_waits_and_what_is_open_goes_on(tmp_path: Path) -> None:
    with Snigate(tmp_path, WELCOME, workers=1) as snigate:
        (worker,) = snigate.workers()
        before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        with connect(snigate.port, "www.example.com") as tls, strangers(snigate.port, [b""] * 40):
            wait_for(lambda: snigate.metric("snigate_connections_active") >= 41, "they are accepted")
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (40, before[1]))
            with strangers(snigate.port, [b""] * 10):
                wait_for(lambda: "no further connection can be accepted now (Too many open files)" in snigate.log, "it")
                tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert tls.recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: snigate.metric("snigate_connections_active") == 0, "the others have gone")
        assert answered(snigate)
        assert snigate.log.count("no further connection can be accepted now") <= 2, "it is said once"
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
        assert snigate.metric("snigate_worker_restarts_total") == 0


def test_a_storm_of_swaps_never_shows_a_key_that_is_not_its_certificates(tmp_path: Path) -> None:
    """A link goes to and fro between directories with a pair each: handshakes prove that key and certificate fit."""
    with contextlib.ExitStack() as stack:
        snigate = Snigate(tmp_path, WELCOME)
        pairs = [self_signed("www.example.com", not_after=days * 86400) for days in (50, 60)]
        for number, pair in enumerate(pairs):
            pair.write(tmp_path / f"version{number}", "tls")
        link, aside = snigate.certs / "live", tmp_path / "aside"
        link.symlink_to(tmp_path / "version0")
        stack.enter_context(snigate)
        wait_for(lambda: shown(snigate.port, "www.example.com").fingerprint == pairs[0].fingerprint, "it is served")
        over = threading.Event()

        def swap() -> None:
            for number in range(1, SWAPS + 1):
                aside.symlink_to(tmp_path / f"version{number % 2}")
                aside.replace(link)
                if not number % 100:
                    time.sleep(0.02)  # while it is looked at
            over.set()

        storm = threading.Thread(target=swap)
        storm.start()
        seen = set()
        while not over.is_set():
            seen.add(shown(snigate.port, "www.example.com").fingerprint)
        storm.join()
        assert seen <= {pair.fingerprint for pair in pairs}
        last = pairs[SWAPS % 2].fingerprint
        wait_for(lambda: all(shown(snigate.port, "www.example.com").fingerprint == last for _ in range(8)), "the last")
