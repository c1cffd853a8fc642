from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxy.contexts import CertificateContexts, ContextError
from proxy.server_certificate import pin_of
from tests.admin.conftest import Place
from tests.support.pki import pem_of

TWO_BACKENDS = """
[[listeners.routes]]
hosts = ["www.example.com"]
[[listeners.routes]]
hosts = ["api.example.com"]
backend = "127.0.0.1:8080"
"""


def _route(*hosts: str) -> str:
    return f"[[listeners.routes]]\nhosts = {json.dumps(hosts)}"


def test_a_good_configuration_passes_and_leaves_no_trace(place: Place) -> None:
    place.configure(listener=_route("www.example.com"))
    place.add(place.root.issue("www.example.com"), "www")
    before = place.files()
    result = place.run("check")
    assert result.exit_code == 0, result.output
    assert "1 certificate, 1 configured host: nothing is wrong" in result.output
    assert place.files() == before


def test_a_listener_without_tls_is_in_nobody_s_way(place: Place) -> None:
    place.configure(listener='[[listeners]]\nname = "plain"\nbind = ["127.0.0.1:80"]\nprotocol = "http-redirect"')
    assert place.run("check").exit_code == 0
    assert place.run("explain").exit_code == 0


def test_quiet_says_nothing_when_nothing_is_found(place: Place) -> None:
    assert place.run("check", "-q").output == ""


def test_every_configuration_problem_is_named_at_once(place: Place) -> None:
    place.configure(text='[tls]\nprofil = "modern"\n[server]\nworkers = "four"\n')
    result = place.run("check")
    assert result.exit_code == 1
    assert "tls.profil" in result.output
    assert "server.workers" in result.output
    assert "certificates are looked at once" in result.output


def test_rejected_files_and_missing_directories_are_errors(place: Place) -> None:
    (place.path / "certs/bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    place.configure(certificates='passphrase_files = ["none"]')
    result = place.run("check")
    assert result.exit_code == 1
    assert "error: " + str(place.path / "certs/bad.pem") in result.output
    assert "passphrase file cannot be read" in result.output
    place.path.joinpath("certs/bad.pem").unlink()
    place.path.joinpath("certs").rmdir()
    assert (
        f"{place.path / 'certs'}: does not exist; make it, or correct certificates.directories\n"
        in place.run("check").output
    )


def test_the_certificate_directory_of_a_server_that_never_ran_may_be_missing(place: Place) -> None:
    assert "snigate-data" not in place.run("check").output


def test_a_certificate_that_openssl_refuses_is_an_error(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ContextError("OpenSSL refuses it: ca md too weak")

    place.add(place.root.issue("www.example.com"), "www")
    monkeypatch.setattr(CertificateContexts, "get", refuse)
    result = place.run("check")
    assert result.exit_code == 1
    assert f"error: {place.path / 'certs/www.crt'}" in result.output
    assert "ca md too weak (profile intermediate)" in result.output


def test_a_certificate_without_its_key_is_a_warning(place: Place) -> None:
    (place.path / "certs/alone.crt").write_bytes(pem_of(place.root.issue("www.example.com").certificate))
    result = place.run("check")
    assert result.exit_code == 0
    assert f"warning: {place.path / 'certs/alone.crt'}: no private key" in result.output


def test_hosts_that_no_certificate_covers_or_only_an_expired_one_are_warnings(place: Place) -> None:
    place.configure(listener=_route("www.example.com", "old.example.com", "*.example.net"))
    place.add(place.root.issue("www.example.com"), "www")
    place.add(place.root.issue("old.example.com", not_after=-60), "old")
    result = place.run("check")
    assert result.exit_code == 0
    assert "no certificate covers *.example.net" in result.output
    assert "old.example.com is served certificate" in result.output
    assert "covers www.example.com" not in result.output


def test_a_default_without_a_certificate_is_a_warning_that_names_the_key_or_file(place: Place) -> None:
    place.configure(certificates='default = "mail.example.com"')
    assert "certificates.default: no certificate covers mail.example.com" in place.run("check").output
    place.configure()
    (place.path / "snigate-data").mkdir()
    (place.path / "snigate-data/default").write_text("mx.example.com\n")
    result = place.run("check")
    assert f"{place.path / 'snigate-data/default'}: no certificate covers mx.example.com" in result.output


@pytest.mark.parametrize("order", ["kerio", "unexpired-first"])
def test_names_that_the_two_orders_serve_differently_are_named(place: Place, order: str) -> None:
    place.configure(certificates=f'order = "{order}"')
    place.add(place.root.issue("*.example.com"), "wildcard")
    place.add(place.root.issue("old.example.com", not_after=-60), "old")
    place.add(place.root.issue("gone.example.net", not_after=-60), "gone")
    result = place.run("check")
    assert result.exit_code == 0
    assert "certificates.order" in result.output
    assert "old.example.com an expired" in result.output
    assert "gone.example.net" not in result.output


def test_the_orders_are_not_mentioned_where_they_agree(place: Place) -> None:
    place.add(place.root.issue("*.example.com"), "wildcard")
    place.add(place.root.issue("www.example.com"), "www")
    assert "certificates.order" not in place.run("check").output


def test_an_order_that_differs_only_for_clients_without_ecdsa_is_found(place: Place) -> None:
    place.add(place.root.issue("www.example.com"), "ecdsa")
    place.add(place.root.issue("www.example.com", key_type="rsa-2048", not_after=-60), "rsa")
    place.add(place.root.issue("*.example.com", key_type="rsa-2048"), "wildcard")
    assert "www.example.com an expired" in place.run("check").output


@pytest.mark.parametrize("names", [("www.example.com", "api.example.com"), ("*.example.com",)])
def test_one_certificate_for_two_backends_on_an_h2_listener_is_a_warning(place: Place, names: tuple[str, ...]) -> None:
    place.configure(listener=TWO_BACKENDS)
    pair = place.add(place.root.issue(*names), "shared")
    result = place.run("check")
    assert result.exit_code == 0
    assert result.output.count(f"certificate {pair.fingerprint[:16]} covers names") == 1
    assert "api.example.com to 127.0.0.1:8080" in result.output


def test_separate_certificates_one_backend_or_no_h2_need_no_warning(place: Place) -> None:
    place.configure(listener=TWO_BACKENDS)
    place.add(place.root.issue("www.example.com"), "www")
    place.add(place.root.issue("api.example.com"), "api")
    assert "HTTP/2" not in place.run("check").output
    place.add(place.root.issue("www.example.com", "api.example.com", not_after=1e8), "both")
    assert "HTTP/2" in place.run("check").output
    text = place.path.joinpath("snigate.toml").read_text()
    place.configure(text=text.replace('"h2", ', ""))
    assert "HTTP/2" not in place.run("check").output
    place.configure(text=text.replace("127.0.0.1:8080", "127.0.0.1:8000"))
    assert "HTTP/2" not in place.run("check").output


def test_the_configurations_own_warnings_are_shown(place: Place) -> None:
    text = place.path.joinpath("snigate.toml").read_text()
    place.configure(text=text.replace(":8443", ":25").replace('alpn = ["h2", "http/1.1"]', "strict_sni = true"))
    result = place.run("check")
    assert result.exit_code == 0
    assert "warning: " in result.output
    assert "strict_sni" in result.output


def test_json_has_the_same_findings(place: Place) -> None:
    place.configure(listener=_route("nowhere.example"))
    found = json.loads(place.run("check", "--json").stdout)
    assert (found["ok"], found["certificates"], found["hosts"]) == (True, 0, 1)
    assert [one["severity"] for one in found["findings"]] == ["warning"]
    place.configure(text="nonsense = 1\n")
    result = place.run("check", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["certificates"]) == (False, None)
    assert Path(found["findings"][0]["where"].partition(":")[0]).name == "snigate.toml"


def test_control_characters_of_file_names_are_not_shown(place: Place) -> None:
    (place.path / "certs/\x1b[31m[red]bad.pem").write_text("")
    output = place.run("check").output
    assert "\x1b" not in output
    assert "\\x1b[31m[red]bad.pem" in output


def test_authorities_of_a_backend_that_cannot_be_used_are_an_error(place: Place) -> None:
    (place.path / "empty.pem").write_text("nothing here")
    for file, said in (("missing.pem", "cannot be read (No such file or directory)"), ("empty.pem", "holds no certif")):
        place.configure(listener=f'[backends.b]\nservers = ["h:1"]\ntls = "verify"\ntls_ca = "{file}"\n')
        result = place.run("check")
        assert result.exit_code == 1
        assert f"backends.b.tls_ca: {place.path / file}: {said}" in result.output


def test_a_state_directory_that_serve_would_refuse_is_one_error(place: Place) -> None:
    (place.path / "file").write_text("")
    place.configure(listener='[server]\nstate_directory = "file/state"')
    before = place.files()
    result = place.run("check")
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert f"server.state_directory: {place.path / 'file/state'} cannot be used" in line
    assert place.files() == before


def test_a_state_directory_that_this_user_may_not_enter_is_one_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = place.path / "snigate-data"
    lstat, stat, access = Path.lstat, Path.stat, os.access

    def refuse(path: Path, **given: bool) -> os.stat_result:
        if path.is_relative_to(state / "certs"):
            raise PermissionError(13, "Permission denied")
        return stat(path, **given)

    state.mkdir()
    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(
        Path, "lstat", lambda path: refuse(path, follow_symlinks=False) if path != state else lstat(path)
    )
    monkeypatch.setattr(os, "access", lambda path, mode: path != state and access(path, mode))
    result = place.run("check")
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert f"may not enter {state}" in line


def test_a_host_to_listen_on_that_does_not_resolve_is_an_error(place: Place) -> None:
    text = place.path.joinpath("snigate.toml").read_text()
    place.configure(text=text.replace("127.0.0.1:8443", "nowhere.invalid:8443"))
    result = place.run("check")
    assert result.exit_code == 1
    assert "listeners[web].bind: host nowhere.invalid cannot be resolved" in result.output
    assert "Errno" not in result.output


def test_h2_for_the_welcome_page_is_a_warning(place: Place) -> None:
    text = place.path.joinpath("snigate.toml").read_text()
    place.configure(text=text.replace("127.0.0.1:8000", "welcome"))
    result = place.run("check")
    assert result.exit_code == 0
    assert result.output.count('listeners[web].alpn: offers "h2"') == 1


def test_a_short_rsa_key_is_a_warning(place: Place) -> None:
    place.add(place.root.issue("www.example.com", key_type="rsa-1024"), "short")
    place.add(place.root.issue("api.example.com", key_type="rsa-2048"), "long")
    result = place.run("check")
    assert "RSA key of 1024 bits" in result.output
    assert "2048 bits" not in result.output


def _mx(place: Place, *lines: str) -> None:
    place.configure(listener="\n".join(lines))


def test_a_listeners_default_that_no_certificate_covers_is_a_warning(place: Place) -> None:
    _mx(place, 'default = "mx.example.com"')
    result = place.run("check")
    assert result.exit_code == 0
    assert "listeners[web].default: no certificate covers mx.example.com" in result.output
    place.add(place.root.issue("*.example.com"), "wildcard")
    assert "listeners[web].default" not in place.run("check").output


def test_pins_that_no_certificate_has_are_a_warning(place: Place) -> None:
    place.add(place.root.issue("mx.example.com"), "mx")
    _mx(place, 'default = "mx.example.com"', f'pin = ["{"00" * 32}"]')
    result = place.run("check")
    assert result.exit_code == 0
    assert "listeners[web].pin: no certificate has any of these public keys" in result.output


def test_names_that_no_pinned_key_serves_are_a_warning(place: Place) -> None:
    pinned = place.add(place.root.issue("mx.example.com"), "mx")
    other = place.add(place.root.issue("www.example.com"), "www")
    _mx(place, 'default = "mx.example.com"', f'pin = ["{pin_of(pinned.certificate)}"]', _route("www.example.com"))
    output = place.run("check").output
    assert f"listeners[web].pin: www.example.com is served certificate {other.fingerprint[:16]}, since none" in output
    assert output.count("listeners[web].pin") == 1


def test_an_expired_certificate_that_its_pin_keeps_in_service_is_a_warning(place: Place) -> None:
    expired = place.add(place.root.issue("mx.example.com", not_after=-60), "old")
    place.add(place.root.issue("mx.example.com"), "new")
    _mx(place, 'default = "mx.example.com"', f'pin = ["{pin_of(expired.certificate)}"]')
    output = place.run("check").output
    assert f"mx.example.com is served certificate {expired.fingerprint[:16]}, valid from" in output
    assert "for its pinned key" in output
