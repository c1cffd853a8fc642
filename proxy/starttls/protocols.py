"""The mail protocols that there are. A fifth one is a file, and a word here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.starttls.imap import IMAP
from proxy.starttls.pop3 import POP3
from proxy.starttls.protocol import MailProtocol
from proxy.starttls.sieve import SIEVE
from proxy.starttls.smtp import SMTP

PROTOCOLS: Final[Mapping[str, MailProtocol]] = {one.name: one for one in (SMTP, IMAP, POP3, SIEVE)}
