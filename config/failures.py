"""Pydantic's validation errors put into an administrator's words, from one table by error type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.words import alternatives, closest, found, quoted, suggestion

Model = type[BaseModel]


def failures(
    error: ValidationError, model: Model, known: Sequence[str], homes: Mapping[str, str]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with one table: (key path inside the table, sentence) for each failure.

    `known` are the keys an operator may write in this table. `homes` names the tables that all keys belong to
    ("drain" -> "[server]"), for keys found in the wrong one.
    """
    for detail in error.errors(include_url=False):
        if _follows_from_another(detail):
            continue
        if detail["type"] == "extra_forbidden":
            yield detail["loc"], unknown_key(str(detail["loc"][-1]), known, homes)
        else:
            yield detail["loc"], _SENTENCES[detail["type"]](detail, model)


def _follows_from_another(detail: ErrorDetails) -> bool:
    """A default that could not be computed, or a list without a single good entry: their causes are reported."""
    return detail["type"] == "default_factory_not_called" or (detail["type"] == "too_short" and bool(detail["input"]))


# What others call it, and how it is said here.
_ELSEWHERE: Mapping[str, str] = {
    "starttls": 'tls = "starttls"',
    "implicit_tls": 'tls = "implicit"',
    "proxy_protocol": 'client_address = "proxy-v2" in a backend, and accept_proxy_from in a listener',
    "send_proxy": 'client_address = "proxy-v2"',
    "send_proxy_v2": 'client_address = "proxy-v2"',
    "xclient": 'client_address = "xclient"',
    "accept_proxy": "accept_proxy_from",
    "listen": "bind",
    "server": "servers",
    "upstream": "backend",
    "server_name": "hosts in [[listeners.routes]]",
}


def unknown_key(key: str, known: Sequence[str], homes: Mapping[str, str]) -> str:
    """The sentence for a key that the table does not have: what was probably meant, or what the table knows."""
    text = f"unknown key {_key(key)}"
    if key in homes:
        return f"{text} here; it belongs in {homes[key]}"
    if key in _ELSEWHERE:
        return f"{text}; here it is said by {_ELSEWHERE[key]}"
    return text + (suggestion(key, known, quote="'") or f"; known here: {', '.join(known)}")


def unknown_table(name: str, headings: Mapping[str, str]) -> str:
    """The sentence for a table that a file cannot have; `headings` is how each table that it can have is begun."""
    text = f"unknown table [{name}]" if name.isprintable() and len(name) <= 64 else f"unknown table {quoted(name)}"
    close = closest(name, headings)
    return f"{text}; did you mean {headings[close]}?" if close else f"{text}; known: {', '.join(headings.values())}"


def _key(key: str) -> str:
    return f"'{key}'" if key.isprintable() and len(key) <= 64 else quoted(key)


def _value_error(detail: ErrorDetails, model: Model) -> str:
    return str(detail["ctx"]["error"])


def _missing(detail: ErrorDetails, model: Model) -> str:
    key = str(detail["loc"][0])
    return f"is missing; add it, for example {key} = {_example(detail, model)}"


def _literal(detail: ErrorDetails, model: Model) -> str:
    allowed = list(_literals(model.model_fields[str(detail["loc"][0])].annotation))
    value = detail["input"]
    if not isinstance(value, str):
        return f"expected {alternatives(allowed)}, found {found(value)}"
    if hint := suggestion(value, allowed):
        return f"{quoted(value)} is not known{hint} Allowed: {alternatives(allowed)}"
    return f"{quoted(value)} is not known; allowed: {alternatives(allowed)}"


def _list(detail: ErrorDetails, model: Model) -> str:
    if isinstance(detail["input"], str):
        return f"expected a list, found {found(detail['input'])}; write it as [{quoted(detail['input'])}]"
    return f"expected a list, found {found(detail['input'])}"


def _too_short(detail: ErrorDetails, model: Model) -> str:
    field = model.model_fields[str(detail["loc"][0])]
    example = _example(detail, model) if field.is_required() else json.dumps(field.default)
    return f"the list is empty; it needs at least one entry, for example {example}"


def _flag(detail: ErrorDetails, model: Model) -> str:
    return f"expected true or false (without quotes), found {found(detail['input'])}"


def _example(detail: ErrorDetails, model: Model) -> str:
    examples = model.model_fields[str(detail["loc"][0])].examples or [""]
    return json.dumps(examples[0])


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from _literals(part)


_SENTENCES: dict[str, Callable[[ErrorDetails, Model], str]] = {
    "value_error": _value_error,
    "missing": _missing,
    "literal_error": _literal,
    "tuple_type": _list,
    "too_short": _too_short,
    "bool_type": _flag,
}
