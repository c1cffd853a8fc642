"""Host names in one canonical form, so that any two spellings of a name compare equal.

The form is a lower-case A-label name without a trailing dot: what RFC 6066 section 3 puts into SNI and RFC 5280
section 4.2.1.6 into a dNSName. ASCII is lower-cased and checked for its shape (RFC 1123 section 2.1, and underscores,
which real names have), but "xn--" labels are not decoded: a name that some registry once gave out stays usable even
when today's IDNA tables would refuse it. Anything else is mapped by UTS 46 (non-transitional, which also folds case,
width and the ideographic full stops) and each non-ASCII label becomes its A-label by IDNA 2008.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

import idna
from cryptography import x509

MAX_NAME = 253  # characters, RFC 1035 section 2.3.4 in text form
_MAX_INPUT = 1024  # a U-label name is shorter than its A-label form, but compatibility characters expand

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_CANONICAL = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class InvalidName(ValueError):  # noqa: N818 - names the thing, as a caller reads it: except InvalidName
    """A text that is no host name; the message says what is wrong with it."""


def canonical_name(text: str) -> str:
    """The canonical form of one host name; raises InvalidName.

    "WWW.Bücher.example." and "www.xn--bcher-kva.example" give the same. IP addresses and wildcards are not names.
    """
    if len(text) > _MAX_INPUT:
        raise InvalidName(f"a host name has at most {MAX_NAME} characters, this has {len(text)}")
    name = (text.lower() if text.isascii() else _to_ascii(text)).removesuffix(".")
    if len(name) > MAX_NAME or _CANONICAL.fullmatch(name) is None:
        raise InvalidName(_what_is_wrong(text, name))
    if name[-1].isdigit() and _ip_literal(name) is not None:
        raise InvalidName(f"{shown(text)} is an IP address, not a host name")
    return name


def canonical_pattern(text: str) -> str:
    """Like canonical_name, and also takes a wildcard, "*." in front of a name (RFC 9525 section 6.3)."""
    if text.startswith("*."):
        name = f"*.{canonical_name(text[2:])}"
        if len(name) > MAX_NAME:
            raise InvalidName(f"a host name has at most {MAX_NAME} characters, {shown(text)} has {len(name)}")
        return name
    return canonical_name(text)


def server_name(raw: bytes) -> str | None:
    """The canonical name out of an SNI extension's HostName bytes; None for an IP literal; raises InvalidName.

    RFC 6066 asks for ASCII and forbids literals; RFC 3546 before it said UTF-8, and clients send all of these. A client
    that sends an address is treated like one that sends no name.
    """
    if len(raw) > 4 * _MAX_INPUT:
        raise InvalidName(f"a host name has at most {MAX_NAME} characters, this has {len(raw)} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InvalidName(f"{raw[:64]!r} is not text in UTF-8") from None
    if (":" in text or text[-1:].isdigit()) and _ip_literal(text.removeprefix("[").removesuffix("]")) is not None:
        return None
    return canonical_name(text)


def wildcard_of(name: str) -> str | None:
    """The wildcard that covers a canonical name: "*.example.com" for "www.example.com", None for "localhost"."""
    _, dot, parent = name.partition(".")
    return f"*.{parent}" if dot else None


def certificate_names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names a certificate is for: (canonical names and wildcards, IP addresses as ipaddress prints them).

    dNSName SANs count. The subject's (most specific) CN counts only where there is no dNSName SAN (RFC 6125 section
    6.4.4), and as an address only where there is no SAN at all. What is not a valid name, such as "f*.example.com", is
    left out. Both tuples are sorted and unique. Raises ValueError when the certificate's extensions are malformed.
    """
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        san = None
    return names_of(certificate, san)


def names_of(
    certificate: x509.Certificate, san: x509.SubjectAlternativeName | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """certificate_names for a caller that has the SAN extension (None: there is none) at hand already."""
    names: set[str] = set()
    addresses: set[str] = set()
    dns_names: list[str] = []
    for general in san or ():
        if type(general) is x509.DNSName:
            dns_names.append(general.value)
        elif type(general) is x509.IPAddress and isinstance(general.value, IPv4Address | IPv6Address):
            addresses.add(str(general.value))
    if not dns_names and (common_name := _common_name(certificate)) is not None:
        dns_names = [common_name]
        if san is None and (literal := _ip_literal(common_name)) is not None:
            addresses.add(literal)
    for text in dns_names:
        try:
            names.add(canonical_pattern(text))
        except InvalidName:
            continue
    return tuple(sorted(names)), tuple(sorted(addresses))


def _to_ascii(text: str) -> str:
    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        labels = [label if label.isascii() else idna.alabel(label).decode() for label in mapped.split(".")]
    except UnicodeError as error:  # includes idna.IDNAError
        raise InvalidName(f"{shown(text)} is not a valid internationalised name: {error}") from None
    return ".".join(labels).lower()


def _what_is_wrong(text: str, name: str) -> str:
    if not name:
        return "the host name is empty"
    if len(name) > MAX_NAME:
        return f"a host name has at most {MAX_NAME} characters, {shown(text)} has {len(name)}"
    for label in name.split("."):
        if not label:
            return f"{shown(text)} has an empty label"
        where = shown(text) if label == name else f"{shown(label)} in {shown(text)}"
        if len(label) > 63:
            return f"a label has at most 63 characters, {where} has {len(label)}"
        if _CANONICAL.fullmatch(label) is None:
            return f"{where} is not a host name's label (letters, digits, hyphens inside)"
    return f"{shown(text)} is not a host name"


def shown(text: str) -> str:
    """The text in quotes for a message, shortened when long."""
    return repr(text) if len(text) <= 64 else f"{text[:64]!r}..."


def _ip_literal(text: str) -> str | None:
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _common_name(certificate: x509.Certificate) -> str | None:
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if not attributes:
        return None
    value = attributes[-1].value
    return value if isinstance(value, str) else None
