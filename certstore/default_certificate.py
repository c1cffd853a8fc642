"""The certificate made at first start: self-signed, the last resort at level 9, in `<state>/default-certificate.pem`.

It lives outside the scanned directories, so it never competes with an operator's certificates for a name. It is made
anew a month before it expires; nothing has to be deleted or restarted for that.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError
from certstore.issue import make_self_signed
from certstore.load import MAX_FILE_SIZE, FileRejected, parse_file, prove_key
from certstore.names import InvalidName, canonical_name
from certstore.private_file import write_private_file
from certstore.remedy import remedy

FILE = "default-certificate.pem"
RENEW_AHEAD = 30 * 86400  # seconds before its notAfter


def load(state_directory: Path) -> CertifiedKey | None:
    """The certificate made earlier, or None when there is none that can be used.

    Raises CertstoreError when there may be one, and it cannot be read now: it is not to be replaced for that.
    """
    path = state_directory / FILE
    try:
        content = parse_file(_bytes_of(path))
        for key in content.keys:
            prove_key(key)
    except (FileNotFoundError, NotADirectoryError, FileRejected):
        return None
    except OSError as error:
        raise CertstoreError(
            f"{path}: the default certificate cannot be read ({error.strerror}); correct that, or delete it"
        ) from error
    if not content.certificates or not content.keys or content.certificates[0].spki != content.keys[0].spki:
        return None
    leaf, key = content.certificates[0], content.keys[0]
    return CertifiedKey(
        fingerprint=leaf.fingerprint,
        names=leaf.names,
        addresses=leaf.addresses,
        key_type=leaf.key_type,
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        self_signed=leaf.self_signed,
        trusted_from=0,
        trusted_until=0,
        leaf=leaf.der,
        chain=(),
        key=key.der,
        paths=(str(path),),
    )


def _bytes_of(path: Path) -> bytes:
    """The file itself, and not what a link in its place leads to. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_FILE_SIZE)


def ensure(state_directory: Path, now: float | None = None) -> CertifiedKey:
    """The certificate made earlier, or a new one when that is missing, unusable or near its end.

    Raises CertstoreError when it can be neither read nor written.
    """
    now = time.time() if now is None else now
    known = load(state_directory)
    if known is not None and known.is_valid(now) and known.not_after - now > RENEW_AHEAD:
        return known
    certificate, key = make_self_signed(_own_names(), ("127.0.0.1", "::1"))
    path = state_directory / FILE
    try:
        write_private_file(path, key + certificate)
    except OSError as error:
        if known is not None:
            return known
        raise CertstoreError(
            f"{path}: the default certificate cannot be written ({error.strerror}); "
            f"{remedy(error, 'make the state directory writable')}"
        ) from error
    made = load(state_directory)
    if made is None:
        raise CertstoreError(f"{path}: the default certificate just written cannot be read back")
    return made


def _own_names() -> list[str]:
    """This machine's name, where it is a proper host name, and localhost."""
    names = []
    for text in (socket.gethostname(), "localhost"):
        try:
            name = canonical_name(text)
        except InvalidName:
            continue
        if name not in names:
            names.append(name)
    return names
