"""What goes with a certificate: its name for people, its key, its files, what it says of its owner."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from admin.refusal import Refused
from certstore.certificate import Certificate
from certstore.certified_key import CertifiedKey
from certstore.errors import FileRejected
from certstore.file_reader import content_of
from certstore.index import Index
from certstore.issue import Names, Subject, signing_request
from certstore.load import FileContent
from certstore.outline import public_key_digest
from certstore.private_key import PrivateKey, read_private_key
from certstore.unlock import Budget

UNLOCK = 5.0  # seconds for decrypting a file


class Belongings(NamedTuple):
    """What goes with a certificate."""

    files: tuple[Path, ...]
    authorities: tuple[Certificate, ...]  # in these files


def own_key(certificate: CertifiedKey, passphrases: Sequence[bytes]) -> PrivateKey:
    """A certificate's private key, read from its files where it is not at hand. Raises Refused."""
    if certificate.key:
        return read_private_key(certificate.key)
    spki = public_key_digest(certificate.leaf)
    for path in certificate.paths:
        try:
            content = content_of(path, passphrases, Budget(UNLOCK))
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


def request_for(names: Names, key: PrivateKey, subject: Subject) -> bytes:
    """A request, PEM. Raises Refused for what cannot stand in one."""
    try:
        return signing_request(names, key.der, subject)
    except ValueError as error:
        raise Refused(str(error), str(error).split()[0]) from None


def called(certificate: CertifiedKey) -> str:
    """What a certificate is called in messages and files' names."""
    names = (*certificate.names, *certificate.addresses)
    return names[0] if names else f"certificate {certificate.fingerprint[:16]}"


def files_of(certificate: CertifiedKey, index: Index, passphrases: Sequence[bytes]) -> Belongings:
    """What can be moved away with a certificate. Raises Refused where something of another's would go along.

    That is another certificate in a file of its own, or the only copy of the key of one that is elsewhere. Certificates
    of authorities in these files are told apart, since the chains of others may need them.
    """
    spki = public_key_digest(certificate.leaf)
    is_shared = any(one.fingerprint != certificate.fingerprint and public_key_digest(one.leaf) == spki for one in index)
    found: dict[Path, FileContent] = {}
    for path in map(Path, certificate.paths):
        try:
            content = content_of(str(path), passphrases, Budget(UNLOCK))
        except (OSError, FileRejected) as error:
            raise Refused(f"{path} cannot be looked into ({error}); delete it yourself") from None
        held = {one.fingerprint for one in content.certificates}
        others = [index.certificates[one] for one in held - {certificate.fingerprint} if one in index.certificates]
        if certificate.fingerprint in held and others:
            raise Refused(f"{path} also holds {called(others[0])}; take the file apart, or delete it yourself")
        is_key_alone = not held and {one.spki for one in content.keys} == {spki}
        if certificate.fingerprint in held or (is_key_alone and not is_shared):
            found[path] = content
    _insist_on_keys_elsewhere(certificate, found, index, passphrases)
    authorities = {one.fingerprint: one for content in found.values() for one in content.certificates if one.is_ca}
    authorities.pop(certificate.fingerprint, None)
    return Belongings(tuple(found), tuple(authorities.values()))


def _insist_on_keys_elsewhere(
    certificate: CertifiedKey, going: Mapping[Path, FileContent], index: Index, passphrases: Sequence[bytes]
) -> None:
    """Raise Refused where a key in these files is that of another certificate, and nowhere else."""
    keys = {one.spki for content in going.values() for one in content.keys}
    for other in index:
        if other.fingerprint == certificate.fingerprint or public_key_digest(other.leaf) not in keys:
            continue
        spki = public_key_digest(other.leaf)
        for path in map(Path, other.paths):
            with contextlib.suppress(OSError, FileRejected):
                if path not in going and any(
                    one.spki == spki for one in content_of(str(path), passphrases, Budget(UNLOCK)).keys
                ):
                    break
        else:
            where = next(path for path, content in going.items() if any(one.spki == spki for one in content.keys))
            raise Refused(
                f"{where} holds the only copy of the private key of {called(other)} ({other.fingerprint[:16]}) too; "
                "delete that certificate first, or take the file apart"
            )
