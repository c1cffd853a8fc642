from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from certstore import default_certificate
from certstore.catalogue import DEFAULT_NAME_FILE, Catalogue, Settings, Snapshot
from certstore.certified_key import CertifiedKey
from certstore.errors import CertstoreError
from tests.support.pki import DAY, Authority, Pair, self_signed

NOW = time.time()


class Store:
    """A state directory, a certificate directory and a trust file, and a catalogue of them."""

    def __init__(self, directory: Path, default: str | None = None) -> None:
        self.state, self.certs = directory / "state", directory / "certificates"
        self.trust, self.passphrases = directory / "roots.pem", directory / "passphrases"
        (self.state / "certs").mkdir(parents=True)
        self.certs.mkdir()
        self.trust.write_bytes(Authority.make("Somebody else's root").pem)
        self.passphrases.write_bytes(b"")
        self.catalogue = Catalogue(Settings(self.state, (self.certs,), (self.trust,), (self.passphrases,), default))

    def refreshed(self, now: float = NOW, after: float = 0.0) -> Snapshot:
        return self.catalogue.refresh(now, time.monotonic() + after)

    def entry(self, pair: Pair, now: float = NOW) -> CertifiedKey:
        return self.refreshed(now).certificates[pair.fingerprint]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def reasons(snapshot: Snapshot) -> dict[str, str]:
    return {Path(one.path).name: one.reason for one in snapshot.problems}


def test_an_entry_says_everything_that_ranking_and_serving_need(store: Store) -> None:
    root = Authority.make()
    issuing = Authority.make("Issuing", root)
    store.trust.write_bytes(root.pem)
    pair = issuing.issue("www.example.com", "*.Example.org", addresses=["192.0.2.1"], key_type="rsa-2048")
    certificate, key = pair.write(store.certs)
    assert store.entry(pair) == CertifiedKey(
        fingerprint=pair.fingerprint,
        names=("*.example.org", "www.example.com"),
        addresses=("192.0.2.1",),
        key_type="rsa-2048",
        not_before=pair.not_before,
        not_after=pair.not_after,
        self_signed=False,
        trusted_from=pair.not_before,
        trusted_until=pair.not_after,
        leaf=pair.der,
        chain=(issuing.der,),
        key=pair.key_der,
        paths=(str(certificate), str(key)),
    )


def test_an_intermediate_is_found_among_the_other_files_and_sent_although_no_root_is_trusted(store: Store) -> None:
    issuing = Authority.make("Issuing", Authority.make())
    pair = issuing.issue("www.example.com")
    (store.certs / "leaf.crt").write_bytes(pair.certificate_pem)
    (store.certs / "leaf.key").write_bytes(pair.key_pem)
    assert store.entry(pair).chain == ()
    (store.certs / "intermediates.pem").write_bytes(issuing.pem)
    entry = store.entry(pair)
    assert (entry.chain, entry.trusted_from, entry.trusted_until) == ((issuing.der,), 0, 0)


def test_a_root_added_to_the_trust_file_makes_certificates_trusted_and_one_removed_undoes_it(store: Store) -> None:
    root = Authority.make()
    pair = root.issue("www.example.com")
    pair.write(store.certs)
    assert not store.entry(pair).is_trusted(NOW)
    stranger = store.trust.read_bytes()
    store.trust.write_bytes(stranger + root.pem)
    assert store.entry(pair).is_trusted(NOW)
    store.trust.write_bytes(stranger)
    assert not store.entry(pair).is_trusted(NOW)


def test_a_certificate_yet_to_become_valid_carries_the_time_from_which_it_is_trusted(store: Store) -> None:
    root = Authority.make()
    store.trust.write_bytes(root.pem)
    pair = root.issue("www.example.com", not_before=DAY)
    pair.write(store.certs)
    entry = store.entry(pair)
    assert [entry.is_trusted(moment) for moment in (NOW, pair.not_before - 1, pair.not_before)] == [False, False, True]


def test_a_chain_that_ends_before_its_leaf_is_verified_again_when_it_does(store: Store) -> None:
    root = Authority.make()
    store.trust.write_bytes(root.pem)
    short = Authority.make("Issuing", root, not_after=DAY)
    long = Authority.make("Issuing", root, key=short.key, not_after=50 * DAY)
    pair = short.issue("www.example.com", not_after=40 * DAY)
    pair.write(store.certs)
    first = store.refreshed()
    end = int(short.certificate.not_valid_after_utc.timestamp())
    assert first.again_at == end
    assert first.certificates[pair.fingerprint].trusted_until == end
    (store.certs / "long.pem").write_bytes(long.pem)
    later = store.refreshed(now=end + 1)
    assert later.certificates[pair.fingerprint].is_trusted(end + 1)
    assert later.certificates[pair.fingerprint].chain == (long.der,)


def test_rivals_for_a_name_are_verified_before_anything_is_published_and_the_rest_bit_by_bit(store: Store) -> None:
    root = Authority.make()
    store.trust.write_bytes(root.pem)
    alone = [root.issue(f"alone{number}.example.com") for number in range(5)]
    rivals = [root.issue("rival.example.com"), root.issue("rival.example.com")]
    covered = [root.issue("www.covered.example.com"), root.issue("*.covered.example.com")]
    for number, pair in enumerate([*alone, *rivals, *covered]):
        pair.write(store.certs, str(number))

    def trusted(snapshot: Snapshot, pairs: Sequence[Pair]) -> int:
        return sum(snapshot.certificates[pair.fingerprint].is_trusted(NOW) for pair in pairs)

    store.catalogue.scan(time.monotonic())
    first = store.catalogue.assess(NOW, verify_at_most=2)
    assert len(first.certificates) == 9
    assert (trusted(first, [*rivals, *covered]), trusted(first, alone), first.unverified) == (4, 2, 3)
    second = store.catalogue.assess(NOW, verify_at_most=2)
    assert (trusted(second, alone), second.unverified) == (4, 1)
    assert (store.catalogue.assess(NOW, verify_at_most=2).unverified, trusted(store.refreshed(), alone)) == (0, 5)


def test_what_did_not_change_is_the_same_object_in_the_next_snapshot(store: Store) -> None:
    kept, renewed = self_signed("kept.example.com"), self_signed("renewed.example.com")
    kept.write(store.certs, "kept")
    renewed.write(store.certs, "renewed")
    before = store.refreshed()
    self_signed("renewed.example.com").write(store.certs, "renewed")
    after = store.refreshed()
    assert after.certificates[kept.fingerprint] is before.certificates[kept.fingerprint]
    assert renewed.fingerprint not in after.certificates
    assert len(after.certificates) == 2


def test_a_file_just_gone_asks_for_another_scan_and_is_retired_by_it(store: Store) -> None:
    pair = self_signed("www.example.com")
    certificate, _ = pair.write(store.certs)
    assert store.refreshed().again_in is None
    certificate.unlink()
    snapshot = store.refreshed()
    assert snapshot.again_in is not None
    assert pair.fingerprint in snapshot.certificates
    assert pair.fingerprint not in store.refreshed(after=2.0).certificates


def test_a_missing_directory_is_a_problem_and_retires_nothing(store: Store, tmp_path: Path) -> None:
    pair = self_signed("www.example.com")
    pair.write(store.certs)
    store.refreshed()
    store.certs.rename(tmp_path / "moved")
    for after in (0.0, 3600.0):
        snapshot = store.refreshed(after=after)
        assert pair.fingerprint in snapshot.certificates
        assert reasons(snapshot) == {"certificates": "unreadable_directory"}


def test_the_default_is_the_configurations_name_else_the_one_in_the_state_directory(tmp_path: Path) -> None:
    store = Store(tmp_path / "a")
    assert store.refreshed().default_name is None
    (store.state / DEFAULT_NAME_FILE).write_text("Mail.Example.com.\n")
    assert store.refreshed().default_name == "mail.example.com"
    (store.state / DEFAULT_NAME_FILE).write_text("no host name\n")
    snapshot = store.refreshed()
    assert snapshot.default_name is None
    assert reasons(snapshot) == {DEFAULT_NAME_FILE: "default_name"}
    configured = Store(tmp_path / "b", default="www.example.com")
    (configured.state / DEFAULT_NAME_FILE).write_text("mail.example.com")
    assert configured.refreshed().default_name == "www.example.com"


def test_every_problem_names_its_file_its_reason_and_what_to_do(store: Store) -> None:
    (store.certs / "half.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (store.certs / "locked.p12").write_bytes(self_signed("www.example.com").p12(b"secret"))
    store.trust.write_text("nothing")
    store.passphrases.unlink()
    snapshot = store.refreshed()
    assert reasons(snapshot) == {
        "half.crt": "truncated",
        "locked.p12": "passphrase_needed",
        "passphrases": "unreadable",
        "roots.pem": "trust",
    }
    assert all(Path(one.path).is_absolute() and ("; " in one.message) for one in snapshot.problems)
    assert [one.reason for one in snapshot.problems].count("truncated") == 1


def test_a_passphrase_added_later_opens_what_it_fits(store: Store) -> None:
    pair = self_signed("www.example.com")
    (store.certs / "locked.p12").write_bytes(pair.p12(b"secret"))
    assert not store.refreshed().certificates
    store.passphrases.write_bytes(b"wrong\nsecret\n")
    snapshot = store.refreshed()
    assert list(snapshot.certificates) == [pair.fingerprint]
    assert not snapshot.problems


def test_a_snapshot_before_verification_sends_only_authorities_along(store: Store) -> None:
    """Several pairs in one file must not end up in each other's chains."""
    issuing = Authority.make("Issuing", Authority.make())
    one, other = issuing.issue("one.example.com"), issuing.issue("other.example.com")
    (store.certs / "all.pem").write_bytes(one.combined_pem + other.combined_pem)
    store.catalogue.scan(time.monotonic())
    snapshot = store.catalogue.assess(NOW, verify_at_most=0)
    assert snapshot.unverified == 2
    assert {entry.chain for entry in snapshot.certificates.values()} == {(issuing.der,)}


def test_what_cannot_be_read_for_a_while_counts_as_it_did_and_is_named(store: Store) -> None:
    root = Authority.make()
    (store.state / "trust").mkdir()
    (store.state / "trust/root.pem").write_bytes(root.pem)
    (store.state / DEFAULT_NAME_FILE).write_text("www.example.com\n")
    made = default_certificate.ensure(store.state)
    pair = root.issue("www.example.com")
    pair.write(store.certs)
    before = store.refreshed()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))  # nothing can be opened
    try:
        during = store.refreshed(after=60.0)
        with pytest.raises(CertstoreError, match="cannot be read"):
            default_certificate.ensure(store.state)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert {*reasons(during)} >= {"certificates", "trust", "roots.pem", DEFAULT_NAME_FILE}
    assert before.certificates[pair.fingerprint].trusted_until == pair.not_after
    for one in (during, store.refreshed(after=120.0)):
        assert one.certificates == before.certificates
        assert one.default_name == before.default_name == "www.example.com"
        assert one.made == before.made == made
    assert store.refreshed().problems == ()
