"""What a mail server is told before it hears its client, and what of its answers is the client's.

An opening is a conversation (see there). Its parts, in order, each only where the plan has it: the server greets; TLS
begins by STARTTLS; the server is told who the client is; a client that goes on in plain text has its EHLO said again.
The client was greeted by snigate, so the server's answers are swallowed; but after STARTTLS a ManageSieve client
expects the capabilities unasked (RFC 5804 section 2.2), and a client of implicit TLS was not greeted yet.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from proxy.proxy_protocol import Address
from proxy.starttls.conversation import Conversation


class Introduction(NamedTuple):
    """Who the client is, for a server that is told so inside its own protocol."""

    client: Address
    local: Address  # where the client connected to
    id: str  # the connection's, as in the access log
    server_name: str | None  # what the client asked for
    secured: bool  # whether the client speaks TLS


class Plan(NamedTuple):
    """What is to be done before the client is heard."""

    name: str  # what snigate calls itself to a server
    starttls: bool = False  # TLS towards the server, by its STARTTLS
    introduction: Introduction | None = None  # None: it is not told, or otherwise
    hello: bytes = b""  # SMTP alone: Turn.hello of a client that goes on in plain text


class Opened(NamedTuple):
    """What of the server's words is the client's: one of the two, by where the client stands."""

    greeting: bytes  # for a client that was not greeted yet: implicit TLS
    after_starttls: bytes  # for one that was, and has just begun TLS


Opening = Conversation[Opened]


def refuse_plain_text(plan: Plan) -> None:
    """For protocols that have none: raises ValueError for a plan that does."""
    if plan.hello:
        raise ValueError("only an SMTP client can go on in plain text")


def refuse_introduction(plan: Plan) -> None:
    """For protocols in which a server would believe its client as well: raises ValueError for a plan with one."""
    if plan.introduction is not None:
        raise ValueError("only SMTP and IMAP can tell who the client is")


def bare_address(host: str) -> bytes:
    """An IP address as text: without a zone, and an IPv4 address as such. ValueError for anything else."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address).encode()
