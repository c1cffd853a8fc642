"""What commands take in from files, and hand out into them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from admin.commands.output import fail, say
from certstore.incoming import MAX_BYTES
from certstore.private_file import write_private_file


def content(path: Path) -> bytes:
    """A file to be handed in, as far as it could be taken; ends the command where it cannot be read."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        fail(f"{path} cannot be read ({os.strerror(error.errno or 0)})")


def passphrase_in(path: Path) -> str:
    lines = content(path).decode(errors="replace").splitlines()
    return lines[0] if lines else ""


def asked_passphrase(what: str) -> str:
    answer: str = typer.prompt(f"Passphrase of {what}", default="", show_default=False, hide_input=True, err=True)
    return answer


def insist_on_new(output: Path | None) -> None:
    """End the command where a file could not be written, before anything is done for it."""
    if output is None:
        return
    if (output.is_symlink() or output.exists()) and not output.is_char_device():
        fail(f"{output} is there already; move it away, or say another")
    if not output.absolute().parent.is_dir():
        fail(f"{output} cannot be written, since {output.absolute().parent} is no directory; make it")


def hand_out(data: bytes, output: Path | None) -> None:
    """To standard output, or to a file, which must not be there yet; to a device as it is."""
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        if output.is_char_device():
            output.write_bytes(data)
            return
        write_private_file(output.absolute(), data)
    except OSError as error:
        fail(f"{output} cannot be written ({os.strerror(error.errno or 0)})")
    say(f"Written to {output}, which only you can read.")
