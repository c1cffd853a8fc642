"""A listener's mail protocol in one worker: what clients are told before TLS, and in a backend's place."""

from __future__ import annotations

import platform

from config.model import Config
from proxy.backend import MailClient
from proxy.starttls.dialogue import Dialogue, Farewell
from proxy.starttls.opening import Opened
from proxy.starttls.probe import Probe, Probed
from proxy.starttls.protocol import MailProtocol
from proxy.starttls.protocols import PROTOCOLS


class MailService:
    """See above. `name` is what snigate calls itself to clients and servers."""

    def __init__(self, protocol: MailProtocol, name: str, *, starttls: bool, require_tls: bool) -> None:
        """`starttls`: a dialogue comes before TLS; `require_tls`: and nothing but TLS comes after it."""
        self.protocol = protocol
        self.name = name
        self.starttls = starttls
        self._require_tls = require_tls
        self._words = protocol.words(None, name)

    def probe(self, *, starttls: bool) -> Probe:
        """Begin to ask a server what it says of itself; see MailProtocol."""
        return self.protocol.probe(self.name, starttls=starttls)

    def probed(self, probed: Probed) -> None:
        """Say this of the server from now on."""
        self._words = self.protocol.words(probed, self.name)

    def dialogue(self) -> Dialogue:
        """Begin with a client."""
        return self.protocol.dialogue(self._words, require_tls=self._require_tls)

    def client(self, hello: bytes = b"") -> MailClient:
        """A client that has got as far as the backend. `hello`: see Plan.hello."""
        return MailClient(self.protocol, self.name, self.starttls, hello)

    def heard(self, heard: Opened | None) -> bytes:
        """Of what came of the conversation with a client's server, the words that the client hears first."""
        if heard is None:
            return b""
        return heard.after_starttls if self.starttls else heard.greeting

    def farewell(self, why: Farewell) -> bytes:
        """What a client is told at the end."""
        return self.protocol.farewell(why, self.name)


def mail_services(config: Config) -> dict[str, MailService]:
    """Those of all mail listeners, by the listeners' names.

    snigate's own name is the one that the default certificate is for, or else the host's.
    """
    return {
        listener.name: MailService(
            PROTOCOLS[listener.protocol],
            listener.default or config.certificates.default or platform.node(),
            starttls=listener.tls == "starttls",
            require_tls=listener.require_tls,
        )
        for listener in config.listeners
        if listener.is_mail
    }
