from __future__ import annotations

import time
from pathlib import Path

import pytest

from certstore.certificate import Certificate
from certstore.load import parse_file
from certstore.trust import TrustStore, Verdict
from tests.support.openssl import openssl
from tests.support.pki import DAY, Authority, Pair, new_key, self_signed

ALGORITHMS = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "ed25519", "ed448"]


def parsed(pem: bytes) -> list[Certificate]:
    return list(parse_file(pem).certificates)


def store(*roots: Authority | Pair) -> TrustStore:
    return TrustStore([parsed(one.pem if isinstance(one, Authority) else one.certificate_pem)[0] for one in roots])


def verdict(trust: TrustStore, pair: Pair, at: float | None = None) -> Verdict | None:
    leaf, *intermediates = parsed(pair.fullchain_pem)
    return trust.verify(leaf, intermediates, time.time() if at is None else at)


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def issuing(root: Authority) -> Authority:
    return Authority.make("Issuing", root)


@pytest.mark.parametrize("key_type", ALGORITHMS)
@pytest.mark.parametrize("bare", [False, True])
def test_a_chain_to_a_root_is_trusted_whatever_its_keys(key_type: str, bare: bool) -> None:
    root = Authority.make(key_type=key_type, bare=bare)
    upper = Authority.make("Upper", root, key_type=key_type, bare=bare)
    pair = Authority.make("Lower", upper, key_type=key_type).issue("www.example.com")
    leaf, lower, above = parsed(pair.fullchain_pem)
    stranger = parsed(Authority.make("Stranger").pem)[0]
    found = store(root).verify(leaf, [stranger, above, lower], time.time())
    assert found == Verdict(pair.chain_der, pair.not_before, pair.not_after)
    assert store(Authority.make(key_type=key_type)).verify(leaf, [above, lower], time.time()) is None
    assert store(root).verify(leaf, [lower], time.time()) is None


def test_a_leaf_with_an_edwards_key_below_an_ecdsa_authority_is_trusted(root: Authority, issuing: Authority) -> None:
    pair = issuing.issue("www.example.com", key_type="ed25519")
    assert verdict(store(root), pair) == Verdict(pair.chain_der, pair.not_before, pair.not_after)


def test_names_that_a_web_browser_would_refuse_do_not_matter(root: Authority, issuing: Authority) -> None:
    for pair in (issuing.issue("under_score.example"), issuing.issue(common_name="only-cn.example"), issuing.issue()):
        assert verdict(store(root), pair) is not None


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ed25519"])
def test_extended_key_usage_must_allow_serving_on_leaf_and_intermediates(key_type: str) -> None:
    root = Authority.make(key_type=key_type)
    trust = store(root)
    for eku, allowed in (((), True), (("any",), True), (("client", "server"), True), (("client",), False)):
        assert (verdict(trust, root.issue("a.example", eku=eku)) is not None) is allowed
        intermediate = Authority.make("Lower", root, eku=eku, key_type=key_type)
        assert (verdict(trust, intermediate.issue("a.example")) is not None) is allowed


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ed25519"])
def test_a_leaf_cannot_issue(key_type: str) -> None:
    root = Authority.make(key_type=key_type)
    leaf = root.issue("issuer.example", key_type=key_type)
    forged = Authority(leaf.certificate, leaf.key, root).issue("www.example.com")
    assert verdict(store(root), forged) is None
    assert verdict(store(leaf), forged) is None
    assert verdict(store(leaf), leaf) is not None


def test_a_certificate_that_is_itself_in_the_store_is_trusted_while_it_is_valid() -> None:
    own, other = self_signed("www.example.com"), self_signed("www.example.com")
    assert verdict(store(own), own) == Verdict((), own.not_before, own.not_after)
    assert verdict(store(own), other) is None
    expired = self_signed("www.example.com", not_after=-60)
    assert verdict(store(expired), expired) is None


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ed25519"])
def test_a_verdict_holds_where_every_validity_overlaps(key_type: str) -> None:
    root = Authority.make(not_before=-10 * DAY, not_after=20 * DAY, key_type=key_type)
    lower = Authority.make("Lower", root, not_before=-5 * DAY, not_after=30 * DAY)
    pair = lower.issue("www.example.com", not_before=-8 * DAY, not_after=40 * DAY)
    leaf, intermediate = parsed(pair.fullchain_pem)
    found = verdict(store(root), pair)
    assert found is not None
    assert (found.valid_from, found.valid_until) == (intermediate.not_before, parsed(root.pem)[0].not_after)
    for at, trusted in (
        (found.valid_from - 1, False),
        (found.valid_from, True),
        (found.valid_until - 1, True),
        (found.valid_until, False),
    ):
        assert (store(root).verify(leaf, [intermediate], at) is not None) is trusted


@pytest.mark.parametrize("which", ["root", "intermediate", "leaf"])
def test_an_expired_link_is_not_trusted(which: str) -> None:
    def until(link: str) -> float:
        return -60 if link == which else 30 * DAY

    root = Authority.make(not_after=until("root"))
    pair = Authority.make("Lower", root, not_after=until("intermediate")).issue("a.example", not_after=until("leaf"))
    assert verdict(store(root), pair) is None


def test_a_valid_cross_certificate_is_taken_when_the_other_has_expired() -> None:
    old, new, key = Authority.make("Old root", not_after=-60), Authority.make("New root"), new_key()
    by_old, by_new = Authority.make("Lower", old, key=key), Authority.make("Lower", new, key=key)
    leaf = parsed(by_new.issue("www.example.com").certificate_pem)[0]
    intermediates = [parsed(one.pem)[0] for one in (by_old, by_new)]
    found = store(old, new).verify(leaf, intermediates, time.time())
    assert found is not None
    assert found.chain == (by_new.der,)


def test_an_intermediate_in_the_store_is_an_anchor(issuing: Authority) -> None:
    pair = issuing.issue("www.example.com")
    assert verdict(store(issuing), pair) == Verdict((), pair.not_before, pair.not_after)


def test_an_empty_store_trusts_nothing(issuing: Authority) -> None:
    assert verdict(TrustStore([]), issuing.issue("www.example.com")) is None


def test_the_best_verdict_says_when_to_ask_again() -> None:
    now = time.time()
    root = Authority.make(not_after=10 * DAY)
    leaf = parsed(root.issue("a.example", not_after=20 * DAY).certificate_pem)[0]
    root_end = parsed(root.pem)[0].not_after
    found, again = store(root).best_verdict(leaf, [], now)
    assert found is not None
    assert found.valid_until == again == root_end
    assert store(root).best_verdict(leaf, [], root_end) == (None, None)
    short = parsed(root.issue("a.example", not_after=5 * DAY).certificate_pem)[0]
    assert store(root).best_verdict(short, [], now) == (Verdict((), short.not_before, short.not_after), None)
    assert store(Authority.make()).best_verdict(short, [], now) == (None, None)


def test_the_best_verdict_looks_ahead_to_the_first_moment_at_which_the_leaf_verifies() -> None:
    now = time.time()
    root = Authority.make(not_before=3 * DAY)
    lower = Authority.make("Lower", root, not_before=2 * DAY)
    pair = lower.issue("a.example", not_before=DAY)
    leaf, intermediate = parsed(pair.fullchain_pem)
    found, again = store(root).best_verdict(leaf, [intermediate], now)
    assert found is not None
    assert found.valid_from == parsed(root.pem)[0].not_before
    assert found.valid_until == leaf.not_after
    assert again is None


def test_the_best_verdict_gives_up_after_four_moments_and_says_when_to_go_on() -> None:
    now = time.time()
    root = Authority.make(not_before=6 * DAY)
    noise = [Authority.make(f"Noise {day}", root, not_before=day * DAY) for day in range(1, 6)]
    leaf = parsed(root.issue("a.example").certificate_pem)[0]
    intermediates = [parsed(one.pem)[0] for one in noise]
    found, again = store(root).best_verdict(leaf, intermediates, now)
    assert found is None
    assert again == intermediates[4].not_before
    found, _ = store(root).best_verdict(leaf, intermediates, again)
    assert found is not None


def test_roots_come_from_files_and_directories_in_any_encoding(tmp_path: Path) -> None:
    one, two, three, hidden = (Authority.make(f"Root {number}") for number in range(4))
    (tmp_path / "both.pem").write_bytes(b"\xef\xbb\xbfRoots\r\n" + (one.pem + two.pem).replace(b"\n", b"\r\n"))
    directory = tmp_path / "roots"
    (directory / "below").mkdir(parents=True)
    (directory / "three.der").write_bytes(three.der)
    (directory / "again.0").symlink_to("three.der")
    (directory / ".hidden.pem").write_bytes(hidden.pem)
    (directory / "README").write_text("These are our roots.\n")
    trust = TrustStore.load([tmp_path / "both.pem", directory])
    assert {one.der for one in trust.anchors} == {one.der, two.der, three.der}
    assert trust.problems == []
    assert trust.paths == (tmp_path / "both.pem", directory)
    for root in (one, two, three):
        assert verdict(trust, root.issue("www.example.com")) is not None
    assert verdict(trust, hidden.issue("www.example.com")) is None


def test_bad_trust_files_are_told_and_the_rest_counts(tmp_path: Path) -> None:
    good = Authority.make()
    damaged = good.pem.replace(b"\nMII", b"\nXII", 1)
    assert damaged != good.pem
    (tmp_path / "mixed.pem").write_bytes(damaged + good.pem)
    (tmp_path / "half.pem").write_bytes(good.pem[:200])
    (tmp_path / "empty.pem").write_bytes(b"")
    (tmp_path / "link.pem").symlink_to("nowhere")
    names = ("mixed.pem", "half.pem", "empty.pem", "missing.pem", "link.pem")
    trust = TrustStore.load([tmp_path / name for name in names])
    assert [one.der for one in trust.anchors] == [good.der]
    told = {path.name: message for path, message in trust.problems}
    assert set(told) == set(names)
    assert "certificate 1" in told["mixed.pem"]
    assert "does not end" in told["half.pem"]
    assert "no certificate" in told["empty.pem"]
    assert "No such file" in told["missing.pem"]
    assert tmp_path / "missing.pem" in trust.paths


def test_one_base64_error_in_a_bundle_costs_one_root(tmp_path: Path) -> None:
    good, bad = Authority.make("Good"), Authority.make("Bad")
    (tmp_path / "bundle.pem").write_bytes(bad.pem.replace(b"\nMII", b"\n*II", 1) + good.pem)
    trust = TrustStore.load([tmp_path / "bundle.pem"])
    assert [one.der for one in trust.anchors] == [good.der]
    assert len(trust.problems) == 1


def test_the_version_depends_on_the_roots_alone(tmp_path: Path) -> None:
    one, two = Authority.make("One"), Authority.make("Two")
    (tmp_path / "a.pem").write_bytes(one.pem + two.pem)
    (tmp_path / "b.pem").write_bytes(two.pem + one.pem + one.pem)
    (tmp_path / "c.pem").write_bytes(one.pem)
    a, b, c = (TrustStore.load([tmp_path / name]).version for name in ("a.pem", "b.pem", "c.pem"))
    assert a == b != c


def test_the_systems_roots_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Authority.make()
    (tmp_path / "bundle.pem").write_bytes(root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    trust = TrustStore.load(["system"])
    assert [one.der for one in trust.anchors] == [root.der]
    assert trust.paths == (tmp_path / "bundle.pem",)


def test_a_root_that_openssl_made_with_its_defaults_verifies_what_it_issued(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "root.pem"
    made = ("-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/O=Example/CN=Private CA", "-out", certificate)
    openssl("req", "-x509", *made)
    leaf_key = tmp_path / "leaf.key"
    openssl("req", "-newkey", "ed25519", "-nodes", "-keyout", leaf_key, "-subj", "/CN=a", "-out", tmp_path / "a.csr")
    leaf = openssl("x509", "-req", "-in", tmp_path / "a.csr", "-CA", certificate, "-CAkey", key, "-CAcreateserial")
    trust = TrustStore.load([certificate])
    assert trust.verify(parsed(leaf)[0], [], time.time()) is not None
