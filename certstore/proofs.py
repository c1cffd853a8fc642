"""Proofs that private keys belong to the public keys stored with them, made at once or, at a start with many, later.

At such a start everybody waits, and no key has a better one before it. A worker that is to serve a key that turns out
to be damaged refuses it by itself, and serves the next best certificate.
"""

from __future__ import annotations

from certstore.errors import FileRejected
from certstore.file_state import Disproof, Rejection
from certstore.load import FileContent, prove_key

AT_ONCE = 1000  # files whose keys are proved in one go


class Proofs:
    """Which RSA keys have proved themselves, so that reading them again costs nothing, and which files are to come."""

    def __init__(self) -> None:
        self._proven: set[bytes] = set()  # SPKI hashes
        self._put_off: list[tuple[str, FileContent]] = []

    @property
    def wanted(self) -> bool:
        """Whether files wait for theirs."""
        return bool(self._put_off)

    def prove(self, content: FileContent) -> None:
        """Prove the keys of a file. Raises FileRejected."""
        for key in content.keys:
            if key.spki not in self._proven:
                prove_key(key)

    def remember(self, content: FileContent) -> None:
        """The keys of a file have been proved, maybe in another process."""
        self._proven.update(key.spki for key in content.keys if key.key_type.startswith("rsa-"))

    def put_off(self, path: str, content: FileContent) -> None:
        """The keys of this file are to be proved later."""
        self._put_off.append((path, content))

    def catch_up(self) -> tuple[Disproof, ...]:
        """Prove some that were put off; those files whose keys are damaged, what they held, and what is to be said."""
        damaged = []
        now, self._put_off = self._put_off[:AT_ONCE], self._put_off[AT_ONCE:]
        for path, content in now:
            try:
                self.prove(content)
            except FileRejected as rejected:
                damaged.append((path, content, Rejection(rejected.reason, rejected.message)))
            else:
                self.remember(content)
        return tuple(damaged)
