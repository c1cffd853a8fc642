"""The PROXY protocol, versions 1 and 2: the header that tells a backend who the client is, before the client's bytes.

Source: "The PROXY protocol, Versions 1 & 2" (haproxy.org, proxy-protocol.txt); section numbers below are its own. A
header is written whole or not at all (section 2: "sent at once"), so everything here returns complete bytes.

Both ends of one header are of one family. An IPv4 client of a dual-stack socket shows up as "::ffff:192.0.2.1" and is
written as the IPv4 address it is; where the two ends differ after that, both are written as IPv6.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

Address = tuple[str, int]  # host in text form, a zone index ("%eth0") is dropped; port
Tlv = tuple[int, bytes]  # type and value

SIGNATURE_V1: Final = b"PROXY "
SIGNATURE_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"

# Section 2.2: version and command, family and transport.
V2_LOCAL: Final = 0x20
V2_PROXY: Final = 0x21
FAMILY_UNSPEC: Final = 0x00
FAMILY_TCP4: Final = 0x11
FAMILY_TCP6: Final = 0x21

# Section 2.2, "The following types have already been registered".
PP2_TYPE_ALPN: Final = 0x01
PP2_TYPE_AUTHORITY: Final = 0x02
PP2_TYPE_CRC32C: Final = 0x03
PP2_TYPE_UNIQUE_ID: Final = 0x05
PP2_TYPE_SSL: Final = 0x20
PP2_SUBTYPE_SSL_VERSION: Final = 0x21
PP2_SUBTYPE_SSL_CN: Final = 0x22
PP2_SUBTYPE_SSL_CIPHER: Final = 0x23
PP2_SUBTYPE_SSL_SIG_ALG: Final = 0x24
PP2_SUBTYPE_SSL_KEY_ALG: Final = 0x25

# Section 2.2.6, the bits of the SSL value's first byte.
PP2_CLIENT_SSL: Final = 0x01
PP2_CLIENT_CERT_CONN: Final = 0x02
PP2_CLIENT_CERT_SESS: Final = 0x04

_MAPPED: Final = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2
_MAX_LENGTH: Final = 0xFFFF
_NO_CERTIFICATE: Final = 1  # any value but zero: nothing was verified


class ClientCertificate(NamedTuple):
    """What the SSL TLV says of the client's certificate.

    `verify_result` is 0 for a certificate that was verified, else OpenSSL's X509_V_ERR number (1 to 2**32 - 1). A
    resumed session's certificate was not sent on this connection.
    """

    common_name: str | None
    verify_result: int = 0
    on_this_connection: bool = True


def encode_v1(source: Address | None, destination: Address | None) -> bytes:
    """The text header (section 2.1), at most 107 bytes; "UNKNOWN" where an end has no IP address (a unix socket).

    ValueError for a host that is no IP address or a port outside 0..65535.
    """
    if source is None or destination is None:
        return SIGNATURE_V1 + b"UNKNOWN\r\n"
    one, other = _same_family(source, destination)
    family = "TCP4" if len(one) == 4 else "TCP6"
    ports = f"{_port(source)} {_port(destination)}"
    return f"PROXY {family} {_text(one)} {_text(other)} {ports}\r\n".encode("ascii")


def encode_v2(
    source: Address | None, destination: Address | None, tlvs: Sequence[Tlv] = (), *, local: bool = False
) -> bytes:
    """The binary header (section 2.2), the TLVs in the given order behind the addresses.

    Without a source or a destination (a unix socket) it says that a client is proxied, but of no known family. `local`
    is for connections that are the proxy's own, such as health checks: then the header is its 16 fixed bytes alone and
    the other arguments are not looked at. A CRC32C TLV is not computed. ValueError for a host that is no IP address, a
    port outside 0..65535, a type outside 0..255, or TLVs that do not fit into the header's 65535 bytes.
    """
    if local:
        return _header_v2(V2_LOCAL, FAMILY_UNSPEC, b"")
    rest = b"".join([_tlv(kind, value) for kind, value in tlvs])
    if source is None or destination is None:
        return _header_v2(V2_PROXY, FAMILY_UNSPEC, rest)
    one, other = _same_family(source, destination)
    family = FAMILY_TCP4 if len(one) == 4 else FAMILY_TCP6
    ports = struct.pack(">HH", _port(source), _port(destination))
    return _header_v2(V2_PROXY, family, one + other + ports + rest)


def ssl_tlv(
    version: str,
    cipher: str,
    client_certificate: ClientCertificate | None = None,
    *,
    signature_algorithm: str | None = None,
    key_algorithm: str | None = None,
) -> Tlv:
    """The PP2_TYPE_SSL TLV (section 2.2.6): the client came over TLS. Dovecot takes such a session as secured.

    `version` and `cipher` as OpenSSL names them ("TLSv1.3", "TLS_AES_128_GCM_SHA256"); `signature_algorithm`
    ("RSA-SHA256") and `key_algorithm` ("RSA2048") are those of the certificate that was served. ValueError where one of
    the names that the specification wants in US-ASCII is not.
    """
    client, verify = PP2_CLIENT_SSL, _NO_CERTIFICATE
    subs = [_tlv(PP2_SUBTYPE_SSL_VERSION, version.encode("ascii"))]
    if client_certificate is not None:
        client |= PP2_CLIENT_CERT_SESS | (PP2_CLIENT_CERT_CONN if client_certificate.on_this_connection else 0)
        verify = client_certificate.verify_result
        if client_certificate.common_name is not None:
            subs.append(_tlv(PP2_SUBTYPE_SSL_CN, client_certificate.common_name.encode()))
    subs.append(_tlv(PP2_SUBTYPE_SSL_CIPHER, cipher.encode("ascii")))
    if signature_algorithm is not None:
        subs.append(_tlv(PP2_SUBTYPE_SSL_SIG_ALG, signature_algorithm.encode("ascii")))
    if key_algorithm is not None:
        subs.append(_tlv(PP2_SUBTYPE_SSL_KEY_ALG, key_algorithm.encode("ascii")))
    return PP2_TYPE_SSL, struct.pack(">BI", client, verify) + b"".join(subs)


def _header_v2(command: int, family: int, rest: bytes) -> bytes:
    if len(rest) > _MAX_LENGTH:
        raise ValueError(
            f"a PROXY header holds {_MAX_LENGTH} bytes behind its first 16, not {len(rest)}; send less TLVs"
        )
    return SIGNATURE_V2 + struct.pack(">BBH", command, family, len(rest)) + rest


def _tlv(kind: int, value: bytes) -> bytes:
    if not 0 <= kind <= 255 or len(value) > _MAX_LENGTH:
        raise ValueError(f"a TLV has a type of one byte and at most {_MAX_LENGTH} bytes, not {kind} and {len(value)}")
    return struct.pack(">BH", kind, len(value)) + value


def _port(address: Address) -> int:
    port = address[1]
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is not a port number (0 to 65535)")
    return port


def _same_family(source: Address, destination: Address) -> tuple[bytes, bytes]:
    """Both hosts in network byte order, both 4 or both 16 bytes."""
    one, other = _packed(source[0]), _packed(destination[0])
    if len(one) == len(other):
        return one, other
    return (_MAPPED + one, other) if len(one) == 4 else (one, _MAPPED + other)


def _packed(host: str) -> bytes:
    """An IP address in network byte order, 4 bytes for IPv4 and for IPv4 mapped into IPv6, else 16."""
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is not an IP address") from None
    return packed[12:] if packed.startswith(_MAPPED) else packed


def _text(packed: bytes) -> str:
    """Text form; IPv6 in hexadecimal groups to its end, since section 2.1 knows no dotted tail."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    text = socket.inet_ntop(socket.AF_INET6, packed)
    if "." in text:
        high, low = struct.unpack(">HH", packed[12:])
        text = f"{text.rpartition(':')[0]}:{high:x}:{low:x}"
    return text
