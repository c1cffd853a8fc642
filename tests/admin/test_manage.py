"""`snigate certs` and `snigate trust`, as far as they change something."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certstore.load import parse_file
from tests.admin.conftest import Place
from tests.support.pki import Authority, Pair, self_signed
from tests.support.servers import needs


def done(place: Place, *arguments: str) -> Any:
    """What a command answers as JSON."""
    result = place.run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(place: Place, *arguments: str, status: int = 1) -> str:
    result = place.run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stderr.count("\n") == 1, "one sentence"
    return result.stderr


def state(place: Place) -> Path:
    return place.config.server.state_directory


def served(place: Place, host: str) -> str:
    candidate = done(place, "explain", host)["candidates"][0]
    assert isinstance(candidate["fingerprint"], str)
    return candidate["fingerprint"]


def audited(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state(place) / "audit.log").read_text().splitlines()]


def test_a_new_certificate_is_one_private_file_and_is_served_at_once(place: Place) -> None:
    (made,) = done(place, "certs", "new", "WWW.example.com", "*.example.com", "192.0.2.1", "--days", "30")
    (path,) = map(Path, made["paths"])
    assert path.parent == state(place) / "certs"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(one["name"], one["after"]["level"]) for one in made["changes"]] == [
        ("*.example.com", 6),
        ("www.example.com", 2),
        ("192.0.2.1", 2),
    ]
    assert served(place, "www.example.com") == made["fingerprint"]
    (entry,) = audited(place)
    assert (entry["action"], entry["from"], entry["certificate"]) == ("new", "command", made["fingerprint"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("not a name",), "is not a host name"),
        (("a.example", "--key-type", "dsa"), "'dsa' is not a key type that can be made"),
        (("a.example", "--days", "0"), "1 to 36500 days"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    place: Place, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused(place, "certs", "new", *arguments)
    assert not state(place).exists()


def test_a_request_is_signed_elsewhere_and_its_certificate_finds_the_key(place: Place, tmp_path: Path) -> None:
    csr = tmp_path / "mail.csr"
    result = place.run(
        "certs", "request", "mail.example.com", "--organization", "Ex & Co", "--country", "de", "-o", str(csr)
    )
    assert result.exit_code == 0, result.output
    request = x509.load_pem_x509_csr(csr.read_bytes())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=mail.example.com,O=Ex & Co,C=DE"
    (waiting,) = done(place, "certs", "request")
    assert waiting["names"] == ["mail.example.com"]
    assert done(place, "certs", "list")["certificates"] == []

    signed = sign(place.root, csr, tmp_path)
    (imported,) = done(place, "certs", "import", str(signed))
    assert imported["notes"] == []
    assert served(place, "mail.example.com") == imported["fingerprint"]
    assert done(place, "certs", "request") == []
    (path,) = imported["paths"]
    assert parse_file(Path(path).read_bytes()).keys[0].spki.hex() == waiting["id"]


def sign(authority: Authority, csr: Path, directory: Path, days: int = 30) -> Path:
    """What openssl makes of a request in the hands of a CA."""
    (directory / "ca.crt").write_bytes(authority.pem)
    pair = Pair(authority.certificate, authority.key)
    (directory / "ca.key").write_bytes(pair.key_pem)
    signed = directory / "signed.crt"
    subprocess.run(
        [
            *(
                needs("openssl"),
                "x509",
                "-req",
                "-in",
                csr,
                "-CA",
                directory / "ca.crt",
                "-CAkey",
                directory / "ca.key",
            ),
            *("-days", str(days), "-copy_extensions", "copyall", "-out", signed),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    return signed


def test_an_imported_chain_is_put_in_order_and_what_it_lacks_is_named(place: Place, tmp_path: Path) -> None:
    upper = Authority.make("Upper", place.root)
    lower = Authority.make("Lower", upper)
    pair = lower.issue("www.example.com")
    chain = [x509.load_der_x509_certificate(one) for one in pair.chain_der]
    files = {
        "leaf.pem": pair.key_pem + pair.certificate_pem,
        "upper.crt": upper.pem,
        "lower.pem": b"some text\r\n" + lower.pem.replace(b"\n", b"\r\n"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (partly,) = done(place, "certs", "import", str(tmp_path / "leaf.pem"))
    assert "it lacks the certificate of CN=Lower" in partly["notes"][0]
    (whole,) = done(place, "certs", "import", *(str(tmp_path / name) for name in reversed(files)))
    assert whole["notes"] == []
    shown = done(place, "certs", "show", "www.example.com")
    assert shown["chain"] == ["CN=Lower", "CN=Upper"]
    assert shown["standing"] == "trusted"
    assert len(chain) == 2


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_pkcs12_is_imported_with_its_passphrase(place: Place, tmp_path: Path, passphrase: str) -> None:
    pair = place.root.issue("www.example.com")
    (tmp_path / "pair.p12").write_bytes(pair.p12(passphrase.encode() or None))
    (tmp_path / "words").write_text("wrong\n")
    arguments: tuple[str, ...] = ("certs", "import", str(tmp_path / "pair.p12"))
    if passphrase:
        assert "passphrase" in refused(place, *arguments)
        assert "passphrase" in refused(place, *arguments, "--passphrase-file", str(tmp_path / "words"))
        (tmp_path / "words").write_text(f"{passphrase}\n")
        arguments = (*arguments, "--passphrase-file", str(tmp_path / "words"))
    (imported,) = done(place, *arguments)
    assert imported["fingerprint"] == pair.fingerprint
    assert b"ENCRYPTED" not in Path(imported["paths"][0]).read_bytes()


def test_what_cannot_be_imported_is_said_in_a_sentence(place: Place, tmp_path: Path) -> None:
    pair = place.root.issue("www.example.com")
    cases = {
        "leaf.pem": (pair.certificate_pem, "the private key of the certificate for www.example.com is not here"),
        "key.pem": (pair.key_pem, "a private key, but no certificate"),
        "root.pem": (place.root.pem, "is a root certificate; 'snigate trust add'"),
        "junk.pem": (b"junk", "holds no certificate"),
        "cut.pem": (pair.combined_pem[:-30], "write the file again"),
        "big.pem": (b"x" * (2 << 20), "an import has at most"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert words in refused(place, "certs", "import", str(tmp_path / name))
    assert "cannot be read" in refused(place, "certs", "import", str(tmp_path / "nowhere"))
    assert not (state(place) / "certs").exists()


def test_renewing_with_the_same_key_keeps_tlsa_records_and_the_old_one_can_go(place: Place) -> None:
    (first,) = done(place, "certs", "new", "www.example.com", "--days", "10")
    before = done(place, "certs", "show", "www.example.com")
    (second,) = done(place, "certs", "renew", "www.example.com")
    after = done(place, "certs", "show", "www.example.com")
    assert (second["fingerprint"], after["tlsa"]) == (after["fingerprint"], before["tlsa"])
    (third,) = done(place, "certs", "renew", "www.example.com", "--new-key", "--days", "900")
    assert done(place, "certs", "show", "www.example.com")["tlsa"] != before["tlsa"]
    (gone,) = done(place, "certs", "delete", first["fingerprint"], "--yes")
    assert gone["changes"] == []
    held = {one["fingerprint"] for one in done(place, "certs", "list")["certificates"]}
    assert held == {second["fingerprint"], third["fingerprint"]}


def test_a_cas_certificate_is_renewed_by_a_request_with_its_names_subject_and_key(place: Place, tmp_path: Path) -> None:
    pair = place.root.issue("www.example.com", "example.com")
    (tmp_path / "pair.pem").write_bytes(pair.combined_pem)
    done(place, "certs", "import", str(tmp_path / "pair.pem"))
    made = done(place, "certs", "renew", "www.example.com")
    assert sorted(made["names"]) == ["example.com", "www.example.com"]
    assert made["id"] == done(place, "certs", "show", "www.example.com")["spki"]


def test_deleting_says_what_is_served_then_and_moves_to_the_trash(place: Place) -> None:
    (wild,) = done(place, "certs", "new", "*.example.com")
    (exact,) = done(place, "certs", "new", "www.example.com")
    assert "Delete www.example.com? Say --yes" in refused(place, "certs", "delete", exact["fingerprint"], status=2)
    (gone,) = done(place, "certs", "delete", "www.example.com", "--yes")
    (change,) = gone["changes"]
    assert (change["name"], change["before"]["fingerprint"], change["after"]["fingerprint"]) == (
        "www.example.com",
        exact["fingerprint"],
        wild["fingerprint"],
    )
    (trash,) = gone["paths"]
    assert [one.name for one in Path(trash).iterdir()] == [Path(exact["paths"][0]).name]
    assert Path(trash).parent == state(place) / "trash"


def test_only_snigates_own_files_are_deleted(place: Place) -> None:
    pair = place.add(place.root.issue("www.example.com"), "www")
    assert "is not one of snigate's own files" in refused(place, "certs", "delete", "www.example.com", "--yes")
    assert served(place, "www.example.com") == pair.fingerprint
    own = state(place) / "certs"
    own.mkdir(parents=True)
    others = [self_signed(name) for name in ("a.example.com", "b.example.com")]
    (own / "both.pem").write_bytes(b"".join(one.combined_pem for one in others))
    assert "also holds b.example.com" in refused(place, "certs", "delete", "a.example.com", "--yes")
    (own / "both.pem").unlink()
    (place.path / "elsewhere.pem").write_bytes(others[0].combined_pem)
    (own / "link.pem").symlink_to(place.path / "elsewhere.pem")
    assert "remove it yourself" in refused(place, "certs", "delete", "a.example.com", "--yes")


def test_the_default_is_set_and_refused_where_the_configuration_says_it(place: Place) -> None:
    assert "no certificate covers www.example.com" in refused(place, "certs", "default", "www.example.com", "--yes")
    (made,) = done(place, "certs", "new", "*.example.com", "www.example.com")
    (changed,) = done(place, "certs", "default", "www.example.com", "--yes")
    assert [one["name"] for one in changed["changes"]] == [""]
    assert served(place, "unknown.example.org") == made["fingerprint"]
    place.configure(certificates='default = "www.example.com"')
    assert "set by certificates.default in the configuration" in refused(
        place, "certs", "default", "x.example.com", "--yes"
    )


def test_exports_are_what_openssl_reads_and_a_key_is_handed_out_only_when_asked_for(
    place: Place, tmp_path: Path
) -> None:
    intermediate = Authority.make("Intermediate", place.root)
    pair = intermediate.issue("www.example.com")
    (tmp_path / "pair.pem").write_bytes(pair.combined_pem)
    done(place, "certs", "import", str(tmp_path / "pair.pem"))
    (tmp_path / "words").write_text("secret\n")

    def exported(part: str, *more: str) -> bytes:
        file = tmp_path / part
        result = place.run("certs", "export", "www.example.com", "--part", part, "-o", str(file), *more)
        assert result.exit_code == 0, result.output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        return file.read_bytes()

    assert exported("certificate") == pair.certificate_pem
    assert exported("chain") == pair.chain_pem
    assert b"PRIVATE" not in exported("fullchain")
    assert x509.load_pem_x509_csr(exported("request")).is_signature_valid
    assert [one["action"] for one in audited(place)] == ["import"]
    assert exported("key") == pair.key_pem
    assert "say a passphrase" in refused(place, "certs", "export", "www.example.com", "--part", "pkcs12", "-o", "x")
    p12 = exported("pkcs12", "--passphrase-file", str(tmp_path / "words"))
    assert parse_file(p12, [b"secret"]).certificates[0].fingerprint == pair.fingerprint
    assert [one["action"] for one in audited(place)] == ["import", "export-key", "export-key"]
    assert "is no part of a certificate" in refused(
        place, "certs", "export", "www.example.com", "--part", "all", status=2
    )


def test_a_root_that_is_added_makes_chains_trusted_until_it_is_removed(place: Place, tmp_path: Path) -> None:
    private = Authority.make("Private root")
    pair = place.add(private.issue("www.example.com"), "www")
    assert done(place, "certs", "show", "www.example.com")["standing"] == "valid"
    (tmp_path / "root.pem2").write_bytes(private.pem)
    (added,) = done(place, "trust", "add", str(tmp_path / "root.pem2"))
    assert done(place, "certs", "show", "www.example.com")["standing"] == "trusted"
    assert [one["subject"] for one in done(place, "trust", "list")] == [added["subject"]]
    assert len(done(place, "trust", "list", "--all")) == 2
    (tmp_path / "leaf.pem").write_bytes(pair.certificate_pem)
    assert "is not self-signed" in refused(place, "trust", "add", str(tmp_path / "leaf.pem"))
    assert "was added here" in refused(place, "trust", "remove", "ffff")
    done(place, "trust", "remove", added["fingerprint"][:8])
    assert done(place, "certs", "show", "www.example.com")["standing"] == "valid"


def test_people_are_told_which_names_change_hands(place: Place) -> None:
    result = place.run("certs", "new", "www.example.com")
    assert "Name             Served before  Served now" in result.stdout
    assert "level 2 (self-signed, exact)" in result.stdout
