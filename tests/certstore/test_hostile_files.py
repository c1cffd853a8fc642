"""Files and links that somebody put into a certificate directory to do harm: each costs itself and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from certstore.catalogue import MAX_PATHS, Catalogue, Settings, Snapshot
from certstore.chain import MAX_CHAIN_BYTES
from tests.support.pki import DAY, Authority, Key, Pair, moment, new_key, pem_of, self_signed


def refreshed(state: Path) -> Snapshot:
    return Catalogue(Settings(state, trust=())).refresh(time.time(), time.monotonic())


def test_a_certificate_of_an_impossible_version_is_a_problem_of_its_file_alone(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    good = self_signed("a.example")
    good.write(certs, "good")
    version = b"\xa0\x03\x02\x01\x02"
    damaged = self_signed("b.example").der
    assert damaged.count(version) == 1
    (certs / "bad.der").write_bytes(damaged.replace(version, b"\xa0\x03\x02\x01\x22"))
    snapshot = refreshed(tmp_path)
    assert set(snapshot.certificates) == {good.fingerprint}
    assert [(one.path, one.reason) for one in snapshot.problems] == [(str(certs / "bad.der"), "malformed")]


def test_a_link_to_what_lies_above_or_to_the_kernels_files_is_not_followed(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    good = self_signed("a.example")
    good.write(certs, "good")
    self_signed("b.example").write(tmp_path, "outside")
    (certs / "root").symlink_to("/")
    (certs / "above").symlink_to("..")
    (certs / "proc").symlink_to("/proc")
    snapshot = refreshed(tmp_path)
    assert set(snapshot.certificates) == {good.fingerprint}
    assert sorted(Path(one.path).name for one in snapshot.problems) == ["above", "proc", "root"]


def test_a_link_to_an_ordinary_directory_elsewhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "state" / "certs").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    good = self_signed("a.example")
    good.write(elsewhere, "good")
    (tmp_path / "state" / "certs" / "link").symlink_to(elsewhere)
    assert set(refreshed(tmp_path / "state").certificates) == {good.fingerprint}


def huge(subject: str, issuer: str, key: Key, signer: Key, *names: str, size: int = 0) -> x509.Certificate:
    """A CA's certificate (a leaf's, where names are given) blown up by an extension that nobody knows."""
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
        issuer_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=moment(-3600, 0),
        not_valid_after=moment(DAY, 0),
    ).add_extension(x509.BasicConstraints(not names, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    blob = b"\x04\x83" + size.to_bytes(3, "big") + bytes(size)
    builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), blob), False)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return builder.sign(signer, SHA256())


def test_a_chain_of_huge_certificates_is_refused_and_one_of_large_ones_is_sent_as_far_as_clients_take_it(
    tmp_path: Path,
) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    key = new_key()
    for size, names in ((1_000_000, "huge"), (60_000, "large")):
        chain = [huge(f"{names}{number}", f"{names}{number + 1}", key, key, size=size) for number in range(8)]
        for number, one in enumerate(chain):
            (certs / f"{names}{number}.crt").write_bytes(pem_of(one))
        leaf = Pair(huge("leaf", f"{names}0", key, key, f"{names}.example"), key)
        leaf.write(certs, names)
    snapshot = refreshed(tmp_path)
    assert {one.reason for one in snapshot.problems} == {"oversized"}
    assert sorted(Path(one.path).name for one in snapshot.problems) == [f"huge{number}.crt" for number in range(8)]
    chains = {one.names[0]: sum(map(len, one.chain)) for one in snapshot.certificates.values()}
    assert chains["huge.example"] == 0
    assert 60_000 < chains["large.example"] <= MAX_CHAIN_BYTES


def test_a_certificate_in_countless_files_names_some_of_them(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    certs.mkdir()
    path, _ = self_signed("a.example").write(certs, "a")
    for number in range(3 * MAX_PATHS):
        (certs / f"link{number}.crt").symlink_to(path)
    (one,) = refreshed(tmp_path).certificates.values()
    assert len(one.paths) == MAX_PATHS


def test_signatures_that_go_round_in_circles_do_not_use_up_what_a_trusted_chain_needs(tmp_path: Path) -> None:
    """An issuer's public key is no secret, so a stranger can certify it, by authorities that certify each other."""
    certs = tmp_path / "certs"
    certs.mkdir()
    root = Authority.make()
    issuing = Authority.make("Issuing", root)
    pair = issuing.issue("www.example.com")
    (certs / "www.pem").write_bytes(pair.certificate_pem + pair.key_pem)
    (certs / "issuing.pem").write_bytes(issuing.pem)
    (tmp_path / "root.pem").write_bytes(root.pem)
    keys = {name: new_key() for name in ("One", "Two")}
    parents = {name: Authority.make(name, key=key) for name, key in keys.items()}
    circle = [
        Authority.make(name, parents[other], key=keys[name], not_after=9000 * DAY)
        for name, other in (("One", "Two"), ("Two", "One"))
        for _ in range(5)
    ]
    wrong = [Authority.make("Issuing", parents[name], key=issuing.key, not_after=9000 * DAY) for name in keys]
    (certs / "junk.pem").write_bytes(b"".join(one.pem for one in (*circle, *wrong)))
    snapshot = Catalogue(Settings(tmp_path, trust=(tmp_path / "root.pem",))).refresh(time.time(), time.monotonic())
    (one,) = snapshot.certificates.values()
    assert one.is_trusted(time.time())
    assert one.chain == pair.chain_der
