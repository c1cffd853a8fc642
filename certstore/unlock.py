"""PKCS#12 and encrypted keys, opened in a short-lived child process with a time limit.

How hard it is to open such a file is written in the file: three million PBKDF2 iterations hold the interpreter's lock
for a second and more, also from a thread, and scrypt may ask for gigabytes. So whoever can drop a file into a
directory could stop the keeper. A child does it instead: it has no environment, no more memory, processor time and
output than it needs, and is killed at the limit. What it answers is taken as a stranger's: capped, type-checked, and
parsed again by the caller. Request and answer pass through memory files, so no pipe can fill up and nothing touches
a disk.

One child costs about a fifth of a second; unencrypted PEM and DER never come here.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from certstore import der, pem
from certstore.errors import FileRejected, RejectReason

TIME_LIMIT = 5.0  # seconds, for all passphrases together
MAX_ANSWER = 4 << 20  # bytes
_MEMORY = 768 << 20  # bytes of address space, of which the interpreter and its libraries take about a third
_START = "import sys; sys.path.append(sys.argv[1]); from certstore.unlock import main; main()"

_SENTENCES = {
    RejectReason.PASSPHRASE_NEEDED: (
        "is protected by a passphrase, and none of those given opens it; add the right one to a file named in "
        "certificates.passphrase_files"
    ),
    RejectReason.UNSUPPORTED: (
        "is encrypted in a way that cannot be opened here; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc"
    ),
    RejectReason.MALFORMED: "an encrypted key or PKCS#12 structure in it is damaged; write the file again",
    RejectReason.UNLOCK_PENDING: "is not decrypted yet: others took the time that one scan has; it is tried again soon",
    RejectReason.UNLOCK_FAILED: (
        "could not be opened: the helper process ended without an answer; write the file again to have it tried again"
    ),
}


class UnlockedFile(msgspec.Struct, frozen=True):
    """What an encrypted file held: certificates as DER, private keys as PKCS#8 DER, not encrypted."""

    certificates: tuple[bytes, ...]
    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        """Without the keys, which have no business in a log or traceback."""
        return f"UnlockedFile({len(self.certificates)} certificates, {len(self.keys)} keys)"


class Unlock(Protocol):
    """How parse_file has encrypted content opened."""

    def __call__(self, data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
        """Open `data` or raise FileRejected."""


class Budget:
    """Opens encrypted content as long as there is time left: `seconds` for all files, at most TIME_LIMIT for each.

    Raises FileRejected as `unlock` does; UNLOCK_PENDING where a file got less time than it may have.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def __call__(self, data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
        """Open `data`."""
        if self._left <= 0:
            raise _rejected(RejectReason.UNLOCK_PENDING)
        started, limit = time.monotonic(), min(TIME_LIMIT, self._left)
        try:
            return unlock(data, passphrases, limit)
        except FileRejected as rejected:
            if rejected.reason is RejectReason.UNLOCK_TIMEOUT and limit < TIME_LIMIT:
                raise _rejected(RejectReason.UNLOCK_PENDING) from None
            raise
        finally:
            self._left -= time.monotonic() - started


class _Request(msgspec.Struct, frozen=True):
    data: bytes
    passphrases: tuple[bytes, ...]

    def __repr__(self) -> str:
        return "_Request(...)"


class _Answer(msgspec.Struct, frozen=True):
    content: UnlockedFile | None
    reason: RejectReason | None


def unlock(data: bytes, passphrases: Sequence[bytes], timeout: float = TIME_LIMIT) -> UnlockedFile:
    """Open PKCS#12 (RFC 7292), an encrypted PKCS#8 key in DER, or PEM text with encrypted keys, in a child process.

    Each passphrase is tried; PKCS#12 also with the empty one and with none. `timeout` is in seconds. Raises
    FileRejected: PASSPHRASE_NEEDED, UNSUPPORTED, MALFORMED, UNLOCK_TIMEOUT, UNLOCK_FAILED.
    """
    with _memory_file("request") as request, _memory_file("answer") as answer:
        request.write(msgspec.msgpack.encode(_Request(data, tuple(passphrases))))
        request.seek(0)
        _run(request, answer, timeout)
        answer.seek(0)
        raw = answer.read(MAX_ANSWER + 1)
    try:
        said = msgspec.msgpack.decode(raw, type=_Answer) if len(raw) <= MAX_ANSWER else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    if said is not None and said.content is not None:
        return said.content
    raise _rejected(said.reason if said is not None else None)


def _rejected(reason: RejectReason | None) -> FileRejected:
    known = reason if reason in _SENTENCES else RejectReason.UNLOCK_FAILED
    assert known is not None
    return FileRejected(known, _SENTENCES[known])


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(f"snigate-{name}", os.MFD_CLOEXEC), "w+b", buffering=0)


def _run(request: BinaryIO, answer: BinaryIO, timeout: float) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    arguments = [sys.executable, "-I", "-B", "-c", _START, root, str(timeout)]
    # A Python built with --enable-shared may find its library by this variable alone.
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        subprocess.run(
            arguments,
            stdin=request,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FileRejected(
            RejectReason.UNLOCK_TIMEOUT,
            f"takes longer than {timeout:g} s to decrypt; encrypt it again with fewer iterations",
        ) from None
    except OSError:
        raise _rejected(RejectReason.UNLOCK_FAILED) from None


def main() -> None:
    """What the child runs: request on standard input, answer on standard output."""
    _limit(float(sys.argv[2]))
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Request)
    try:
        answer = _Answer(open_file(request.data, request.passphrases), None)
    except FileRejected as rejected:
        answer = _Answer(None, rejected.reason)
    except BaseException:  # out of memory, which a library's Rust code may report as a panic, no Exception
        answer = _Answer(None, RejectReason.UNSUPPORTED)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))


def _limit(seconds: float) -> None:
    processor = int(seconds) + 1
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, processor),
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, MAX_ANSWER),
    ):
        _, hard = resource.getrlimit(what)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (limit, limit))


def open_file(data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
    """The child's work; takes as long as the file says, so nobody else calls it."""
    if der.looks_like(data):
        if _is_pkcs12(data):
            return _open_pkcs12(data, (*passphrases, b"", None))
        return UnlockedFile((), (_open_key(data, passphrases),))
    return UnlockedFile((), tuple(_open_key(block, passphrases) for block in pem.split(data) if block.encrypted))


def _is_pkcs12(data: bytes) -> bool:
    """PFX ::= SEQUENCE { version INTEGER, ... }, in BER; an encrypted key starts with its algorithm's SEQUENCE."""
    header = 2 + (data[1] & 0x7F if data[1] > 0x80 else 0)
    return data[header : header + 1] == bytes((der.INTEGER,))


def _open_pkcs12(data: bytes, passphrases: Sequence[bytes | None]) -> UnlockedFile:
    reason = RejectReason.PASSPHRASE_NEEDED
    for passphrase in passphrases:
        try:
            with warnings.catch_warnings(action="ignore"):  # of BER, which is what some programs write
                content = pkcs12.load_pkcs12(data, passphrase)
        except UnsupportedAlgorithm:
            reason = RejectReason.UNSUPPORTED
            continue
        except ValueError:
            continue
        found = [content.cert, *content.additional_certs]
        certificates = tuple(one.certificate.public_bytes(Encoding.DER) for one in found if one is not None)
        return UnlockedFile(certificates, (_encode(content.key),) if content.key is not None else ())
    raise _rejected(reason)


def _open_key(source: bytes | pem.Block, passphrases: Sequence[bytes]) -> bytes:
    for passphrase in passphrases:
        try:
            if isinstance(source, bytes):
                key = load_der_private_key(source, passphrase, unsafe_skip_rsa_key_validation=True)
            else:
                key = load_pem_private_key(source.text, passphrase, unsafe_skip_rsa_key_validation=True)
        except UnsupportedAlgorithm:
            raise _rejected(RejectReason.UNSUPPORTED) from None
        except (ValueError, TypeError):
            continue
        return _encode(key)
    raise _rejected(RejectReason.PASSPHRASE_NEEDED)


def _encode(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
