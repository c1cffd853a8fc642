"""`snigate certs` and `snigate trust`, as far as they change something."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from admin.belongings import files_of
from admin.refusal import Refused
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
    assert "the chain lacks the certificate of CN=Lower" in partly["notes"][0]
    (whole,) = done(place, "certs", "import", *(str(tmp_path / name) for name in reversed(files)))
    assert whole["notes"] == ["it was here already"]
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
        "root.pem": (place.root.pem, "add it to the roots ('snigate trust add')"),
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
    assert f"Delete {exact['fingerprint'][:16]} for www.example.com? Say --yes" in refused(
        place, "certs", "delete", exact["fingerprint"], status=2
    )
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


def test_the_only_copy_of_anothers_key_is_not_deleted(place: Place) -> None:
    own = state(place) / "certs"
    own.mkdir(mode=0o700, parents=True)
    first = self_signed("a.example.com")
    second = place.root.issue("b.example.com", key=first.key)
    (own / "a.pem").write_bytes(first.combined_pem)
    (own / "b.crt").write_bytes(second.certificate_pem)
    assert "the only copy of the private key of b.example.com" in refused(
        place, "certs", "delete", "a.example.com", "--yes"
    )
    (own / "b.key").write_bytes(second.key_pem)
    (gone,) = done(place, "certs", "delete", "a.example.com", "--yes")
    assert [one.name for one in Path(gone["paths"][0]).iterdir()] == ["a.pem"]
    assert served(place, "b.example.com") == second.fingerprint


def test_a_key_file_that_others_use_stays(place: Place) -> None:
    own = state(place) / "certs"
    own.mkdir(mode=0o700, parents=True)
    keys = [self_signed(name) for name in ("a.example.com", "b.example.com")]
    for one, name in zip(keys, "ab", strict=True):
        (own / f"{name}.crt").write_bytes(one.certificate_pem)
    (own / "keys.pem").write_bytes(b"".join(one.key_pem for one in keys))
    (gone,) = done(place, "certs", "delete", "a.example.com", "--yes")
    assert [one.name for one in Path(gone["paths"][0]).iterdir()] == ["a.crt"]
    assert served(place, "b.example.com") == keys[1].fingerprint


def test_an_intermediate_that_others_need_stays_when_its_file_goes(place: Place, tmp_path: Path) -> None:
    lower = Authority.make("Lower", place.root)
    own = state(place) / "certs"
    own.mkdir(mode=0o700, parents=True)
    (own / "a.pem").write_bytes(lower.issue("a.example.com").combined_pem)
    other = lower.issue("b.example.com")
    (own / "b.pem").write_bytes(other.certificate_pem + other.key_pem)
    assert done(place, "certs", "show", "b.example.com")["chain"] == ["CN=Lower"]
    done(place, "certs", "delete", "a.example.com", "--yes")
    assert done(place, "certs", "show", "b.example.com")["chain"] == ["CN=Lower"]


def test_what_several_certificates_carry_is_not_deleted_by_its_name(place: Place) -> None:
    first, second = (done(place, "certs", "new", "www.example.com")[0] for _ in range(2))
    sentence = refused(place, "certs", "delete", "www.example.com", "--yes", status=2)
    assert "2 certificates carry 'www.example.com'; say by its fingerprint which one" in sentence
    assert all(one["fingerprint"][:16] in sentence for one in (first, second))
    done(place, "certs", "delete", first["fingerprint"][:16], "--yes")
    assert served(place, "www.example.com") == second["fingerprint"]
    done(place, "certs", "new", "*.example.com")
    for action in ("delete", "renew"):
        assert (
            "no certificate itself carries 'shop.example.com'" in place.run("certs", action, "shop.example.com").stderr
        )


def test_json_output_does_not_mean_yes(place: Place) -> None:
    done(place, "certs", "new", "www.example.com")
    for action in ("delete", "default"):
        assert "Say --yes" in place.run("certs", action, "www.example.com", "--json").stderr
    assert len(done(place, "certs", "list")["certificates"]) == 1


def test_a_second_request_needs_to_be_told_apart(place: Place) -> None:
    first, second = (done(place, "certs", "request", "www.example.com") for _ in range(2))
    assert first["id"] != second["id"]
    sentence = refused(place, "certs", "request", "--withdraw", "www.example.com", "--yes")
    assert all(one["id"][:16] in sentence for one in (first, second))


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_nothing_is_written_where_others_may_change_it(place: Place, mode: int) -> None:
    state(place).mkdir()
    state(place).chmod(mode)
    assert f"nothing was changed, since directory {state(place)}" in refused(place, "certs", "new", "www.example.com")
    assert list(state(place).iterdir()) == []


def test_what_belongs_to_another_user_is_not_written_into(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    state(place).mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    owner = getpass.getuser()
    assert f"belongs to {owner}" in (said := refused(place, "certs", "new", "www.example.com"))
    assert f"runuser -u {owner} -- snigate" in said
    assert list(state(place).iterdir()) == []


def test_what_has_no_effect_is_said_to_have_none(place: Place) -> None:
    (first,) = done(place, "certs", "new", "www.example.com", "--days", "100")
    assert first["notes"] == []
    (second,) = done(place, "certs", "renew", "www.example.com", "--days", "10")
    assert second["notes"] == [
        "it serves no name for now, since what is here already comes first; 'snigate explain HOST' says why"
    ]
    done(place, "certs", "default", "www.example.com", "--yes")
    (gone,) = done(place, "certs", "delete", first["fingerprint"], "--yes")
    assert "it is the default, as the certificate for www.example.com" in gone["notes"][0]


def test_the_default_is_found_by_a_fingerprint_too(place: Place) -> None:
    (made,) = done(place, "certs", "new", "*.example.com", "www.example.com")
    (changed,) = done(place, "certs", "default", made["fingerprint"][:6], "--yes")
    assert changed["notes"] == ["the default is the certificate for www.example.com"]


def test_what_comes_along_and_is_not_kept_is_said(place: Place, tmp_path: Path) -> None:
    pair, stray = place.root.issue("www.example.com"), self_signed("other.example")
    files = {"pair.pem": pair.combined_pem, "stray.key": stray.key_pem, "lower.pem": Authority.make("Lower").pem}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (imported,) = done(place, "certs", "import", *(str(tmp_path / name) for name in files))
    assert imported["notes"] == [
        "not kept, since no certificate for a server came with it: 1 private key",
        "not kept, since it is in no chain that is sent: CN=Lower",
    ]


def test_an_authoritys_own_key_is_not_kept(place: Place, tmp_path: Path) -> None:
    lower = Authority.make("Lower CA", place.root)
    (tmp_path / "lower.pem").write_bytes(lower.pem + Pair(lower.certificate, lower.key).key_pem)
    (imported,) = done(place, "certs", "import", str(tmp_path / "lower.pem"))
    assert "not kept, since no certificate for a server came with it: 1 private key" in imported["notes"]
    assert b"PRIVATE" not in b"".join(one.read_bytes() for one in (state(place) / "certs").iterdir())


def test_a_request_whose_file_cannot_be_written_is_not_made(place: Place) -> None:
    assert "is no directory" in refused(place, "certs", "request", "www.example.com", "-o", "/nowhere/www.csr")
    assert done(place, "certs", "request") == []


def test_the_trash_is_found_by_the_audit_log(place: Place) -> None:
    (made,) = done(place, "certs", "new", "www.example.com")
    done(place, "certs", "delete", "www.example.com", "--yes")
    trash = state(place) / "trash" / audited(place)[-1]["trash"]
    assert [one.name for one in trash.iterdir()] == [Path(made["paths"][0]).name]


def test_a_pipe_in_a_certificates_place_does_not_hold_anybody_up(place: Place) -> None:
    (made,) = done(place, "certs", "new", "www.example.com")
    reading = place.read()
    Path(made["paths"][0]).unlink()
    os.mkfifo(made["paths"][0])
    with pytest.raises(Refused, match="cannot be looked into"):
        files_of(reading.certificates[0], reading.index, ())


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
    assert "is there already" in refused(
        place, "certs", "export", "www.example.com", "--part", "key", "-o", str(tmp_path / "certificate")
    )
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
    assert "was added here" in refused(place, "trust", "remove", "ffff", "--yes")
    done(place, "trust", "remove", added["fingerprint"][:8], "--yes")
    assert done(place, "certs", "show", "www.example.com")["standing"] == "valid"


def test_people_are_told_which_names_change_hands(place: Place) -> None:
    result = place.run("certs", "new", "www.example.com")
    assert "Name             Served before  Served now" in result.stdout
    assert "level 2 (self-signed, exact)" in result.stdout
