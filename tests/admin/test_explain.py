from __future__ import annotations

import json

import pytest

from proxy.server_certificate import pin_of
from tests.admin.conftest import Place
from tests.support.pki import DAY

ROUTE = '[[listeners.routes]]\nhosts = ["www.example.com", "*.example.com", "nowhere.example"]'


def test_every_configured_host_is_listed_and_uncovered_ones_flagged(place: Place) -> None:
    place.configure(certificates='default = "mail.example.net"', listener=ROUTE)
    place.add(place.root.issue("www.example.com", "*.example.com"), "www")
    before = place.files()
    result = place.run("explain")
    assert result.exit_code == 1
    rows = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert "1 trusted, exact" in rows["www.example.com"]
    assert "5 trusted, wildcard" in rows["*.example.com"]
    assert "not covered" in rows["nowhere.example"]
    assert "(default)" in rows["mail.example.net"]
    assert "Not covered by any certificate: nowhere.example, mail.example.net" in result.output
    assert place.files() == before


def test_all_hosts_covered_is_good(place: Place) -> None:
    place.configure(listener='[[listeners.routes]]\nhosts = ["www.example.com"]')
    pair = place.add(place.root.issue("www.example.com"), "www")
    result = place.run("explain", "--json")
    assert result.exit_code == 0
    (host,) = json.loads(result.stdout)["hosts"]
    assert (host["host"], host["listeners"], host["covered"]) == ("www.example.com", ["web"], True)
    assert host["served"]["fingerprint"] == pair.fingerprint


@pytest.mark.parametrize("spelling", ["www.bücher.example", "WWW.BÜCHER.example.", "www.xn--bcher-kva.example"])
def test_a_host_may_be_spelt_in_any_way(place: Place, spelling: str) -> None:
    pair = place.add(place.root.issue("www.xn--bcher-kva.example"), "www")
    result = place.run("explain", spelling)
    assert result.exit_code == 0
    assert pair.fingerprint[:16] in result.output
    assert "www.xn--bcher-kva.example is served the first" in result.output


def test_candidates_come_in_order_with_the_served_one_marked(place: Place) -> None:
    place.add(place.root.issue("*.example.com"), "wildcard")
    place.add(place.root.issue("www.example.com", not_after=-60), "old")
    lines = place.run("explain", "www.example.com").output.splitlines()
    marked = next(line for line in lines if line.startswith("*"))
    assert "4 expired, exact" in marked
    assert "5 trusted, wildcard" in lines[lines.index(marked) + 1]


def test_a_host_that_only_the_default_serves_is_said_but_no_failure(place: Place) -> None:
    place.configure(certificates='default = "www.example.com"')
    place.add(place.root.issue("www.example.com"), "www")
    result = place.run("explain", "other.example.net")
    assert result.exit_code == 0
    assert "No certificate covers other.example.net" in result.output
    assert "default = www.example.com" in result.output


def test_no_server_name_is_explained_too(place: Place) -> None:
    result = place.run("explain", "")
    assert result.exit_code == 0
    assert "no certificate yet" in result.output


@pytest.mark.parametrize("host", ["a..b", "-", "ex ample"])
def test_what_is_no_host_name_is_wrong_usage(place: Place, host: str) -> None:
    result = place.run("explain", "--", host) if host.startswith("-") else place.run("explain", host)
    assert result.exit_code == 2


def test_json_is_what_the_api_answers(place: Place) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    found = json.loads(place.run("explain", "www.example.com", "--json").stdout)
    assert (found["host"], found["covered"], found["served"]) == ("www.example.com", True, pair.fingerprint)
    assert found["candidates"][0]["level_words"] == "trusted, exact"


def test_a_broken_configuration_is_told(place: Place) -> None:
    place.configure(text="nonsense = 1\n")
    result = place.run("explain", "www.example.com")
    assert result.exit_code == 1
    assert "nonsense" in result.stderr


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:DB8::1", "[2001:db8::1]"])
def test_an_address_stands_for_clients_that_connect_there_without_server_name(place: Place, address: str) -> None:
    pair = place.add(place.root.issue("www.example.com", addresses=["192.0.2.1", "2001:db8::1"]), "www")
    result = place.run("explain", address)
    assert result.exit_code == 0
    assert pair.fingerprint[:16] in result.output
    assert "1 trusted, exact" in result.output
    assert "sends no server name is served the first (*)" in result.output


def test_an_address_that_no_certificate_carries_gets_the_default(place: Place) -> None:
    place.configure(certificates='default = "www.example.com"')
    place.add(place.root.issue("www.example.com"), "www")
    assert "No certificate covers 192.0.2.9: a client that connects to" in place.run("explain", "192.0.2.9").output


@pytest.mark.parametrize("text", ["https://www.example.com/", "www.example.com:443", "www.example.com/x", "[::1]:443"])
def test_a_url_or_port_is_told_to_be_left_out(place: Place, text: str) -> None:
    result = place.run("explain", text)
    assert result.exit_code == 2
    assert "leave out scheme, port and path" in result.stderr


def test_what_is_wrong_with_a_name_is_said_once(place: Place) -> None:
    assert "'two words' is not a host name's label" in place.run("explain", "two words").stderr


@pytest.mark.parametrize(
    "arguments", [("explain", "www.example.com"), ("explain",), ("certs", "show", "www.example.com")]
)
def test_files_that_a_running_server_may_hold_in_an_earlier_state_are_told_of(
    place: Place, arguments: tuple[str, ...]
) -> None:
    place.add(place.root.issue("www.example.com"), "www")
    assert "running server" not in place.run(*arguments).output
    (place.path / "certs/a.crt").write_text("junk")
    (place.path / "certs/alone.crt").write_bytes(place.root.issue("a.example").certificate_pem)
    assert (
        "1 file cannot be used, 1 certificate file lacks its private key ('snigate check' says more); a running server "
        "goes on serving what was there before\n"
    ) in place.run(*arguments).output


def test_a_listeners_pin_and_default_are_taken_into_account_where_it_is_named(place: Place) -> None:
    old = place.add(place.root.issue("mx.example.com", not_after=5 * DAY), "old")
    new = place.add(place.root.issue("mx.example.com"), "new")
    place.configure(listener=f'default = "mx.example.com"\npin = ["{pin_of(old.certificate)}"]')
    anybody = place.run("explain", "mx.example.com")
    assert json.loads(place.run("explain", "mx.example.com", "--json").stdout)["served"] == new.fingerprint
    assert "With a default or pins of its own, see --listener: web" in anybody.output
    result = place.run("explain", "mx.example.com", "--listener", "web")
    assert result.exit_code == 0
    assert "has a pinned key; matches mx.example.com" in result.output
    assert "passed over, since its key is not pinned; matches mx.example.com" in result.output
    for host in ("mx.example.com", ""):
        found = json.loads(place.run("explain", host, "--listener", "web", "--json").stdout)
        assert (found["listener"], found["served"]) == ("web", old.fingerprint)
        assert [one["pinned"] for one in found["candidates"][:2]] == [True, False]
    (host,) = json.loads(place.run("explain", "--listener", "web", "--json").stdout)["hosts"]
    assert (host["host"], host["listeners"]) == ("mx.example.com", ["web"])
    assert host["served"]["fingerprint"] == old.fingerprint


def test_a_listener_that_serves_no_certificate_is_wrong_usage(place: Place) -> None:
    place.configure(listener='[[listeners]]\nname = "plain"\nbind = ["127.0.0.1:80"]\nprotocol = "http-redirect"')
    for name, said in (("wbe", 'did you mean "web"'), ("plain", "serves no certificate")):
        result = place.run("explain", "www.example.com", "--listener", name)
        assert result.exit_code == 2
        assert said in result.stderr
