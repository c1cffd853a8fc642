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


def insist_on_tls(plan: Plan) -> None:
    """For protocols that have no plain text: raises ValueError for a plan that does."""
    if plan.hello:
        raise ValueError("only an SMTP client can go on in plain text")


def attributes(introduction: Introduction) -> dict[bytes, bytes]:
    """What XCLIENT can say of a client, by its attributes' names (Postfix's XCLIENT_README; all values are xtext)."""
    return {
        # Nobody asked for its name. Without these two Postfix would go on to take it for the proxy's.
        b"NAME": b"[TEMPUNAVAIL]",
        b"REVERSE_NAME": b"[TEMPUNAVAIL]",
        b"ADDR": bare_address(introduction.client[0]),
        b"PORT": b"%d" % introduction.client[1],
        b"DESTADDR": bare_address(introduction.local[0]),
        b"DESTPORT": b"%d" % introduction.local[1],
    }


def bare_address(host: str) -> bytes:
    """An IP address as text: without a zone, and an IPv4 address as such. ValueError for anything else."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address).encode()
