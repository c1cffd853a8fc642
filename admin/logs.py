"""Logs go to stderr: text for people, JSON for machines.

A record made with extra={"fields": {...}} has these as fields of its own in JSON.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time

from admin.text import plain
from config.model import LogConfig

AT_ONCE = 4096  # bytes; a pipe keeps writes up to this size whole (PIPE_BUF)

process_name = "supervisor"


def configure(config: LogConfig) -> None:
    """Set up logging for this process and those it forks."""
    handler = _handler()
    handler.setFormatter(_Json() if config.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("snigate").setLevel(config.level.upper())


def _handler() -> logging.Handler:
    try:
        return PatientlessHandler(sys.stderr.fileno())
    except (OSError, ValueError):  # no file: a test's own
        return logging.StreamHandler(sys.stderr)


class PatientlessHandler(logging.Handler):
    """Writes to a file descriptor, and never waits for whoever reads it: what there is no room for is lost and counted.

    A write of AT_ONCE bytes at most does not block where the kernel says that it will not.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        lost, self._lost = self._lost, 0
        text = f"({lost} lines of the log were lost: nobody took them)\n" if lost else ""
        data = f"{text}{self.format(record)}\n".encode("utf-8", "backslashreplace")
        try:
            for start in range(0, len(data), AT_ONCE):
                if not self._writable.poll(0):
                    self._lost = lost + 1
                    return
                os.write(self._descriptor, data[start : start + AT_ONCE])
        except OSError:  # closed, or a full disk
            self._lost = lost + 1


def name_process(name: str) -> None:
    """Say what this process is called in the log."""
    global process_name
    process_name = name


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {process_name}: {plain(record.getMessage())}"
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "@timestamp": _time(record),
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "process.name": process_name,
            "process.pid": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _indented(text: str) -> str:
    """A traceback whose lines cannot be taken for others of the log, whatever is in the exception's own text."""
    return "\n".join(f"    {plain(line)}" for line in text.splitlines())


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
