from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certstore.errors import FileRejected, RejectReason
from certstore.file_state import FileState, Rejection
from certstore.inventory import GRACE, Inventory, problems
from certstore.load import parse_file
from certstore.scan import Scan
from tests.support.pki import Authority, Pair, new_key, self_signed

BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA"


def state_of(content: bytes | str) -> FileState:
    data = content.encode() if isinstance(content, str) else content
    try:
        return FileState(b"as read", parse_file(data), None)
    except FileRejected as rejected:
        return FileState(b"as read", None, Rejection(rejected.reason, rejected.message))


class Directory:
    """Files as a scan reports them, and an inventory that follows them by a clock of its own."""

    def __init__(self, **files: bytes | str) -> None:
        self.inventory = Inventory()
        self.now = 100.0
        self._files: dict[str, FileState] = {}
        self.again_in: float | None = None
        self.changes(files)

    def becomes(self, *, after: float = 0.0, gone: Sequence[str] = (), **files: bytes | str) -> frozenset[str]:
        """`changes`, with the files as keywords."""
        return self.changes(files, after, gone)

    def changes(self, files: Mapping[str, bytes | str], after: float = 0.0, gone: Sequence[str] = ()) -> frozenset[str]:
        """Write and remove files, scan `after` seconds later; what is served then."""
        self._files = {name: state for name, state in self._files.items() if name not in gone}
        self._files.update((name, state_of(content)) for name, content in files.items())
        self.now += after
        self.again_in = self.inventory.update(Scan(dict(self._files), frozenset(), ()), self.now)
        return self.served

    @property
    def served(self) -> frozenset[str]:
        for fingerprint, pair in self.inventory.pairs.items():
            assert pair.certificate.fingerprint == fingerprint
            assert pair.certificate.spki == pair.key.spki
        return frozenset(self.inventory.pairs)


@pytest.fixture(scope="module")
def old() -> Pair:
    return self_signed("www.example.com")


@pytest.fixture(scope="module")
def new() -> Pair:
    return self_signed("www.example.com")


def of(*pairs: Pair) -> frozenset[str]:
    return frozenset(pair.fingerprint for pair in pairs)


def test_certificate_and_key_pair_by_public_key_whatever_the_files_are_called(old: Pair, new: Pair) -> None:
    directory = Directory(a_crt=old.certificate_pem, b_crt=new.certificate_pem, a_key=new.key_pem, b_key=old.key_pem)
    assert directory.served == of(old, new)
    pair = directory.inventory.pairs[old.fingerprint]
    assert (pair.certificate_paths, pair.key_paths, pair.paths) == (("a_crt",), ("b_key",), ("a_crt", "b_key"))


def test_a_combined_file_is_a_pair_by_itself_and_named_once(old: Pair) -> None:
    directory = Directory(combined=old.combined_pem)
    assert directory.inventory.pairs[old.fingerprint].paths == ("combined",)


def test_a_certificate_in_several_files_is_one_entry_with_all_their_paths(old: Pair) -> None:
    directory = Directory(b=old.certificate_pem, a=old.combined_pem, c=old.key_pem)
    assert directory.inventory.pairs[old.fingerprint].paths == ("a", "b", "c")
    assert directory.becomes(gone=["a"], after=GRACE + 1) == of(old)
    assert directory.becomes(after=GRACE + 1) == of(old)
    assert directory.inventory.pairs[old.fingerprint].paths == ("b", "c")


def test_one_key_serves_many_certificates() -> None:
    key = new_key()
    pairs = [self_signed(f"host{number}.example.com", key=key) for number in range(3)]
    directory = Directory(key=pairs[0].key_pem, **{f"crt{n}": pair.certificate_pem for n, pair in enumerate(pairs)})
    assert directory.served == of(*pairs)
    assert directory.becomes(gone=["crt1"], after=9) == of(*pairs)
    assert directory.becomes(after=GRACE) == of(pairs[0], pairs[2])


def test_what_stands_with_a_leaf_in_one_file_is_its_company() -> None:
    issuing = Authority.make("Issuing", Authority.make())
    pair = issuing.issue("www.example.com")
    directory = Directory(crt=pair.fullchain_pem, key=pair.key_pem)
    found = directory.inventory.pairs[pair.fingerprint]
    assert [one.der for one in found.company] == [issuing.der]
    assert {one.der for one in directory.inventory.certificates} == {pair.der, issuing.der}


def test_a_certificate_without_key_waits_and_an_authority_without_key_does_not() -> None:
    root = Authority.make()
    pair = root.issue("www.example.com")
    directory = Directory(crt=pair.certificate_pem, ca=root.pem)
    assert directory.served == of()
    assert directory.inventory.waiting == {"crt"}
    assert directory.becomes(key=pair.key_pem) == of(pair)
    assert directory.inventory.waiting == frozenset()


def test_what_openssl_req_x509_makes_waits_for_its_key_though_it_calls_itself_an_authority() -> None:
    for name in ("www.example.com", "localhost"):
        own = Authority.make(name)
        directory = Directory(crt=own.pem)
        assert directory.inventory.waiting == {"crt"}
        assert directory.becomes(key=Pair(own.certificate, own.key).key_pem) == of(Pair(own.certificate, own.key))
        assert directory.inventory.waiting == frozenset()


def test_an_authority_named_like_a_host_that_has_issued_something_here_does_not_wait() -> None:
    root = Authority.make("ca.example.com")
    issuing = Authority.make("R3", root)
    pair = issuing.issue("www.example.com")
    assert Directory(crt=pair.fullchain_pem, key=pair.key_pem, ca=root.pem).inventory.waiting == frozenset()


def test_an_authority_with_its_key_in_the_directory_is_not_served() -> None:
    root = Authority.make()
    pair = Pair(root.certificate, root.key)
    assert Directory(ca=pair.combined_pem).served == of()


def test_a_pair_whose_files_are_gone_is_kept_for_less_than_a_second(old: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.becomes(gone=["crt", "key"]) == of(old)
    assert directory.again_in == GRACE
    assert directory.becomes(after=GRACE - 0.25) == of(old)
    assert directory.again_in == 0.25
    assert directory.becomes(after=0.25) == of()
    assert directory.again_in is None


@pytest.mark.parametrize("gone", ["crt", "key"])
def test_a_pair_is_retired_when_one_of_its_files_has_been_gone_for_a_second(old: Pair, gone: str) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.becomes(gone=[gone]) == of(old)
    assert directory.becomes(after=GRACE) == of()


def test_a_file_that_comes_back_within_a_second_starts_anew(old: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    directory.becomes(gone=["crt"])
    assert directory.becomes(after=GRACE - 0.25, crt=old.certificate_pem) == of(old)
    assert directory.becomes(gone=["crt"], after=5) == of(old)
    assert directory.becomes(after=GRACE - 0.25) == of(old)


def test_a_renewal_that_removes_and_writes_again_within_a_second_leaves_no_gap(old: Pair, new: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.becomes(gone=["crt", "key"]) == of(old)
    assert directory.becomes(after=0.25, key=new.key_pem) == of(old)
    assert directory.becomes(after=0.25, crt=new.certificate_pem) == of(new)


def test_the_old_pair_is_kept_until_the_new_certificates_key_arrives(old: Pair, new: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.becomes(crt=new.certificate_pem) == of(old)
    assert directory.becomes(after=3600) == of(old)
    assert directory.inventory.waiting == {"crt"}
    assert directory.becomes(key=new.key_pem) == of(new)
    assert directory.inventory.waiting == frozenset()


def test_the_old_pair_is_kept_until_the_new_keys_certificate_arrives(old: Pair, new: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.becomes(key=new.key_pem) == of(old)
    assert directory.becomes(after=3600) == of(old)
    assert directory.becomes(crt=new.certificate_pem) == of(new)


def test_a_combined_file_cut_behind_its_key_keeps_the_old_pair(old: Pair, new: Pair) -> None:
    directory = Directory(combined=old.combined_pem)
    assert directory.becomes(combined=new.key_pem) == of(old)
    assert directory.becomes(combined=new.combined_pem) == of(new)


@pytest.mark.parametrize("broken", ["crt", "key"])
def test_a_broken_file_changes_nothing_and_heals_by_itself(old: Pair, new: Pair, broken: str) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    assert directory.changes({broken: BROKEN}) == of(old)
    assert directory.becomes(after=3600) == of(old)
    assert directory.becomes(crt=new.certificate_pem, key=new.key_pem) == of(new)


def test_a_broken_file_that_is_then_removed_is_retired_after_a_second(old: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    directory.becomes(crt=BROKEN)
    assert directory.becomes(gone=["crt"], after=60) == of(old)
    assert directory.becomes(after=GRACE) == of()


def test_a_file_that_was_broken_from_the_start_serves_nothing_and_is_a_problem(old: Pair) -> None:
    directory = Directory(crt=BROKEN, key=old.key_pem)
    assert directory.served == of()
    states = {"b": state_of("-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n"), "a": state_of(BROKEN)}
    found = problems(Scan(states, frozenset(), (("/certs", errno.ENOENT),)))
    assert [(one.path, one.reason) for one in found] == [
        ("/certs", "unreadable_directory"),
        ("a", RejectReason.TRUNCATED.value),
        ("b", RejectReason.UNSUPPORTED.value),
    ]
    assert all(one.message for one in found)


def test_a_file_that_holds_nothing_any_more_retires_what_it_held(old: Pair) -> None:
    """A request or parameters written over a certificate are whole and mean what they say."""
    directory = Directory(crt=old.certificate_pem, key=old.key_pem, other=new_key_pem())
    assert directory.becomes(key="-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n") == of(old)
    assert directory.becomes(gone=["crt"], after=5) == of(old)
    assert directory.becomes(after=GRACE) == of()


def new_key_pem() -> bytes:
    return self_signed("other.example.com").key_pem


def test_an_unchanged_pair_is_the_same_object_so_that_nothing_is_done_for_it(old: Pair) -> None:
    directory = Directory(crt=old.certificate_pem, key=old.key_pem)
    before = directory.inventory.pairs[old.fingerprint]
    directory.becomes(after=60, other=new_key_pem())
    assert directory.inventory.pairs[old.fingerprint] is before


GENERATIONS = [self_signed("www.example.com", key=new_key()) for _ in range(3)]
CONTENTS = [part for pair in GENERATIONS for part in (pair.certificate_pem, pair.key_pem, pair.combined_pem)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("crt", "key", "both")),
            st.one_of(st.none(), st.just(BROKEN), st.sampled_from(CONTENTS)),
            st.sampled_from((0.0, 0.5, 2.0)),
        ),
        max_size=12,
    )
)
def test_whatever_happens_to_files_no_pair_is_mismatched_and_what_the_files_make_is_served(
    steps: list[tuple[str, bytes | str | None, float]],
) -> None:
    directory = Directory(crt=GENERATIONS[0].certificate_pem, key=GENERATIONS[0].key_pem)
    files: dict[str, bytes | str] = {"crt": GENERATIONS[0].certificate_pem, "key": GENERATIONS[0].key_pem}
    removed = False
    for name, content, after in steps:
        if content is None:
            files.pop(name, None)
            removed = True
            served = directory.becomes(after=after, gone=[name])
        else:
            files[name] = content
            served = directory.changes({name: content}, after)
        whole = [text for text in files.values() if isinstance(text, bytes)]
        for pair in GENERATIONS:
            if any(pair.certificate_pem in text for text in whole) and any(pair.key_pem in text for text in whole):
                assert pair.fingerprint in served
        if not removed:
            assert served, "a pair that works was dropped without anything in its place"


def test_content_that_turns_out_to_be_damaged_is_no_last_good(old: Pair) -> None:
    directory = Directory(old=old.combined_pem)
    assert directory.served == of(old)
    held = directory._files["old"].content
    assert held is not None
    rejection = Rejection(RejectReason.MALFORMED, "is damaged")
    rejected = {"old": FileState(b"as read", None, rejection)}
    directory.inventory.update(Scan(rejected, frozenset(), (), disproved=(("old", held, rejection),)), directory.now)
    assert directory.served == frozenset()
