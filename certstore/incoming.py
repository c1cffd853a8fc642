"""What was handed in to be kept: certificates find their keys, and their chains an order and what they lack."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from certstore.cabinet import Request
from certstore.certificate import Certificate, parse
from certstore.chain import IssuerPool, build_chain
from certstore.errors import CertstoreError, FileRejected, RejectReason
from certstore.load import FileContent, parse_file, prove_certificate, prove_key
from certstore.private_key import PrivateKey
from certstore.trust import TrustStore
from certstore.unlock import Budget, Unlock

MAX_FILES = 16
MAX_BYTES = 1 << 20  # of all files of one import
UNLOCK = 10.0  # seconds for decrypting them

KeyOf = Callable[[bytes], PrivateKey | None]  # the key of a public key's digest, of those that are served already


class ImportRefused(CertstoreError):  # noqa: N818 - what became of it
    """Nothing was taken; a sentence that says why, and what to do. `field` is what to correct."""

    def __init__(self, message: str, field: str = "files") -> None:
        super().__init__(message)
        self.field = field


class Arrival(NamedTuple):
    """One certificate with its key, ready to be kept."""

    leaf: Certificate
    key: PrivateKey
    chain: tuple[bytes, ...] = ()  # DER, in sending order, without leaf and root
    missing: str = ""  # who has signed the last link, where that one is not known here; "" when nothing is missing
    request: Request | None = None  # whose key it was


class Incoming(NamedTuple):
    """What an import amounts to."""

    arrivals: tuple[Arrival, ...]
    intermediates: tuple[Certificate, ...]  # where there is no certificate to go with them
    spare_keys: int = 0  # that belong to none of the certificates
    left_out: tuple[Certificate, ...] = ()  # of authorities, and in no certificate's chain


def read_files(
    files: Sequence[tuple[str, bytes]], passphrases: Sequence[bytes] = (), unlock: Unlock | None = None
) -> FileContent:
    """Everything in these files (names for messages, contents). Raises ImportRefused."""
    if len(files) > MAX_FILES or sum(len(data) for _, data in files) > MAX_BYTES:
        raise ImportRefused(
            f"an import has at most {MAX_FILES} files of {MAX_BYTES} bytes together; import less at a time"
        )
    certificates: dict[str, Certificate] = {}
    keys: dict[bytes, PrivateKey] = {}
    unlock = unlock or Budget(UNLOCK)
    for name, data in files:
        try:
            content = parse_file(data, passphrases, unlock)
            for certificate in content.certificates:
                prove_certificate(certificate)
            for key in content.keys:
                prove_key(key)
        except FileRejected as rejected:
            raise _refusal(name, rejected, given=bool(passphrases)) from None
        if not content.certificates and not content.keys and b"CERTIFICATE REQUEST-----" in data:
            raise ImportRefused(f"{name} is a request; send it to a CA, and import the certificate that comes back")
        certificates.update((one.fingerprint, one) for one in content.certificates)
        keys.update((one.spki, one) for one in content.keys)
    return FileContent(tuple(certificates.values()), tuple(keys.values()))


def sort(
    content: FileContent, requests: Sequence[Request], key_of: KeyOf, known: Iterable[Certificate], trust: TrustStore
) -> Incoming:
    """Find each certificate's key, in the files, a request that waits, or `key_of`; and its chain among all there are.

    `known` are certificates that may be issuers. Raises ImportRefused.
    """
    if not content.certificates:
        what = "a private key, but no certificate" if content.keys else "neither a certificate nor a private key"
        raise ImportRefused(f"there is {what} in it; import the certificate (with its key, unless that was made here)")
    keys = {one.spki: one for one in content.keys}
    waiting = {bytes.fromhex(one.id): one for one in requests}
    arrivals: list[Arrival] = []
    keyless: list[Certificate] = []
    pool = IssuerPool()
    pool.replace((one for one in (*content.certificates, *known) if one.is_ca), trust.anchors)
    for leaf in content.certificates:
        request = waiting.get(leaf.spki)
        key = keys.get(leaf.spki) or (request.key if request is not None else None)
        if key is None and not leaf.is_ca:
            key = key_of(leaf.spki)
        if key is None or (leaf.is_ca and not (leaf.names or leaf.addresses)):  # whose key is not for a server
            keyless.append(leaf)
            continue
        roots = {one.subject for one in (*trust.anchors, *content.certificates) if one.self_signed}
        chain, missing = _chain(leaf, pool.candidates(leaf, content.certificates), roots)
        arrivals.append(Arrival(leaf, key, chain, missing, request))
    spare = len(keys.keys() - {one.leaf.spki for one in arrivals})
    if not arrivals:
        return Incoming((), _intermediates(keyless, spare), spare)
    strangers = [one for one in keyless if not one.is_ca]
    if strangers:
        raise ImportRefused(_without_key(strangers[0], spare))
    sent = {link for one in arrivals for link in one.chain}
    return Incoming(tuple(arrivals), (), spare, tuple(one for one in keyless if one.der not in sent))


def _refusal(name: str, rejected: FileRejected, *, given: bool) -> ImportRefused:
    if rejected.reason is not RejectReason.PASSPHRASE_NEEDED:
        return ImportRefused(f"{name}: {rejected.message}")
    what = "the passphrase that was given does not open it" if given else "it is protected by a passphrase"
    return ImportRefused(f"{name}: {what}; say the right one", "passphrase")


def _chain(
    leaf: Certificate, candidates: Sequence[Certificate], roots: Container[bytes]
) -> tuple[tuple[bytes, ...], str]:
    chain = build_chain(leaf, candidates)
    by_der = {one.der: one for one in candidates}
    last = by_der[chain[-1]] if chain else leaf
    return chain, "" if last.self_signed or last.issuer in roots else _issuer(last)


def _intermediates(keyless: Sequence[Certificate], spare: int) -> tuple[Certificate, ...]:
    for one in keyless:
        if not one.is_ca:
            raise ImportRefused(_without_key(one, spare))
        if one.self_signed:
            raise ImportRefused(
                f"{_name(one)} is a root certificate: no server sends it, since clients have their own; to trust it "
                "here, add it to the roots ('snigate trust add')"
            )
    return tuple(keyless)


def _without_key(one: Certificate, spare: int) -> str:
    where = "the key in the files belongs to another certificate" if spare else "it is in none of the files"
    return (
        f"the private key of {_name(one)} is not here: {where}, no request that waits was made with it, and no "
        "certificate here has it; import the key with it"
    )


def _name(one: Certificate) -> str:
    names = (*one.names, *one.addresses)
    return f"the certificate for {names[0]}" if names else f"the certificate {parse(one).subject.rfc4514_string()!r}"


def _issuer(one: Certificate) -> str:
    """The issuer's name, and where it says that it can be had."""
    parsed = parse(one)
    name = parsed.issuer.rfc4514_string()
    try:
        access = parsed.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return name
    places = [
        str(one.access_location.value)
        for one in access
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(one.access_location, x509.UniformResourceIdentifier)
    ]
    return f"{name} (its CA says it is at {places[0]})" if places else name
