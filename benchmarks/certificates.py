"""Certificates for the servers, made at run time: one file each with key and chain, as most of the peers want it."""

from __future__ import annotations

from pathlib import Path

from tests.support.pki import Authority, Pair, put

NAME = "b.test"


def name_of(number: int) -> str:
    """The host name of the certificate with this number among many."""
    return f"host{number}.bench.test"


def write_one(directory: Path, key_type: str) -> Path:
    """A certificate for NAME in a directory of its own."""
    directory.mkdir(parents=True)
    path = directory / f"{NAME}.pem"
    path.write_bytes(Authority.make().issue(NAME, key_type=key_type).combined_pem)
    return path


def write_many(directory: Path, count: int) -> Authority:
    """`count` certificates (ECDSA P-256) in a directory of their own, and who issued them."""
    directory.mkdir(parents=True)
    authority = Authority.make()
    for number in range(count):
        (directory / f"{name_of(number)}.pem").write_bytes(authority.issue(name_of(number)).combined_pem)
    return authority


def replace(directory: Path, number: int, authority: Authority) -> Pair:
    """Renew one of many: a new file is renamed over the old one."""
    pair = authority.issue(name_of(number))
    put(directory / f"{name_of(number)}.pem", pair.combined_pem)
    return pair
