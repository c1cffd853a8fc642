"""`snigate explain`: which certificate a host name gets, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from admin import answers
from admin.commands.output import Cell, ConfigOption, JsonOption, fail, load, say, say_held_before, say_json, table
from admin.explanation import UnknownListenerError, asked, explain_hosts, listener_named
from admin.explanation import explain as explained
from admin.reading import read
from certstore.names import InvalidName
from certstore.ranking import Level
from config.model import Config, ListenerConfig
from proxy.listener_selector import preference_of

SHORT = 16  # digits of a fingerprint that tables show
DATE = len("2026-01-31")


def explain(
    host: Annotated[
        str | None,
        typer.Argument(
            metavar="[HOST]",
            help="A host name or wildcard; an IP address for a client that connects there and sends no name, "
            '"" for one that just sends none. Without it: all configured.',
        ),
    ] = None,
    listener: Annotated[
        str | None,
        typer.Option(
            "--listener",
            "-l",
            metavar="NAME",
            help="Take this listener's own default and pins into account.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which certificate a host name is served, and why. Without HOST, do so for every configured host."""
    if host is None:
        _every_host(config, listener, as_json)
        return
    try:
        about = asked(host)
    except InvalidName as error:
        fail(f"{error}; give a host name such as www.example.com", 2)
    loaded = load(config)
    asked_of = _listener(loaded, listener)
    reading = read(loaded)
    found = explained(reading.selector_for(asked_of), about, loaded.certificates.order, asked_of)
    if as_json:
        say_json(found)
        return
    rows = [
        (
            ("*", "bold green") if one.fingerprint == found.served and one.rank == 1 else "",
            _level(one),
            one.fingerprint[:SHORT],
            one.key_type,
            one.reason,
            one.paths[0],
        )
        for one in found.candidates
    ]
    if rows:
        table(("", "Level", "Certificate", "Key", "Why", "File"), rows)
    say(_conclusion(found))
    if asked_of is None:
        _say_other_listeners(loaded)
    say_held_before(reading)


def _listener(config: Config, name: str | None) -> ListenerConfig | None:
    try:
        return listener_named(config, name) if name is not None else None
    except UnknownListenerError as error:
        fail(str(error), 2)


def _say_other_listeners(config: Config) -> None:
    """Tell which listeners may serve other than what was shown for none of them."""
    names = [one.name for one in config.listeners if preference_of(one) is not None]
    if names:
        say(f"With a default or pins of its own, see --listener: {', '.join(names)}")


def _conclusion(found: answers.Explanation) -> str:
    if not found.candidates:
        return "There is no certificate yet: one is made when snigate is first started."
    if found.host is None and found.address is None:
        return "A client that sends no server name is served the first (*), if it can use its key type."
    what = found.host or f"a client that connects to {found.address} and sends no server name"
    if not found.covered:
        where = found.host or found.address
        return f"No certificate covers {where}: {what} is served the default certificate, or refused by strict_sni."
    if found.host is None:
        return f"{what[:1].upper()}{what[1:]} is served the first (*), if it can use its key type."
    return f"{found.host} is served the first (*) to clients that can use its key type."


def _every_host(config: ConfigOption, listener: str | None, as_json: bool) -> None:
    loaded = load(config)
    asked_of = _listener(loaded, listener)
    reading = read(loaded)
    found = explain_hosts(reading.selector_for(asked_of), loaded, reading.snapshot.default_name, asked_of)
    uncovered = [one.host for one in found.hosts if not one.covered]
    if as_json:
        say_json(found)
    else:
        rows = [(one.host, _listeners(one), *_served(one.served, covered=one.covered)) for one in found.hosts]
        rows.append(("(every other)", "", *_served(found.otherwise, covered=True)))
        table(("Host", "Listeners", "Level", "Certificate", "Expires", "File"), rows)
        if uncovered:
            say(f"Not covered by any certificate: {', '.join(uncovered)}", "red")
        if asked_of is None:
            _say_other_listeners(loaded)
        say_held_before(reading)
    raise typer.Exit(1 if uncovered else 0)


def _listeners(one: answers.Host) -> str:
    return ", ".join((*one.listeners, *(("(default)",) if one.is_default else ())))


def _served(one: answers.Candidate | None, *, covered: bool) -> tuple[Cell, ...]:
    if one is None:
        return "none yet" if covered else ("not covered", "red"), "", "", ""
    level: Cell = _level(one) if covered else ("9 not covered", "red")
    return level, one.fingerprint[:SHORT], one.not_after[:DATE], one.paths[0]


def _level(one: answers.Candidate) -> Cell:
    style = "green" if one.level in (Level.TRUSTED_EXACT, Level.TRUSTED_WILDCARD) else ""
    if one.level in (Level.EXPIRED_EXACT, Level.EXPIRED_WILDCARD):
        style = "red"
    words = "default" if one.level == Level.DEFAULT else one.level_words
    return f"{one.level} {words}", style
