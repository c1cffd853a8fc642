"""What a certificate's extensions say that the store asks: whether it is an authority, may be a server, and its SAN.

cryptography parses every extension, into an object each, for a third of what a certificate costs. But the leaves of one
authority differ only in their host names and their key's identifier. So the extensions are first reduced to a shape,
their bytes without these two, provided that both are of the plainest form; a shape that cryptography has accepted once
means the same again. Whatever is not plain goes to cryptography.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certstore import der

MAX_SHAPES = 1024  # remembered

_SERVER_USAGES = frozenset((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))
_SAN = bytes.fromhex("0603551d11")  # id-ce-subjectAltName, RFC 5280 section 4.2.1.6
_KEY_IDENTIFIER = bytes.fromhex("301d0603551d0e04160414")  # all of a subjectKeyIdentifier but its twenty octets
_DNS_NAME = 0x82  # [2] IA5String
_EXPLICIT = 0xA3  # [3] EXPLICIT Extensions
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9*_.-]+")


class Extensions(NamedTuple):
    """`dns_names` are as the SAN has them, `addresses` as the ipaddress module prints them."""

    is_ca: bool  # by basicConstraints
    server_auth: bool  # extended key usage absent, or with serverAuth or any
    has_san: bool
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]


_shapes: dict[bytes, tuple[bool, bool]] = {}  # whether an authority, and whether a server


def read_extensions(parsed: x509.Certificate, data: bytes) -> Extensions:
    """`data` is the last field of the TBSCertificate. Raises what cryptography does for malformed extensions."""
    plain = _plain(data)
    if plain is None:
        return parse_extensions(parsed)
    shape, dns_names = plain
    known = _shapes.get(shape)
    if known is not None:
        return Extensions(*known, has_san=True, dns_names=dns_names, addresses=())
    found = parse_extensions(parsed)
    if found.has_san and found.dns_names == dns_names and not found.addresses:
        if len(_shapes) >= MAX_SHAPES:
            _shapes.clear()
        _shapes[shape] = found.is_ca, found.server_auth
    return found


def parse_extensions(parsed: x509.Certificate) -> Extensions:
    """The same without any shape. Raises what cryptography does for malformed extensions."""
    is_ca, server_auth, has_san = False, True, False
    dns_names: list[str] = []
    addresses: list[str] = []
    for extension in parsed.extensions:
        value = extension.value
        kind = type(value)  # isinstance asks an abstract base class, for a microsecond each time
        if kind is x509.SubjectAlternativeName:
            has_san = True
            for general in value:
                if type(general) is x509.DNSName:
                    dns_names.append(general.value)
                elif type(general) is x509.IPAddress and isinstance(general.value, IPv4Address | IPv6Address):
                    addresses.append(str(general.value))
        elif kind is x509.BasicConstraints:
            is_ca = value.ca
        elif kind is x509.ExtendedKeyUsage:
            server_auth = not _SERVER_USAGES.isdisjoint(value)
    return Extensions(is_ca, server_auth, has_san, tuple(dns_names), tuple(addresses))


def _plain(data: bytes) -> tuple[bytes, tuple[str, ...]] | None:
    """The shape and the host names; None where something is not of the plainest form."""
    if not data or data[0] != _EXPLICIT:
        return None
    shape: list[bytes] = []
    names: tuple[str, ...] | None = None
    try:
        outer = der.element(data)
        inner = der.element(data, outer.content)
        if not len(data) == outer.end == inner.end:
            return None
        for extension in der.slices(data, inner):
            if extension.startswith(_KEY_IDENTIFIER) and len(extension) == len(_KEY_IDENTIFIER) + 20:
                shape.append(_KEY_IDENTIFIER)
                continue
            at = der.element(extension).content
            if not extension.startswith(_SAN, at):
                shape.append(extension)
                continue
            if names is not None or (names := _names(extension, at + len(_SAN))) is None:
                return None
            shape.append(_SAN)
    except der.DerError:
        return None
    return None if names is None else (b"".join(shape), names)


def _names(extension: bytes, at: int) -> tuple[str, ...] | None:
    """The host names of a SAN that has nothing else and is not critical; its value starts at `at`."""
    octets = der.element(extension, at)
    names = der.element(extension, octets.content)
    if octets.tag != der.OCTET_STRING or names.tag != der.SEQUENCE or not octets.end == names.end == len(extension):
        return None
    if names.content - names.start != der.header_size(names.end - names.content):
        return None
    found = []
    for name in der.slices(extension, names):
        if name[0] != _DNS_NAME or name[1] >= 0x80 or _PLAIN_NAME.fullmatch(name, 2) is None:
            return None
        found.append(name[2:].decode())
    return tuple(found) or None
