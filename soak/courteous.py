"""Connections of those who behave: brisk ones, lasting ones, and some that are held until the end."""

from __future__ import annotations

import ssl
import time

from soak import mail, stuff
from soak.caller import LAST, REQUEST, Caller, Surprise, answer, ended, part, until
from soak.kinds import Kind
from soak.record import Visit
from soak.settings import IDLE_TIMEOUT, INSIDE, THROUGH

RESUMED = 0.6  # of the connections that could be
NAMES = ("www.soak.test", "www.soak.test", "rsa.soak.test", "something.soak.test")
WORDS = b"NOOP soak"
_IMPLICIT = tuple(f"{protocol}s" for protocol in mail.PROTOCOLS)


def request(caller: Caller, visit: Visit) -> None:
    """A short request."""
    name = INSIDE if visit.listener == "tcp" else caller.chance.choice(NAMES)
    tls = caller.secure(visit, name, resume=caller.chance.random() < RESUMED)
    tls.sendall(REQUEST % (b"/short", LAST))
    answer(tls)
    caller.remember(visit, tls)
    ended(tls)


def through(caller: Caller, visit: Visit) -> None:
    """The same, of the server that it is passed through to."""
    tls = caller.secure(visit, THROUGH, root="inside")
    visit.version, visit.handshake = "", None  # none of snigate's
    tls.sendall(REQUEST % (b"/short", LAST))
    answer(tls)
    ended(tls)


def redirect(caller: Caller, visit: Visit) -> None:
    """A request in the clear, which is sent on."""
    sock = caller.connect(visit)
    sock.sendall(REQUEST % (b"/short", b""))
    if not until(sock, b"/short\n").startswith(b"HTTP/1.1 301"):
        raise Surprise("not sent on")
    ended(sock)


def implicit_mail(caller: Caller, visit: Visit) -> None:
    """Mail over TLS."""
    words = mail.WORDS[visit.listener[:-1]]
    tls = caller.secure(visit, "mail.soak.test", resume=caller.chance.random() < RESUMED)
    until(tls, words.greeting_ends)
    caller.remember(visit, tls)
    _say_something(tls, words)


def starttls_mail(caller: Caller, visit: Visit) -> None:
    """Mail that begins TLS by STARTTLS."""
    words = mail.WORDS[visit.listener]
    sock = caller.greeted(visit)
    sock.sendall(words.starttls)
    until(sock, words.go_ahead_ends)
    tls = caller.shake(visit, sock, "mail.soak.test")
    if words.greets_again:
        until(tls, words.greeting_ends)
    _say_something(tls, words)


def keep_alive(caller: Caller, visit: Visit) -> None:
    """Several requests, and a rest between them."""
    tls = caller.secure(visit, "www.soak.test")
    for _ in range(caller.chance.randint(3, 12)):
        tls.sendall(REQUEST % (b"/short", b""))
        answer(tls)
        time.sleep(caller.chance.uniform(0, 1.5))
    part(tls)


def download(caller: Caller, visit: Visit) -> None:
    """A large answer; some take a rest while it comes."""
    chance, tls = caller.chance, caller.secure(visit, caller.chance.choice(NAMES))
    size = chance.randint(stuff.SIZE // 8, stuff.SIZE)
    offset = chance.randint(0, stuff.SIZE - size)
    tls.sendall(REQUEST % (f"/bytes/{offset}/{size}".encode(), LAST))
    if stuff.digest(answer(tls, pause=chance.choice((0.0, 0.0, 2.0)))) != stuff.digest(stuff.piece(offset, size)):
        raise Surprise("the answer has another hash")
    ended(tls)


def upload(caller: Caller, visit: Visit) -> None:
    """A large request."""
    chance, tls = caller.chance, caller.secure(visit, INSIDE if visit.listener == "tcp" else "www.soak.test")
    size = chance.randint(stuff.SIZE // 8, stuff.SIZE)
    piece = stuff.piece(chance.randint(0, stuff.SIZE - size), size)
    tls.sendall(b"PUT /upload HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
    tls.sendall(piece)
    if answer(tls).decode() != stuff.digest(piece):
        raise Surprise("the server has got another hash")
    ended(tls)


def held(caller: Caller, visit: Visit, end: float) -> None:
    """One that is open until the end, through all reloads, and never silent for too long."""
    tls = caller.secure(visit, "www.soak.test")
    while time.time() < end:
        tls.sendall(REQUEST % (b"/short", b""))
        answer(tls)
        time.sleep(min(IDLE_TIMEOUT / 4, max(0.0, end - time.time())))
    part(tls)


def _say_something(tls: ssl.SSLSocket, words: mail.Words) -> None:
    tls.sendall(WORDS + b"\r\n")
    if until(tls, b"\r\n") != b"heard " + WORDS + b"\r\n":
        raise Surprise("the server has heard something else")
    tls.sendall(words.goodbye)
    while tls.recv(4096):
        pass
    part(tls)


BRISK = (
    Kind(request, ("web",), 60),
    Kind(request, ("tcp",), 10),
    Kind(through, ("tcp",), 6),
    Kind(redirect, ("plain",), 6, "redirected"),
    Kind(implicit_mail, _IMPLICIT, 9),
    Kind(starttls_mail, mail.PROTOCOLS, 9),
)
LASTING = (Kind(keep_alive, ("web",), 2), Kind(download, ("web",), 2), Kind(upload, ("web", "tcp"), 2))
