"""The bytes of one file to the certificates and private keys it holds, whatever it is called and however encoded.

PEM in any mix, DER, or PKCS#12. A file is taken whole or not at all: one damaged block rejects it, because "keep the
last good" works by file, and a file half taken would be neither the old state nor the new. Nothing here decides which
certificate and key belong together, and nothing here is slow, whatever a stranger put in: what is encrypted goes to a
child process (unlock.py), and an RSA key's numbers are proven by one signature (prove_key) instead of a full check.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import msgspec
from cryptography import x509

from certstore import der, pem
from certstore.certificate import Certificate, prove_certificate, read_certificate
from certstore.errors import FileRejected, RejectReason
from certstore.private_key import PrivateKey, prove_key, read_private_key
from certstore.unlock import Unlock
from certstore.unlock import unlock as unlock_in_child

__all__ = [
    "MAX_FILE_SIZE",
    "Certificate",
    "FileContent",
    "FileRejected",
    "PrivateKey",
    "RejectReason",
    "looks_like_ours",
    "parse_file",
    "prove_certificate",
    "prove_key",
]

MAX_FILE_SIZE = 1 << 20  # bytes

_CERTIFICATE = frozenset(("CERTIFICATE", "X509 CERTIFICATE"))
_KEY = frozenset(("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))
_UNSUPPORTED = {
    "TRUSTED CERTIFICATE": "convert it: openssl x509 -in FILE -out NEW",
    "DSA PRIVATE KEY": "TLS has no use for DSA; get a certificate for an ECDSA or RSA key",
    "OPENSSH PRIVATE KEY": "convert it: ssh-keygen -p -m PKCS8 -f FILE",
    "PKCS7": "convert it: openssl pkcs7 -print_certs -in FILE -out NEW",
}
_PASSED_OVER = re.compile(r".*(REQUEST|CRL|PARAMETERS|PUBLIC KEY|ATTRIBUTE CERTIFICATE|CMS)")
_LABELS = re.compile(rb"(?:\A|[\r\n]|-----)[ \t]*-----BEGIN [^\r\n-]*(?:CERTIFICATE|PRIVATE KEY|PKCS7)")
_CIPHERS = frozenset(("AES-128-CBC", "AES-256-CBC", "DES-EDE3-CBC"))


class FileContent(msgspec.Struct, frozen=True, gc=False):
    """What one file holds, in its order and without duplicates. Both are empty for, say, DH parameters alone."""

    certificates: tuple[Certificate, ...]
    keys: tuple[PrivateKey, ...]


def looks_like_ours(data: bytes) -> bool:
    """Whether the bytes look like a certificate or key, be they damaged: PEM with such a label, DER, PKCS#12."""
    if der.looks_like(data):
        return True
    text = pem.plain(data)
    return b"-----BEGIN " in text and _LABELS.search(text) is not None  # the first, fifty times as fast, mostly says no


def parse_file(data: bytes, passphrases: Sequence[bytes] = (), unlock: Unlock = unlock_in_child) -> FileContent:
    """Everything of ours in the file; raises FileRejected with the reason.

    `passphrases` are tried on what is encrypted. Certificate requests, CRLs, parameters and text are passed over; a
    file that holds none of all these raises MALFORMED.
    """
    if len(data) > MAX_FILE_SIZE:
        raise FileRejected(
            RejectReason.OVERSIZED, f"has {len(data)} bytes, more than the {MAX_FILE_SIZE} a certificate file may have"
        )
    if not data:
        raise FileRejected(RejectReason.TRUNCATED, "is empty; write the file again, whole")
    if der.looks_like(data):
        return _parse_der(data, passphrases, unlock)
    return _parse_pem(pem.plain(data), passphrases, unlock)


def _parse_pem(text: bytes, passphrases: Sequence[bytes], unlock: Unlock) -> FileContent:
    certificates: list[Certificate] = []
    keys: list[PrivateKey] = []
    encrypted: list[pem.Block] = []
    known = False
    for block in pem.split(text):
        if block.label in _CERTIFICATE:
            certificates.append(read_certificate(block.decode()))
        elif block.label in _KEY:
            if block.encrypted:
                _check_cipher(block)
                encrypted.append(block)
            else:
                keys.append(read_private_key(block.decode()))
        elif block.label in _UNSUPPORTED:
            raise FileRejected(
                RejectReason.UNSUPPORTED, f"holds a {block.label} block, not read here; {_UNSUPPORTED[block.label]}"
            )
        else:
            known = known or _PASSED_OVER.match(block.label) is not None
    if encrypted:
        opened = _opened(b"".join(block.text for block in encrypted), passphrases, unlock)
        keys += opened.keys
    if not (certificates or keys or known):
        raise FileRejected(RejectReason.MALFORMED, "holds no certificate and no private key; remove it or correct it")
    return _content(certificates, keys)


def _parse_der(data: bytes, passphrases: Sequence[bytes], unlock: Unlock) -> FileContent:
    """DER is told apart by how the outer SEQUENCE begins; PKCS#12 may also come in BER with indefinite lengths."""
    if data[1] == 0x80:
        return _opened(data, passphrases, unlock, empty_passphrase=True)
    try:
        outer = der.element(data)
        if outer.end > len(data):
            raise FileRejected(RejectReason.TRUNCATED, "ends in the middle of its content; write the file again, whole")
        data = data[: outer.end] + data[outer.end :].strip(b"\r\n")
        parts = der.children(data, outer)
        first, second = parts[0], parts[1]
        if first.tag == der.INTEGER and second.tag == der.SEQUENCE and data[first.content : first.end] == b"\x03":
            return _opened(data, passphrases, unlock, empty_passphrase=True)
        if first.tag == der.INTEGER:
            return _content([], [read_private_key(data)])
        if second.tag == der.OCTET_STRING:
            return _opened(data, passphrases, unlock)
    except (der.DerError, IndexError):
        raise FileRejected(
            RejectReason.MALFORMED, "is neither a certificate nor a private key nor PKCS#12; remove it or correct it"
        ) from None
    try:
        return _content([read_certificate(data)], [])
    except FileRejected:
        if _is_passed_over(data):
            return FileContent((), ())
        raise


def _is_passed_over(data: bytes) -> bool:
    """Whether the DER is a certificate request or a CRL, which are shaped like certificates."""
    for load in (x509.load_der_x509_csr, x509.load_der_x509_crl):
        with contextlib.suppress(ValueError):
            load(data)
            return True
    return False


def _opened(
    data: bytes, passphrases: Sequence[bytes], unlock: Unlock, *, empty_passphrase: bool = False
) -> FileContent:
    if not passphrases and not empty_passphrase:
        raise FileRejected(
            RejectReason.PASSPHRASE_NEEDED,
            "holds a private key protected by a passphrase; name a file with it in certificates.passphrase_files",
        )
    opened = unlock(data, passphrases)
    certificates = [read_certificate(one) for one in opened.certificates]
    return _content(certificates, [read_private_key(one) for one in opened.keys])


def _content(certificates: list[Certificate], keys: list[PrivateKey]) -> FileContent:
    return FileContent(
        tuple({one.fingerprint: one for one in certificates}.values()),
        tuple({one.spki: one for one in keys}.values()),
    )


def _check_cipher(block: pem.Block) -> None:
    if block.label != "ENCRYPTED PRIVATE KEY" and block.cipher not in _CIPHERS:
        raise FileRejected(
            RejectReason.UNSUPPORTED,
            f"holds a private key encrypted with {block.cipher or 'an unnamed cipher'}, which is not supported; "
            "convert it: openssl pkcs8 -topk8 -in FILE -out NEW",
        )
