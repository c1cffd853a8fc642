"""What a policy demands, shown by handshakes in memory: versions, groups, ciphers, and what tickets are worth."""

from __future__ import annotations

import msgspec
import pytest
from OpenSSL import SSL

from proxy.contexts import CertificateContexts, ContextError, front_context
from proxy.errors import HandshakeError
from proxy.policy import Policy, ProfileName
from proxy.tls_engine import TlsEngine
from tests.support.engine import INTERMEDIATE, MemoryClient, certified_key, client_context, engine_for, join
from tests.support.pki import Authority, Pair, self_signed

MODERN, OLD = Policy("modern"), Policy("old")
PAIR = self_signed("www.example.com")
RSA = self_signed("www.example.com", key_type="rsa-2048")
_VERSIONS = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}


def client_of(version: str) -> MemoryClient:
    number = _VERSIONS[version]
    return MemoryClient(client_context(minimum=number, maximum=number, ciphers="ALL:@SECLEVEL=0"))


@pytest.mark.parametrize(
    ("profile", "version"),
    [
        ("modern", "TLSv1.3"),
        ("intermediate", "TLSv1.2"),
        ("intermediate", "TLSv1.3"),
        ("old", "TLSv1"),
        ("old", "TLSv1.1"),
        ("old", "TLSv1.2"),
        ("old", "TLSv1.3"),
    ],
)
def test_a_profile_takes_its_versions(profile: ProfileName, version: str) -> None:
    engine, client = engine_for(Policy(profile), PAIR), client_of(version)
    join(engine, client)
    assert engine.negotiated().version == client.connection.get_protocol_version_name() == version


@pytest.mark.parametrize(
    ("profile", "version"),
    [
        ("modern", "TLSv1"),
        ("modern", "TLSv1.1"),
        ("modern", "TLSv1.2"),
        ("intermediate", "TLSv1"),
        ("intermediate", "TLSv1.1"),
    ],
)
def test_a_profile_refuses_older_versions_with_protocol_version(profile: ProfileName, version: str) -> None:
    client = client_of(version)
    with pytest.raises(HandshakeError) as caught:
        join(engine_for(Policy(profile), PAIR), client)
    assert caught.value.reason == "unsupported_protocol"
    with pytest.raises(SSL.Error, match="alert protocol version"):
        client.handshake()


@pytest.mark.parametrize("profile", ["modern", "intermediate", "old"])
@pytest.mark.parametrize("group", ["X25519MLKEM768", "X25519", "P-256", "P-384"])
def test_a_profile_takes_its_groups(profile: ProfileName, group: str) -> None:
    engine = engine_for(Policy(profile), PAIR)
    join(engine, MemoryClient(client_context(groups=group)))
    names = {"X25519": "x25519", "P-256": "secp256r1", "P-384": "secp384r1"}
    assert engine.negotiated().group.lower() == names.get(group, group).lower()


@pytest.mark.parametrize("profile", ["modern", "intermediate", "old"])
@pytest.mark.parametrize("group", ["P-521", "X448", "ffdhe2048"])
def test_a_profile_refuses_groups_outside_it(profile: ProfileName, group: str) -> None:
    client = MemoryClient(client_context(groups=group, minimum=SSL.TLS1_3_VERSION))
    with pytest.raises(HandshakeError) as caught:
        join(engine_for(Policy(profile), PAIR), client)
    assert caught.value.reason == "no_shared_group"
    with pytest.raises(SSL.Error, match="alert handshake failure"):
        client.handshake()


def test_a_client_whose_first_key_share_is_not_taken_is_asked_for_another_and_gets_its_certificate() -> None:
    engine, client = engine_for(INTERMEDIATE, PAIR), MemoryClient(client_context(groups="P-521:P-256"))
    join(engine, client)
    leaf = client.connection.get_peer_certificate(as_cryptography=True)
    assert leaf == PAIR.certificate
    assert engine.negotiated().group == "secp256r1"


def test_aes_128_is_preferred_whatever_the_client_puts_first() -> None:
    newer = client_context()
    newer.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")
    engine = engine_for(INTERMEDIATE, PAIR)
    join(engine, MemoryClient(newer))
    assert engine.negotiated().cipher == "TLS_AES_128_GCM_SHA256"
    engine = engine_for(INTERMEDIATE, PAIR)
    older = client_context(
        maximum=SSL.TLS1_2_VERSION, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    join(engine, MemoryClient(older))
    assert engine.negotiated().cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_a_client_that_puts_chacha20_first_gets_it() -> None:
    context = client_context(
        maximum=SSL.TLS1_2_VERSION, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    engine = engine_for(INTERMEDIATE, PAIR)
    join(engine, MemoryClient(context))
    assert engine.negotiated().cipher == "ECDHE-ECDSA-CHACHA20-POLY1305"


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"])
def test_the_intermediate_profile_refuses_what_the_old_one_has(cipher: str) -> None:
    client = MemoryClient(client_context(maximum=SSL.TLS1_2_VERSION, ciphers=cipher))
    with pytest.raises(HandshakeError) as caught:
        join(engine_for(INTERMEDIATE, RSA), client)
    assert caught.value.reason == "no_shared_cipher"


@pytest.mark.parametrize("name", [b"www.example.com", None])
def test_the_certificates_context_is_put_in_place_with_and_without_a_name(name: bytes | None) -> None:
    intermediate = Authority.make("Intermediate", Authority.make())
    pair = intermediate.issue("www.example.com")
    client = MemoryClient(name=name)
    join(engine_for(INTERMEDIATE, pair), client)
    chain = client.connection.get_peer_cert_chain(as_cryptography=True)
    assert chain == [pair.certificate, intermediate.certificate]


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048"])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_every_kind_of_key_is_served(key_type: str, version: str) -> None:
    pair = RSA if key_type == "rsa-2048" else self_signed("www.example.com", key_type=key_type)
    number = _VERSIONS[version]
    client = MemoryClient(client_context(minimum=number, maximum=number, groups="X25519:P-256:P-384:P-521"))
    join(engine_for(INTERMEDIATE, pair), client)
    assert client.connection.get_peer_certificate(as_cryptography=True) == pair.certificate


def alpn(policy: Policy, *offered: bytes) -> tuple[str, bytes]:
    engine, client = engine_for(policy, PAIR), MemoryClient(client_context(alpn=offered))
    join(engine, client)
    return engine.negotiated().alpn, client.connection.get_alpn_proto_negotiated()


def test_alpn_is_chosen_in_the_policys_order() -> None:
    policy = Policy("intermediate", (b"h2", b"http/1.1"))
    assert alpn(policy, b"http/1.1", b"h2") == ("h2", b"h2")
    assert alpn(policy, b"http/1.1") == ("http/1.1", b"http/1.1")
    assert alpn(policy) == ("", b"")


def test_an_empty_alpn_ignores_the_extension() -> None:
    assert alpn(Policy("intermediate"), b"imap", b"h2") == ("", b"")


def resumed(
    front: SSL.Context, second: SSL.Context, policy: Policy, other: Policy, version: str, pairs: tuple[Pair, Pair]
) -> bool:
    """Make a session on one front context, and tell whether the other resumes it."""
    number = _VERSIONS[version]
    context = client_context(minimum=number, maximum=number)
    first_client = MemoryClient(context)
    first_engine = engine_for(policy, pairs[0], front)
    join(first_engine, first_client)
    first_client.receive(bytes(first_engine.output()))
    first_client.read()
    assert not first_engine.negotiated().resumed
    engine = engine_for(other, pairs[1], second)
    join(engine, MemoryClient(context, session=first_client.connection.get_session()))
    return engine.negotiated().resumed


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_session_resumes_on_its_own_front_context_also_on_another_certificate_context(version: str) -> None:
    front = front_context(INTERMEDIATE)
    assert resumed(front, front, INTERMEDIATE, INTERMEDIATE, version, (PAIR, PAIR))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("other", [OLD, Policy("intermediate", (b"h2",))], ids=["other profile", "other ALPN"])
def test_a_session_never_crosses_from_one_policy_into_another(version: str, other: Policy) -> None:
    assert not resumed(front_context(INTERMEDIATE), front_context(other), INTERMEDIATE, other, version, (PAIR, PAIR))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_session_does_not_outlive_its_generation_of_front_contexts(version: str) -> None:
    first, second = front_context(INTERMEDIATE), front_context(INTERMEDIATE)
    assert not resumed(first, second, INTERMEDIATE, INTERMEDIATE, version, (PAIR, PAIR))


def test_a_certificates_context_is_made_once_for_each_policy() -> None:
    contexts, certificate = CertificateContexts(), certified_key(PAIR)
    first = contexts.get(certificate, INTERMEDIATE)
    assert contexts.get(certificate, Policy("intermediate")) is first
    assert contexts.get(certificate, MODERN) is not first
    assert len(contexts) == 2


def test_the_least_recently_used_context_makes_way() -> None:
    contexts = CertificateContexts(limit=2)
    one, two, three = (certified_key(self_signed("www.example.com", key=PAIR.key, serial=n)) for n in (1, 2, 3))
    kept = contexts.get(one, INTERMEDIATE)
    dropped = contexts.get(two, INTERMEDIATE)
    contexts.get(one, INTERMEDIATE)
    contexts.get(three, INTERMEDIATE)
    assert len(contexts) == 2
    assert contexts.get(one, INTERMEDIATE) is kept
    assert contexts.get(two, INTERMEDIATE) is not dropped


def test_a_replaced_certificate_loses_its_contexts_of_every_policy_and_others_keep_theirs() -> None:
    contexts, one, two = CertificateContexts(), certified_key(PAIR), certified_key(RSA, "rsa-2048")
    contexts.get(one, INTERMEDIATE)
    contexts.get(one, OLD)
    kept = contexts.get(two, INTERMEDIATE)
    contexts.replaced([PAIR.fingerprint, "unknown"])
    assert len(contexts) == 1
    assert contexts.get(two, INTERMEDIATE) is kept


def test_an_open_connection_keeps_a_context_that_was_dropped() -> None:
    contexts = CertificateContexts()
    engine = TlsEngine.accepting(front_context(INTERMEDIATE), contexts.get(certified_key(PAIR), INTERMEDIATE))
    contexts.replaced([PAIR.fingerprint])
    client = MemoryClient()
    join(engine, client)
    assert client.connection.get_peer_certificate(as_cryptography=True) == PAIR.certificate


def test_a_certificate_that_openssl_refuses_is_an_error_that_names_it_and_is_not_kept() -> None:
    contexts = CertificateContexts()
    mismatched = certified_key(Pair(PAIR.certificate, self_signed("www.example.com").key))
    with pytest.raises(ContextError, match=f"OpenSSL refuses certificate {PAIR.fingerprint[:16]}: key values mismatch"):
        contexts.get(mismatched, INTERMEDIATE)
    broken = msgspec.structs.replace(certified_key(PAIR), leaf=PAIR.der[:-1])
    with pytest.raises(ContextError, match=f"OpenSSL refuses certificate {PAIR.fingerprint[:16]}: "):
        contexts.get(broken, INTERMEDIATE)
    assert len(contexts) == 0
