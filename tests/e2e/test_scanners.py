"""What scanners find: each profile offers what Mozilla's of that name does, or less, and nothing that is broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.mail_server import MailServer
from tests.support.pki import DAY, Authority
from tests.support.ports import free_port
from tests.support.scanners import NAME, Finding, Judged, Offered, by_sslscan, by_sslyze, by_testssl
from tests.support.snigate import Snigate

pytestmark = pytest.mark.timeout(600)

# Mozilla's guideline 5.7, in OpenSSL's names.
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
INTERMEDIATE = TLS_1_3 | {
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    *("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"),
    *("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305"),
}
OLD = INTERMEDIATE | {
    *("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA"),
    *("ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA"),
    *("DHE-RSA-AES128-SHA256", "DHE-RSA-AES256-SHA256", "AES128-GCM-SHA256", "AES256-GCM-SHA384"),
    *("AES128-SHA256", "AES256-SHA256", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA"),
}
CIPHERS = {"modern": TLS_1_3, "intermediate": INTERMEDIATE, "old": OLD}
VERSIONS = {
    "modern": {"TLSv1.3"},
    "intermediate": {"TLSv1.2", "TLSv1.3"},
    "old": {"TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
}
GROUPS = {"secp256r1", "secp384r1", "x25519"}  # and X25519MLKEM768, which these scanners do not know

# Of what cipher suites alone decide, sslscan's list says all, and of ROBOT sslyze.
CHECKS = ("-p", "-f", "-H", "-I", "-T", "-R", "-C", "-Z")
CHECKS_OF_OLD = (*CHECKS, "-A", "-L")
CHECKS_OF_MAIL = ("-p", "-f", "-R", "-C")
# What each check must have found to be in order.
ALWAYS = {"SSLv2", "SSLv3", "TLS1_3", "PFS", "PFS_ECDHE_curves", "secure_renego", "secure_client_renego", "CRIME_TLS"}
OF_WEB = ALWAYS | {"heartbleed", "CCS", "ticketbleed", "fallback_SCSV"}
GOOD = {
    "modern": OF_WEB,
    "intermediate": OF_WEB | {"TLS1_2"},
    "old": OF_WEB | {"TLS1_2"},
    "smtp": ALWAYS | {"TLS1_2"},
}
# Why the profile is called old.
WORSE = {"TLS1": "LOW", "TLS1_1": "LOW", "BEAST_CBC_TLS1": "MEDIUM", "BEAST": "LOW", "LUCKY13": "LOW"}

MAIL = "smtp"  # with STARTTLS, intermediate
PLACES = pytest.mark.parametrize("place", [*CIPHERS, MAIL])


class Scan(NamedTuple):
    """What three scanners find at one place, once they are done."""

    testssl: Future[dict[str, Finding]]
    sslscan: Future[Offered]
    sslyze: Future[Judged]


def configuration(profile: str, mail: int, server: int) -> str:
    return (
        f'[certificates]\ndirectories = ["{{certs}}"]\ntrust = []\ndefault = "{NAME}"\n[tls]\nprofile = "{profile}"\n'
        f'[backends.mail]\nservers = ["127.0.0.1:{server}"]\nclient_address = "none"\n'
        '[[listeners]]\nname = "web"\nbind = ["127.0.0.1:{port}"]\nprotocol = "http"\nbackend = "welcome"\n'
        f'[[listeners]]\nname = "mail"\nbind = ["127.0.0.1:{mail}"]\nprotocol = "smtp"\ntls = "starttls"\n'
        f'backend = "mail"\ndefault = "{NAME}"\n'
    )


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scan]]:
    """All scanners at work, at the same time."""
    directory = tmp_path_factory.mktemp("scanners")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(MailServer("smtp"))
        running, ports = {}, {}
        for profile in CIPHERS:
            mail = free_port()
            one = Snigate(directory / profile, configuration(profile, mail, server.port), workers=1)
            root = Authority.make(key_type="rsa-2048" if profile == "old" else "ecdsa-p256")
            (one.directory / "root.pem").write_bytes(root.pem)
            for key_type in ("ecdsa-p256", "rsa-2048"):
                root.issue(NAME, key_type=key_type, not_after=80 * DAY).write(one.certs, key_type)
            running[profile] = stack.enter_context(one)
            ports[profile] = one.port
            if profile == "intermediate":
                running[MAIL], ports[MAIL] = one, mail
        pool = stack.enter_context(ThreadPoolExecutor(3 * len(ports)))
        yield {
            place: scan(pool, port, place, running[place].directory, directory / f"{place}.json")
            for place, port in ports.items()
        }


def scan(pool: ThreadPoolExecutor, port: int, place: str, home: Path, into: Path) -> Scan:
    checks = {MAIL: CHECKS_OF_MAIL, "old": CHECKS_OF_OLD}.get(place, CHECKS)
    starttls, mozilla = (MAIL, "intermediate") if place == MAIL else (None, place)
    return Scan(
        pool.submit(by_testssl, port, checks, into.with_suffix(".testssl.json"), starttls),
        pool.submit(by_sslscan, port, starttls),
        pool.submit(by_sslyze, port, mozilla, home / "root.pem", into.with_suffix(".sslyze.json"), starttls),
    )


@PLACES
def test_sslscan_finds_the_profiles_versions_groups_and_ciphers_and_no_others(
    scans: dict[str, Scan], place: str
) -> None:
    found = scans[place].sslscan.result()
    profile = "intermediate" if place == MAIL else place
    assert found.versions == VERSIONS[profile]
    assert TLS_1_3 <= found.ciphers <= CIPHERS[profile]
    assert found.groups == GROUPS
    assert not found.heartbleed


@PLACES
def test_sslyze_finds_mozillas_configuration_and_neither_compression_renegotiation_nor_early_data(
    scans: dict[str, Scan], place: str
) -> None:
    judged = scans[place].sslyze.result()
    assert judged.complaints == ""
    assert judged.found["tls_compression"] == {"supports_compression": False}
    assert judged.found["tls_1_3_early_data"] == {"supports_early_data": False}
    assert judged.found["openssl_ccs_injection"] == {"is_vulnerable_to_ccs_injection": False}
    assert judged.found["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    renegotiation = judged.found["session_renegotiation"]
    assert renegotiation["client_renegotiations_success_count"] == 0
    curves = {one["name"] for one in judged.found["elliptic_curves"]["supported_curves"]}
    assert {name.lower() for name in curves} == GROUPS


@PLACES
def test_testssl_finds_what_should_be_in_order_and_nothing_worse_than_the_profile_is(
    scans: dict[str, Scan], place: str
) -> None:
    found = scans[place].testssl.result()
    found.pop("engine_problem", None)  # of the scanner's own OpenSSL
    severities = {name: one.severity for name, one in found.items()}
    assert {name: severities.get(name) for name in GOOD[place]} == dict.fromkeys(GOOD[place], "OK")
    worse = {name: severity for name, severity in severities.items() if severity not in ("OK", "INFO")}
    assert worse == (WORSE if place == "old" else {})
