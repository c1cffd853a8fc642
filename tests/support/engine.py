"""TLS engines joined in memory with a pyOpenSSL client, for tests without sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from OpenSSL import SSL

# Neither groups nor signature algorithms of a client can be chosen by public bindings.
from OpenSSL._util import lib as _lib

from certstore.certified_key import CertifiedKey
from certstore.ranking import Level
from proxy.backend import Established
from proxy.contexts import CertificateContexts, front_context
from proxy.direct_engine import DirectEngine
from proxy.policy import Policy
from proxy.tls_engine import Negotiated, TlsEngine
from tests.support.pki import Pair, self_signed

INTERMEDIATE = Policy("intermediate")
NEGOTIATED = Negotiated("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "h2", False)
ESTABLISHED = Established(
    client=("192.0.2.1", 4711),
    local=("198.51.100.1", 443),
    listener="web",
    server_name="www.example.com",
    negotiated=NEGOTIATED,
    fingerprint="00" * 32,
    matched="www.example.com",
    level=Level.TRUSTED_EXACT,
    leaf=self_signed("www.example.com").der,
    id="0123456789abcdef-1",
)


def certified_key(pair: Pair, key_type: str = "ecdsa-p256", names: tuple[str, ...] = ()) -> CertifiedKey:
    """What the keeper makes of a pair, as far as workers look at it."""
    return CertifiedKey(
        fingerprint=pair.fingerprint,
        names=names,
        addresses=(),
        key_type=key_type,
        not_before=pair.not_before,
        not_after=pair.not_after,
        self_signed=not pair.chain,
        trusted_from=0,
        trusted_until=0,
        leaf=pair.der,
        chain=pair.chain_der,
        key=pair.key_der,
        paths=("test.pem",),
    )


def client_context(
    *,
    minimum: int = SSL.TLS1_2_VERSION,
    maximum: int = SSL.TLS1_3_VERSION,
    alpn: Sequence[bytes] = (),
    groups: str | None = None,
    ciphers: str | None = None,
) -> SSL.Context:
    """A client that trusts everybody. `groups` in OpenSSL's names ("X25519:P-256"); `ciphers` are TLS 1.2's."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(minimum)
    context.set_max_proto_version(maximum)
    if alpn:
        context.set_alpn_protos(list(alpn))
    if groups is not None:
        assert _lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1
    if ciphers is not None:
        context.set_cipher_list(ciphers.encode())
    return context


class MemoryClient:
    """A TLS client whose bytes go in and out by hand. `closed` says that a close_notify has come."""

    def __init__(
        self,
        context: SSL.Context | None = None,
        name: bytes | None = b"www.example.com",
        session: SSL.Session | None = None,
    ) -> None:
        self.connection = SSL.Connection(context or client_context(), None)
        self.connection.set_connect_state()
        self.closed = False
        if name is not None:
            self.connection.set_tlsext_host_name(name)
        if session is not None:
            self.connection.set_session(session)

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done. Raises SSL.Error."""
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def receive(self, data: bytes) -> None:
        """Hand in bytes from the server."""
        if data:
            self.connection.bio_write(data)

    def output(self) -> bytes:
        """Bytes for the server."""
        data = b""
        while True:
            try:
                data += self.connection.bio_read(1 << 16)
            except SSL.WantReadError:
                return data

    def read(self) -> bytes:
        """All plaintext that has arrived."""
        data = bytearray()
        while True:
            try:
                data += self.connection.recv(1 << 16)
            except SSL.WantReadError:
                return bytes(data)
            except SSL.ZeroReturnError:
                self.closed = True
                return bytes(data)

    def write(self, data: bytes) -> bytes:
        """Encrypt, and give the bytes for the server."""
        while data:
            data = data[self.connection.send(data) :]
        return self.output()

    def close(self) -> bytes:
        """A close_notify, as bytes for the server."""
        self.connection.shutdown()
        return self.output()


class MemoryServer(MemoryClient):
    """A TLS server that serves this pair, and whose bytes go in and out by hand too."""

    def __init__(self, pair: Pair) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(pair.certificate)
        context.use_privatekey(pair.key)
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()
        self.closed = False


def engine_for(policy: Policy = INTERMEDIATE, pair: Pair | None = None, front: SSL.Context | None = None) -> TlsEngine:
    """An engine that serves `pair` (a new self-signed one when not given) under `policy`."""
    certificate = CertificateContexts().get(certified_key(pair or self_signed("www.example.com")), policy)
    return TlsEngine.accepting(front or front_context(policy), certificate)


def direct_engine_for(sock: socket.socket, pair: Pair) -> DirectEngine:
    """The same for a socket."""
    certificate = CertificateContexts().get(certified_key(pair), INTERMEDIATE)
    return DirectEngine.serving(front_context(INTERMEDIATE), certificate, sock.fileno())


def join(engine: TlsEngine, client: MemoryClient) -> None:
    """Carry bytes between the two until the handshake is done on both sides. Raises HandshakeError and SSL.Error.

    Whatever the engine has to say is given to the client first, so that the client sees alerts.
    """
    served = asked = False
    for _ in range(10):
        asked = client.handshake()
        if sent := client.output():
            engine.receive(sent)
        try:
            served = engine.handshake()
        finally:
            client.receive(bytes(engine.output()))
        if served and asked:
            return
    raise AssertionError("the handshake does not end")
