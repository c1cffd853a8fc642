"""TLS towards backends: one OpenSSL context for each backend, and what is demanded of each of its servers.

Made before the workers are forked, so that a file that cannot be read stops the start, and no worker reads one. TLS 1.2
and 1.3; no ALPN is offered, no client certificate shown, and no session resumed: every handshake verifies anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from OpenSSL import SSL, crypto

from certstore.trust import SYSTEM, TrustStore
from config.addresses import Address, TcpAddress
from config.model import BackendConfig, Config
from proxy.contexts import ContextError, client_context
from proxy.errors import HandshakeError
from proxy.server_certificate import Verification, is_address
from proxy.tls_engine import TlsEngine

_NOT_TLS = frozenset({"wrong version number", "packet length too long", "record layer failure"})


class BackendTls:
    """What one backend's connections have in common. Raises ContextError."""

    def __init__(self, config: BackendConfig) -> None:
        """`config` with tls = "off" gives what a health check of a server with TLS of its own needs: any certificate
        is accepted.
        """
        self._config = config
        self._context = client_context()
        self._verifies = config.tls != "off"
        if self._verifies:
            self._context.set_verify(SSL.VERIFY_PEER, _judge)
            if not config.tls_pin:
                self._trust(_anchors(config))

    def towards(self, address: Address) -> ServerTls:
        """TLS to one of the backend's servers."""
        host = address.host if isinstance(address, TcpAddress) else None
        name = self._config.tls_name or host
        by_starttls = self._config.tls == "starttls"
        return ServerTls(self._context, name, self._config.tls_pin, verifies=self._verifies, by_starttls=by_starttls)

    def _trust(self, anchors: list[crypto.X509]) -> None:
        store = self._context.get_cert_store()
        assert store is not None
        # What the operator names is trusted, be it a root, an intermediate or the server's own certificate.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for anchor in anchors:
            store.add_cert(anchor)


class ServerTls:
    """TLS to one server."""

    __slots__ = ("_context", "_name", "_pins", "_server_name", "_verifies", "by_starttls")

    def __init__(
        self, context: SSL.Context, name: str | None, pins: tuple[str, ...], *, verifies: bool, by_starttls: bool
    ) -> None:
        """`by_starttls`: it begins where a conversation says so, else with the connection's first byte."""
        self.by_starttls = by_starttls
        self._context = context
        self._name = name
        self._server_name = None if name is None or is_address(name) else name
        self._pins = pins
        self._verifies = verifies

    def begin(self) -> ServerHandshake:
        """A new connection's TLS."""
        verification = Verification(self._name, self._pins) if self._verifies else None
        return ServerHandshake(TlsEngine.connecting(self._context, self._server_name, verification), verification)


class ServerHandshake:
    """A handshake with a server: `engine` is the connection's layer once `proceed` has said that it is done."""

    __slots__ = ("_verification", "engine")

    def __init__(self, engine: TlsEngine, verification: Verification | None) -> None:
        self.engine = engine
        self._verification = verification

    def proceed(self, data: bytes) -> bool:
        """Take in bytes from the server; True when it is done. Then ask the engine for output, also after an error.

        Raises HandshakeRefused.
        """
        engine, verification = self.engine, self._verification
        try:
            done = engine.handshake(data)
        except HandshakeError as error:
            refusal = verification.refusal if verification is not None else None
            raise HandshakeRefused(refusal or _in_words(error)) from None
        if done and verification is not None and verification.refusal != "":
            raise HandshakeRefused(verification.refusal or "it showed no certificate")
        return done


class HandshakeRefused(Exception):  # noqa: N818 - what happened, in its own words
    """The handshake with a server failed; the message says why, and what can be done."""


def backend_tls(config: Config) -> dict[str, BackendTls]:
    """The TLS of each backend that needs it. Raises ContextError."""
    found = {}
    for name, backend in config.backends.items():
        if backend.tls != "off" or backend.check == "tls":
            try:
                found[name] = BackendTls(backend)
            except ContextError as error:
                raise ContextError(f"backend {name}: tls_ca: {error}") from None
    return found


def unusable_authorities(config: Config) -> Iterator[tuple[str, str]]:
    """The backends whose tls_ca cannot be used, each with the sentence that says why."""
    for name, backend in config.backends.items():
        if backend.tls != "off":
            try:
                BackendTls(backend)
            except ContextError as error:
                yield name, str(error)


def _judge(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, verified: int) -> bool:
    verification: Verification = connection.get_app_data()
    return verification.judge(certificate.to_cryptography, error, depth, bool(verified))


def _anchors(config: BackendConfig) -> list[crypto.X509]:
    source: str | Path = config.tls_ca
    store = TrustStore.load([source])
    if not store.anchors:
        said = [text.partition(";")[0] for _, text in store.problems]
        where = "the system's authorities" if source == SYSTEM else str(source)
        raise ContextError(
            f"{where}: {said[0] if said else 'holds no certificate'}; "
            "name a PEM file with the authority of the server's certificate"
        )
    return [crypto.load_certificate(crypto.FILETYPE_ASN1, one.der) for one in store.anchors]


def _in_words(error: HandshakeError) -> str:
    if error.detail in _NOT_TLS:
        return "it does not answer in TLS (is this its TLS port?)"
    if error.reason == "disconnected":
        return "it closed the connection during the TLS handshake (its log may say why)"
    return f"the TLS handshake failed: {error.detail} (its log may say more)"
