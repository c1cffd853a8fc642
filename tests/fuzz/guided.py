"""Fuzzing that follows coverage, for longer than a test may take: `make fuzz`, or python -m tests.fuzz.guided TARGET.

Whatever a stranger may send before the handshake is over, and whatever a mail server may say before it hears its
client: the properties are those of the tests beside this one. The first byte of an input says how many of the next ones
say where the rest is cut.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["proxy"]):
    from proxy.proxy_header import CAP, ProxyHeader, ProxyHeaderError, ProxyHeaderReader
    from proxy.starttls.conversation import Stage
    from proxy.starttls.dialogue import Verdict
    from proxy.starttls.protocols import PROTOCOLS
    from tests.fuzz.test_client_hello_fuzz import same_however_cut
    from tests.fuzz.test_starttls_fuzz import PLANS, begin, is_fit_to_be_told, is_proper, listen, serve
    from tests.support.mail import cut

CORPUS = Path(__file__).parent / "corpus"
MOST_CUTS = 8


def client_hello(data: bytes, places: list[int]) -> None:
    """Where a ClientHello is cut changes nothing, and what is wrong with it has a name."""
    same_however_cut(data, places)


def proxy_header(data: bytes, places: list[int]) -> None:
    """The same for a PROXY header."""
    assert _header([data]) == _header(cut(data, places))


def _header(pieces: list[bytes]) -> ProxyHeader | str | None:
    reader = ProxyHeaderReader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except ProxyHeaderError as error:
            return error.reason
        if found is not None:
            return found
        assert reader.held <= CAP
    return None


def dialogue(name: str, data: bytes, places: list[int]) -> None:
    """The same for what a mail client says before TLS; answers are whole lines, and not many."""
    for require_tls in (True, False) if name == "smtp" else (True,):
        whole, unsaid = listen(begin(PROTOCOLS[name], require_tls), [data])
        assert unsaid == b""
        is_proper(whole)
        pieces, unsaid = listen(begin(PROTOCOLS[name], require_tls), cut(data, places))
        if whole.verdict is Verdict.INJECTION and pieces.verdict is Verdict.TLS:
            assert unsaid
        elif whole.verdict is Verdict.PLAIN:
            assert pieces._replace(rest=pieces.rest + unsaid) == whole
        else:
            assert pieces == whole


def _of_dialogue(name: str) -> Callable[[bytes, list[int]], None]:
    return lambda data, places: dialogue(name, data, places)


def server(name: str, data: bytes, places: list[int]) -> None:
    """What a mail server says is understood, or an error in words. Where nothing is cut, it comes line by line."""
    pieces = cut(data, places) if places else data.splitlines(keepends=True)
    protocol = PROTOCOLS[name]
    for plan in PLANS if name in ("smtp", "imap") else PLANS[:2]:
        serve(protocol.opening(plan), pieces)
    for starttls in (False, True):
        probe = protocol.probe("me", starttls=starttls)
        serve(probe, pieces)
        if probe.stage is Stage.DONE:
            is_fit_to_be_told(protocol, probe.outcome)


def _of_server(name: str) -> Callable[[bytes, list[int]], None]:
    return lambda data, places: server(name, data, places)


TARGETS: dict[str, Callable[[bytes, list[int]], None]] = {
    "client_hello": client_hello,
    "proxy_header": proxy_header,
    **{name: _of_dialogue(name) for name in PROTOCOLS},
    **{f"{name}_server": _of_server(name) for name in PROTOCOLS},
}


def main() -> None:
    """Fuzz one target, from its corpus; further arguments are libFuzzer's. What it finds on the way is in .fuzz/."""
    name = sys.argv[1]
    target = TARGETS[name]

    def once(data: bytes) -> None:
        cuts = data[0] % (MOST_CUTS + 1) if data else 0
        places = [one * 7 for one in data[1 : 1 + cuts]]
        target(data[1 + cuts :], places)

    found = Path(".fuzz") / name
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup([sys.argv[0], f"-artifact_prefix={found}/", *sys.argv[2:], str(found), str(CORPUS / name)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
