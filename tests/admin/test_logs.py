from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator

import pytest

from admin.logs import PatientlessHandler, configure
from config.model import LogConfig

FORGED = "2026-01-01T00:00:00.000Z info keeper: serving certificate for \x1b[31mbank.example"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("snigate").setLevel(logging.NOTSET)


def logged(log_format: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of one error with an exception whose text pretends to be a line of the log."""
    configure(LogConfig.model_validate({"format": log_format}))
    try:
        raise ValueError(f"/certs/evil\n{FORGED}\r{FORGED}\u2028{FORGED}")
    except ValueError:
        logging.getLogger("snigate.test").exception("failed at %s", f"x\n{FORGED}")
    return capsys.readouterr().err.split("\n")


def test_no_text_of_an_exception_reads_as_another_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others, last = logged("text", capsys)
    assert " error supervisor: failed at x\\n2026" in first
    assert last == ""
    assert sum(FORGED.split("\x1b")[0] in one for one in others) >= 3
    for one in others:
        assert one.startswith("    ")
        assert one.isprintable()


def test_as_json_an_exception_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    line, last = logged("json", capsys)
    assert last == ""
    assert "ValueError: /certs/evil" in json.loads(line)["error.stack_trace"]


def test_a_reader_that_stalls_costs_lines_that_are_counted_and_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    handler = PatientlessHandler(writing)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for number in range(3000):  # many times what a pipe holds
        handler.emit(logging.makeLogRecord({"msg": f"{number} {'x' * 100}"}))
    taken = os.read(reading, 1 << 20).decode().splitlines()
    handler.emit(logging.makeLogRecord({"msg": "again"}))
    notice, again = os.read(reading, 1 << 20).decode().splitlines()
    assert notice == f"({3000 - len(taken)} lines of the log were lost: nobody took them)"
    assert again == "again"
    os.close(reading)
    handler.emit(logging.makeLogRecord({"msg": "into nothing"}))
    os.close(writing)
