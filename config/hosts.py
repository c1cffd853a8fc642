"""Host names of the configuration in the canonical form that client names are compared in.

The form is a lower-case A-label name without a trailing dot (RFC 6066 section 3). ASCII names are lower-cased and
checked for their shape (RFC 1123 section 2.1, and underscores, which real names have). Other names are mapped by
UTS 46, and each non-ASCII label becomes its A-label by IDNA 2008 (RFC 5891). The certificate side has the same rules
of its own, since the two packages do not know each other; a test holds them together.
"""

from __future__ import annotations

import ipaddress
import re

import idna

from config.words import quoted

_MAX_NAME = 253  # characters; RFC 1035 section 2.3.4, in text form
_MAX_LABEL = 63
_MAX_INPUT = 1024
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


def canonical_host(text: str) -> str:
    """The canonical form of one host name, "www.Bücher.example." -> "www.xn--bcher-kva.example"; raises ValueError.

    IP addresses and wildcards are not host names.
    """
    if "*" in text:
        raise ValueError(f"{quoted(text)} is a wildcard, but one host name is wanted here")
    name = _ascii(text).removesuffix(".")
    if not name:
        raise ValueError("the host name is empty")
    if len(name) > _MAX_NAME:
        raise ValueError(f"{quoted(text)} has {len(name)} characters; a host name has at most {_MAX_NAME}")
    for label in name.split("."):
        _check_label(label, text)
    if _is_ip_address(name):
        raise ValueError(f"{quoted(text)} is an IP address; a client never sends one as its server name (RFC 6066)")
    return name


def canonical_pattern(text: str) -> str:
    """Like canonical_host, and also takes a wildcard: "*." before a host name, for exactly one leftmost label."""
    if text in {"*", "*."}:
        raise ValueError(f"{quoted(text)} is not needed; what no route names goes to the listener's own backend")
    if text.startswith("*.") and "*" not in text[2:]:
        name = f"*.{canonical_host(text[2:])}"
        if len(name) > _MAX_NAME:
            raise ValueError(f"{quoted(text)} has {len(name)} characters; a host name has at most {_MAX_NAME}")
        return name
    if "*" in text:
        raise ValueError(
            f'{quoted(text)} is not a wildcard that works; "*" must be the whole leftmost label, as in "*.example.com"'
        )
    return canonical_host(text)


def _ascii(text: str) -> str:
    if text.isascii():
        return text.lower()
    if len(text) > _MAX_INPUT:
        raise ValueError(f"{quoted(text)} has {len(text)} characters; a host name has at most {_MAX_NAME}")
    try:
        mapped = idna.uts46_remap(text, std3_rules=False)
        labels = [label if label.isascii() else idna.alabel(label).decode() for label in mapped.split(".")]
    except UnicodeError as error:  # idna.IDNAError is one
        raise ValueError(f"{quoted(text)} is not a valid internationalised name: {error}") from None
    return ".".join(labels).lower()


def _check_label(label: str, text: str) -> None:
    if not label:
        raise ValueError(f'{quoted(text)} has two dots in a row or a dot in front; write it like "www.example.com"')
    if len(label) > _MAX_LABEL:
        raise ValueError(f"{quoted(text)} has a label of {len(label)} characters; a label has at most {_MAX_LABEL}")
    if _LABEL.fullmatch(label) is None:
        where = "its labels" if label == text.lower() else quoted(label)
        raise ValueError(
            f"{quoted(text)} is not a host name: {where} may hold only letters, digits, and hyphens inside"
        )


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
