"""Which user of this machine is at the other end of a connection over loopback, as the kernel has it."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

UNKNOWN = "unknown"
_OPEN = ("01", "08")  # ESTABLISHED, CLOSE_WAIT: later the kernel no longer knows whose it is
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def owner_of(client: tuple[str, int], server: tuple[str, int]) -> str:
    """ "uid N" of whoever has the client's socket on this machine; the client's address where that is on another.

    UNKNOWN where it must be on this one, and the kernel knows of no such connection.
    """
    address = ipaddress.ip_address(client[0].partition("%")[0])
    wanted = {_hexadecimal(*client), _mapped(*client)}, {_hexadecimal(*server), _mapped(*server)}
    for table in _TABLES:
        for line in _lines(table):
            fields = line.split()
            if len(fields) > 7 and fields[3] in _OPEN and fields[1] in wanted[0] and fields[2] in wanted[1]:
                return f"uid {fields[7]}"
    is_here = address.is_loopback or (isinstance(address, ipaddress.IPv6Address) and _is_mapped_loopback(address))
    return UNKNOWN if is_here else client[0]


def _lines(table: str) -> list[str]:
    try:
        return Path(table).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _is_mapped_loopback(address: ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped
    return mapped is not None and mapped.is_loopback


def _hexadecimal(host: str, port: int) -> str:
    """As /proc/net has it: each 32-bit word of the address in the machine's byte order."""
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def _mapped(host: str, port: int) -> str:
    """An IPv4 address on a socket of both families."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return _hexadecimal(f"::ffff:{address}", port) if address.version == 4 else ""
