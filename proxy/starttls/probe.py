"""What a listener's default backend says of itself, found out by asking, so that snigate can say it before TLS.

A probe is a conversation (see there): greeting, capabilities, goodbye. What a server says is kept as it is meant, not
as it is to be repeated: what clients are told of it is each protocol's own matter (`MailProtocol.words`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.starttls.conversation import Conversation, ConversationError

GREETING_CAP = 256  # bytes of a greeting's text that are repeated
CAPABILITIES_CAP = 4 << 10  # bytes, since a client may ask for them again and again

_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]+")


class Probed(NamedTuple):
    """A server's own words: the text of its greeting, and its capabilities in its order, each as a line would have it.

    SMTP: the lines of its answer to EHLO but the first, "SIZE 1000". IMAP: words, "AUTH=PLAIN". POP3: lines, "SASL
    PLAIN". ManageSieve: lines as this protocol writes them, '"SIEVE" "fileinto"', the value in quotes or a literal.
    """

    greeting: bytes
    capabilities: tuple[bytes, ...]


Probe = Conversation[Probed]


def probed(greeting: bytes, capabilities: list[bytes]) -> Probed:
    """Both, fit to be repeated. Raises ConversationError where there are too many capabilities."""
    size = sum(map(len, capabilities))
    if size > CAPABILITIES_CAP:
        raise ConversationError(f"its capabilities are {size} bytes long, and {CAPABILITIES_CAP} are the most")
    return Probed(printable(greeting)[:GREETING_CAP].strip(), tuple(capabilities))


def printable(text: bytes) -> bytes:
    """The text in ASCII and on one line, with a question mark for what is neither."""
    return _UNPRINTABLE.sub(b"?", text.rstrip(b"\r\n"))


def keywords(lines: list[bytes]) -> list[bytes]:
    """Of capabilities that are ASCII in their protocol, those that are."""
    return [line for line in lines if line and not _UNPRINTABLE.search(line)]
