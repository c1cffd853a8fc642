"""The files in docs/mail.md, and real servers that run on them."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.servers import needs, place_for_sockets, running

TEXT = (Path(__file__).parents[2] / "docs" / "mail.md").read_text(encoding="utf-8")
# By their names, with what is said behind them: "/etc/postfix/master.cf, with postscreen".
FILES: dict[str, str] = {
    name + variant: text
    for name, variant, text in re.findall(
        r"^`(/etc/\S+)`((?:, [A-Za-z ]+)?):\n\n```\w*\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )
}

# What a recipe leaves to its reader: where this machine's test keeps everything, and one user.
_DOVECOT = """
protocols = imap pop3 sieve
base_dir = {run}
state_dir = {run}
log_path = {directory}/dovecot.log
mail_location = maildir:{directory}/mail/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
auth_mechanisms = plain
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={directory}/mail/%u
}}
service imap-login {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
service managesieve-login {{
  chroot =
}}
service submission-login {{
  chroot =
}}
"""
_POSTFIX = """
compatibility_level = 3.6
maillog_file = {directory}/postfix.log
maillog_file_prefixes = {directory}
queue_directory = {directory}/spool
data_directory = {directory}/data
myhostname = mail.example.com
mydestination = example.com
local_recipient_maps =
local_transport = discard
default_transport = discard
inet_interfaces = loopback-only
alias_maps =
"""


def placed(name: str, places: Mapping[str, str]) -> str:
    """A documented file with other places in it. Each of them must be there to be replaced."""
    text = FILES[name]
    for documented in places:
        assert documented in text, f"{name} does not say {documented}"
    return _replaced(text, places)


def _replaced(text: str, places: Mapping[str, str]) -> str:
    """All at once: what is put in may look like what is documented elsewhere."""
    documented = re.compile("|".join(map(re.escape, places)) or r"(?!)")
    return documented.sub(lambda found: places[found[0]], text)


@contextlib.contextmanager
def dovecot(directory: Path, spool: Path, ports: Mapping[int, int], submission: Mapping[int, int]) -> Iterator[Path]:
    """Dovecot on these ports in place of the documented ones; yields its log. Passwords: "secret"."""
    places = {**_port_lines(ports), "/var/spool/postfix": str(spool)}
    recipe = placed("/etc/dovecot/local.conf", places)
    recipe += placed("/etc/dovecot/local.conf, for submission", _port_lines(submission))
    with _dovecot(directory, recipe, next(iter(ports.values()))) as log:
        yield log


@contextlib.contextmanager
def dovecot_with_id(directory: Path, port: int) -> Iterator[Path]:
    """Dovecot with IMAP alone, that is told of clients by ID; yields its log."""
    recipe = placed("/etc/dovecot/local.conf, with ID", _port_lines({10143: port}))
    with _dovecot(directory, "protocols = imap\n" + recipe, port) as log:
        yield log


def _port_lines(ports: Mapping[int, int]) -> dict[str, str]:
    return {f"port = {documented}": f"port = {actual}" for documented, actual in ports.items()}


@contextlib.contextmanager
def _dovecot(directory: Path, recipe: str, port: int) -> Iterator[Path]:
    program = needs("dovecot")
    mail = directory / "mail"
    mail.mkdir(parents=True)
    nobody = pwd.getpwnam("nobody")
    os.chown(mail, nobody.pw_uid, nobody.pw_gid)
    _let_through(directory)
    configuration = directory / "dovecot.conf"
    with place_for_sockets() as run:
        configuration.write_text(_DOVECOT.format(directory=directory, run=run) + recipe)
        with running([program, "-F", "-c", str(configuration)], port, directory / "dovecot.out"):
            yield directory / "dovecot.log"


@contextlib.contextmanager
def postfix(directory: Path, ports: Mapping[int, int], *variants: str) -> Iterator[Path]:
    """Postfix on these ports in place of the documented ones; yields its log. Its queue is in directory/spool.

    `variants` of the documented master.cf; "" is the one without a word behind it.
    """
    program = needs("postfix")
    etc = directory / "etc"
    etc.mkdir(parents=True)
    _let_through(directory)
    for name in ("spool", "data"):
        (directory / name).mkdir(exist_ok=True)
    shutil.chown(directory / "data", "postfix", "postfix")
    (etc / "main.cf").write_text(_POSTFIX.format(directory=directory) + placed("/etc/postfix/main.cf", {}))
    packaged = Path("/etc/postfix/master.cf.proto").read_text()
    internal = re.sub(r"^(\S+ +(?:unix|unix-dgram|fifo) +\S+ +\S+ +)y", r"\1n", packaged, flags=re.MULTILINE)
    own = "".join(line for line in internal.splitlines(keepends=True) if not re.match(r"\S+ +inet ", line))
    for variant in variants:
        own += FILES["/etc/postfix/master.cf" + variant]
    places = {f"127.0.0.1:{documented} ": f"127.0.0.1:{actual} " for documented, actual in ports.items()}
    assert all(documented in own for documented in places)
    own = _replaced(own, places)
    (etc / "master.cf").write_text(own)
    try:
        with running([program, "-c", str(etc), "start-fg"], next(iter(ports.values())), directory / "postfix.out"):
            yield directory / "postfix.log"
    finally:
        subprocess.run([program, "-c", str(etc), "stop"], capture_output=True, timeout=20, check=False)


def _let_through(directory: Path) -> None:
    """Servers' processes are other users, and pytest's directories are its own."""
    for parent in (directory, *directory.parents):
        if parent.owner() == pwd.getpwuid(os.getuid()).pw_name and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
