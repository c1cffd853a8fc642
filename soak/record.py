"""What a soak saw: one record for each connection, samples of the processes, and what was done to snigate."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.results import Machine
from soak.plan import Plan


class Visit(msgspec.Struct, omit_defaults=True):
    """One connection as its client saw it, and how it is to be counted by snigate. Times are Unix seconds.

    Filled in as the connection goes on: what never came to be stays as it is here.
    """

    kind: str
    listener: str
    outcome: str  # see snigate_connections_total
    reason: str = ""  # see snigate_handshake_failures_total
    began: float = 0.0
    ended: float = 0.0
    name: str = ""  # the server name asked for
    version: str = ""  # of TLS, once the handshake is done
    resumed: bool = False
    handshake: float | None = None  # seconds, where it is one of those to compare
    fingerprint: str = ""  # of the certificate shown in a full handshake
    error: str = ""  # what went otherwise than it should


class Sample(msgspec.Struct):
    """The processes at a moment, by what they are: "supervisor", "keeper", "control", "worker 0", "retired", ..."""

    at: float  # seconds since the start, as all times from here on
    generation: int
    memory: dict[str, int]  # bytes, PSS
    descriptors: dict[str, int]
    active: int  # connections open, by snigate's own count
    cpu: float  # seconds that all of snigate has used
    others: float  # seconds of CPU that this machine was busy with anything that is no part of the soak
    pace: float = 0.0  # milliseconds of CPU that a piece of work takes which is always the same; 0: not measured


class Event(msgspec.Struct):
    """Something that was done to snigate, and for a swap which certificate has been there since for which name."""

    at: float
    kind: str
    name: str = ""
    fingerprint: str = ""


class Window(msgspec.Struct):
    """What the clients saw in some seconds."""

    at: float
    served: int
    deliberate: int  # failures that the client or the backend made on purpose
    failed: int
    others: float  # CPUs that were busy with anything that is no part of the soak
    handshakes: int  # those that were timed
    p50: float | None  # seconds
    p99: float | None


class Count(msgspec.Struct):
    """A series of snigate's metrics: how much it has grown, and between which bounds that should be."""

    series: str
    counted: int
    least: int
    most: int


class Finding(msgspec.Struct):
    """One thing that the soak must show: what was found, what is asked for."""

    name: str
    found: str
    wanted: str
    good: bool
    is_timing: bool = False


class Record(msgspec.Struct, kw_only=True):
    """A whole soak."""

    date: str  # ISO 8601
    commit: str
    version: str  # snigate's
    machine: Machine
    plan: Plan
    kinds: dict[str, int]  # connections by kind
    counts: list[Count]
    events: list[Event]
    samples: list[Sample]
    windows: list[Window]
    findings: list[Finding]


def save(record: Record, path: Path) -> None:
    """Write it as JSON, a line for each sample and the like."""
    path.write_bytes(_lines(msgspec.to_builtins(record)))


def load(path: Path) -> Record:
    """Read it back."""
    return msgspec.json.decode(path.read_bytes(), type=Record)


def _lines(found: dict[str, object]) -> bytes:
    parts = []
    for key, value in found.items():
        text = msgspec.json.encode(value)
        if isinstance(value, list) and value:
            text = b"[\n  " + b",\n  ".join(msgspec.json.encode(one) for one in value) + b"\n ]"
        parts.append(b" " + msgspec.json.encode(key) + b": " + text)
    return b"{\n" + b",\n".join(parts) + b"\n}\n"
