"""One mail protocol, as far as TLS needs to know it: what a fifth one has to bring, and all that others ask of one.

A protocol is one file with one instance of this class, which proxy.starttls.protocols lists. Its parts are used so:

    the probe     asks a listener's default backend, now and then    -> Probed
    words         are made of that once, for many clients            -> Words
    a dialogue    is each client's until TLS begins, or plain text   -> Turn
    an opening    is each backend connection's                       -> Opened
    a farewell    is what a client is told when nobody else can
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from proxy.starttls.dialogue import Dialogue, Farewell, Words
from proxy.starttls.opening import Opening, Plan
from proxy.starttls.probe import Probe, Probed


class MailProtocol(ABC):
    """See above. Instances keep nothing."""

    name: str  # as `protocol` has it in a listener's configuration

    @abstractmethod
    def probe(self, name: str, *, starttls: bool = False) -> Probe:
        """Find out what a server says of itself, which is told `name`: with `starttls`, after its STARTTLS."""

    @abstractmethod
    def words(self, probed: Probed | None, name: str) -> Words:
        """What clients are told before TLS: what was probed, as far as it makes sense there; None: snigate's own.

        `name` is what snigate calls itself to clients.
        """

    @abstractmethod
    def dialogue(self, words: Words, *, require_tls: bool = True) -> Dialogue:
        """Begin with one client. ValueError where the protocol has no plain text and `require_tls` is off."""

    @abstractmethod
    def opening(self, plan: Plan) -> Opening:
        """Begin with one server. ValueError where the protocol cannot do what is planned."""

    @abstractmethod
    def farewell(self, why: Farewell, name: str) -> bytes:
        """What a client is told at the end, before or after TLS, while no backend has answered it."""
