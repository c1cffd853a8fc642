"""Certificate authorities, certificates and keys for tests, all made at run time.

    root = Authority.make()
    pair = root.issue("www.example.com", not_after=-60)     # expired a minute ago
    pair.write(tmp_path)                                     # tls.crt, tls.key

A moment is a datetime (with time zone) or seconds relative to now. EC and Edwards keys are new for each certificate
unless `key` is given; RSA keys, slow to make, come round from a small pool.
"""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

Moment = datetime | float | None
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | rsa.RSAPrivateKey

DAY = 86400.0
_PEM = serialization.Encoding.PEM
_DER = serialization.Encoding.DER
_RSA_POOL = 4
_USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "email": ExtendedKeyUsageOID.EMAIL_PROTECTION,
}
_MAKERS: dict[str, Callable[[], Key]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}
_rsa_pools: dict[int, Iterator[rsa.RSAPrivateKey]] = {}


def new_key(key_type: str = "ecdsa-p256") -> Key:
    """A private key of a type in CertifiedKey's words: "ecdsa-p256", "ed25519", "rsa-2048", ..."""
    if not key_type.startswith("rsa-"):
        return _MAKERS[key_type]()
    bits = int(key_type.removeprefix("rsa-"))
    if bits not in _rsa_pools:
        _rsa_pools[bits] = itertools.cycle(_RsaPool(bits))
    return next(_rsa_pools[bits])


class _RsaPool:
    def __init__(self, bits: int) -> None:
        self._bits = bits

    def __iter__(self) -> Iterator[rsa.RSAPrivateKey]:
        for _ in range(_RSA_POOL):
            yield rsa.generate_private_key(65537, self._bits)


def moment(value: Moment, default: float) -> datetime:
    """`value` (datetime, seconds from now, or None for `default` seconds from now) as a whole second in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(microsecond=0)
    return (datetime.now(UTC) + timedelta(seconds=default if value is None else value)).replace(microsecond=0)


def pem_of(*certificates: x509.Certificate) -> bytes:
    """The certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(_PEM) for certificate in certificates)


@dataclass(frozen=True)
class Pair:
    """A leaf certificate with its private key and the intermediates between it and its root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @cached_property
    def der(self) -> bytes:
        """The leaf as DER."""
        return self.certificate.public_bytes(_DER)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, lower-case hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def certificate_pem(self) -> bytes:
        """The leaf alone."""
        return pem_of(self.certificate)

    @cached_property
    def key_pem(self) -> bytes:
        """The private key, PKCS#8, not encrypted."""
        return self.key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=serialization.NoEncryption()
        )

    @cached_property
    def key_der(self) -> bytes:
        """The private key as PKCS#8 DER."""
        return self.key.private_bytes(
            _DER, serialization.PrivateFormat.PKCS8, encryption_algorithm=serialization.NoEncryption()
        )

    @cached_property
    def chain_pem(self) -> bytes:
        """The intermediates."""
        return pem_of(*self.chain)

    @cached_property
    def chain_der(self) -> tuple[bytes, ...]:
        """The intermediates as DER, in sending order."""
        return tuple(certificate.public_bytes(_DER) for certificate in self.chain)

    @property
    def fullchain_pem(self) -> bytes:
        """The leaf, then the intermediates."""
        return self.certificate_pem + self.chain_pem

    @property
    def combined_pem(self) -> bytes:
        """Key, leaf and intermediates in one."""
        return self.key_pem + self.fullchain_pem

    @property
    def not_before(self) -> int:
        """The leaf's notBefore in Unix seconds."""
        return int(self.certificate.not_valid_before_utc.timestamp())

    @property
    def not_after(self) -> int:
        """The leaf's notAfter in Unix seconds."""
        return int(self.certificate.not_valid_after_utc.timestamp())

    def write(self, directory: Path, stem: str = "tls") -> tuple[Path, Path]:
        """Write <stem>.crt (leaf and intermediates) and <stem>.key, each put in place whole."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate_path, key_path = directory / f"{stem}.crt", directory / f"{stem}.key"
        put(certificate_path, self.fullchain_pem)
        put(key_path, self.key_pem)
        return certificate_path, key_path

    def p12(self, passphrase: bytes | None = None) -> bytes:
        """The pair as PKCS#12, encrypted the modern way when a passphrase is given."""
        encryption: serialization.KeySerializationEncryption = (
            serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
        )
        return pkcs12.serialize_key_and_certificates(b"test", self.key, self.certificate, self.chain, encryption)


def put(path: Path, data: bytes) -> None:
    """Write a file beside `path` and rename it over."""
    aside = path.with_name(f".{path.name}.aside")
    aside.write_bytes(data)
    aside.rename(path)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: a root, or an intermediate below `parent`."""

    certificate: x509.Certificate
    key: Key
    parent: Authority | None = None

    @classmethod
    def make(
        cls,
        name: str = "Test root",
        parent: Authority | None = None,
        *,
        not_before: Moment = None,
        not_after: Moment = None,
        key_type: str = "ecdsa-p256",
        key: Key | None = None,
        eku: Sequence[str] = (),
        bare: bool = False,
    ) -> Authority:
        """A new authority. The same `name` and `key` under another `parent` is a cross-certificate.

        `bare` leaves out everything but basicConstraints, as many private roots do.
        """
        key = key or new_key(key_type)
        signer = parent.key if parent else key
        issuer = parent.certificate.subject if parent else _subject(name)
        builder = _builder(_subject(name), issuer, key, not_before, not_after, 3650 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if not bare:
            builder = builder.add_extension(_key_usage(authority=True), critical=True)
            builder = _key_identifiers(builder, key, signer)
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[one] for one in eku]), critical=False)
        return cls(_sign(builder, signer), key, parent)

    @property
    def root(self) -> Authority:
        """The authority at the top."""
        return self.parent.root if self.parent else self

    @property
    def pem(self) -> bytes:
        """This authority's certificate."""
        return pem_of(self.certificate)

    @property
    def der(self) -> bytes:
        """This authority's certificate as DER."""
        return self.certificate.public_bytes(_DER)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a certificate issued here is sent with: this and the authorities above, without the root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    def revoke(self, *pairs: Pair, days: float = 30) -> bytes:
        """A revocation list that names these certificates, as PEM."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=days))
        for pair in pairs:
            one = x509.RevokedCertificateBuilder().serial_number(pair.certificate.serial_number)
            builder = builder.add_revoked_certificate(one.revocation_date(now - timedelta(minutes=1)).build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM)

    def issue(
        self,
        *names: str,
        addresses: Sequence[str] = (),
        not_before: Moment = None,
        not_after: Moment = None,
        key_type: str = "ecdsa-p256",
        common_name: str | None = None,
        eku: Sequence[str] = ("server",),
        key: Key | None = None,
        serial: int | None = None,
    ) -> Pair:
        """A certificate for `names` (dNSName SANs as given) and `addresses` (IP SANs); without either, it has no SAN.

        The CN is `common_name`, else the first name. `eku` takes "server", "client", "any", "email"; empty leaves the
        extension out. A P-521 or RSA authority signs like any other.
        """
        key = key or new_key(key_type)
        builder = _builder(
            _subject(common_name or next((name for name in names if len(name) <= 64), None)),
            self.certificate.subject,
            key,
            not_before,
            not_after,
            90 * DAY,
            serial,
        )
        builder = _key_identifiers(_leaf(builder, names, addresses, eku), key, self.key)
        return Pair(_sign(builder, self.key), key, self.chain)


def self_signed(
    *names: str,
    addresses: Sequence[str] = (),
    not_before: Moment = None,
    not_after: Moment = None,
    key_type: str = "ecdsa-p256",
    common_name: str | None = None,
    eku: Sequence[str] = ("server",),
    key: Key | None = None,
    serial: int | None = None,
) -> Pair:
    """Like Authority.issue, but signed by its own key, and without intermediates."""
    key = key or new_key(key_type)
    subject = _subject(common_name or next((name for name in names if len(name) <= 64), None))
    builder = _builder(subject, subject, key, not_before, not_after, 90 * DAY, serial)
    return Pair(_sign(_leaf(builder, names, addresses, eku), key), key)


def many(
    count: int, directory: Path, authority: Authority, *, certbot: bool = False, domain: str = "example.test"
) -> list[Pair]:
    """Write `count` pairs for host0.<domain>, host1.<domain>, ... and return them in that order.

    As flat <name>.crt and <name>.key, or with `certbot` as one lineage each. Sub-millisecond a pair.
    """
    pairs = []
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"host{number}.{domain}"
        pair = authority.issue(name)
        if certbot:
            certbot_lineage(directory, name, pair)
        else:
            (directory / f"{name}.crt").write_bytes(pair.fullchain_pem)
            (directory / f"{name}.key").write_bytes(pair.key_pem)
        pairs.append(pair)
    return pairs


def certbot_lineage(directory: Path, name: str, pair: Pair, version: int = 1) -> Path:
    """Write `pair` as certbot does: archive/<name>/<kind><version>.pem, and links to it in live/<name>/.

    A later version replaces the links one by one, as a renewal does. Returns live/<name>.
    """
    archive, live = directory / "archive" / name, directory / "live" / name
    archive.mkdir(parents=True, exist_ok=True)
    if not live.is_dir():
        live.mkdir(parents=True)
        (live / "README").write_text(
            "This directory contains your keys and certificates.\n\n`privkey.pem`  : the key\n"
        )
    contents = {
        "cert": pair.certificate_pem,
        "privkey": pair.key_pem,
        "chain": pair.chain_pem,
        "fullchain": pair.fullchain_pem,
    }
    for kind, data in contents.items():
        (archive / f"{kind}{version}.pem").write_bytes(data)
    for kind in contents:
        link = live / f"{kind}.pem"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", "archive", name, f"{kind}{version}.pem"))
    return live


def _subject(common_name: str | None) -> x509.Name:
    return x509.Name([] if common_name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    not_before: Moment,
    not_after: Moment,
    lifetime: float,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    until = moment(not_after, lifetime)
    since = moment(not_before, -3600.0)
    if not_before is None and since >= until:
        since = until - timedelta(days=90)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number() if serial is None else serial,
        not_valid_before=since,
        not_valid_after=until,
    )


def _leaf(
    builder: x509.CertificateBuilder, names: Sequence[str], addresses: Sequence[str], eku: Sequence[str]
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[one] for one in eku]), critical=False)
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    general += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    return builder.add_extension(x509.SubjectAlternativeName(general), critical=False) if general else builder


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifiers(builder: x509.CertificateBuilder, key: Key, signer: Key) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuers = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(own, critical=False).add_extension(issuers, critical=False)


def _sign(builder: x509.CertificateBuilder, key: Key) -> x509.Certificate:
    edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(key, None if edwards else hashes.SHA256())
