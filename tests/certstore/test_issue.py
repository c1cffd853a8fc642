from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certstore.issue import KEY_TYPES, make_self_signed
from certstore.load import parse_file, prove_key
from certstore.names import InvalidName
from certstore.private_file import write_private_file


@pytest.mark.parametrize("key_type", [one for one in KEY_TYPES if one not in ("rsa-3072", "rsa-4096")])
def test_what_is_made_loads_and_pairs(key_type: str) -> None:
    certificate, key = make_self_signed(["www.example.com"], key_type=key_type)
    content = parse_file(key + certificate)
    leaf, private = content.certificates[0], content.keys[0]
    prove_key(private)
    assert leaf.spki == private.spki
    assert leaf.key_type == private.key_type == key_type
    assert leaf.self_signed
    assert leaf.server_auth
    assert not leaf.is_ca


def test_it_is_a_proper_server_certificate() -> None:
    pem, _ = make_self_signed(["Bücher.example", "*.example.com", "*.example.com"], ["127.0.0.1", "::1"], days=30)
    made = x509.load_pem_x509_certificate(pem)
    extensions = made.extensions
    san = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    now = datetime.now(UTC)
    assert san.get_values_for_type(x509.DNSName) == ["xn--bcher-kva.example", "*.example.com"]
    assert [str(one) for one in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert made.serial_number.bit_length() > 64
    assert timedelta(minutes=59) < now - made.not_valid_before_utc < timedelta(minutes=61)
    assert timedelta(days=29) < made.not_valid_after_utc - now <= timedelta(days=30)


def test_its_days_are_those_that_clients_count() -> None:
    made = x509.load_pem_x509_certificate(make_self_signed(["a.example"], days=30)[0])
    counted = made.not_valid_after_utc - made.not_valid_before_utc + timedelta(seconds=1)  # both ends are in it
    assert counted == timedelta(days=30)


def test_serial_numbers_differ() -> None:
    made = [x509.load_pem_x509_certificate(make_self_signed(["a.example"])[0]) for _ in range(3)]
    assert len({one.serial_number for one in made}) == 3


def test_the_cn_is_the_first_name_that_fits() -> None:
    long = f"{'x' * 60}.example"
    pem, _ = make_self_signed([long, "short.example"])
    common_name = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert common_name == "short.example"
    assert parse_file(make_self_signed([long])[0]).certificates[0].names == (long,)
    assert parse_file(make_self_signed([], ["192.0.2.1"])[0]).certificates[0].addresses == ("192.0.2.1",)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidName, match="'a b'"):
        make_self_signed(["a b"])
    with pytest.raises(ValueError, match=r"192\.0\.2"):
        make_self_signed([], ["192.0.2"])
    with pytest.raises(ValueError, match="at least one host name"):
        make_self_signed([])
    with pytest.raises(ValueError, match="ecdsa-p256"):
        make_self_signed(["a.example"], key_type="dsa")
    with pytest.raises(ValueError, match="1 to 36500 days"):
        make_self_signed(["a.example"], days=0)


def test_a_private_file_is_the_owners_alone_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    path.chmod(0o644)
    before = path.stat().st_ino
    old_mask = os.umask(0)
    try:
        write_private_file(path, b"new")
    finally:
        os.umask(old_mask)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "key.pem"
    target.mkdir()
    (target / "inside").write_bytes(b"kept")
    with pytest.raises(OSError, match=r"key\.pem"):
        write_private_file(target, b"new")
    assert (target / "inside").read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileNotFoundError):
        write_private_file(tmp_path / "missing" / "key.pem", b"new")
