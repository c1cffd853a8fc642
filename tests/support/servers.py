"""Real servers from Debian's packages, each run in the foreground as the test's own child, on loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.snigate import wait_for


def needs(program: str) -> str:
    """The path of a program; the test is skipped where it is missing (and a skip fails CI)."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        pytest.skip(f"{program} is not installed: make packages")
    return found


def listens(port: int) -> bool:
    """Whether something accepts on a loopback port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the block's end; it accepts on `port` when the block begins."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_for(lambda: process.poll() is not None or listens(port), f"{command[0]} accepts")
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def nginx(directory: Path, servers: str, port: int) -> Iterator[Path]:
    """nginx with these `server` blocks; yields its directory, where access.log and what it stores are."""
    directory.mkdir()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr warn;\n"
        f"user {pwd.getpwuid(os.getuid()).pw_name};\n"
        "events { worker_connections 256; }\n"
        "http {\n"
        "  log_format who '$proxy_protocol_addr $proxy_protocol_port $server_protocol $request_uri $status';\n"
        f"  access_log {directory}/access.log who;\n"
        f"  client_body_temp_path {directory}/body; client_max_body_size 200m;\n"
        f"  proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;\n"
        f"  scgi_temp_path {directory}/s; types {{ }} default_type application/octet-stream;\n"
        f"{servers}\n}}\n"
    )
    with running([needs("nginx"), "-p", str(directory), "-c", str(configuration)], port, directory / "nginx.out"):
        yield directory


DOVECOT = """
protocols = imap pop3
base_dir = {run}
state_dir = {run}
log_path = {directory}/dovecot.log
info_log_path = {directory}/dovecot.log
default_internal_user = {internal}
default_internal_group = {internal_group}
default_login_user = {login}
mail_location = maildir:{directory}/mail/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = yes
haproxy_trusted_networks = 127.0.0.0/8
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
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
    haproxy = yes
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {pop3}
    haproxy = yes
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""


@contextlib.contextmanager
def place_for_sockets() -> Iterator[Path]:
    """A directory with a short path, as Unix sockets need; everybody may go through it."""
    with tempfile.TemporaryDirectory(prefix="run-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@contextlib.contextmanager
def dovecot(directory: Path, imap: int, pop3: int, certificate: Path, key: Path) -> Iterator[Path]:
    """Dovecot with plain-text IMAP and POP3 ports that want a PROXY header; yields its log. Passwords: "secret"."""
    program = needs("dovecot")
    directory.mkdir()
    mail = directory / "mail"
    mail.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(mail, nobody.pw_uid, nobody.pw_gid)
    for parent in (directory, *directory.parents):  # the mail process runs as nobody, and pytest's directories are 0700
        if parent.owner() == pwd.getpwuid(os.getuid()).pw_name and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    configuration = directory / "dovecot.conf"
    with place_for_sockets() as run:
        configuration.write_text(
            DOVECOT.format(
                directory=directory,
                run=run,
                internal="dovecot",
                internal_group="dovecot",
                login="dovenull",
                imap=imap,
                pop3=pop3,
                certificate=certificate,
                key=key,
            )
        )
        with running([program, "-F", "-c", str(configuration)], imap, directory / "dovecot.out"):
            yield directory / "dovecot.log"
