from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console

from admin import answers
from admin.cli import app
from admin.commands import output
from certstore import default_certificate
from tests.admin.conftest import MakeView, Place
from tests.support.pki import DAY, Authority, Pair, self_signed


def _spki(pair: Pair) -> bytes:
    info = pair.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def test_the_list_begins_with_what_expires_next(place: Place) -> None:
    pairs = {
        days: place.add(place.root.issue(f"d{abs(days)}.example", not_after=days * DAY), f"d{days}")
        for days in (90, -5, 10)
    }
    before = place.files()
    result = place.run("certs", "list")
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.output.splitlines()[1:]]
    assert listed == [pairs[days].fingerprint[:16] for days in (-5, 10, 90)]
    assert "expired" in result.output
    assert place.files() == before


def test_colours_follow_the_days_left_and_only_on_a_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in (90, 20, 3):
        place.add(place.root.issue(f"d{days}.example", not_after=days * DAY), f"d{days}")
    assert "\x1b" not in place.run("certs", "list").output
    monkeypatch.setattr(
        output, "Console", lambda **given: Console(**given, width=200, force_terminal=True, color_system="standard")
    )
    monkeypatch.delenv("NO_COLOR", raising=False)
    rows = place.run("certs", "list").output.splitlines()[2:]
    assert ["\x1b[31m" in rows[0], "\x1b[33m" in rows[1], "\x1b[32m" in rows[2]] == [True, True, True]


def test_the_list_as_json_tells_what_each_serves(place: Place) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    place.path.joinpath("certs/bad.pem").write_text("")
    place.path.joinpath("certs/alone.crt").write_bytes(place.root.issue("a.example").certificate_pem)
    listed = json.loads(place.run("certs", "list", "--json").stdout)
    assert listed.keys() == set(answers.Certificates.__struct_fields__)
    assert [Path(one["path"]).name for one in listed["problems"]] == ["bad.pem"]
    assert [Path(path).name for path in listed["waiting"]] == ["alone.crt"]
    assert listed["default"] is None
    (found,) = listed["certificates"]
    assert found["fingerprint"] == pair.fingerprint
    assert [one["name"] for one in found["serves"]] == ["www.example.com"]


def test_an_empty_directory_is_no_failure_and_problems_are_pointed_at(place: Place) -> None:
    (place.path / "certs/bad.pem").write_text("")
    result = place.run("certs", "list")
    assert result.exit_code == 0
    assert "There is no certificate yet" in result.output
    assert "1 file cannot be used ('snigate check' says more)" in result.output
    assert "goes on serving what was there before" in result.output


def test_show_tells_everything_about_the_certificate_that_a_host_is_served(place: Place) -> None:
    intermediate = Authority.make("Test intermediate", place.root)
    pair = place.add(intermediate.issue("www.example.com", "*.example.com"), "www")
    other = place.add(self_signed("www.example.com"), "other")
    result = place.run("certs", "show", "WWW.example.com")
    assert result.exit_code == 0
    for expected in (
        pair.fingerprint,
        "CN=Test intermediate",
        "ecdsa-p256",
        base64.b64encode(_spki(pair)).decode(),
        f"3 1 1 {_spki(pair).hex()}",
        str(place.path / "certs/www.key"),
        "*.example.com: level 5, trusted, wildcard",
        f"Also found: {other.fingerprint[:16]}",
    ):
        assert expected in result.output


def test_show_finds_a_host_that_only_a_wildcard_covers(place: Place) -> None:
    pair = place.add(place.root.issue("*.example.com"), "www")
    assert pair.fingerprint in place.run("certs", "show", "any.example.com").output
    assert pair.fingerprint in place.run("certs", "show", "*.example.com").output


def test_show_takes_the_beginning_of_a_fingerprint_as_other_tools_print_it(place: Place) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    place.add(place.root.issue("api.example.com"), "api")
    digits = pair.fingerprint.upper()
    colons = ":".join(digits[place : place + 2] for place in range(0, 64, 2))
    for which in (pair.fingerprint[:12], digits, colons):
        found = json.loads(place.run("certs", "show", which, "--json").stdout)
        assert found["fingerprint"] == pair.fingerprint
        assert found["tlsa"] == f"3 1 1 {_spki(pair).hex()}"
        assert found["chain"] == []


def test_show_finds_the_certificate_made_at_first_start_by_its_names_unless_another_has_them(place: Place) -> None:
    (place.path / "snigate-data").mkdir()
    made = default_certificate.ensure(place.path / "snigate-data")
    for which in ("localhost", "127.0.0.1", "::1"):
        assert made.fingerprint in place.run("certs", "show", which).output
    pair = place.add(self_signed("localhost"), "localhost")
    result = place.run("certs", "show", "localhost")
    assert pair.fingerprint in result.output
    assert f"Also found: {made.fingerprint[:16]}" in result.output


def test_show_tells_that_a_names_certificate_lacks_its_key(place: Place) -> None:
    file = place.path / "certs/www.crt"
    file.write_bytes(place.root.issue("*.example.com").certificate_pem)
    result = place.run("certs", "show", "www.example.com")
    assert result.exit_code == 1
    assert f"{file} holds one, and lacks its private key" in result.stderr
    assert "1 certificate file lacks its private key" in place.run("certs", "list").output


def test_too_few_digits_of_a_fingerprint_are_told(place: Place) -> None:
    result = place.run("certs", "show", "2c")
    assert result.exit_code == 1
    assert "of a fingerprint at least 4 digits are wanted" in result.stderr


@pytest.mark.parametrize("which", ["nowhere.example", "ffff", "a", "", "not a name"])
def test_what_is_not_found_is_told(place: Place, which: str) -> None:
    place.add(place.root.issue("www.example.com"), "www")
    result = place.run("certs", "show", which)
    assert result.exit_code == 1
    assert "snigate certs list" in result.stderr


def test_an_ambiguous_fingerprint_is_wrong_usage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.commands.find.MIN_PREFIX", 0)
    place.add(place.root.issue("www.example.com"), "www")
    place.add(place.root.issue("api.example.com"), "api")
    result = place.run("certs", "show", "")
    assert result.exit_code == 2
    assert "give more digits" in result.stderr


def test_the_default_is_marked(place: Place) -> None:
    place.configure(certificates='default = "www.example.com"')
    place.add(place.root.issue("www.example.com"), "www")
    assert "default, 1 name" in place.run("certs", "list").output
    assert "every name that no certificate covers" in place.run("certs", "show", "www.example.com").output


def test_a_subject_cannot_style_or_steer_the_terminal(place: Place) -> None:
    pair = place.add(self_signed("www.example.com", common_name="[bold red]\x1b[2J\u202eevil"), "evil")
    found = place.run("certs", "show", pair.fingerprint[:16]).output
    assert "[bold red]\\x1b[2J\\u202eevil" in found
    assert "\x1b" not in found


def test_certs_alone_is_wrong_usage_and_shows_help(place: Place) -> None:
    result = place.runner.invoke(app, ["certs"])
    assert result.exit_code == 2
    assert "list" in result.output


SMTP = """
[backends.postfix]
servers = ["127.0.0.1:10025"]
client_address = "proxy-v2"
[[listeners]]
name = "mx"
bind = ["127.0.0.1:25", "[::1]:25", "127.0.0.1:465"]
protocol = "smtp"
default = "mx.example.com"
backend = "postfix"
"""


def test_show_has_whole_tlsa_records_for_the_ports_of_smtp_listeners(place: Place) -> None:
    pair = place.add(place.root.issue("*.example.com", "mail.example.org"), "mx")
    assert json.loads(place.run("certs", "show", "mail.example.org", "--json").stdout)["tlsa_records"] == []
    place.configure(listener=SMTP)
    data = f"3 1 1 {_spki(pair).hex()}"
    found = json.loads(place.run("certs", "show", "mail.example.org", "--json").stdout)
    assert found["tlsa_records"] == [
        f"_{port}._tcp.{name}. IN TLSA {data}" for port in (25, 465) for name in ("mail.example.org", "mx.example.com")
    ]
    assert f"_25._tcp.mx.example.com. IN TLSA {data}" in place.run("certs", "show", "mail.example.org").output


def test_show_takes_the_path_of_a_certificate_or_of_its_key(place: Place) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    place.add(place.root.issue("www.example.com"), "other")
    for name in ("www.crt", "www.key"):
        found = json.loads(place.run("certs", "show", str(place.path / "certs" / name), "--json").stdout)
        assert found["fingerprint"] == pair.fingerprint
    result = place.run("certs", "show", str(place.path / "root.pem"))
    assert result.exit_code == 1
    assert "no certificate that can be served is in" in result.stderr


def test_show_and_the_api_have_the_same_object(place: Place, make_view: MakeView) -> None:
    place.configure(listener=SMTP)
    place.add(place.root.issue("mx.example.com"), "mx")
    (described,) = asyncio.run(make_view().certificates()).certificates
    shown = json.loads(place.run("certs", "show", "mx.example.com", "--json").stdout)
    assert json.loads(msgspec.json.encode(described)) == shown
