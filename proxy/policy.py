"""What TLS a route demands: a policy. Routes with equal policies share front contexts, and so session tickets.

Profiles follow Mozilla's server-side TLS guidelines (version 5.8): which versions, ciphers and groups each allows. Two
orders are our own: AES-128-GCM before AES-256-GCM (its SHA-256 runs in hardware where SHA-384 does not), with
ChaCha20 first for clients that put it first. DHE suites are left out: they need parameters that serve nobody today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from proxy.client_auth import ClientAuth

TLS1_0, TLS1_1, TLS1_2, TLS1_3 = 0x0301, 0x0302, 0x0303, 0x0304

ProfileName = Literal["modern", "intermediate", "old"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Versions as on the wire; ciphers and groups in OpenSSL's names, in order of preference."""

    minimum: int
    ciphers: str  # TLS 1.2 and below; "" where those are off
    groups: str
    signatures: str
    security_level: int


CIPHERSUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_AEAD = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_CBC = (
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
    "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
    "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA"
)
_GROUPS = "X25519MLKEM768:X25519:P-256:P-384"
# Those of the keys that are served, and of clients' certificates. OpenSSL looks at each at each handshake, so that its
# own list, with twice as many, costs a fiftieth more.
_SIGNATURES = (
    "ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:ed448:"
    "rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512"
)

PROFILES: dict[ProfileName, Profile] = {
    "modern": Profile(TLS1_3, "", _GROUPS, _SIGNATURES, 1),
    "intermediate": Profile(TLS1_2, _AEAD, _GROUPS, _SIGNATURES, 1),
    "old": Profile(TLS1_0, f"{_AEAD}:{_CBC}", _GROUPS, f"{_SIGNATURES}:ecdsa_sha1:rsa_pkcs1_sha1", 0),
}


_OF_THE_WEB = frozenset({b"h2", b"http/1.1", b"http/1.0", b"http/0.9", b"h2c", b"h3"})


def is_of_the_web(offered: tuple[bytes, ...]) -> bool:
    """Whether a client speaks protocols of the web alone, by what it offers: it has no business with a mail server.

    A browser that is made to connect to one would have its answers taken for a web site's (ALPACA).
    """
    return bool(offered) and _OF_THE_WEB.issuperset(offered)


class Policy(NamedTuple):
    """What is demanded of a connection's TLS. Equal policies are the same policy."""

    profile: ProfileName
    alpn: tuple[bytes, ...] = ()  # in order of preference; empty: the client's extension is ignored
    client_auth: ClientAuth | None = None  # None: no certificate is asked for

    def choose_alpn(self, offered: tuple[bytes, ...] | list[bytes]) -> bytes | None:
        """The first of our protocols that the client offers (RFC 7301 section 3.2); None without one in common."""
        return next((protocol for protocol in self.alpn if protocol in offered), None)

    def refuses_alpn(self, offered: tuple[bytes, ...]) -> bool:
        """Whether a client offering these must be refused: it offers some, we serve some, none in common."""
        return bool(self.alpn and offered) and self.choose_alpn(offered) is None
