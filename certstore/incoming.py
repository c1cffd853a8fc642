"""What was handed in to be kept: certificates find their keys, and their chains an order and what they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from certstore.cabinet import Request
from certstore.certificate import Certificate, parse
from certstore.chain import IssuerPool, build_chain
from certstore.errors import CertstoreError, FileRejected
from certstore.load import FileContent, parse_file, prove_certificate, prove_key
from certstore.private_key import PrivateKey
from certstore.trust import TrustStore
from certstore.unlock import Unlock
from certstore.unlock import unlock as unlock_in_child

MAX_FILES = 16
MAX_BYTES = 1 << 20  # of all files of one import

KeyOf = Callable[[bytes], PrivateKey | None]  # the key of a public key's digest, of those that are served already


class ImportRefused(CertstoreError):  # noqa: N818 - what became of it
    """Nothing was taken; a sentence that says why, and what to do."""


class Arrival(NamedTuple):
    """One certificate with its key, ready to be kept."""

    leaf: Certificate
    key: PrivateKey
    chain: tuple[bytes, ...]  # DER, in sending order, without leaf and root
    missing: str  # who has signed the last link, where that one is not known here; "" when nothing is missing
    request: Request | None  # whose key it was


class Incoming(NamedTuple):
    """What an import amounts to."""

    arrivals: tuple[Arrival, ...]
    intermediates: tuple[Certificate, ...]  # where there is no certificate to go with them


def read_files(
    files: Sequence[tuple[str, bytes]], passphrases: Sequence[bytes] = (), unlock: Unlock = unlock_in_child
) -> FileContent:
    """Everything in these files (names for messages, contents). Raises ImportRefused."""
    if len(files) > MAX_FILES or sum(len(data) for _, data in files) > MAX_BYTES:
        raise ImportRefused(
            f"an import has at most {MAX_FILES} files of {MAX_BYTES} bytes together; import less at a time"
        )
    certificates: dict[str, Certificate] = {}
    keys: dict[bytes, PrivateKey] = {}
    for name, data in files:
        try:
            content = parse_file(data, passphrases, unlock)
            for certificate in content.certificates:
                prove_certificate(certificate)
            for key in content.keys:
                prove_key(key)
        except FileRejected as rejected:
            raise ImportRefused(f"{name} {rejected.message}") from None
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
        if key is None:
            keyless.append(leaf)
            continue
        chain, missing = _chain(leaf, pool.candidates(leaf, content.certificates), trust)
        arrivals.append(Arrival(leaf, key, chain, missing, request))
    if not arrivals:
        return Incoming((), _intermediates(keyless))
    strangers = [one for one in keyless if not one.is_ca]
    if strangers:
        raise ImportRefused(_without_key(strangers[0]))
    return Incoming(tuple(arrivals), ())


def _chain(leaf: Certificate, candidates: Sequence[Certificate], trust: TrustStore) -> tuple[tuple[bytes, ...], str]:
    chain = build_chain(leaf, candidates)
    by_der = {one.der: one for one in candidates}
    last = by_der[chain[-1]] if chain else leaf
    roots = {one.subject for one in trust.anchors}
    known = (
        last.self_signed
        or last.issuer in roots
        or any(one.subject == last.issuer and one.self_signed for one in candidates)
    )
    return chain, "" if known else _issuer(last)


def _intermediates(keyless: Sequence[Certificate]) -> tuple[Certificate, ...]:
    for one in keyless:
        if not one.is_ca:
            raise ImportRefused(_without_key(one))
        if one.self_signed:
            raise ImportRefused(
                f"{_name(one)} is a root certificate; 'snigate trust add' is for these, and clients have their own"
            )
    return tuple(keyless)


def _without_key(one: Certificate) -> str:
    return (
        f"the private key of {_name(one)} is not here: it is in none of the files, no request that waits was made with "
        "it, and no certificate here has it; import the key with it"
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
