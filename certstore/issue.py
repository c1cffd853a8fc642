"""What is made with a private key of ours: self-signed certificates, and requests for those of a CA (PKCS#10)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certstore.names import canonical_pattern

MAX_COMMON_NAME = 64  # characters, RFC 5280 appendix A.1 (ub-common-name)
MAX_DAYS = 36500
MAX_NAMES = 1000
_NO_NAME = "snigate default certificate"
_BACKDATED = timedelta(hours=1)  # for clients whose clocks are slow
_COUNTRY = re.compile(r"[A-Za-z]{2}")

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_MAKERS: dict[str, Callable[[], Key]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
KEY_TYPES = tuple(_MAKERS)


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request says of its owner beside host names; "" says nothing. Lengths: RFC 5280 appendix A.1."""

    organization: str = ""
    unit: str = ""
    locality: str = ""
    state: str = ""
    country: str = ""  # two letters, ISO 3166
    email: str = ""


# Attribute, most characters, and what it is called in messages.
_ATTRIBUTES = (
    ("country", NameOID.COUNTRY_NAME, 2),
    ("state", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("locality", NameOID.LOCALITY_NAME, 128),
    ("organization", NameOID.ORGANIZATION_NAME, 64),
    ("unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    ("email", NameOID.EMAIL_ADDRESS, 255),
)


class Names(NamedTuple):
    """What a certificate is to be for."""

    hosts: tuple[str, ...]  # canonical; wildcards too
    addresses: tuple[str, ...]  # as the ipaddress module prints them


def names_wanted(texts: Sequence[str]) -> Names:
    """Host names, wildcards and IP addresses in any spelling. Raises ValueError (InvalidName for a name)."""
    if len(texts) > MAX_NAMES:
        raise ValueError(f"a certificate is made for at most {MAX_NAMES} names, not {len(texts)}")
    hosts: dict[str, None] = {}
    addresses: dict[str, None] = {}
    for text in texts:
        try:
            addresses[str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))] = None
        except ValueError:
            name = canonical_pattern(text)
            if name.rpartition(".")[2].isdigit():
                raise ValueError(f"{text!r} is neither a host name nor an IP address") from None
            hosts[name] = None
    if not hosts and not addresses:
        raise ValueError("a certificate needs at least one host name or address")
    return Names(tuple(hosts), tuple(addresses))


def make_key(key_type: str = "ecdsa-p256") -> bytes:
    """A new private key of a type out of KEY_TYPES, PKCS#8 DER. Raises ValueError for another type."""
    if key_type not in _MAKERS:
        raise ValueError(f"{key_type!r} is not a key type that can be made; choose from {', '.join(_MAKERS)}")
    return _MAKERS[key_type]().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def make_self_signed(
    names: Sequence[str], addresses: Sequence[str] = (), days: int = 825, key_type: str = "ecdsa-p256"
) -> tuple[bytes, bytes]:
    """Make a key of a type out of KEY_TYPES and a server certificate signed by it (RFC 5280, profile of RFC 9525).

    `names` are host names or wildcards in any spelling, `addresses` IP addresses; at least one of the two is needed.
    Returns (certificate, PKCS#8 key), both PEM. Raises ValueError (InvalidName for a name) saying which argument is
    wrong.
    """
    wanted = names_wanted((*names, *addresses))
    key = make_key(key_type)
    return self_signed(wanted, key, days), key_pem(key)


def self_signed(names: Names, key: bytes, days: int = 825) -> bytes:
    """A server certificate signed by its own key (PKCS#8 DER), PEM. Raises ValueError for days that make no sense.

    The CN is the first name of at most 64 characters. The days are counted as clients that limit them do: from
    notBefore, which is an hour ago, and with notAfter's own second (RFC 5280 section 4.1.2.5).
    """
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"a certificate is made for 1 to {MAX_DAYS} days, not {days}")
    private = _load(key)
    subject = _subject(names, Subject())
    begin = datetime.now(UTC).replace(microsecond=0) - _BACKDATED
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=private.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=begin + timedelta(days=days, seconds=-1),
    )
    certificate = (
        builder.add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(isinstance(private, rsa.RSAPrivateKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, _hash(private))
    )
    return certificate.public_bytes(Encoding.PEM)


def signing_request(names: Names, key: bytes, subject: Subject) -> bytes:
    """A request for a certificate (RFC 2986) with these names, signed by the key (PKCS#8 DER), PEM.

    Raises ValueError saying which part of the subject is wrong.
    """
    private = _load(key)
    builder = x509.CertificateSigningRequestBuilder(_subject(names, subject))
    request = builder.add_extension(x509.SubjectAlternativeName(_general(names)), critical=False).sign(
        private, _hash(private)
    )
    return request.public_bytes(Encoding.PEM)


def key_pem(key: bytes) -> bytes:
    """A private key (PKCS#8 DER) as PEM."""
    return _load(key).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(key: bytes) -> Key:
    private = load_der_private_key(key, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(private, Key):
        raise ValueError("a key of this type cannot sign a request; make a new one")
    return private


def _hash(key: Key) -> SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else SHA256()


def _general(names: Names) -> list[x509.GeneralName]:
    addresses = (x509.IPAddress(ipaddress.ip_address(address)) for address in names.addresses)
    return [*map(x509.DNSName, names.hosts), *addresses]


def _subject(names: Names, subject: Subject) -> x509.Name:
    attributes = []
    for field, oid, most in _ATTRIBUTES:
        value: str = getattr(subject, field).strip()
        if not value:
            continue
        if len(value) > most or not value.isprintable():
            raise ValueError(f"{field} has at most {most} printable characters")
        if field == "country" and not _COUNTRY.fullmatch(value):
            raise ValueError('country is two letters, such as "DE" (ISO 3166)')
        if field == "email" and not value.isascii():
            raise ValueError("email has ASCII characters alone")
        attributes.append(x509.NameAttribute(oid, value.upper() if field == "country" else value))
    fitting = (name for name in (*names.hosts, *names.addresses) if len(name) <= MAX_COMMON_NAME)
    common_name = next(fitting, _NO_NAME)
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(key_encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
