"""The token that opens the API: a file only its owner can read, made when absent (RFC 6750, bearer tokens)."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path

from admin.state import StateError, require_own
from certstore.private_file import write_private_file
from certstore.remedy import remedy

MIN_LENGTH = 16  # characters; a shorter one can be guessed
MAX_LENGTH = 512


def ensure(path: Path) -> str:
    """The token in the file; a new one is made where there is no file.

    Raises StateError when it can be neither read nor made, is no token, or others can read or change it.
    """
    try:
        with path.open("rb") as file:
            require_own("token file", path, os.fstat(file.fileno()), stat.S_IRWXG | stat.S_IRWXO)
            token = file.read(MAX_LENGTH + 2).decode("ascii").strip()
    except FileNotFoundError:
        return _make(path)
    except UnicodeDecodeError:
        token = ""
    except OSError as error:
        raise StateError(f"token file {path} cannot be read ({error.strerror}); let this user read it") from error
    if not MIN_LENGTH <= len(token) <= MAX_LENGTH or not token.isprintable() or " " in token:
        raise StateError(
            f"token file {path} must hold one token of {MIN_LENGTH} to {MAX_LENGTH} ASCII characters without blanks; "
            "delete the file, and a token is made"
        )
    return token


def matches(token: str, authorization: bytes | None) -> bool:
    """Whether an Authorization header's value carries the token, compared in constant time."""
    scheme, _, given = (authorization or b"").partition(b" ")
    return hmac.compare_digest(given.strip(), token.encode()) and scheme.lower() == b"bearer"


def _make(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    try:
        write_private_file(path, token.encode() + b"\n")
    except OSError as error:
        advice = remedy(error, "correct admin.token_file or the directory")
        raise StateError(f"token file {path} cannot be written ({error.strerror}); {advice}") from error
    return token
