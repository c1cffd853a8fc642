from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from certstore.load import (
    MAX_FILE_SIZE,
    FileRejected,
    RejectReason,
    looks_like_ours,
    parse_file,
    prove_certificate,
    prove_key,
)
from certstore.outline import parts
from certstore.unlock import UnlockedFile
from tests.support.openssl import COMPRESSED_P256, compressed_key, openssl
from tests.support.pki import Authority, Pair, new_key, self_signed

KEY_TYPES = ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "rsa-2048"]


@pytest.fixture(scope="module")
def issuing() -> Authority:
    return Authority.make("Issuing", Authority.make())


@pytest.fixture(scope="module")
def pair(issuing: Authority) -> Pair:
    return issuing.issue("www.example.com", addresses=["192.0.2.1"])


def rejected(data: bytes, passphrases: Sequence[bytes] = ()) -> FileRejected:
    def unlock(data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
        raise AssertionError("nothing here needs to be opened")

    def read() -> None:
        for key in parse_file(data, passphrases, unlock).keys:
            prove_key(key)

    with pytest.raises(FileRejected) as caught:
        read()
    assert 10 < len(caught.value.message) < 250
    assert ("; " in caught.value.message) == (caught.value.reason is not RejectReason.OVERSIZED)
    return caught.value


def pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


def traditional(pair: Pair) -> bytes:
    return pair.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_a_certificate_and_its_key_have_the_same_public_key(issuing: Authority, key_type: str) -> None:
    pair = issuing.issue("www.example.com", key_type=key_type)
    content = parse_file(pair.combined_pem)
    leaf, (key,) = content.certificates[0], content.keys
    prove_key(key)
    assert leaf.spki == key.spki
    assert leaf.key_type == key.key_type == key_type
    served = load_der_private_key(key.der, None)
    assert served.public_key() == pair.key.public_key()
    stranger = parse_file(issuing.issue("www.example.com", key_type=key_type).certificate_pem).certificates[0]
    assert stranger.spki != key.spki


def test_everything_about_a_certificate_is_read(pair: Pair, issuing: Authority) -> None:
    leaf, intermediate = parse_file(pair.fullchain_pem).certificates
    assert leaf.fingerprint == pair.fingerprint
    assert leaf.der == pair.der
    assert leaf.names == ("www.example.com",)
    assert leaf.addresses == ("192.0.2.1",)
    assert (leaf.not_before, leaf.not_after) == (pair.not_before, pair.not_after)
    assert leaf.issuer == intermediate.subject == issuing.certificate.subject.public_bytes()
    assert leaf.subject == pair.certificate.subject.public_bytes()
    assert (leaf.is_ca, intermediate.is_ca) == (False, True)
    assert leaf.server_auth
    assert not leaf.self_signed


def test_self_signed_means_signed_by_its_own_key_not_only_named_alike() -> None:
    assert parse_file(self_signed("www.example.com").certificate_pem).certificates[0].self_signed
    other = Authority.make("www.example.com")
    pair = other.issue("www.example.com")
    leaf = parse_file(pair.certificate_pem).certificates[0]
    assert leaf.issuer == leaf.subject
    assert not leaf.self_signed


@pytest.mark.parametrize(
    ("eku", "allowed"),
    [((), True), (("server",), True), (("any",), True), (("client", "server"), True), (("client",), False)],
)
def test_extended_key_usage_says_whether_it_may_serve(issuing: Authority, eku: Sequence[str], allowed: bool) -> None:
    assert parse_file(issuing.issue("a.example", eku=eku).certificate_pem).certificates[0].server_auth is allowed


def test_order_is_kept_and_duplicates_are_dropped(pair: Pair) -> None:
    content = parse_file(pair.chain_pem + pair.key_pem + pair.fullchain_pem + pair.key_pem)
    assert [one.is_ca for one in content.certificates] == [True, False]
    assert len(content.keys) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: b"Bag Attributes: none\nsubject=CN = x\n\n" + data + b"\nthat was all\n",
        lambda data: data.replace(b"\n", b"  \n\n"),
        lambda data: b"".join(b"  " + line for line in data.splitlines(keepends=True)),
        lambda data: data.replace(b"-----\n-----BEGIN", b"----------BEGIN"),
        lambda data: data.rstrip(),
    ],
)
def test_line_ends_marks_and_text_around_blocks_do_not_matter(pair: Pair, change: Callable[[bytes], bytes]) -> None:
    assert parse_file(change(pair.combined_pem)) == parse_file(pair.combined_pem)


def test_text_that_openssl_writes_around_blocks_is_passed_over(pair: Pair) -> None:
    text = openssl("x509", "-text", data=pair.certificate_pem)
    assert parse_file(text).certificates[0].fingerprint == pair.fingerprint


def test_der_files_are_told_apart_by_content(pair: Pair, issuing: Authority) -> None:
    assert parse_file(pair.der).certificates[0].fingerprint == pair.fingerprint
    for one in (pair, issuing.issue("a.example", key_type="rsa-2048"), issuing.issue("a.example", key_type="ed25519")):
        assert parse_file(one.key_der).keys == parse_file(one.key_pem).keys
    for key_type in ("ecdsa-p256", "rsa-2048"):
        one = issuing.issue("a.example", key_type=key_type)
        old = one.key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert parse_file(old + b"\r\n").keys == parse_file(one.key_pem).keys


def test_pkcs1_and_sec1_keys_are_taken(issuing: Authority) -> None:
    for key_type in ("rsa-2048", "ecdsa-p384"):
        pair = issuing.issue("a.example", key_type=key_type)
        assert parse_file(traditional(pair)).keys == parse_file(pair.key_pem).keys


def test_keys_as_openssl_makes_them_are_taken() -> None:
    with_parameters = openssl("ecparam", "-name", "prime256v1", "-genkey")
    assert with_parameters.startswith(b"-----BEGIN EC PARAMETERS")
    assert parse_file(with_parameters).keys[0].key_type == "ecdsa-p256"
    assert parse_file(openssl("genrsa", "-traditional", "1024")).keys[0].key_type == "rsa-1024"
    assert parse_file(openssl("genpkey", "-algorithm", "ED25519")).keys[0].key_type == "ed25519"


def test_a_certificate_with_a_compressed_point_pairs_with_its_key() -> None:
    key = compressed_key()
    subject = ("-subj", "/CN=a.example", "-addext", "basicConstraints=critical,CA:false")
    made = openssl("req", "-x509", "-key", "/dev/stdin", *subject, data=key)
    assert len(parts(x509.load_pem_x509_certificate(made).public_bytes(Encoding.DER))[3]) == COMPRESSED_P256
    assert parse_file(made).certificates[0].spki == parse_file(key).keys[0].spki


def test_a_file_over_4_kb_is_read_whole(issuing: Authority) -> None:
    names = [f"host-number-{number}.example.com" for number in range(200)]
    pair = issuing.issue(*names)
    assert len(pair.combined_pem) > 8192
    assert parse_file(pair.combined_pem).certificates[0].names == tuple(sorted(names))


def test_pkcs8_version_2_is_taken_and_its_public_key_compared() -> None:
    key = new_key("ed25519")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    secret = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    head = bytes.fromhex("3051020101300506032b657004220420") + secret + bytes.fromhex("812100")
    version_1 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert parse_file(head + public).keys == parse_file(version_1).keys
    other = new_key("ed25519").public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert rejected(head + other).reason is RejectReason.MISMATCHED_KEY


def test_an_ec_key_stored_with_anothers_public_key_is_refused(pair: Pair) -> None:
    own, other = (
        one.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for one in (pair.key, new_key())
    )
    assert own in pair.key_der
    assert rejected(pair.key_der.replace(own, other)).reason is RejectReason.MALFORMED


def test_an_rsa_key_whose_numbers_do_not_belong_together_is_not_proven() -> None:
    one, two = (rsa.generate_private_key(65537, 1024) for _ in range(2))
    own, other = (key.public_key().public_numbers().n.to_bytes(128, "big") for key in (one, two))
    mixed = one.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).replace(own, other)
    loaded = parse_file(mixed).keys[0]
    with pytest.raises(FileRejected, match="do not belong together") as caught:
        prove_key(loaded)
    assert caught.value.reason is RejectReason.MISMATCHED_KEY


def test_a_certificate_that_openssl_would_not_serve_is_not_proven(pair: Pair) -> None:
    subject = pair.certificate.subject.public_bytes()
    odd = subject.replace(b"\x0c\x0fwww.", b"\x00\x0fwww.")
    assert odd != subject
    prove_certificate(parse_file(pair.der).certificates[0])
    loaded = parse_file(pair.der.replace(subject, odd)).certificates[0]
    with pytest.raises(FileRejected) as caught:
        prove_certificate(loaded)
    assert caught.value.reason is RejectReason.MALFORMED


def test_requests_parameters_and_crls_are_passed_over(pair: Pair, issuing: Authority) -> None:
    request = openssl("req", "-new", "-key", "/dev/stdin", "-subj", "/CN=a.example", data=pair.key_pem)
    parameters = pem("DH PARAMETERS", b"0\x06\x02\x01\x17\x02\x01\x05")
    empty = parse_file(request + parameters)
    assert (empty.certificates, empty.keys) == ((), ())
    assert parse_file(request + pair.combined_pem + parameters) == parse_file(pair.combined_pem)
    assert parse_file(openssl("req", "-outform", "DER", data=request)) == empty
    moment = pair.certificate.not_valid_before_utc
    crl = x509.CertificateRevocationListBuilder(
        issuing.certificate.subject, moment, pair.certificate.not_valid_after_utc
    )
    assert parse_file(crl.sign(issuing.key, SHA256()).public_bytes(Encoding.DER)) == empty


def test_a_pem_file_cut_anywhere_inside_a_block_is_truncated(pair: Pair) -> None:
    whole = pair.combined_pem
    ends = [at + len(b"-----END ") for at in range(len(whole)) if whole.startswith(b"-----END ", at)]
    assert len(ends) == 3
    starts = [at for at in range(len(whole)) if whole.startswith(b"-----BEGIN ", at)]
    for start, end in zip(starts, ends, strict=True):
        for cut in (*range(start + 5, start + 12), *range(start + 12, end, 37), end, whole.index(b"-----", end) + 4):
            assert rejected(whole[:cut]).reason is RejectReason.TRUNCATED


def test_a_block_that_another_begins_within_is_truncated(pair: Pair) -> None:
    half = pair.certificate_pem[:300]
    assert rejected(half + pair.certificate_pem).reason is RejectReason.TRUNCATED
    assert rejected(half + b"\n" + pair.key_pem).reason is RejectReason.TRUNCATED
    assert rejected(half + b"\n" + pair.certificate_pem).reason is RejectReason.TRUNCATED


def test_the_second_half_of_a_file_is_not_taken(pair: Pair) -> None:
    assert rejected(pair.certificate_pem[300:] + pair.key_pem).reason is RejectReason.MALFORMED


def test_der_cut_anywhere_is_rejected(pair: Pair) -> None:
    for whole in (pair.der, pair.key_der):
        for cut in range(4, len(whole), 13):
            assert rejected(whole[:cut]).reason is RejectReason.TRUNCATED


def test_an_empty_file_is_truncated() -> None:
    assert rejected(b"").reason is RejectReason.TRUNCATED


def test_one_damaged_block_rejects_the_whole_file(pair: Pair) -> None:
    good = pair.combined_pem
    for bad in (
        pem("CERTIFICATE", pair.der[:-1]),
        pem("CERTIFICATE", pair.der + b"x"),
        pem("CERTIFICATE", b""),
        pem("PRIVATE KEY", pair.key_der[:-3]),
        pem("PRIVATE KEY", pair.der),
        b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        pair.certificate_pem.replace(b"=\n", b"*\n", 1).replace(b"\nMII", b"\n*II"),
    ):
        assert rejected(good + bad).reason is RejectReason.MALFORMED
    assert rejected(pair.der + b"x").reason is RejectReason.MALFORMED


def test_what_is_not_ours_is_malformed_and_does_not_look_like_ours() -> None:
    readme = b"This directory contains your keys and certificates.\n`privkey.pem`  : the private key\n"
    pgp = pem("PGP MESSAGE", b"hello")
    for data in (readme, pgp, b"\0" * 500, b"\x89PNG\r\n", b"0", b"--", "schlüssel".encode()):
        assert rejected(data).reason is RejectReason.MALFORMED
        assert not looks_like_ours(data)
    assert not looks_like_ours(b"")


def test_what_is_ours_looks_like_it_even_when_damaged(pair: Pair) -> None:
    for data in (pair.combined_pem, pair.der, pair.key_der, pair.p12()):
        assert looks_like_ours(data)
        assert looks_like_ours(data[: len(data) // 2])
    assert looks_like_ours(pair.key_pem.decode().encode("utf-16"))


def test_kinds_that_cannot_be_served_are_named(pair: Pair) -> None:
    cases = {
        "P-256": openssl("ecparam", "-name", "secp256k1", "-genkey", "-noout"),
        "DSA": pem("DSA PRIVATE KEY", b"0\x03\x02\x01\x00"),
        "neither ECDSA": openssl("genpkey", "-algorithm", "X25519"),
        "TRUSTED CERTIFICATE": openssl("x509", "-trustout", "-addtrust", "serverAuth", data=pair.certificate_pem),
        "ssh-keygen": pem("OPENSSH PRIVATE KEY", b"openssh-key-v1\0"),
        "pkcs7": pem("PKCS7", b"0\x00"),
    }
    for words, data in cases.items():
        error = rejected(data)
        assert error.reason is RejectReason.UNSUPPORTED
        assert words in error.message
    brainpool = openssl("ecparam", "-name", "brainpoolP256r1", "-genkey", "-noout")
    subject = ("-subj", "/CN=a.example", "-addext", "basicConstraints=CA:false")
    leaf = openssl("req", "-x509", "-key", "/dev/stdin", *subject, data=brainpool)
    assert rejected(leaf).reason is RejectReason.UNSUPPORTED


def test_an_authority_with_a_key_of_another_kind_may_still_stand_in_a_chain() -> None:
    key = openssl("ecparam", "-name", "brainpoolP256r1", "-genkey", "-noout")
    authority = openssl("req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=Old root", data=key)
    certificate = parse_file(authority).certificates[0]
    assert (certificate.key_type, certificate.is_ca) == ("other", True)


def test_short_rsa_keys_are_weak() -> None:
    key = openssl("genrsa", "768")
    assert rejected(key).reason is RejectReason.WEAK_KEY
    assert "768" in rejected(key).message
    leaf = ("-subj", "/CN=a.example", "-addext", "basicConstraints=CA:false")
    assert rejected(openssl("req", "-x509", "-key", "/dev/stdin", *leaf, data=key)).reason is RejectReason.WEAK_KEY


def test_oversized_files_are_not_looked_at() -> None:
    assert rejected(b"-" * (MAX_FILE_SIZE + 1)).reason is RejectReason.OVERSIZED


def test_an_encrypted_key_without_any_passphrase_needs_one() -> None:
    key = openssl("genpkey", "-algorithm", "ED25519", "-aes-256-cbc", "-pass", "pass:secret")
    assert rejected(key).reason is RejectReason.PASSPHRASE_NEEDED
    assert "passphrase_files" in rejected(key).message
    der = openssl("pkcs8", "-topk8", "-passin", "pass:secret", "-passout", "pass:secret", "-outform", "DER", data=key)
    assert rejected(der).reason is RejectReason.PASSPHRASE_NEEDED


def test_a_cipher_that_cannot_be_opened_is_named_before_anything_is_tried() -> None:
    key = openssl("genrsa", "-traditional", "-camellia-128-cbc", "-passout", "pass:secret", "1024")
    error = rejected(key, [b"secret"])
    assert error.reason is RejectReason.UNSUPPORTED
    assert "CAMELLIA-128-CBC" in error.message


def test_what_was_unlocked_is_checked_like_anything_else(pair: Pair) -> None:
    def unlock(data: bytes, passphrases: Sequence[bytes]) -> UnlockedFile:
        assert passphrases == (b"secret",)
        return UnlockedFile((pair.der, *pair.chain_der), (pair.key_der,))

    assert parse_file(pair.p12(b"secret"), (b"secret",), unlock) == parse_file(pair.combined_pem)
    with pytest.raises(FileRejected):
        parse_file(pair.p12(), (), lambda data, passphrases: UnlockedFile((b"junk",), ()))


def test_a_key_never_shows_in_a_repr_or_message(pair: Pair) -> None:
    content = parse_file(pair.key_pem)
    assert repr(pair.key_der)[2:40] not in repr(content)
    secret = base64.b64encode(pair.key_der)[20:60].decode()
    assert secret not in str(rejected(pair.key_pem.replace(b"\n-----END", b"*\n-----END")))


def test_a_serial_number_of_zero_is_read_without_a_warning() -> None:
    made = openssl(
        "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=a", "-set_serial", "0"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_file(made).certificates[0].self_signed
