"""Whether a certificate's chain leads to a trusted root, and from when until when.

Which verifier, and why (each was tried):

- cryptography's *server* verifier follows the web PKI's rules and refuses what private CAs are made of: roots without
  keyUsage or subjectKeyIdentifier, names in the CN only, names with underscores.
- OpenSSL's X509StoreContext takes all those, but does not look at extended key usage unless told a purpose.
- So: cryptography's *client* verifier, which asks for no name, with a policy that asks of extensions only that CAs
  carry basicConstraints (RFC 5280 section 4.2.1.9). Extended key usage is checked here: the leaf and every
  intermediate that has one must allow serverAuth or any (section 4.2.1.12, and how browsers read it).
- It knows no EdDSA. Where an Ed25519 or Ed448 key is involved, OpenSSL verifies, under the same conditions.

A certificate that is itself in the trust store is trusted, self-signed or not, as long as it is valid.

Times: a verdict holds in the intersection of the validities of leaf, intermediates and root. The last second counts as
outside, as everywhere in the store.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError
from OpenSSL import crypto

from certstore import der, pem
from certstore.certificate import Certificate, parse, read_certificate
from certstore.errors import FileRejected, RejectReason

SYSTEM = "system"
MAX_TRUST_FILE_SIZE = 16 << 20  # bytes
_MAX_TRIES = 4
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
_LEAF_POLICY = ExtensionPolicy.permit_all()
_CA_POLICY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


Held = Mapping[Path, Sequence[Certificate]]  # what each trust file holds


class Verdict(NamedTuple):
    """A chain that verifies: DER in sending order without leaf and root, and when, in Unix seconds."""

    chain: tuple[bytes, ...]
    valid_from: int
    valid_until: int


class TrustStore:
    """The roots that chains are verified against. Never changes; load another when its files change."""

    def __init__(
        self,
        anchors: Iterable[Certificate],
        paths: Sequence[Path] = (),
        problems: Sequence[tuple[Path, str]] = (),
        held: Held = MappingProxyType({}),
    ) -> None:
        self._anchors = {one.fingerprint: one for one in anchors}
        self._by_subject: dict[bytes, list[Certificate]] = {}
        authorities = [one for one in self._anchors.values() if one.is_ca]
        for one in authorities:
            self._by_subject.setdefault(one.subject, []).append(one)
        self._store = Store([parse(one) for one in authorities]) if authorities else None
        self.paths: tuple[Path, ...] = tuple(paths)
        self.problems: list[tuple[Path, str]] = list(problems)
        self._held = held
        self.version: str = hashlib.sha256("".join(sorted(self._anchors)).encode()).hexdigest()

    @classmethod
    def load(cls, sources: Sequence[str | Path], before: TrustStore | None = None) -> TrustStore:
        """Read the roots. A source is "system", a file (PEM or DER) or a directory of files.

        Never fails: what cannot be read or used is told in `problems` as (path, sentence), and left out; but what is
        there and cannot be read now counts as it did `before`. `paths` are the files and directories whose change calls
        for loading anew, also those that do not exist yet.
        """
        paths: list[Path] = []
        problems: list[tuple[Path, str]] = []
        known: Held = before._held if before is not None else {}
        held: dict[Path, Sequence[Certificate]] = {}
        for source in sources:
            path = _system_bundle() if source == SYSTEM else Path(source)
            paths.append(path)
            for file in _files(path, known, problems):
                held[file] = _read(file, known, problems, claims_to_be_ours=file == path)
        return cls(itertools.chain.from_iterable(held.values()), paths, problems, held)

    @property
    def anchors(self) -> tuple[Certificate, ...]:
        """Every certificate in the store."""
        return tuple(self._anchors.values())

    def verify(self, leaf: Certificate, intermediates: Sequence[Certificate], at: float) -> Verdict | None:
        """The chain that makes `leaf` trusted for server authentication at `at` (Unix seconds); None without one.

        `intermediates` may come in any order, with others among them.
        """
        if not leaf.server_auth or not leaf.not_before <= at < leaf.not_after:
            return None
        if leaf.fingerprint in self._anchors:
            return Verdict((), leaf.not_before, leaf.not_after)
        usable = [
            one for one in intermediates if one.is_ca and one.server_auth and one.not_before <= at < one.not_after
        ]
        roots = self._roots_for((leaf, *usable))
        if self._store is None or not roots:
            return None
        if any(one.key_type.startswith("ed") for one in (leaf, *usable, *roots)):
            chain = _verify_with_openssl(leaf, usable, roots, at)
        else:
            chain = _verify_with_cryptography(self._store, leaf, usable, at)
        if chain is None:
            return None
        links = [leaf, *(read_certificate(one) for one in chain[1:])]
        if any(at >= one.not_after for one in links):
            return None
        return Verdict(
            tuple(one.der for one in links[1:-1]),
            max(one.not_before for one in links),
            min(one.not_after for one in links),
        )

    def best_verdict(
        self, leaf: Certificate, intermediates: Sequence[Certificate], now: float
    ) -> tuple[Verdict | None, float | None]:
        """The verdict now, or at the first moment to come at which the leaf verifies; and when to ask again.

        A moment to come is the notBefore of leaf, intermediate or root; at most four are tried. The second value, in
        Unix seconds, is None when asking again would give nothing new; the clock alone is meant, not other files.
        """
        verdict = self.verify(leaf, intermediates, now)
        if verdict is None and now < leaf.not_after:
            involved = (leaf, *intermediates, *self._roots_for((leaf, *intermediates)))
            earliest = max(now, leaf.not_before - 1)
            moments = sorted({one.not_before for one in involved if earliest < one.not_before < leaf.not_after})
            tries = (self.verify(leaf, intermediates, moment) for moment in moments[:_MAX_TRIES])
            verdict = next((one for one in tries if one is not None), None)
            if verdict is None:
                return None, float(moments[_MAX_TRIES]) if len(moments) > _MAX_TRIES else None
        if verdict is None or verdict.valid_until >= leaf.not_after:
            return verdict, None
        return verdict, float(verdict.valid_until)

    def _roots_for(self, certificates: Iterable[Certificate]) -> list[Certificate]:
        names = dict.fromkeys(one.issuer for one in certificates)
        return [root for name in names for root in self._by_subject.get(name, ())]


def _verify_with_cryptography(
    store: Store, leaf: Certificate, intermediates: Sequence[Certificate], at: float
) -> list[bytes] | None:
    builder = PolicyBuilder().store(store).time(datetime.fromtimestamp(at, UTC))
    verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY).build_client_verifier()
    try:
        verified = verifier.verify(parse(leaf), [parse(one) for one in intermediates])
    except (VerificationError, ValueError, x509.UnsupportedGeneralNameType):
        return None
    return [one.public_bytes(Encoding.DER) for one in verified.chain]


def _verify_with_openssl(
    leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate], at: float
) -> list[bytes] | None:
    try:
        store = crypto.X509Store()
        store.set_time(datetime.fromtimestamp(at, UTC))
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for root in roots:
            store.add_cert(_openssl(root))
        context = crypto.X509StoreContext(store, _openssl(leaf), [_openssl(one) for one in intermediates])
        chain = context.get_verified_chain()
    except (crypto.X509StoreContextError, crypto.Error):
        return None
    return [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in chain]


def _openssl(certificate: Certificate) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate.der)


def _system_bundle() -> Path:
    """The distribution's bundle; SSL_CERT_FILE (as OpenSSL reads it) goes first. The usual place when there is none."""
    known = ssl.get_default_verify_paths()
    places = (os.environ.get(known.openssl_cafile_env), *_SYSTEM_BUNDLES, known.cafile, known.capath)
    existing = (Path(place) for place in places if place and Path(place).exists())
    return next(existing, Path(_SYSTEM_BUNDLES[0]))


def _files(path: Path, known: Held, problems: list[tuple[Path, str]]) -> Iterator[Path]:
    """The file itself, or a directory's files by name, hidden ones left out; directories in it are not entered."""
    try:
        if path.is_dir():
            yield from (one for one in sorted(path.iterdir()) if not one.name.startswith(".") and one.is_file())
        else:
            yield path
    except OSError as error:
        problems.append((path, _unreadable(error)))
        yield from (file for file in known if file.parent == path)


def _read(
    path: Path, known: Held, problems: list[tuple[Path, str]], *, claims_to_be_ours: bool
) -> Sequence[Certificate]:
    """The certificates in one file. A bad one is a problem and the others count: a bundle is many people's work."""
    found: list[Certificate] = []
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TRUST_FILE_SIZE + 1)
        if len(data) > MAX_TRUST_FILE_SIZE:
            raise FileRejected(RejectReason.OVERSIZED, f"has more than {MAX_TRUST_FILE_SIZE} bytes; split it")
        decoders = _certificates_in(data)
    except FileNotFoundError as error:
        problems.append((path, _unreadable(error)))
        return []
    except OSError as error:
        problems.append((path, _unreadable(error)))
        return known.get(path, [])
    except FileRejected as rejected:
        problems.append((path, rejected.message))
        return []
    for number, decode in enumerate(decoders, 1):
        try:
            found.append(read_certificate(decode()))
        except FileRejected as rejected:
            problems.append((path, f"certificate {number}: {rejected.message}"))
    if not decoders and claims_to_be_ours:
        problems.append((path, "holds no certificate; name a file with root certificates in certificates.trust"))
    return found


def _certificates_in(data: bytes) -> list[Callable[[], bytes]]:
    """What gives each certificate's DER; a damaged block raises only when its turn comes."""
    if der.looks_like(data):
        return [data.__bytes__]
    blocks = pem.split(pem.plain(data))
    return [block.decode for block in blocks if block.label in ("CERTIFICATE", "X509 CERTIFICATE")]


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror}); make it readable, or correct certificates.trust"
