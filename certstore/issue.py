"""Self-signed certificates, and files that only their owner may read."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from certstore.names import canonical_pattern

MAX_COMMON_NAME = 64  # characters, RFC 5280 appendix A.1 (ub-common-name)
_NO_NAME = "snigate default certificate"
_BACKDATED = timedelta(hours=1)  # for clients whose clocks are slow

_NewKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
_MAKERS: dict[str, Callable[[], _NewKey]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
KEY_TYPES = tuple(_MAKERS)


def make_self_signed(
    names: Sequence[str], addresses: Sequence[str] = (), days: int = 825, key_type: str = "ecdsa-p256"
) -> tuple[bytes, bytes]:
    """Make a key of a type out of KEY_TYPES and a server certificate signed by it (RFC 5280, profile of RFC 9525).

    `names` are host names or wildcards in any spelling, `addresses` IP addresses; at least one of the two is needed.
    The CN is the first name of at most 64 characters. Returns (certificate, PKCS#8 key), both PEM. Raises ValueError
    (InvalidName for a name) saying which argument is wrong.
    """
    if key_type not in _MAKERS:
        raise ValueError(f"{key_type!r} is not a key type that can be made; choose from {', '.join(_MAKERS)}")
    if days < 1:
        raise ValueError(f"a certificate is made for at least 1 day, not {days}")
    dns_names = tuple(dict.fromkeys(canonical_pattern(name) for name in names))
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    general += [x509.IPAddress(ipaddress.ip_address(address)) for address in dict.fromkeys(addresses)]
    if not general:
        raise ValueError("a certificate needs at least one host name or address")
    key = _MAKERS[key_type]()
    certificate = _builder(key, dns_names, general, days).sign(
        key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def write_private_file(path: Path, data: bytes) -> None:
    """Put `data` in place at `path` whole, readable by its owner only (0600), and on disk when this returns.

    Readers see the old file or the new one. The file it is written to first lies beside it and starts with a dot, so a
    directory scan passes over it. Raises OSError, leaving what was there.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _builder(
    key: _NewKey, dns_names: Sequence[str], general: Sequence[x509.GeneralName], days: int
) -> x509.CertificateBuilder:
    common_name = next((name for name in dns_names if len(name) <= MAX_COMMON_NAME), _NO_NAME)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _BACKDATED,
        not_valid_after=now + timedelta(days=days),
    )
    return (
        builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(isinstance(key, rsa.RSAPrivateKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


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
