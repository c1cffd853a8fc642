"""The TLS client of the load: pyOpenSSL, because its OpenSSL knows X25519MLKEM768 and the system's does not."""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL
from OpenSSL._util import lib as _lib

TLS12 = SSL.TLS1_2_VERSION
TLS13 = SSL.TLS1_3_VERSION
CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
CIPHERSUITES = b"TLS_AES_128_GCM_SHA256"


@dataclass(frozen=True)
class Offer:
    """What the client offers: one version, one cipher, one group, so that all servers negotiate the same."""

    version: int = TLS13
    group: str = "X25519"
    resume: bool = False

    def agrees(self, found: Negotiated) -> bool:
        """Whether it is what was offered first; only groups leave a choice, in TLS 1.2."""
        return found.group.lower() == self.group.partition(":")[0].lower()


@dataclass(frozen=True)
class Negotiated:
    """What came of it."""

    version: str
    cipher: str
    group: str

    def __str__(self) -> str:
        return f"{self.version} {self.cipher} {self.group}"


def context(offer: Offer) -> SSL.Context:
    """A client context that verifies no chain (signatures of the handshake are verified always)."""
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.set_min_proto_version(offer.version)
    made.set_max_proto_version(offer.version)
    made.set_cipher_list(CIPHERS)
    made.set_tls13_ciphersuites(CIPHERSUITES)
    # Neither groups nor whether a session was resumed have public bindings.
    if _lib.SSL_CTX_set1_curves_list(made._context, offer.group.encode()) != 1:
        raise ValueError(f"this OpenSSL does not know the group {offer.group}")
    return made


def resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake took up an earlier session."""
    return bool(_lib.SSL_session_reused(connection._ssl) == 1)


def negotiated(connection: SSL.Connection) -> Negotiated:
    """What the finished handshake settled on."""
    return Negotiated(
        connection.get_protocol_version_name(), connection.get_cipher_name() or "", connection.get_group_name() or ""
    )
