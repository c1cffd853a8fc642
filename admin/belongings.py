"""What goes with a certificate: its name for people, its key, its files, what it says of its owner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from admin.refusal import Refused
from certstore.certified_key import CertifiedKey
from certstore.errors import FileRejected
from certstore.index import Index
from certstore.issue import Subject
from certstore.load import MAX_FILE_SIZE, FileContent, parse_file
from certstore.outline import public_key_digest
from certstore.private_key import PrivateKey, read_private_key


def own_key(certificate: CertifiedKey, passphrases: Sequence[bytes]) -> PrivateKey:
    """A certificate's private key, read from its files where it is not at hand. Raises Refused."""
    if certificate.key:
        return read_private_key(certificate.key)
    spki = public_key_digest(certificate.leaf)
    for path in certificate.paths:
        try:
            content = _content(Path(path), passphrases)
        except (OSError, FileRejected):
            continue
        for key in content.keys:
            if key.spki == spki:
                return key
    where = ", ".join(certificate.paths)
    raise Refused(f"the private key of {called(certificate)} cannot be read by this user from {where}")


def subject_of(certificate: CertifiedKey) -> Subject:
    """What a certificate says of its owner."""
    subject = x509.load_der_x509_certificate(certificate.leaf).subject

    def value(oid: x509.ObjectIdentifier) -> str:
        found = subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    return Subject(
        organization=value(NameOID.ORGANIZATION_NAME),
        unit=value(NameOID.ORGANIZATIONAL_UNIT_NAME),
        locality=value(NameOID.LOCALITY_NAME),
        state=value(NameOID.STATE_OR_PROVINCE_NAME),
        country=value(NameOID.COUNTRY_NAME),
        email=value(NameOID.EMAIL_ADDRESS),
    )


def called(certificate: CertifiedKey) -> str:
    """What a certificate is called in messages and files' names."""
    names = (*certificate.names, *certificate.addresses)
    return names[0] if names else f"certificate {certificate.fingerprint[:16]}"


def files_of(certificate: CertifiedKey, index: Index, passphrases: Sequence[bytes]) -> list[Path]:
    """The files that go with a certificate: those that hold it, and its key where no other has that. Raises Refused."""
    spki = public_key_digest(certificate.leaf)
    found = []
    for path in map(Path, certificate.paths):
        try:
            content = _content(path, passphrases)
        except (OSError, FileRejected) as error:
            raise Refused(f"{path} cannot be looked into ({error}); delete it yourself") from None
        held = {one.fingerprint for one in content.certificates}
        if certificate.fingerprint in held:
            others = [index.certificates[one] for one in held - {certificate.fingerprint} if one in index.certificates]
            if others:
                raise Refused(f"{path} also holds {called(others[0])}; take the file apart, or delete it yourself")
            found.append(path)
        elif not held and not _has_another(certificate, spki, index):
            found.append(path)
    return found


def _has_another(certificate: CertifiedKey, spki: bytes, index: Index) -> bool:
    """Whether another certificate has this public key."""
    return any(one.fingerprint != certificate.fingerprint and public_key_digest(one.leaf) == spki for one in index)


def _content(path: Path, passphrases: Sequence[bytes]) -> FileContent:
    with path.open("rb") as file:
        return parse_file(file.read(MAX_FILE_SIZE + 1), passphrases)
