"""A process's own copy of the certificate store, kept up by the keeper's numbered changes.

A worker looks certificates up here on each handshake, so a change is taken in between two events, in slices when it
is large; each name is wholly old or wholly new at any moment. When the keeper is gone, the last state serves on; the
next keeper sends a whole state, of which only what differs is touched.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError
from certstore.index import Index
from certstore.messages import Applied, Change, Hello, ProtocolError, Report, Role, frame, from_keeper
from certstore.ranking import Order
from certstore.selector import Selector
from certstore.unix_path import socket_address

log = logging.getLogger("snigate.replica")

RETRY = 0.2  # seconds between attempts to reach a keeper that is being replaced


class Follower(Protocol):
    """Who wants to know of what a replica takes in."""

    def replaced(self, fingerprints: Iterable[str]) -> None:
        """These certificates were added, replaced (with another chain, say) or retired."""


class Replica:
    """The index, its selector, and where the process stands in the numbered changes."""

    def __init__(self, order: Order = "kerio", clock: Callable[[], float] = time.time) -> None:
        self.index = Index()
        self.selector = Selector(self.index, order, clock)
        self.change = 0
        self.report: Report | None = None
        self.ready = asyncio.Event()
        self._mixed = 0
        self._put: dict[str, CertifiedKey] = {}
        self._retire: set[str] = set()
        self._followers: list[Follower] = []

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that are equal on two replicas that hold the same, whatever their history."""
        return f"{self._mixed:016x}"

    def tell(self, follower: Follower) -> None:
        """Let `follower` know of every change from now on."""
        self._followers.append(follower)

    async def take_in(self, part: Change) -> bool:
        """Collect one part of a change; with the last part, apply the change. True when a change was completed."""
        self._put.update((one.fingerprint, one) for one in part.put)
        self._retire.update(part.retire)
        if not part.last:
            return False
        held = self.index.certificates
        if part.whole:
            self._retire.update(held.keys() - self._put.keys())
        put = [one for fingerprint, one in self._put.items() if held.get(fingerprint) != one]
        retire = [fingerprint for fingerprint in self._retire if fingerprint in held and fingerprint not in self._put]
        self._put, self._retire = {}, set()
        await self._apply(put, retire)
        self.selector.set_default(part.default_name, part.made)
        self.change = part.number
        self.ready.set()
        return True

    async def _apply(self, put: list[CertifiedKey], retire: list[str]) -> None:
        held = self.index.certificates
        for one in put:
            self._mixed ^= _mark(one) ^ (_mark(held[one.fingerprint]) if one.fingerprint in held else 0)
        for fingerprint in retire:
            self._mixed ^= _mark(held[fingerprint])
        for _ in self.index.apply(put, retire):
            self.selector.forget()
            await asyncio.sleep(0)
        replaced = [*(one.fingerprint for one in put), *retire]
        self.selector.regard(replaced)
        self.selector.forget()
        for follower in self._followers:
            follower.replaced(replaced)

    async def follow(self, socket_path: Path, role: Role, number: int) -> None:
        """Subscribe to the keeper behind `socket_path` and take in what it sends, for ever.

        Reconnects when the keeper goes away; what is held meanwhile stays as it is.
        """
        complaint = ""
        while True:
            try:
                await self._subscribe(socket_path, role, number)
                complaint = ""
            except ProtocolError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("what the keeper sends cannot be taken in: %s; what is held serves on", complaint)
            except (OSError, CertstoreError) as error:
                log.debug("keeper not reachable: %s", error)
            await asyncio.sleep(RETRY)

    async def _subscribe(self, socket_path: Path, role: Role, number: int) -> None:
        with socket_address(socket_path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        self._put, self._retire = {}, set()
        try:
            writer.write(frame(Hello(role, number, os.getpid())))
            while (message := await from_keeper(reader)) is not None:
                if isinstance(message, Report):
                    self.report = message
                elif await self.take_in(message):
                    writer.write(frame(Applied(self.change, len(self.index), self.digest)))
                    await writer.drain()
        finally:
            writer.close()


def _mark(one: CertifiedKey) -> int:
    """A certificate's share of the digest: who it is, what it is sent with, and when it is trusted."""
    mark = hashlib.blake2b(f"{one.fingerprint} {one.trusted_from} {one.trusted_until}".encode(), digest_size=8)
    for link in one.chain:
        mark.update(link)
    return int.from_bytes(mark.digest(), "big")
