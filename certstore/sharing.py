"""What many files have in common, held once: an issuer stands in thousands of them, a leaf in two or three.

Also how a child process hands back what it read: each certificate once, however many files hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_

import msgspec

from certstore.file_state import FileState, Rejection
from certstore.load import Certificate, FileContent, PrivateKey


class Shared:
    """Certificates by fingerprint, so that all files that hold one have the same object."""

    def __init__(self) -> None:
        self._certificates: dict[str, Certificate] = {}

    def share(self, state: FileState) -> FileState:
        """The same state with certificates that are known from other files."""
        content = state.content
        if content is None:
            return state
        known = self._certificates
        certificates = tuple([known.setdefault(one.fingerprint, one) for one in content.certificates])
        if all(map(is_, certificates, content.certificates)):
            return state
        return FileState(state.signature, FileContent(certificates, content.keys), None)

    def keep(self, contents: Iterable[FileContent]) -> None:
        """Forget all certificates but those in these."""
        self._certificates = {one.fingerprint: one for content in contents for one in content.certificates}


class _File(msgspec.Struct, frozen=True, gc=False, array_like=True):
    signature: bytes
    certificates: tuple[int, ...]  # places in the table
    keys: tuple[PrivateKey, ...]
    rejection: Rejection | None


class _Table(msgspec.Struct, frozen=True, array_like=True):
    certificates: list[Certificate]
    files: list[_File | None]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Table)


def pack(states: Sequence[FileState | None]) -> bytes:
    """States as bytes."""
    places: dict[str, int] = {}
    certificates: list[Certificate] = []
    files: list[_File | None] = []
    for state in states:
        if state is None:
            files.append(None)
            continue
        content = state.content
        for one in content.certificates if content is not None else ():
            if places.setdefault(one.fingerprint, len(certificates)) == len(certificates):
                certificates.append(one)
        files.append(
            _File(state.signature, (), (), state.rejection)
            if content is None
            else _File(
                state.signature,
                tuple([places[one.fingerprint] for one in content.certificates]),
                content.keys,
                None,
            )
        )
    return _encoder.encode(_Table(certificates, files))


def unpack(data: bytes) -> list[FileState | None]:
    """The states that `pack` made bytes of."""
    table = _decoder.decode(data)
    certificates = table.certificates
    states: list[FileState | None] = []
    for file in table.files:
        if file is None:
            states.append(None)
        elif file.rejection is not None:
            states.append(FileState(file.signature, None, file.rejection))
        else:
            held = tuple([certificates[place] for place in file.certificates])
            states.append(FileState(file.signature, FileContent(held, file.keys), None))
    return states
