from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certstore.catalogue import MAX_PATHS
from certstore.certificate import MAX_SIZE
from certstore.certified_key import CertifiedKey
from certstore.chain import MAX_CHAIN_BYTES
from certstore.messages import MAX_FROM_KEEPER, PART_BYTES, RETIRED_IN_PART, Change, frame, parts
from certstore.private_key import MAX_KEY
from tests.support.certified_keys import certified_key

LARGEST = 1 << 20  # bytes; more than the largest certificate, its names, chain, key and paths together


def of_size(label: str, size: int) -> CertifiedKey:
    return certified_key(label, chain=[b"x" * size])


@given(st.lists(st.integers(0, LARGEST), max_size=30), st.integers(0, 3 * RETIRED_IN_PART))
def test_parts_hold_everything_in_order_and_each_fits_a_frame(sizes: list[int], retired: int) -> None:
    put = [of_size(str(number), size) for number, size in enumerate(sizes)]
    retire = [str(number) for number in range(retired)]
    cut = list(parts(put, retire))
    assert [one for part, _ in cut for one in part] == put
    assert [one for _, part in cut for one in part] == retire
    for part in cut:
        change = Change(1, whole=False, last=False, put=part[0], retire=part[1], default_name=None, made=None)
        assert len(frame(change)) < PART_BYTES + LARGEST + 2000 < MAX_FROM_KEEPER


def test_certificates_of_ordinary_size_go_many_to_a_part() -> None:
    assert len(list(parts([of_size(str(number), 1000) for number in range(400)], []))) == 1


def test_the_largest_certificate_there_can_be_is_far_below_a_frame() -> None:
    names = 8 * MAX_SIZE  # a name of three bytes in DER costs a few more as text with its header
    assert 2 * MAX_SIZE + names + MAX_CHAIN_BYTES + MAX_KEY + MAX_PATHS * 4096 * 6 < LARGEST * 2 < MAX_FROM_KEEPER
