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
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from pathlib import Path
from sys import intern
from typing import Protocol

from msgspec import structs

from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError
from certstore.index import Index, batches
from certstore.messages import Applied, Change, Hello, ProtocolError, Report, Role, frame, from_keeper
from certstore.ranking import Order
from certstore.selector import Selector
from certstore.unix_path import socket_address

log = logging.getLogger("snigate.replica")

MAX_SHARED = 10_000  # chains kept as one object each
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
        self.order: Order = order
        self.clock = clock
        self._selectors = [self.selector]
        self._default: tuple[str | None, CertifiedKey | None] = None, None
        self.change = 0
        self.report: Report | None = None
        self.ready = asyncio.Event()
        self._mixed = 0
        self._put: dict[str, CertifiedKey] = {}
        self._named: set[str] = set()  # fingerprints of all that the change puts, also where nothing is to be done
        self._retire: set[str] = set()
        self._chains: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._followers: list[Follower] = []

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that are equal on two replicas that hold the same, whatever their history."""
        return f"{self._mixed:016x}"

    @property
    def default(self) -> tuple[str | None, CertifiedKey | None]:
        """The default's host name, and the certificate made at first start."""
        return self._default

    def tell(self, follower: Follower) -> None:
        """Let `follower` know of every change from now on."""
        self._followers.append(follower)

    def keep_up(self, selector: Selector) -> None:
        """Let another selector over this index know of every change, as `selector` does."""
        selector.set_default(*self._default)
        self._selectors.append(selector)

    async def take_in(self, part: Change) -> bool:
        """Collect one part of a change; with the last part, apply the change. True when a change was completed."""
        held = self.index.certificates
        for one in part.put:
            self._named.add(one.fingerprint)
            if held.get(one.fingerprint) != one:
                self._put[one.fingerprint] = self._with_known_parts(one)
        self._retire.update(part.retire)
        if not part.last:
            return False
        put, named, candidates = self._put, self._named, self._retire
        self._forget_parts()
        retire = []
        for fingerprints in batches(tuple(held) if part.whole else candidates):
            retire += [one for one in fingerprints if one in held and one not in named]
            await asyncio.sleep(0)
        await self._apply(put.values(), retire)
        self._default = part.default_name, part.made
        for selector in self._selectors:
            selector.set_default(*self._default)
        self.change = part.number
        self.ready.set()
        return True

    async def _apply(self, put: Collection[CertifiedKey], retire: list[str]) -> None:
        """Let the index hold this; between two slices the loop has other things to do."""
        held = self.index.certificates
        for batch in batches(put):
            for one in batch:
                self._mixed ^= _mark(one) ^ (_mark(held[one.fingerprint]) if one.fingerprint in held else 0)
            await asyncio.sleep(0)
        for fingerprints in batches(retire):
            for fingerprint in fingerprints:
                self._mixed ^= _mark(held[fingerprint])
            await asyncio.sleep(0)
        for names in self.index.apply(put, retire):
            for selector in self._selectors:
                selector.forget(names)
            await asyncio.sleep(0)
        for fingerprints in batches(chain((one.fingerprint for one in put), retire)):
            for selector in self._selectors:
                selector.regard(fingerprints)
            for follower in self._followers:
                follower.replaced(fingerprints)
            await asyncio.sleep(0)

    def _with_known_parts(self, one: CertifiedKey) -> CertifiedKey:
        """The same, with the one object for a chain that thousands have."""
        known = self._chains.get(one.chain)
        if known is None:
            if len(self._chains) > MAX_SHARED:
                self._chains.clear()
            known = self._chains[one.chain] = one.chain
        return structs.replace(one, chain=known, key_type=intern(one.key_type))

    def _forget_parts(self) -> None:
        self._put, self._named, self._retire = {}, set(), set()

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
        self._forget_parts()
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
