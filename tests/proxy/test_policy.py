from __future__ import annotations

import pytest
from OpenSSL import SSL

from proxy.contexts import front_context
from proxy.policy import PROFILES, TLS1_0, TLS1_2, TLS1_3, Policy, ProfileName

WEB = Policy("intermediate", (b"h2", b"http/1.1"))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([b"h2", b"http/1.1"], b"h2"),
        ([b"http/1.1", b"h2"], b"h2"),
        ([b"http/1.1"], b"http/1.1"),
        ([b"spdy/3", b"http/1.1"], b"http/1.1"),
        ([b"H2"], None),
        ([b"imap"], None),
        ([], None),
    ],
)
def test_the_first_of_ours_that_the_client_offers_is_chosen(offered: list[bytes], chosen: bytes | None) -> None:
    assert WEB.choose_alpn(offered) == chosen


@pytest.mark.parametrize(
    ("policy", "offered", "refused"),
    [
        (WEB, (b"imap",), True),
        (WEB, (b"imap", b"pop3"), True),
        (WEB, (b"imap", b"h2"), False),
        (WEB, (), False),
        (Policy("intermediate"), (b"imap",), False),
        (Policy("intermediate"), (), False),
    ],
)
def test_a_client_is_refused_only_when_it_offers_protocols_and_none_is_served(
    policy: Policy, offered: tuple[bytes, ...], refused: bool
) -> None:
    assert policy.refuses_alpn(offered) is refused


def test_equal_policies_are_one_so_that_their_routes_share_tickets() -> None:
    assert len({Policy("old", (b"h2",)), Policy("old", (b"h2",)), Policy("old"), Policy("modern")}) == 3


@pytest.mark.parametrize(("name", "minimum"), [("modern", TLS1_3), ("intermediate", TLS1_2), ("old", TLS1_0)])
def test_each_profile_begins_at_mozillas_version(name: ProfileName, minimum: int) -> None:
    assert PROFILES[name].minimum == minimum


@pytest.mark.parametrize("name", list(PROFILES))
def test_openssl_knows_every_cipher_of_a_profile(name: ProfileName) -> None:
    wanted = [cipher for cipher in PROFILES[name].ciphers.split(":") if cipher]
    known = SSL.Connection(front_context(Policy(name)), None).get_cipher_list()
    assert set(wanted) <= set(known)
    assert [cipher for cipher in known if cipher in wanted] == wanted


def test_only_the_old_profile_has_ciphers_without_forward_secrecy() -> None:
    for name, profile in PROFILES.items():
        static = [one for one in profile.ciphers.split(":") if one and not one.startswith("ECDHE-")]
        assert bool(static) is (name == "old")
