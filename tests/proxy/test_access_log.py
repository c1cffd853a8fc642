from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator

import pytest

from proxy.access_log import MAX_HELD, AccessLog
from proxy.account import Account
from proxy.errors import Outcome
from tests.support.engine import ESTABLISHED
from tests.support.loop import in_loop

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def served(name: str | None = "www.example.com") -> Account:
    return Account(
        "web",
        ("192.0.2.1", 4711),
        name,
        ESTABLISHED,
        backend="web",
        to_backend=10,
        to_client=20,
        route="*.example.com",
        ja4="t13d1516h2_8daaf6152771_e5627efa2ab1",
        handshake=0.0021,
        connect=0.0004,
    )


def written(pipe: Pipe) -> str:
    try:
        return os.read(pipe[0], 1 << 16).decode()
    except BlockingIOError:
        return ""


@in_loop
async def test_a_line_of_text_tells_who_what_how_much_and_how_it_ended(pipe: Pipe) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    log.write(served(), Outcome.SERVED, 0.0123)
    log.flush()
    moment, rest = written(pipe).split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert rest == (
        f"access web 192.0.2.1:4711 sni=www.example.com route=*.example.com level=1 certificate={'0' * 16} "
        "tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 group=X25519 alpn=h2 resumed=no "
        "ja4=t13d1516h2_8daaf6152771_e5627efa2ab1 backend=web to_backend=10 to_client=20 "
        "handshake=0.002s connect=0.000s total=0.012s end=served\n"
    )


@in_loop
async def test_a_failed_handshake_names_its_reason(pipe: Pipe) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    log.write(Account("web", ("192.0.2.1", 4711), reason="not_tls"), Outcome.HANDSHAKE_FAILED, 0)
    log.flush()
    line = written(pipe)
    assert line.endswith(
        " sni=- route=- to_backend=0 to_client=0 total=0.000s end=handshake_failed by=client reason=not_tls\n"
    )


@in_loop
async def test_who_ended_it_is_said_and_a_reason_in_words_is_one_quoted_value(pipe: Pipe) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    account = served()
    account.reason = 'no "answer" within 5 s'
    log.write(account, Outcome.BACKEND_UNREACHABLE, 0)
    log.write(Account("web", ("192.0.2.1", 4711), reason="rejected"), Outcome.HANDSHAKE_FAILED, 0)
    log.write(Account("web", ("192.0.2.1", 4711), reason="draining"), Outcome.HANDSHAKE_FAILED, 0)
    log.flush()
    unreachable, rejected, draining = written(pipe).splitlines()
    assert unreachable.endswith(r'end=backend_unreachable by=backend reason="no \"answer\" within 5 s"')
    assert "by=operator" in rejected
    assert "by=snigate" in draining


@in_loop
async def test_the_id_and_the_clients_certified_name_are_in_either_form(pipe: Pipe) -> None:
    account = served()
    account.id, account.established = "0123-1f", ESTABLISHED._replace(client_name='Alice "A" end=served')
    for style in ("text", "json"):
        log = AccessLog(asyncio.get_running_loop(), pipe[1], style)
        log.write(account, Outcome.SERVED, 0)
        log.flush()
    text, record = written(pipe).splitlines()
    assert " access web 192.0.2.1:4711 id=0123-1f sni=" in text
    assert r' client="Alice \"A\" end=served" ja4=' in text
    assert json.loads(record)["event.id"] == "0123-1f"
    assert json.loads(record)["tls.client.x509.subject.common_name"] == 'Alice "A" end=served'


@in_loop
async def test_json_says_the_same_in_fields(pipe: Pipe) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "json")
    log.write(served(), Outcome.SERVED, 1.5)
    log.write(Account("web", ("192.0.2.1", 4711), reason="timeout"), Outcome.HANDSHAKE_FAILED, 10)
    log.flush()
    good, bad = map(json.loads, written(pipe).splitlines())
    assert good["tls.client.server_name"] == "www.example.com"
    assert (good["tls.version"], good["tls.curve"], good["tls.next_protocol"]) == ("1.3", "X25519", "h2")
    assert (good["tls.established"], good["tls.resumed"]) == (True, False)
    assert (good["source.ip"], good["source.port"], good["source.bytes"]) == ("192.0.2.1", 4711, 10)
    assert (good["destination.ip"], good["destination.bytes"]) == ("198.51.100.1", 20)
    assert (good["snigate.level"], good["event.action"], good["event.outcome"]) == (1, "served", "success")
    assert (good["event.duration"], good["snigate.handshake.duration"]) == (1_500_000_000, 2_100_000)
    assert (bad["event.action"], bad["event.reason"]) == ("handshake_failed", "timeout")
    assert (bad["event.outcome"], bad["snigate.ended_by"], bad["tls.established"]) == ("failure", "client", False)
    assert not {"tls.version", "tls.client.server_name"} & bad.keys()


@in_loop
async def test_lines_are_written_by_themselves_a_little_later(pipe: Pipe) -> None:
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    log.write(served(), Outcome.SERVED, 0)
    log.write(served(), Outcome.IDLE, 0)
    assert written(pipe) == ""
    text = ""
    while not text:
        await asyncio.sleep(0.01)
        text = written(pipe)
    assert text.count("\n") == 2
    log.write(served(), Outcome.DRAINED, 0)
    while not (text := written(pipe)):
        await asyncio.sleep(0.01)
    assert text.endswith(" end=drained by=snigate\n")


@in_loop
async def test_each_write_is_whole_lines_that_a_pipe_keeps_apart(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        writes.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    for number in range(100):
        log.write(served(f"{number}." + "a" * 200 + ".example.com"), Outcome.SERVED, 0)
    log.flush()
    assert all(len(data) <= MAX_HELD and data.endswith(b"\n") for data in writes)
    assert b"".join(writes).count(b"\n") == 100
    assert len(writes) < 20


@in_loop
async def test_a_log_that_cannot_be_written_is_lost_and_nothing_else(pipe: Pipe) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = AccessLog(asyncio.get_running_loop(), writing, "text")
    log.write(served(), Outcome.SERVED, 0)
    log.flush()
    os.close(writing)
    log._descriptor = pipe[1]
    log.write(served(), Outcome.IDLE, 0)
    log.flush()
    assert written(pipe).endswith(" end=idle by=client\n")


@in_loop
async def test_a_reader_that_stalls_costs_lines_and_does_not_stall_the_worker(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], True)
    log = AccessLog(asyncio.get_running_loop(), pipe[1], "text")
    for _ in range(1000):  # many times what the pipe holds
        log.write(served(), Outcome.SERVED, 0)
        log.flush()
    lines = written(pipe)
    assert lines.endswith(" end=served\n")
    log.write(served(), Outcome.IDLE, 0)
    log.flush()
    assert " end=idle" in written(pipe)


@in_loop
async def test_no_line_is_longer_than_a_write_that_a_pipe_keeps_whole(pipe: Pipe) -> None:
    account = served("a" * 253)
    account.established = ESTABLISHED._replace(client_name="\N{SNOWMAN}" * 5000)
    account.reason = "no answer " * 1000
    for style in ("text", "json"):
        log = AccessLog(asyncio.get_running_loop(), pipe[1], style)
        log.write(account, Outcome.BACKEND_UNREACHABLE, 0)
        log.flush()
        line = written(pipe)
        assert line.endswith("\n")
        assert len(line.encode()) <= MAX_HELD
