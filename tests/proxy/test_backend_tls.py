from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from certstore.outline import parts
from config.addresses import TcpAddress, UnixAddress
from config.model import BackendConfig, Config
from proxy.backend_tls import BackendTls, HandshakeRefused, ServerHandshake, backend_tls
from proxy.client_hello import ClientHelloReader
from proxy.contexts import ContextError
from proxy.errors import HandshakeError
from proxy.server_certificate import Verification, pin_of
from proxy.tls_engine import TlsEngine
from tests.support.engine import engine_for
from tests.support.openssl import COMPRESSED_P256, compressed_key, openssl
from tests.support.pki import DAY, Authority, Pair, new_key, pem_of, self_signed

ROOT = Authority.make()
NAME = "app.internal"
SERVER = TcpAddress(NAME, 443)


def tls(tmp_path: Path, *, authority: bytes | None = ROOT.pem, **keys: Any) -> BackendTls:
    if authority is not None:
        (tmp_path / "ca.pem").write_bytes(authority)
        keys["tls_ca"] = str(tmp_path / "ca.pem")
    return BackendTls(BackendConfig(name="b", servers=(SERVER,), tls="verify", **keys))


def meet(handshake: ServerHandshake, engine: TlsEngine) -> None:
    """Carry bytes between the two until both are done. Raises HandshakeRefused; then the engine has had the alert."""
    asked = served = False
    data = b""
    for _ in range(10):
        if not asked:
            try:
                asked = handshake.proceed(data)
            finally:
                engine.receive(handshake.engine.output())
        if not served:
            served = engine.handshake()
        data = bytes(engine.output())
        if asked and served:
            return
    raise AssertionError("the handshake does not end")


def refusal(handshake: ServerHandshake, pair: Pair) -> str:
    """Why the server's certificate is refused; the server is told by an alert."""
    engine = engine_for(pair=pair)
    with pytest.raises(HandshakeRefused) as refused:
        meet(handshake, engine)
    with pytest.raises(HandshakeError) as told:
        engine.handshake()
    assert told.value.reason in ("certificate_refused", "client_alert")
    return str(refused.value)


@pytest.mark.parametrize("name", [NAME, "*.internal", "APP.Internal"])
def test_a_certificate_of_a_known_authority_for_the_name_is_accepted(tmp_path: Path, name: str) -> None:
    meet(tls(tmp_path).towards(SERVER).begin(), engine_for(pair=ROOT.issue("other.example", name)))


def test_an_intermediate_that_the_server_sends_completes_the_chain(tmp_path: Path) -> None:
    pair = Authority.make("Intermediate", ROOT).issue(NAME)
    meet(tls(tmp_path).towards(SERVER).begin(), engine_for(pair=pair))
    assert "comes from no authority in tls_ca" in refusal(
        tls(tmp_path).towards(SERVER).begin(), Pair(pair.certificate, pair.key)
    )


def test_an_intermediate_or_the_certificate_itself_may_stand_in_tls_ca(tmp_path: Path) -> None:
    middle = Authority.make("Intermediate", ROOT)
    meet(tls(tmp_path, authority=middle.pem).towards(SERVER).begin(), engine_for(pair=middle.issue(NAME)))
    for pair in (self_signed(NAME), middle.issue(NAME)):
        own = tls(tmp_path, authority=pair.certificate_pem).towards(SERVER).begin()
        meet(own, engine_for(pair=pair))


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (
            Authority.make("Other root").issue(NAME),
            "its certificate comes from no authority in tls_ca, or the server leaves out an intermediate",
        ),
        (self_signed(NAME), "its certificate comes from no authority in tls_ca"),
        (ROOT.issue(NAME, not_after=-DAY), "its certificate expired on 20"),
        (ROOT.issue(NAME, not_before=DAY, not_after=2 * DAY), "its certificate is not valid before 20"),
        (ROOT.issue(NAME, eku=("client",)), "its certificate is not made for servers"),
        (ROOT.issue("a.example", "*.b.example"), f"its certificate is for a.example, *.b.example, not for {NAME} (say"),
        (ROOT.issue(*"abcde"), f"its certificate is for a, b, c and 2 more, not for {NAME}"),
        (ROOT.issue(f"x.{NAME}"), f"its certificate is for x.{NAME}, not for {NAME}"),
        (ROOT.issue(common_name=NAME), f"its certificate is for no host name at all, not for {NAME}"),
    ],
    ids=["authority", "self-signed", "expired", "early", "purpose", "name", "names", "below", "CN"],
)
def test_a_certificate_that_is_refused_is_told_why(tmp_path: Path, pair: Pair, why: str) -> None:
    assert refusal(tls(tmp_path).towards(SERVER).begin(), pair).startswith(why)


def test_an_expired_authority_is_told_apart_from_an_expired_certificate(tmp_path: Path) -> None:
    old = Authority.make("Old", ROOT, not_before=-2 * DAY, not_after=-DAY)
    assert refusal(tls(tmp_path).towards(SERVER).begin(), old.issue(NAME)).startswith("a certificate of its chain exp")


def test_a_server_given_by_its_address_needs_a_certificate_for_it(tmp_path: Path) -> None:
    address = TcpAddress("10.0.0.5", 443)
    meet(tls(tmp_path).towards(address).begin(), engine_for(pair=ROOT.issue(addresses=["10.0.0.5"])))
    assert "not for 10.0.0.5" in refusal(tls(tmp_path).towards(address).begin(), ROOT.issue("*.0.0.5"))
    named = tls(tmp_path, tls_name=NAME)
    for one in (address, UnixAddress(tmp_path / "s")):
        meet(named.towards(one).begin(), engine_for(pair=ROOT.issue(NAME)))


def test_with_pins_the_public_key_decides_alone(tmp_path: Path) -> None:
    key = new_key()
    pinned = tls(tmp_path, authority=None, tls_pin=(pin_of(self_signed(key=key).certificate),))
    for pair in (
        self_signed("x", key=key),
        Authority.make("Other", Authority.make("Unknown")).issue("x", key=key),
        ROOT.issue(key=key, not_after=-DAY),
    ):
        meet(pinned.towards(SERVER).begin(), engine_for(pair=pair))
    wrong = self_signed(NAME)
    said = refusal(pinned.towards(SERVER).begin(), wrong)
    assert said.startswith(f"its public key has the pin {pin_of(wrong.certificate)}, which is none of tls_pin")


def test_a_pin_is_of_the_public_key_as_the_certificate_has_it() -> None:
    made = openssl("req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=a.example", data=compressed_key())
    certificate = x509.load_pem_x509_certificate(made)
    key = parts(certificate.public_bytes(Encoding.DER))[3]
    assert len(key) == COMPRESSED_P256
    assert pin_of(certificate) == base64.b64encode(hashlib.sha256(key).digest()).decode()


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    def read() -> x509.Certificate:
        raise ValueError("error parsing asn1 value")

    verification = Verification(NAME)
    assert not verification.judge(read, 0, 0, True)
    assert verification.refusal is not None
    assert verification.refusal.startswith("its certificate cannot be read")


def test_a_verification_that_was_never_asked_has_accepted_nothing(tmp_path: Path) -> None:
    one = tls(tmp_path).towards(SERVER).begin()
    handshake = ServerHandshake(one.engine, Verification(NAME))  # not the one that OpenSSL asks
    with pytest.raises(HandshakeRefused, match="it showed no certificate"):
        meet(handshake, engine_for(pair=ROOT.issue(NAME)))


def test_the_name_is_sent_by_sni_and_an_address_is_not(tmp_path: Path) -> None:
    for address, name, sent in (
        (SERVER, None, NAME),
        (SERVER, "other.example", "other.example"),
        (TcpAddress("::1", 443), None, None),
    ):
        handshake = tls(tmp_path, tls_name=name).towards(address).begin()
        handshake.proceed(b"")
        hello = ClientHelloReader().feed(bytes(handshake.engine.output()))
        assert hello is not None
        assert hello.server_name == sent
        assert hello.alpn == ()


def test_a_server_without_tls_or_with_an_old_one_is_told_apart(tmp_path: Path) -> None:
    handshake = tls(tmp_path).towards(SERVER).begin()
    handshake.proceed(b"")
    with pytest.raises(HandshakeRefused, match="does not answer in TLS"):
        handshake.proceed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    handshake = tls(tmp_path).towards(SERVER).begin()
    handshake.proceed(b"")
    with pytest.raises(HandshakeRefused, match=r"the TLS handshake failed: .*version"):
        handshake.proceed(bytes.fromhex("15030100020246"))


def test_a_backend_without_verification_takes_any_certificate_for_its_check() -> None:
    anything = BackendTls(BackendConfig(name="b", servers=(SERVER,), check="tls"))
    meet(anything.towards(SERVER).begin(), engine_for(pair=self_signed("x", not_after=-DAY)))


def test_only_backends_with_tls_have_contexts_and_what_cannot_be_trusted_stops_the_start(tmp_path: Path) -> None:
    backends = {
        "plain": BackendConfig(name="plain", servers=(SERVER,)),
        "checked": BackendConfig(name="checked", servers=(SERVER,), check="tls"),
        "system": BackendConfig(name="system", servers=(SERVER,), tls="verify"),
    }
    assert set(backend_tls(Config(backends=backends))) == {"checked", "system"}
    wrong = BackendConfig(name="wrong", servers=(SERVER,), tls="verify", tls_ca=tmp_path / "no.pem")
    with pytest.raises(ContextError, match=r"backend wrong: tls_ca: .*no.pem: cannot be read"):
        backend_tls(Config(backends={**backends, "wrong": wrong}))


def test_a_pem_file_may_hold_many_authorities(tmp_path: Path) -> None:
    bundle = pem_of(*(Authority.make(f"Root {number}").certificate for number in range(5))) + ROOT.pem
    meet(tls(tmp_path, authority=bundle).towards(SERVER).begin(), engine_for(pair=ROOT.issue(NAME)))


def test_no_session_is_resumed(tmp_path: Path) -> None:
    one = tls(tmp_path)
    engine = engine_for(pair=ROOT.issue(NAME))
    meet(one.towards(SERVER).begin(), engine)
    assert not engine.negotiated().resumed
    assert one._context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
