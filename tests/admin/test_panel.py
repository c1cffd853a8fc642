from __future__ import annotations

import dataclasses
import json
import logging
import sys
from pathlib import Path

import pytest
from rich.console import Console

from admin import logs, panel
from admin.panel import Ready, announce
from config.load import load
from config.model import Config

READY = Ready(
    listeners={"web": ["127.0.0.1:8443"]},
    admin={"admin": "[::]:9180", "metrics": "0.0.0.0:9181"},
    certificates=3,
    problems="1 file and 1 directory",
    waiting=2,
    default="ab" * 32,
    default_names=("a.example", "b.example", "c.example", "d.example", "e.example"),
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.defaults(tmp_path)


def test_plain_lines_say_everything_where_stderr_is_no_terminal(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(config, dataclasses.replace(READY, code="never shown here"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "listens: web on 127.0.0.1:8443 -> the built-in welcome page",
        f"certificates: 3 in {tmp_path}/snigate-data/certs",
        "problems: 1 file and 1 directory cannot be used; 'snigate check' says why",
        "without key: 2 certificate files; 'snigate check' names them",
        "default: abababababababab for a.example, b.example, c.example, d.example and 1 other name",
        "admin: http://localhost:9180/",
        "metrics: http://localhost:9181/metrics",
        f"next: put certificates and keys into {tmp_path}/snigate-data/certs",
        "next: curl -k https://127.0.0.1:8443/",
    ]


def test_a_listener_that_redirects_leads_to_https_and_is_not_what_to_try_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "snigate.toml"
    file.write_text(
        '[[listeners]]\nname = "plain"\nbind = [":80"]\nprotocol = "http-redirect"\n'
        '[[listeners]]\nname = "web"\nbind = [":443"]\nbackend = "welcome"\n'
    )
    announce(load(file), dataclasses.replace(READY, listeners={"plain": ["[::]:80"], "web": ["[::]:443"]}))
    lines = capsys.readouterr().err.splitlines()
    assert "listens: plain on [::]:80 -> https" in lines
    assert [line for line in lines if "curl" in line] == ["next: curl -k https://localhost:443/"]


def test_a_terminal_gets_a_panel(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "Console", lambda **given: Console(**given, width=200, force_terminal=True))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    announce(config, dataclasses.replace(READY, code="c0de"))
    shown = capsys.readouterr().err
    assert "http://localhost:9180/sign-in#c0de" in shown
    assert "╭" in shown
    assert "is ready" in shown
    assert "curl -k https://127.0.0.1:8443/" in shown


def test_json_logs_get_one_entry_and_nothing_else(
    config: Config, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    changed = config.model_copy(update={"log": config.log.model_copy(update={"format": "json"})})
    with caplog.at_level(logging.INFO, "snigate"):
        announce(changed, READY)
    assert capsys.readouterr().err == ""
    (record,) = caplog.records
    logs.configure(changed.log)
    entry = json.loads(logging.getLogger().handlers[0].format(record))
    assert entry["message"] == "ready"
    assert entry["snigate.listeners"] == [{"name": "web", "addresses": ["127.0.0.1:8443"], "backend": "welcome"}]
    assert (entry["snigate.certificates"], entry["snigate.without_key"]) == (3, 2)
    assert (entry["snigate.admin"], entry["snigate.metrics"]) == ("[::]:9180", "0.0.0.0:9181")
    assert (entry["snigate.unusable"], entry["snigate.default"]) == ("1 file and 1 directory", "ab" * 32)
    assert entry["snigate.directories"] == [str(config.server.state_directory / "certs")]


def test_a_mail_listener_is_tried_with_openssl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "snigate.toml"
    file.write_text('[[listeners]]\nname="imap"\nprotocol="imap"\nbind=[":993"]\nbackend="127.0.0.1:143"\n')
    announce(load(file), Ready({"imap": ["[::]:993"]}, {"admin": "127.0.0.1:9180"}, 0, "", 0, None, ()))
    shown = capsys.readouterr().err
    assert "listens: imap on [::]:993 -> 127.0.0.1:143 (IMAP, TLS at once)\n" in shown
    assert "next: openssl s_client -connect localhost:993\n" in shown


def test_a_default_that_no_certificate_covers_is_said(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    certificates = config.certificates.model_copy(update={"default": "mail.example.org"})
    changed = config.model_copy(update={"certificates": certificates})
    announce(changed, dataclasses.replace(READY, default_names=("localhost",), uncovered="mail.example.org"))
    said = "default: abababababababab for localhost; no certificate covers mail.example.org (certificates.default)\n"
    assert said in capsys.readouterr().err


def test_starttls_is_tried_with_its_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "snigate.toml"
    file.write_text(
        '[backends.mx]\nservers = ["127.0.0.1:10025"]\nclient_address = "proxy-v2"\n[[listeners]]\nname = "mx"\n'
        'bind = [":25"]\nprotocol = "smtp"\ntls = "starttls"\nrequire_tls = false\nbackend = "mx"\n'
    )
    announce(load(file), Ready({"mx": ["[::]:25"]}, {"admin": "127.0.0.1:9180"}, 0, "", 0, None, ()))
    shown = capsys.readouterr().err
    assert "listens: mx on [::]:25 -> mx (SMTP, TLS by STARTTLS, or plain text)\n" in shown
    assert "next: openssl s_client -starttls smtp -connect localhost:25\n" in shown
