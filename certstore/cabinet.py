"""What snigate itself keeps in its state directory for the operator, as files and nothing else.

    certs/NAME-FFFFFFFF.pem       a private key, its certificate, and the chain, in this order
    requests/NAME-FFFFFFFF.pem    a private key and the request made with it, until its certificate comes
    trust/NAME-FFFFFFFF.pem       a root certificate that chains may lead to
    trash/TIME-XXXX/              what was deleted, under the names it had
    default                       the default certificate's host name

A pair is one file, so that it is put in place whole, and a power cut leaves the old one or the new. Names of files are
made here, of canonical host names and digits of a fingerprint: nobody else's text ever becomes a path.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certstore import pem
from certstore.catalogue import CERTIFICATES, DEFAULT_NAME_FILE, TRUSTED
from certstore.certificate import Certificate
from certstore.errors import CertstoreError, FileRejected
from certstore.file_reader import bytes_of
from certstore.issue import Names, key_pem
from certstore.load import parse_file
from certstore.names import InvalidName, canonical_pattern
from certstore.private_file import sync_directory, write_private_file
from certstore.private_key import PrivateKey, read_private_key
from certstore.remedy import remedy

REQUESTS, TRASH = "requests", "trash"
DIGITS = 8  # of a fingerprint, in a file's name
_UNSAFE = re.compile(r"[^a-z0-9._-]")


class CabinetError(CertstoreError):
    """Something cannot be kept, found or taken out; a sentence that says what to do."""


class Request(NamedTuple):
    """A request that waits for its certificate."""

    id: str  # SHA-256 of the public key, hexadecimal
    names: Names
    key: PrivateKey
    made_at: float  # Unix seconds
    request: bytes  # PEM
    path: Path


class Root(NamedTuple):
    """A root certificate that was added."""

    certificate: Certificate
    path: Path
    is_alone: bool  # in its file


class Cabinet:
    """One state directory's. Directories are made when something is first put in; OSError becomes CabinetError."""

    def __init__(self, state_directory: Path) -> None:
        self.state_directory = state_directory

    @property
    def certificates(self) -> Path:
        """The directory of certificates, which is always scanned."""
        return self.state_directory / CERTIFICATES

    def put_certificate(self, leaf: Certificate, chain: Iterable[bytes], key: bytes) -> Path:
        """Keep a certificate with its key (PKCS#8 DER) and its chain (DER, in sending order)."""
        blocks = [key_pem(key), *(_pem(one) for one in (leaf.der, *chain))]
        names = (*leaf.names, *leaf.addresses)
        return self._put(CERTIFICATES, names[0] if names else "certificate", leaf.fingerprint, b"".join(blocks))

    def put_intermediate(self, one: Certificate) -> Path:
        """Keep a CA's certificate, which completes the chains that it is part of."""
        return self._put(CERTIFICATES, "intermediate", one.fingerprint, _pem(one.der))

    def put_request(self, names: Names, key: PrivateKey, request: bytes) -> Request:
        """Keep a request (PEM) with the key that it was made with."""
        path = self._put(REQUESTS, (*names.hosts, *names.addresses)[0], key.spki.hex(), key_pem(key.der) + request)
        return Request(key.spki.hex(), names, key, time.time(), request, path)

    def requests(self) -> list[Request]:
        """All that wait, the oldest first. A file that is none of ours is passed over."""
        found = [one for path in self._files(REQUESTS) if (one := _read_request(path)) is not None]
        return sorted(found, key=lambda one: (one.made_at, one.id))

    def put_root(self, root: Certificate) -> Path:
        """Let chains lead to this certificate from now on."""
        return self._put(TRUSTED, "root", root.fingerprint, _pem(root.der))

    def roots(self) -> list[Root]:
        """The roots that were added here."""
        found = []
        for path in self._files(TRUSTED):
            with contextlib.suppress(OSError, FileRejected):
                held = parse_file(bytes_of(str(path))).certificates
                found += [Root(one, path, len(held) == 1) for one in held]
        return found

    def place_in_trash(self) -> Path:
        """A directory's path in the trash that nothing has yet."""
        stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        return self.state_directory / TRASH / f"{stamp}-{secrets.token_hex(2)}"

    def discard(self, paths: Sequence[Path], to: Path) -> None:
        """Move files to a place in the trash. Raises CabinetError for what is not snigate's own to move."""
        self.insist_on_own(paths)
        with self._trouble(to):
            to.parent.mkdir(mode=0o700, exist_ok=True)
            to.mkdir(mode=0o700)
            for number, path in enumerate(paths):
                taken = any(path.name == one.name for one in paths[:number])
                path.rename(to / (f"{number}-{path.name}" if taken else path.name))
            for directory in dict.fromkeys((to, to.parent, *(path.parent for path in paths))):
                sync_directory(directory)

    def insist_on_own(self, paths: Iterable[Path]) -> None:
        """Raise CabinetError unless all these files lie in the cabinet: no others are touched, and no directories."""
        own = [self.state_directory / name for name in (CERTIFICATES, REQUESTS, TRUSTED)]
        for path in paths:
            if not any(path.is_relative_to(one) and path.parent.resolve().is_relative_to(one.resolve()) for one in own):
                raise CabinetError(f"{path} is not one of snigate's own files; remove it yourself")
            if path.is_symlink() or not path.is_file():
                raise CabinetError(f"{path} is no plain file; remove it yourself")

    def set_default(self, host: str) -> None:
        """Let the certificate for this canonical host name be the default."""
        with self._trouble(self.state_directory):
            write_private_file(self.state_directory / DEFAULT_NAME_FILE, host.encode() + b"\n")

    def _put(self, directory: str, name: str, fingerprint: str, data: bytes) -> Path:
        place = self.state_directory / directory
        path = place / f"{_safe(name)}-{fingerprint[:DIGITS]}.pem"
        with self._trouble(path):
            place.mkdir(mode=0o700, exist_ok=True)
            write_private_file(path, data)
        return path

    def _files(self, directory: str) -> list[Path]:
        place = self.state_directory / directory
        try:
            return sorted(
                one
                for one in place.iterdir()
                if not one.name.startswith(".") and not one.is_symlink() and one.is_file()
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CabinetError(f"{place} cannot be read ({error.strerror}); let this user read it") from None

    @contextlib.contextmanager
    def _trouble(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = remedy(error, "run this as the user that snigate runs as")
            raise CabinetError(f"{path} cannot be written ({os.strerror(error.errno or 0)}); {advice}") from None


def _safe(name: str) -> str:
    """A canonical name, wildcard or address as a part of a file's name."""
    return _UNSAFE.sub("_", name.replace("*", "_"))[:100].strip(".") or "certificate"


def _pem(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)


def _read_request(path: Path) -> Request | None:
    try:
        blocks = pem.split(pem.plain(bytes_of(str(path))))
        made_at = path.stat().st_mtime
        key = next(read_private_key(one.decode()) for one in blocks if one.label == "PRIVATE KEY")
        request = next(one for one in blocks if one.label == "CERTIFICATE REQUEST")
        names = names_of_request(x509.load_der_x509_csr(request.decode()))
    except (OSError, FileRejected, StopIteration, ValueError):
        return None
    return Request(key.spki.hex(), names, key, made_at, request.text.rstrip() + b"\n", path)


def names_of_request(request: x509.CertificateSigningRequest) -> Names:
    """What a request asks for. Raises ValueError where it cannot be read."""
    try:
        san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names((), ())
    hosts = []
    for text in san.get_values_for_type(x509.DNSName):
        with contextlib.suppress(InvalidName):
            hosts.append(canonical_pattern(text))
    return Names(tuple(hosts), tuple(map(str, san.get_values_for_type(x509.IPAddress))))
