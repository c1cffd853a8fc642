from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from certstore.load import FileRejected, RejectReason, parse_file
from certstore.unlock import MAX_ANSWER, UnlockedFile, unlock
from tests.support.openssl import openssl
from tests.support.pki import Authority, Pair

RIGHT = b"correct horse"
PASS = ("-passout", f"pass:{RIGHT.decode()}")


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Authority.make("Issuing", Authority.make()).issue("www.example.com")


@pytest.fixture
def files(pair: Pair, tmp_path: Path) -> Path:
    (tmp_path / "key.pem").write_bytes(pair.key_pem)
    (tmp_path / "chain.pem").write_bytes(pair.fullchain_pem)
    return tmp_path


def pkcs12(files: Path, *arguments: str) -> bytes:
    return openssl("pkcs12", "-export", "-inkey", files / "key.pem", "-in", files / "chain.pem", *arguments)


def test_pkcs12_modern_and_legacy_opens_with_the_passphrase_that_fits(files: Path, pair: Pair) -> None:
    for arguments in ([], ["-legacy"], ["-nomac"]):
        content = parse_file(pkcs12(files, *PASS, *arguments), [b"wrong", RIGHT])
        assert {one.der for one in content.certificates} == {pair.der, *pair.chain_der}
        assert content.certificates[0].fingerprint == pair.fingerprint
        assert content.keys == parse_file(pair.key_pem).keys


def test_pkcs12_with_an_empty_passphrase_needs_none_given(files: Path, pair: Pair) -> None:
    assert parse_file(pkcs12(files, "-passout", "pass:")).certificates[0].fingerprint == pair.fingerprint
    assert parse_file(pair.p12()).certificates[0].fingerprint == pair.fingerprint


def test_encrypted_keys_of_every_supported_kind_open(pair: Pair, files: Path) -> None:
    rsa = openssl("genrsa", "-traditional", "1024")
    plain = parse_file(pair.key_pem + rsa).keys
    encrypted = [
        openssl("pkcs8", "-topk8", "-v2", "aes-256-cbc", *PASS, data=pair.key_pem),
        openssl("rsa", "-traditional", "-aes256", *PASS, data=rsa),
    ]
    content = parse_file(b"".join([*encrypted, pair.certificate_pem]), [b"wrong", RIGHT])
    assert content.keys == plain
    assert content.certificates[0].fingerprint == pair.fingerprint


def test_scrypt_3des_and_encrypted_der_open(pair: Pair) -> None:
    scrypt = openssl("pkcs8", "-topk8", "-scrypt", *PASS, data=pair.key_pem)
    sec1 = openssl("ec", "-des3", *PASS, data=pair.key_pem)
    assert b"DEK-Info: DES-EDE3-CBC" in sec1
    assert parse_file(scrypt + sec1, [RIGHT]).keys == parse_file(pair.key_pem).keys
    der = pair.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(RIGHT))
    assert parse_file(der, [RIGHT]).keys == parse_file(pair.key_pem).keys


def test_a_passphrase_that_does_not_fit_is_said_and_never_shown(pair: Pair) -> None:
    for data in (pair.p12(RIGHT), openssl("pkcs8", "-topk8", *PASS, data=pair.key_pem)):
        with pytest.raises(FileRejected) as caught:
            parse_file(data, [b"tried in vain"])
        assert caught.value.reason is RejectReason.PASSPHRASE_NEEDED
        assert "in vain" not in str(caught.value)


def test_a_file_that_asks_for_too_much_work_hits_the_time_limit(files: Path) -> None:
    asked, wanted = ((0x10000).to_bytes(3, "big"), (0x7FFFFF).to_bytes(3, "big"))
    harmless = pkcs12(files, *PASS, "-iter", str(0x10000))
    hostile = harmless.replace(b"\x02\x03" + asked, b"\x02\x03" + wanted)
    assert hostile != harmless
    started = time.monotonic()
    with pytest.raises(FileRejected, match=r"0\.5 s") as caught:
        unlock(hostile, [RIGHT], timeout=0.5)
    assert caught.value.reason is RejectReason.UNLOCK_TIMEOUT
    assert time.monotonic() - started < 5


def test_a_file_that_asks_for_too_much_memory_is_refused(pair: Pair) -> None:
    key = openssl("pkcs8", "-topk8", "-scrypt", *PASS, "-outform", "DER", data=pair.key_pem)
    salt = key.index(bytes.fromhex("02024000")) - 8
    assert key[salt - 2 : salt] == bytes.fromhex("0408")
    # A salt shorter by one byte makes room for N = 2^22, which asks for 4 GiB.
    huge = (
        key[: salt - 2] + bytes.fromhex("0407") + key[salt : salt + 7] + bytes.fromhex("0203400000") + key[salt + 12 :]
    )
    assert len(huge) == len(key)
    with pytest.raises(FileRejected) as caught:
        unlock(huge, [RIGHT])
    assert caught.value.reason is RejectReason.UNSUPPORTED


class _Run:
    """Stands in for subprocess.run: notes how it was called and lets the child answer `said`."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.environment: dict[str, str] = {}
        self.arguments: Sequence[str] = ()

    def __call__(self, arguments: Sequence[str], **options: object) -> None:
        stdout, environment = options["stdout"], options["env"]
        assert hasattr(stdout, "write")
        assert isinstance(environment, dict)
        stdout.write(self.said)
        self.arguments, self.environment = arguments, environment


def test_the_child_gets_no_environment_and_no_secret_on_its_command_line(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _Run(msgspec.msgpack.encode({"content": {"certificates": [], "keys": []}, "reason": None}))
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setitem(os.environ, "SECRET_TOKEN", "x")
    assert unlock(pair.p12(RIGHT), [RIGHT]) == UnlockedFile((), ())
    assert set(run.environment) <= {"LD_LIBRARY_PATH"}
    assert "-I" in run.arguments
    assert not any(RIGHT.decode() in one for one in run.arguments)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xc1",
        b"x" * (MAX_ANSWER + 1),
        msgspec.msgpack.encode({"content": {"certificates": [1], "keys": []}, "reason": None}),
        msgspec.msgpack.encode({"content": None, "reason": "made up"}),
        msgspec.msgpack.encode({"content": None, "reason": None}),
        msgspec.msgpack.encode({"content": None, "reason": "oversized"}),
    ],
)
def test_an_answer_that_is_not_what_it_should_be_is_a_failure(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", _Run(said))
    with pytest.raises(FileRejected) as caught:
        unlock(b"0\x80", [])
    assert caught.value.reason is RejectReason.UNLOCK_FAILED


def test_a_helper_that_cannot_be_started_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(FileRejected) as caught:
        unlock(b"0\x80", [])
    assert caught.value.reason is RejectReason.UNLOCK_FAILED


def test_nothing_is_left_open_or_running(pair: Pair) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    unlock(pair.p12(RIGHT), [RIGHT])
    assert set(Path("/proc/self/fd").iterdir()) == before
