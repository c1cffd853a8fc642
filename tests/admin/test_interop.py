"""What openssl makes is imported, and what is exported openssl reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.admin.conftest import Place
from tests.support.pki import Authority, Pair
from tests.support.servers import needs

PASS = "pass:secret"


def openssl(directory: Path, *arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(
        [needs("openssl"), *arguments], cwd=directory, input=data, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def import_(place: Place, *files: Path, passphrase: str | None = None) -> Any:
    arguments = [str(one) for one in files]
    if passphrase is not None:
        (place.path / "words").write_text(passphrase + "\n")
        arguments += ["--passphrase-file", str(place.path / "words")]
    result = place.run("certs", "import", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


Make = Callable[[Path, Pair], bytes]


def rewritten(*arguments: str) -> Make:
    """The key as openssl writes it anew, and the certificate."""
    return lambda directory, pair: openssl(directory, *arguments, data=pair.key_pem) + pair.certificate_pem


def der(directory: Path, pair: Pair) -> bytes:
    (directory / "key.der").write_bytes(openssl(directory, "pkey", "-outform", "DER", data=pair.key_pem))
    return openssl(directory, "x509", "-outform", "DER", data=pair.certificate_pem)


def pkcs12(*more: str) -> Make:
    return lambda directory, pair: openssl(
        directory, "pkcs12", "-export", "-passout", PASS, *more, data=pair.key_pem + pair.certificate_pem
    )


FORMS: dict[str, tuple[str, Make]] = {
    "PKCS#8": ("ecdsa-p256", rewritten("pkey")),
    "PKCS#8 encrypted (PBES2)": (
        "ecdsa-p256",
        rewritten("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", PASS),
    ),
    "PKCS#8 encrypted (scrypt)": ("rsa-2048", rewritten("pkcs8", "-topk8", "-scrypt", "-passout", PASS)),
    "traditional, encrypted": ("rsa-2048", rewritten("rsa", "-traditional", "-aes256", "-passout", PASS)),
    "SEC1, encrypted": ("ecdsa-p384", rewritten("ec", "-aes128", "-passout", PASS)),
    "PKCS#1": ("rsa-2048", rewritten("rsa", "-traditional")),
    "Ed25519": ("ed25519", rewritten("pkey")),
    "DER": ("ecdsa-p256", der),
    "PKCS#12": ("ecdsa-p256", pkcs12()),
    "PKCS#12 of before": ("rsa-2048", pkcs12("-legacy")),
    "CRLF": ("ecdsa-p256", lambda _, pair: pair.combined_pem.replace(b"\n", b"\r\n")),
    "text before it": ("ecdsa-p256", lambda _, pair: b"Bag Attributes\n    x: y\n" * 300 + pair.combined_pem),
    "byte order mark": ("ecdsa-p256", lambda _, pair: b"\xef\xbb\xbf" + pair.combined_pem),
    "EC parameters first": (
        "ecdsa-p256",
        lambda directory, pair: openssl(directory, "ecparam", "-name", "prime256v1") + pair.combined_pem,
    ),
    "a large file": ("rsa-4096", rewritten("rsa", "-text")),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_openssl_writes_is_imported(place: Place, tmp_path: Path, form: str) -> None:
    key_type, make = FORMS[form]
    pair = place.root.issue("www.example.com", key_type=key_type)
    file = tmp_path / "file"
    file.write_bytes(make(tmp_path, pair))
    files = [one for one in (file, tmp_path / "key.der") if one.exists()]
    encrypted = b"ENCRYPTED" in file.read_bytes() or form.startswith("PKCS#12")
    (done,) = import_(place, *files, passphrase="secret" if encrypted else None)
    assert done["fingerprint"] == pair.fingerprint
    if form == "a large file":
        assert file.stat().st_size > 4096


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_intermediates_in_any_order_become_one_chain(
    place: Place, tmp_path: Path, order: tuple[int, int, int]
) -> None:
    authorities = [place.root]
    for number in range(3):
        authorities.append(Authority.make(f"Level {number}", authorities[-1]))
    pair = authorities[-1].issue("www.example.com")
    links = [one.pem for one in authorities[1:]]
    (tmp_path / "bundle.pem").write_bytes(
        b"".join(links[place_] for place_ in order) + pair.key_pem + pair.certificate_pem
    )
    (done,) = import_(place, tmp_path / "bundle.pem")
    assert done["notes"] == []
    place.run("certs", "export", "www.example.com", "-o", str(tmp_path / "fullchain.pem"))
    assert (tmp_path / "fullchain.pem").read_bytes() == pair.certificate_pem + b"".join(reversed(links))
    (tmp_path / "ca.pem").write_bytes(place.root.pem)
    bundle = ("-untrusted", "fullchain.pem", "fullchain.pem")
    assert b"OK" in openssl(tmp_path, "verify", "-CAfile", "ca.pem", *bundle)


def test_what_is_exported_openssl_reads(place: Place, tmp_path: Path) -> None:
    pair = place.root.issue("www.example.com", key_type="rsa-2048")
    (tmp_path / "pair.pem").write_bytes(pair.combined_pem)
    import_(place, tmp_path / "pair.pem")
    (place.path / "words").write_text("secret\n")
    for part in ("key", "request", "pkcs12"):
        more = ("--passphrase-file", str(place.path / "words")) if part == "pkcs12" else ()
        result = place.run("certs", "export", "www.example.com", "-p", part, "-o", str(tmp_path / part), *more)
        assert result.exit_code == 0, result.output
    assert b"valid" in openssl(tmp_path, "pkey", "-in", "key", "-check", "-noout")
    openssl(tmp_path, "req", "-in", "request", "-verify", "-noout")
    assert openssl(tmp_path, "pkcs12", "-in", "pkcs12", "-passin", PASS, "-nodes").count(b"-----BEGIN ") == 2


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"])
def test_requests_of_every_key_type_are_what_openssl_verifies(place: Place, tmp_path: Path, key_type: str) -> None:
    made = place.run(
        "certs", "request", "www.example.com", "192.0.2.1", "--key-type", key_type, "-o", str(tmp_path / "csr")
    )
    assert made.exit_code == 0, made.output
    text = openssl(tmp_path, "req", "-in", "csr", "-verify", "-noout", "-text")
    assert b"DNS:www.example.com, IP Address:192.0.2.1" in text
