"""What a Containerfile says, stage by stage: the part of its language that ours needs, and an error for the rest."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Step(NamedTuple):
    """One that changes files: RUN's command, or COPY's sources and destination and the stage that they come from."""

    kind: str
    words: tuple[str, ...]
    stage: str


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0"
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    stop_signal: str = ""
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read(path: Path, environment: dict[str, str]) -> list[Stage]:
    """The stages of a Containerfile, on a base with this environment."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "ARG":
            arguments.update(_pairs(rest))
        elif word == "FROM":
            base, _, name = _filled(rest, arguments).partition(" AS ")
            stages.append(Stage(base, name, environment=dict(environment)))
        elif word:
            _take(stages[-1], word, rest.strip())
    return stages


def _take(stage: Stage, word: str, rest: str) -> None:
    match word:
        case "RUN":
            stage.steps.append(Step(word, (rest,), ""))
        case "COPY":
            words = shlex.split(rest)
            origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
            stage.steps.append(Step(word, tuple(words), origin))
        case "ENV":
            stage.environment.update(_pairs(_filled(rest, stage.environment)))
        case "LABEL":
            stage.labels.update(_pairs(rest))
        case "WORKDIR":
            stage.directory = rest
        case "USER":
            stage.user = rest
        case "VOLUME":
            stage.volumes.append(rest)
        case "EXPOSE":
            stage.ports.extend(map(int, rest.split()))
        case "STOPSIGNAL":
            stage.stop_signal = rest
        case "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case _:
            raise ValueError(f"{word} is not known here")


def _pairs(text: str) -> dict[str, str]:
    return dict(one.split("=", 1) for one in shlex.split(text))


def _filled(text: str, values: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values[found[1]], text)
