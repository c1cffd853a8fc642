"""Connections of those who do not behave, and of those whose server does not: how each ends is known beforehand."""

from __future__ import annotations

import ssl

from proxy.leg import reset
from soak import mail
from soak.caller import REQUEST, Caller, Surprise, answer, raw_send, rest
from soak.kinds import Kind, failing
from soak.record import Visit
from soak.settings import DOWN, INSIDE, REFUSED

NAME = "www.soak.test"
_PART_OF_AN_UPLOAD = b"PUT /upload HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(10_000)
_NO_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)  # application data that nobody can have encrypted


def gone_in_hello(caller: Caller, visit: Visit) -> None:
    """Goes away in its ClientHello, or before it."""
    with caller.connect(visit) as sock:
        sock.sendall(_part_of_a_hello(caller))


def stalled(caller: Caller, visit: Visit) -> None:
    """Says part of a ClientHello, and then nothing."""
    sock = caller.connect(visit)
    sock.sendall(_part_of_a_hello(caller))
    _nothing(rest(sock))


def garbage(caller: Caller, visit: Visit) -> None:
    """Says what is no protocol at all."""
    sock = caller.connect(visit)
    sock.sendall(b"\x01" + caller.chance.randbytes(caller.chance.randint(0, 2000)))
    _nothing(rest(sock))


def plain_http(caller: Caller, visit: Visit) -> None:
    """Speaks HTTP where TLS is spoken."""
    sock = caller.connect(visit)
    sock.sendall(REQUEST % (b"/", b""))
    if not rest(sock).startswith(b"HTTP/1.1 400"):
        raise Surprise("not told so")


def refused_name(caller: Caller, visit: Visit) -> None:
    """Asks for a name that a route rejects."""
    sock = caller.connect(visit)
    sock.sendall(caller.hello(REFUSED))
    if rest(sock) != bytes((21, 3, 3, 0, 2, 2, 112)):
        raise Surprise("not the alert unrecognized_name")


def distrusting(caller: Caller, visit: Visit) -> None:
    """Does not trust who issued the certificate, and says so."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = caller.context("inside", "TLSv1.3").wrap_bio(incoming, outgoing, server_hostname=NAME)
    sock = caller.connect(visit)
    while not _is_distrusted(tls):
        sock.sendall(outgoing.read())
        said = sock.recv(1 << 16)
        if not said:
            raise Surprise("it ended before it was refused")
        incoming.write(said)
    sock.sendall(outgoing.read())
    _nothing(rest(sock))


def truncating(caller: Caller, visit: Visit) -> None:
    """Goes away in an upload, without TLS's own end."""
    with _after_a_request(caller, visit) as tls:
        tls.sendall(_PART_OF_AN_UPLOAD)


def resetting(caller: Caller, visit: Visit) -> None:
    """Resets in an upload."""
    tls = _after_a_request(caller, visit)
    tls.sendall(_PART_OF_AN_UPLOAD)
    reset(tls)


def spoiling(caller: Caller, visit: Visit) -> None:
    """Breaks TLS once the handshake is done."""
    tls = _after_a_request(caller, visit)
    raw_send(tls, _NO_RECORD)
    _nothing(rest(tls))


def silent(caller: Caller, visit: Visit) -> None:
    """Says nothing more once it has been answered, and is cut off, without TLS's own end."""
    tls = _after_a_request(caller, visit)
    _unclean(tls)


def gone_before_tls(caller: Caller, visit: Visit) -> None:
    """A mail client that goes away at the greeting."""
    caller.greeted(visit).close()


def goodbye_before_tls(caller: Caller, visit: Visit) -> None:
    """A mail client that says goodbye at the greeting."""
    sock = caller.greeted(visit)
    sock.sendall(mail.WORDS[visit.listener].goodbye)
    rest(sock)


def injecting(caller: Caller, visit: Visit) -> None:
    """Sends a command behind STARTTLS, in the clear."""
    sock = caller.greeted(visit)
    sock.sendall(mail.WORDS[visit.listener].starttls + b"x\r\n")
    rest(sock)


def tls_at_once(caller: Caller, visit: Visit) -> None:
    """Does not wait for STARTTLS."""
    sock = caller.greeted(visit)
    sock.sendall(caller.hello(NAME))
    _nothing(rest(sock))


def stalled_before_tls(caller: Caller, visit: Visit) -> None:
    """A mail client that says nothing at all."""
    sock = caller.greeted(visit)
    if not rest(sock):
        raise Surprise("not told so")


def bad_request(caller: Caller, visit: Visit) -> None:
    """Sends what is no HTTP request."""
    sock = caller.connect(visit)
    sock.sendall(b"nonsense\r\n\r\n")
    if not rest(sock).startswith(b"HTTP/1.1 400"):
        raise Surprise("not told so")


def half_a_request(caller: Caller, visit: Visit) -> None:
    """Goes away in its HTTP request."""
    with caller.connect(visit) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n")


def reset_by_server(caller: Caller, visit: Visit) -> None:
    """Asks for an answer in which the server resets."""
    tls = caller.secure(visit, NAME)
    tls.sendall(REQUEST % (b"/reset", b""))
    _unclean(tls)


def cut_by_server(caller: Caller, visit: Visit) -> None:
    """Asks for an answer that the server, which speaks TLS, does not end properly."""
    tls = caller.secure(visit, INSIDE)
    tls.sendall(REQUEST % (b"/cut", b""))
    _unclean(tls)


def server_down(caller: Caller, visit: Visit) -> None:
    """Asks for a name whose server cannot be reached."""
    tls = caller.secure(visit, DOWN, version="TLSv1.3")
    _unclean(tls)


def _is_distrusted(tls: ssl.SSLObject) -> bool:
    """Whether the handshake has come as far as the certificate. Raises Surprise where that is taken."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLCertVerificationError:
        return True
    raise Surprise("a certificate of somebody else's is trusted")


def _part_of_a_hello(caller: Caller) -> bytes:
    hello = caller.hello(NAME)
    return hello[: caller.chance.randint(0, len(hello) - 1)]


def _after_a_request(caller: Caller, visit: Visit) -> ssl.SSLSocket:
    """A connection that was used, so that all that came has been read."""
    tls = caller.secure(visit, NAME)
    tls.sendall(REQUEST % (b"/short", b""))
    answer(tls)
    return tls


def _nothing(said: bytes) -> None:
    if said:
        raise Surprise(f"told {said[:40]!r}")


def _unclean(tls: ssl.SSLSocket) -> None:
    """Wait for an end that is no clean one."""
    with tls:
        try:
            while tls.recv(1 << 16):
                pass
        except (ConnectionError, ssl.SSLEOFError):
            return
    raise Surprise("what was cut off looks as if it had ended")


_WITH_STARTTLS = mail.PROTOCOLS
RUDE = (
    failing(gone_in_hello, ("web", "tcp", "imaps"), 8, "disconnected"),
    failing(stalled, ("web", "tcp", "smtps"), 4, "timeout"),
    failing(garbage, ("web", "tcp", "pop3s"), 8, "not_tls"),
    failing(plain_http, ("web",), 4, "plain_http"),
    failing(refused_name, ("tcp",), 4, "rejected"),
    failing(distrusting, ("web",), 6, "certificate_refused"),
    Kind(truncating, ("web",), 8, "truncated_by_client"),
    Kind(resetting, ("web",), 8, "reset_by_client"),
    Kind(spoiling, ("web",), 6, "protocol_error"),
    Kind(silent, ("web",), 4, "idle"),
    Kind(gone_before_tls, _WITH_STARTTLS, 4, "before_tls"),
    Kind(goodbye_before_tls, _WITH_STARTTLS, 4, "before_tls"),
    failing(injecting, _WITH_STARTTLS, 4, "starttls_injection"),
    failing(tls_at_once, _WITH_STARTTLS, 4, "tls_at_once"),
    failing(stalled_before_tls, _WITH_STARTTLS, 3, "preamble_timeout"),
    Kind(bad_request, ("plain",), 4, "bad_request"),
    Kind(half_a_request, ("plain",), 4, "truncated_by_client"),
    Kind(reset_by_server, ("web",), 6, "reset_by_backend"),
    Kind(cut_by_server, ("tcp",), 6, "truncated_by_backend"),
    Kind(server_down, ("tcp",), 3, "backend_unreachable"),
)
