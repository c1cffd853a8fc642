"""Whether the certificate that a backend's server shows is the one wanted, and if not, why: in an operator's words.

OpenSSL builds and verifies the chain, and asks here about each certificate of it, the server's own last. Names follow
RFC 9525: SANs alone, a wildcard is one whole leftmost label. With pins, the server's public key decides alone.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Collection
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certstore.names import InvalidName, canonical_pattern, wildcard_of
from certstore.outline import public_key_digest

NAMED = 3  # of a certificate's names in a sentence

# X509_V_ERR_*, stable numbers; which certificate of the chain it is about is told by its depth.
_EXPIRED, _NOT_YET_VALID, _PURPOSE = 10, 9, 26
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_WEAK = frozenset({66, 67, 68})


class Verification:
    """The verification of one server's certificate. `refusal` is None until it was judged, and empty if accepted."""

    __slots__ = ("_name", "_pins", "refusal")

    def __init__(self, name: str | None, pins: Collection[str] = ()) -> None:
        """`name`: the host name or IP address that the certificate must be for; needed without `pins`."""
        self._name = name
        self._pins = pins
        self.refusal: str | None = None

    def judge(self, read: Callable[[], x509.Certificate], error: int, depth: int, verified: bool) -> bool:
        """OpenSSL's question about one certificate (`depth` 0: the server's own); False ends the handshake."""
        if depth > 0 and (verified or self._pins):
            return True
        try:
            with warnings.catch_warnings(action="ignore"):  # about what is odd, but no matter, in a certificate
                certificate = read()
                if self._pins:
                    self.refusal = _refused_by_pin(certificate, self._pins)
                elif verified:
                    self.refusal = _refused_by_name(certificate, self._name)
                else:
                    self.refusal = _refused_by_openssl(certificate, error, depth)
        except Exception as problem:  # what a certificate can hold has no end, and what cannot be read is refused
            self.refusal = f"its certificate cannot be read ({problem}; replace it)"
        return self.refusal == ""


def pin_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, as the certificate has it, in base64."""
    return base64.b64encode(public_key_digest(certificate.public_bytes(Encoding.DER))).decode()


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The SANs: canonical host names and wildcards, then IP addresses."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = []
    for text in san.get_values_for_type(x509.DNSName):
        try:
            names.append(canonical_pattern(text))
        except InvalidName:
            continue
    return (*names, *(str(address) for address in san.get_values_for_type(x509.IPAddress)))


def _refused_by_pin(certificate: x509.Certificate, pins: Collection[str]) -> str:
    pin = pin_of(certificate)
    if pin in pins:
        return ""
    return f"its public key has the pin {pin}, which is none of tls_pin (if that is the right server, add it there)"


def _refused_by_openssl(certificate: x509.Certificate, error: int, depth: int) -> str:
    whose = "its certificate" if depth == 0 else "a certificate of its chain"
    if error == _EXPIRED:
        return f"{whose} expired on {certificate.not_valid_after_utc:%Y-%m-%d} (renew it there)"
    if error == _NOT_YET_VALID:
        since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return f"{whose} is not valid before {since} (set the clocks, or replace it)"
    if error in _UNKNOWN_AUTHORITY:
        return (
            "its certificate comes from no authority in tls_ca, or the server leaves out an intermediate "
            "(name its authority in tls_ca, or let it send the whole chain)"
        )
    if error == _PURPOSE:
        return f"{whose} is not made for servers (replace it by one with extended key usage serverAuth)"
    if error in _WEAK:
        return f"{whose} has a key or signature too weak to trust (replace it)"
    return f"OpenSSL does not accept {whose} (verify error {error}; replace it)"


def _refused_by_name(certificate: x509.Certificate, name: str | None) -> str:
    names = names_in(certificate)
    if name is not None and (name in names or (not is_address(name) and wildcard_of(name) in names)):
        return ""
    if not names:
        return f"its certificate is for no host name at all, not for {name} (give it one for {name}, or use tls_pin)"
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"its certificate is for {shown}, not for {name} (say by tls_name what it is for, or replace it)"


def is_address(name: str) -> bool:
    """Whether it is an IP address, not a host name."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
