"""Client certificates: what files say, what handshakes demand, and what sessions are worth elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from config.model import RouteConfig
from proxy.client_auth import ClientAuth, ClientAuthError, client_auth
from proxy.contexts import CertificateContexts, front_context
from proxy.errors import HandshakeError
from proxy.policy import Policy
from proxy.tls_engine import TlsEngine
from tests.support.engine import MemoryClient, certified_key, client_context, join
from tests.support.pki import Authority, Key, Pair, self_signed

PAIR = self_signed("www.example.com")
OURS, STRANGE = Authority.make("Clients"), Authority.make("Strangers")
ALICE = OURS.issue(common_name="Alice", eku=("client",))
VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


def asked(directory: Path, how: str = "required", *, revoked: bytes = b"") -> ClientAuth:
    """What a route with these files asks for."""
    (directory / "ca.pem").write_bytes(OURS.pem)
    said: dict[str, object] = {"hosts": ["a.example"], "client_auth": how, "client_ca": directory / "ca.pem"}
    if revoked:
        (directory / "crl.pem").write_bytes(revoked)
        said["client_crl"] = directory / "crl.pem"
    found = client_auth(RouteConfig.model_validate(said))
    assert found is not None
    return found


def engine(policy: Policy, front: SSL.Context | None = None) -> TlsEngine:
    return TlsEngine.accepting(front or front_context(policy), CertificateContexts().get(certified_key(PAIR), policy))


def showing(shows: Pair | None, version: int) -> SSL.Context:
    context = client_context(minimum=version, maximum=version)
    if shows is not None:
        context.use_certificate(shows.certificate)
        context.use_privatekey(shows.key)
    return context


def client(shows: Pair | None, version: int) -> MemoryClient:
    return MemoryClient(showing(shows, version))


def refused(policy: Policy, shows: Pair | None, version: int) -> str:
    """Why the handshake fails."""
    with pytest.raises(HandshakeError) as found:
        join(engine(policy), client(shows, version))
    return found.value.reason


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["required", "optional"])
def test_a_certificate_of_the_authority_is_taken_and_its_common_name_known(
    tmp_path: Path, how: str, version: int
) -> None:
    one = engine(Policy("intermediate", client_auth=asked(tmp_path, how)))
    join(one, client(ALICE, version))
    assert one.peer_name() == "Alice"


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_is_fine_where_it_is_optional_and_refused_where_it_is_required(
    tmp_path: Path, version: int
) -> None:
    one = engine(Policy("intermediate", client_auth=asked(tmp_path, "optional")))
    join(one, client(None, version))
    assert one.peer_name() is None
    required = Policy("intermediate", client_auth=asked(tmp_path))
    assert refused(required, None, version) == "client_certificate_missing"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["required", "optional"])
@pytest.mark.parametrize(
    "shows",
    [
        STRANGE.issue(common_name="Alice", eku=("client",)),
        OURS.issue(common_name="Alice", eku=("client",), not_before=-200, not_after=-100),
        OURS.issue(common_name="Alice", eku=("server",)),
        self_signed("alice.example"),
    ],
    ids=["of another authority", "expired", "for servers", "self-signed"],
)
def test_a_certificate_that_does_not_verify_is_refused(tmp_path: Path, shows: Pair, how: str, version: int) -> None:
    policy = Policy("intermediate", client_auth=asked(tmp_path, how))
    assert refused(policy, shows, version) == "client_certificate_refused"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_revoked_certificate_is_refused_and_others_of_its_authority_are_not(tmp_path: Path, version: int) -> None:
    bob = OURS.issue(common_name="Bob", eku=("client",))
    policy = Policy("intermediate", client_auth=asked(tmp_path, revoked=OURS.revoke(bob)))
    assert refused(policy, bob, version) == "client_certificate_refused"
    one = engine(policy)
    join(one, client(ALICE, version))
    assert one.peer_name() == "Alice"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_worth_nothing_where_certificates_are_demanded_and_something_where_it_was_made(
    tmp_path: Path, version: int
) -> None:
    free, strict = Policy("intermediate"), Policy("intermediate", client_auth=asked(tmp_path))
    fronts = {policy: front_context(policy) for policy in (free, strict)}
    context = showing(ALICE, version)
    made = MemoryClient(context)
    first = engine(free, fronts[free])
    join(first, made)
    made.receive(bytes(first.output()))
    made.read()
    session = made.connection.get_session()
    again = engine(free, fronts[free])
    join(again, MemoryClient(context, session=session))
    assert again.negotiated().resumed
    elsewhere = engine(strict, fronts[strict])
    join(elsewhere, MemoryClient(context, session=session))
    assert not elsewhere.negotiated().resumed
    assert elsewhere.peer_name() == "Alice"


def test_policies_are_equal_by_the_content_of_their_files(tmp_path: Path) -> None:
    (one, other) = (tmp_path / "1", tmp_path / "2")
    one.mkdir()
    other.mkdir()
    assert asked(one) == asked(other)
    assert hash(asked(one)) == hash(asked(other))
    assert asked(one) != asked(one, "optional")
    assert asked(one) != asked(one, revoked=OURS.revoke())
    assert client_auth(RouteConfig.model_validate({"hosts": ["a.example"]})) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "holds no CERTIFICATE block"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is broken"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "is broken"),
        (b"x" * (5 << 20), "has more than"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ClientAuthError) as found:
        client_auth(RouteConfig.model_validate({"hosts": ["a"], "client_auth": "required", "client_ca": path}))
    assert str(found.value).startswith(f"{path}: ")
    assert words in str(found.value)


def with_subject(tag: int, name: bytes) -> tuple[bytes, Key]:
    """A certificate (DER) of OURS whose common name is encoded as no authority should, though many do."""
    pair = OURS.issue(common_name="PLACEHOLDER", eku=("client",))
    old = b"\x0c\x0bPLACEHOLDER"
    body = pair.certificate.tbs_certificate_bytes
    assert body.count(old) == 1
    assert len(name) == 11
    body = body.replace(old, bytes((tag, 11)) + name)
    signature = OURS.key.sign(body, ec.ECDSA(hashes.SHA256()))  # type: ignore[call-arg, arg-type]
    bits = b"\x03" + bytes((len(signature) + 1,)) + b"\0" + signature
    content = body + bytes.fromhex("300a06082a8648ce3d040302") + bits
    der = b"\x30\x82" + len(content).to_bytes(2) + content
    return der, pair.key


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("tag", "name"),
    [(0x13, b"j.doe@a.bcd"), (0x14, b"J\xf6rg Doe a."), (0x16, b"\xff\xfe.examples"), (0x03, b"\0bit string")],
)
def test_a_name_that_is_badly_encoded_is_some_name_and_no_exception(
    tmp_path: Path, tag: int, name: bytes, version: int
) -> None:
    der, key = with_subject(tag, name)
    (tmp_path / "client.der").write_bytes(der)
    context = client_context(minimum=version, maximum=version)
    context.use_certificate_file(str(tmp_path / "client.der"), crypto.FILETYPE_ASN1)
    context.use_privatekey(key)
    one = engine(Policy("intermediate", client_auth=asked(tmp_path)))
    join(one, MemoryClient(context))
    assert isinstance(one.peer_name(), str)


def test_contexts_of_one_policy_share_the_authorities_and_lists(tmp_path: Path) -> None:
    policy = Policy("intermediate", client_auth=asked(tmp_path, revoked=OURS.revoke()))
    stores = [front_context(policy).get_cert_store() for _ in range(2)]
    stores.append(CertificateContexts().get(certified_key(PAIR), policy).get_cert_store())
    assert len({store._store for store in stores if store is not None}) == 1
