"""Whatever bytes a stranger drops into a certificate directory, loading them gives content or FileRejected."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certstore import der, pem
from certstore.chain import build_chain
from certstore.load import FileContent, FileRejected, RejectReason, looks_like_ours, parse_file, prove_key
from certstore.trust import TrustStore
from certstore.unlock import UnlockedFile, open_file
from tests.support.pki import Authority

ROOT = Authority.make()
PAIR = Authority.make("Issuing", ROOT).issue("www.example.com", "*.example.com", addresses=["192.0.2.1"])
RSA = ROOT.issue("rsa.example", key_type="rsa-2048")
EDWARDS = ROOT.issue("ed.example", key_type="ed25519")
SOURCES = [PAIR.combined_pem, PAIR.der, PAIR.key_der, PAIR.p12(), RSA.der, RSA.key_der, EDWARDS.der, EDWARDS.key_der]
TRUST = TrustStore(parse_file(ROOT.pem).certificates)
LINES = [
    b"-----BEGIN CERTIFICATE-----",
    b"-----END CERTIFICATE-----",
    b"-----BEGIN PRIVATE KEY-----",
    b"-----END PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"Proc-Type: 4,ENCRYPTED",
    b"DEK-Info: AES-256-CBC,00",
    b"-----BEGIN ",
    b"-----",
    b"MIIB",
    b"=",
    b"",
    b" x: y",
]


def load(data: bytes) -> FileContent | None:
    """Everything that is done with a file's bytes; asserts that it ends in content or a rejection."""

    def unlock(data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
        raise FileRejected(RejectReason.PASSPHRASE_NEEDED, "opened by a child process; not here")

    assert isinstance(looks_like_ours(data), bool)
    try:
        content = parse_file(data, [b"x"], unlock)
        for key in content.keys:
            prove_key(key)
    except FileRejected:
        return None
    for certificate in content.certificates:
        at = max(certificate.not_before, 0)
        TRUST.best_verdict(certificate, content.certificates, at)
        build_chain(certificate, content.certificates)
    return content


@given(st.binary(max_size=400))
def test_random_bytes_are_content_or_rejected(data: bytes) -> None:
    load(data)
    load(b"0\x82" + data)


@given(st.lists(st.sampled_from(LINES) | st.binary(max_size=20), max_size=12), st.sampled_from([b"\n", b"\r\n", b""]))
def test_random_lines_are_content_or_rejected(lines: list[bytes], end: bytes) -> None:
    load(end.join(lines))


@settings(max_examples=300)
@given(st.sampled_from(SOURCES), st.data())
def test_damaged_files_are_content_or_rejected(source: bytes, data: st.DataObject) -> None:
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(damaged)))
    load(bytes(damaged[:cut]))


@given(st.sampled_from(SOURCES), st.integers(0, 2000), st.integers(0, 2000))
def test_files_put_together_from_two_states_are_content_or_rejected(source: bytes, head: int, tail: int) -> None:
    other = ROOT.issue("other.example", key=PAIR.key).combined_pem
    load(source[:head] + other[tail:])


@pytest.mark.parametrize("source", [PAIR.p12(b"x"), PAIR.p12()])
@settings(max_examples=30)
@given(data=st.data())
def test_damaged_pkcs12_only_ever_rejects_in_the_child(source: bytes, data: st.DataObject) -> None:
    damaged = bytearray(source)
    damaged[data.draw(st.integers(0, 120))] = data.draw(st.integers(0, 255))
    try:
        opened = open_file(bytes(damaged), (b"x",))
    except FileRejected:
        return
    assert isinstance(opened, UnlockedFile)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_der_elements_never_start_outside_the_data(data: bytes, at: int) -> None:
    try:
        found = der.element(data, at)
    except der.DerError:
        return
    assert at < found.content <= len(data)
    assert found.content <= found.end


@given(st.binary(max_size=300))
def test_pem_without_a_begin_line_has_no_blocks(data: bytes) -> None:
    try:
        blocks = pem.split(data)
    except FileRejected:
        return
    assert len(blocks) <= data.count(b"-----BEGIN ")
