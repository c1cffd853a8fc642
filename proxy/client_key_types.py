"""Which certificate keys a client can use: what decides between an ECDSA and an RSA certificate for the same name.

In TLS 1.3 the signature schemes say it all: 0x0403 is ECDSA on P-256 and nothing else (RFC 8446 section 4.2.3). In
TLS 1.2 the same number means ECDSA with SHA-256 on any curve; the curve is bound by supported_groups (RFC 8422 section
5.1), and a cipher suite of that authentication has to be offered too, where the ECDHE_ECDSA suites also carry EdDSA.
Before TLS 1.2 there are no signature schemes: the cipher suites alone decide, as they do for a TLS 1.2 client that
sends none (RFC 5246 section 7.4.1.4.1). The rule used is the one of the version the server is going to pick.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from certstore.key_types import KeyTypes

if TYPE_CHECKING:
    from proxy.client_hello_message import ClientHello

_TLS_1_2 = 0x0303
_TLS_1_3 = 0x0304

_TLS_1_3_SUITES = frozenset({0x1301, 0x1302, 0x1303, 0x1304, 0x1305})

# IANA's TLS cipher suites by authentication, without those that use NULL, RC4, export or single-DES encryption.
_ECDSA_SUITES = frozenset(
    {0xC008, 0xC009, 0xC00A, 0xC023, 0xC024, 0xC02B, 0xC02C, 0xC048, 0xC049, 0xC05C, 0xC05D, 0xC072, 0xC073}
    | {0xC086, 0xC087, 0xC0AC, 0xC0AD, 0xC0AE, 0xC0AF, 0xCCA9}
)
_RSA_SUITES = frozenset(
    # ECDHE_RSA
    {0xC012, 0xC013, 0xC014, 0xC027, 0xC028, 0xC02F, 0xC030, 0xC04C, 0xC04D, 0xC060, 0xC061, 0xC076, 0xC077}
    | {0xC08A, 0xC08B, 0xCCA8}
    # DHE_RSA
    | {0x0016, 0x0033, 0x0039, 0x0045, 0x0067, 0x006B, 0x0088, 0x009A, 0x009E, 0x009F, 0x00BE, 0x00C4, 0xC044}
    | {0xC045, 0xC052, 0xC053, 0xC07C, 0xC07D, 0xC09E, 0xC09F, 0xC0A2, 0xC0A3, 0xCCAA}
    # RSA key exchange
    | {0x0007, 0x000A, 0x002F, 0x0035, 0x003C, 0x003D, 0x0041, 0x0084, 0x0096, 0x009C, 0x009D, 0x00BA, 0x00C0}
    | {0xC03C, 0xC03D, 0xC050, 0xC051, 0xC07A, 0xC07B, 0xC09C, 0xC09D, 0xC0A0, 0xC0A1}
)

_P256, _P384, _P521 = int(KeyTypes.ECDSA_P256), int(KeyTypes.ECDSA_P384), int(KeyTypes.ECDSA_P521)
_CURVES = {23: _P256, 24: _P384, 25: _P521}  # secp256r1, secp384r1, secp521r1
_ECDSA = _P256 | _P384 | _P521
_ED25519, _ED448, _RSA = int(KeyTypes.ED25519), int(KeyTypes.ED448), int(KeyTypes.RSA)

_EDDSA_AND_PSS = {0x0804: _RSA, 0x0805: _RSA, 0x0806: _RSA, 0x0807: _ED25519, 0x0808: _ED448}
_SCHEMES_1_3 = {0x0403: _P256, 0x0503: _P384, 0x0603: _P521} | _EDDSA_AND_PSS
_SCHEMES_1_2 = (
    {hash_ << 8 | 3: _ECDSA for hash_ in range(2, 7)} | {hash_ << 8 | 1: _RSA for hash_ in range(2, 7)} | _EDDSA_AND_PSS
)  # hash 2 is SHA-1, 3 SHA-224, 4 to 6 SHA-256 to SHA-512

USUAL = 128  # numbers in all lists; no more is remembered, whoever sends it: strangers can have 5 MB filled

_BY_MASK = tuple(KeyTypes(mask) for mask in range(KeyTypes.ALL + 1))  # an enum is slow to make


def usable_key_types(hello: ClientHello, max_version: int = _TLS_1_3) -> KeyTypes:
    """The certificate keys the client can use with a server that speaks versions up to `max_version` (0x0303: TLS 1.2).

    An empty set means that no certificate of a known type can serve this client. Which cipher suites the server's own
    policy allows is not looked at.
    """
    suites, schemes = hello.cipher_suites, hello.signature_algorithms
    usual = len(suites) + len(schemes) + len(hello.groups) + len(hello.versions) <= USUAL
    return (_usable_once if usual else _usable)(hello.versions, suites, schemes, hello.groups, max_version)


def _usable(
    versions: tuple[int, ...],
    cipher_suites: tuple[int, ...],
    signature_algorithms: tuple[int, ...],
    groups: tuple[int, ...],
    max_version: int,
) -> KeyTypes:
    if max_version >= _TLS_1_3 and _TLS_1_3 in versions and not _TLS_1_3_SUITES.isdisjoint(cipher_suites):
        return _BY_MASK[_union(signature_algorithms, _SCHEMES_1_3)]
    allowed = 0
    if not _ECDSA_SUITES.isdisjoint(cipher_suites):
        allowed |= (_union(groups, _CURVES) if groups else _ECDSA) | _ED25519 | _ED448
    if not _RSA_SUITES.isdisjoint(cipher_suites):
        allowed |= _RSA
    if signature_algorithms and _speaks_tls_1_2(versions, max_version):
        return _BY_MASK[allowed & _union(signature_algorithms, _SCHEMES_1_2)]
    return _BY_MASK[allowed & (_ECDSA | _RSA)]


_usable_once = lru_cache(maxsize=1024)(_usable)  # the clients of one make send the same lists


def _speaks_tls_1_2(versions: Collection[int], max_version: int) -> bool:
    return max_version >= _TLS_1_2 and _TLS_1_2 in versions


def _union(values: Sequence[int], table: dict[int, int]) -> int:
    mask = 0
    for value in values:
        mask |= table.get(value, 0)
    return mask
