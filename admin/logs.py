"""Logs go to stderr: text for people, JSON for machines.

A record made with extra={"fields": {...}} has these as fields of its own in JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from admin.text import plain
from config.model import LogConfig

process_name = "supervisor"


def configure(config: LogConfig) -> None:
    """Set up logging for this process and those it forks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("snigate").setLevel(config.level.upper())


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
