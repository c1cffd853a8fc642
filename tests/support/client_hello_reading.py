"""Reading ClientHellos in tests: what bytes come to, and the real ClientHellos that must be read alike."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from OpenSSL import SSL

from proxy.client_hello import CAP, REASONS, ClientHello, ClientHelloError, ClientHelloReader
from tests.support import client_hellos as hellos

REAL: dict[str, Callable[[], bytes]] = {
    "stdlib": hellos.from_stdlib,
    "stdlib with ALPN": lambda: hellos.from_stdlib(alpn=("h2", "http/1.1")),
    "stdlib without a name": lambda: hellos.from_stdlib(name=None),
    "stdlib TLS 1.2": lambda: hellos.from_stdlib(maximum=ssl.TLSVersion.TLSv1_2),
    "pyOpenSSL": hellos.from_pyopenssl,
    "pyOpenSSL with ALPN": lambda: hellos.from_pyopenssl(alpn=(b"imap",)),
    "pyOpenSSL TLS 1.3 only": lambda: hellos.from_pyopenssl(minimum=SSL.TLS1_3_VERSION),
    "Chrome-like": hellos.chrome,
}


def read(raw: bytes) -> ClientHello:
    hello = ClientHelloReader().feed(raw)
    assert hello is not None
    return hello


def feed_in_steps(reader: ClientHelloReader, raw: bytes, step: int) -> None:
    """Feed the bytes, `step` at a time; none of them may complete a ClientHello, and the cap holds all the way."""
    for at in range(0, len(raw), step):
        assert reader.feed(raw[at : at + step]) is None
        if at % 512 == 0:
            assert len(reader.received) <= CAP


def failure(raw: bytes) -> ClientHelloError:
    """The error that the bytes end in, fed at once and byte by byte: both must agree."""
    with pytest.raises(ClientHelloError) as whole:
        ClientHelloReader().feed(raw)
    with pytest.raises(ClientHelloError) as single:
        feed_in_steps(ClientHelloReader(), raw, 1)
    assert (whole.value.reason, whole.value.alert) == (single.value.reason, single.value.alert)
    assert whole.value.reason in REASONS
    return whole.value
