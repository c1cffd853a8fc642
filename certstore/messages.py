"""What the keeper and its subscribers say to each other, and how it is framed.

Frames on a Unix stream socket: four bytes of length (big-endian), then one MessagePack value. MessagePack decoded
into fixed types, not pickle: a keeper that may read root's keys must not run what a worker sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import msgspec

from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError

MAX_FROM_KEEPER = 64 << 20
MAX_TO_KEEPER = 64 << 10
PART_BYTES = 512 << 10  # of certificates in one frame of a change: a subscriber takes in one while the next is made
RETIRED_IN_PART = 10_000  # fingerprints

Role = Literal["worker", "control"]
T = TypeVar("T")


class ProtocolError(CertstoreError):
    """The other end sent a frame that is too long or is not what it should be."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A subscriber's first word. Control gets certificates without private keys, and reports."""

    role: Role
    number: int  # the worker's number, 0-based; 0 for control
    pid: int


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """A subscriber has taken in the change with this number and now holds this."""

    change: int
    certificates: int
    digest: str


class Change(msgspec.Struct, frozen=True, tag="change"):
    """One part of a numbered change. A `whole` change lists everything there is: what it does not name is retired."""

    number: int
    whole: bool
    last: bool  # the number's last part; only then is the change complete
    put: list[CertifiedKey]
    retire: list[str]
    default_name: str | None
    made: CertifiedKey | None  # the certificate made at first start


class FileProblem(msgspec.Struct, frozen=True):
    """A file or directory that an operator should look at."""

    path: str
    reason: str
    message: str


class ReplicaState(msgspec.Struct, frozen=True):
    """What one worker holds, as it said last."""

    worker: int
    pid: int
    change: int
    certificates: int
    digest: str


class Report(msgspec.Struct, frozen=True, tag="report"):
    """The keeper's own state, for control. Times are Unix seconds, 0 for never."""

    change: int
    scanned_at: float
    swapped_at: float
    swaps: dict[str, int]  # by result: "applied", "rejected"
    problems: list[FileProblem]
    waiting: list[str]  # files with a leaf for which no key was found
    unverified: int  # certificates whose chain is still to be verified
    watching: bool  # False: events cannot be had, directories are polled
    replicas: list[ReplicaState]


_from_keeper = msgspec.msgpack.Decoder(Change | Report)
_to_keeper = msgspec.msgpack.Decoder(Hello | Applied)
_encoder = msgspec.msgpack.Encoder()


def parts(put: Iterable[CertifiedKey], retire: Sequence[str]) -> Iterator[tuple[list[CertifiedKey], list[str]]]:
    """What is put and retired, cut so that each part fits a frame; at least one part, be it empty."""
    part: list[CertifiedKey] = []
    size = 0
    for one in put:
        bytes_of_one = _size(one)
        if part and size + bytes_of_one > PART_BYTES:
            yield part, []
            part, size = [], 0
        part.append(one)
        size += bytes_of_one
    yield part, list(retire[:RETIRED_IN_PART])
    for start in range(RETIRED_IN_PART, len(retire), RETIRED_IN_PART):
        yield [], list(retire[start : start + RETIRED_IN_PART])


def _size(one: CertifiedKey) -> int:
    """About how many bytes a certificate takes in a frame."""
    texts = (*one.names, *one.addresses, *one.paths)
    return len(one.leaf) + len(one.key) + sum(map(len, one.chain)) + sum(map(len, texts)) + 200


def frame(message: Change | Report | Hello | Applied) -> bytes:
    """One message, ready to be written."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


async def from_keeper(reader: asyncio.StreamReader) -> Change | Report | None:
    """The keeper's next message; None at the end of the stream. Raises ProtocolError and OSError."""
    body = await _body(reader, MAX_FROM_KEEPER)
    return None if body is None else _decode(_from_keeper, body)


async def to_keeper(reader: asyncio.StreamReader) -> Hello | Applied | None:
    """A subscriber's next message; None at the end of the stream. Raises ProtocolError and OSError."""
    body = await _body(reader, MAX_TO_KEEPER)
    return None if body is None else _decode(_to_keeper, body)


async def _body(reader: asyncio.StreamReader, limit: int) -> bytes | None:
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > limit:
            raise ProtocolError(f"a frame of {length} bytes is over the limit of {limit}")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None


def _decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a frame cannot be understood: {error}") from error
