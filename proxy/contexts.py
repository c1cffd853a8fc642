"""OpenSSL contexts: one front context for each policy, one certificate context for each certificate and policy.

Why two. A connection is made on the front context of its policy; before its handshake begins, OpenSSL is given the
certificate's context instead. Some settings act from the one and some from the other, whatever the documentation
suggests:

- from the front: verify mode, versions, options, server preference, mode bits, groups, time-outs, TLS 1.3 ciphers,
  and above all the ticket keys, so that a session made under one policy is worth nothing under another;
- from the certificate's: certificate, chain and key, the ALPN callback, TLS 1.2 ciphers, client authorities and
  revocation lists;
- from both: the security level and the session id context (without an equal one, resumption aborts the handshake).

So one function, `_apply`, puts a policy on both kinds. The server-side session cache is off (1.26 KB a session);
tickets carry resumption in TLS 1.2 and 1.3. Contexts are frozen once used, hence made anew rather than changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

# set1_curves_list has no public binding; without it OpenSSL accepts groups that no profile allows (X448, P-521, ffdhe).
# Nor has a store that several contexts share. The public callbacks look for a pyOpenSSL connection, and there is none.
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from certstore.certified_key import CertifiedKey
from proxy.client_auth import ClientAuth
from proxy.policy import CIPHERSUITES, PROFILES, TLS1_2, TLS1_3, Policy

MAX_CERTIFICATE_CONTEXTS = 1024  # 25 KB each
SESSION_ID_CONTEXT = b"snigate"
SESSION_LIFETIME = 7200  # seconds a ticket may be resumed

_OP_PRIORITIZE_CHACHA = 1 << 21
_MODE_ENABLE_PARTIAL_WRITE = 0x01
_MODE_AUTO_RETRY = 0x04
_MODE_NO_AUTO_CHAIN = 0x08
_MODE_RELEASE_BUFFERS = 0x10
_SERVER_NAME_TAKEN = 0  # SSL_TLSEXT_ERR_OK


class ContextError(Exception):
    """OpenSSL takes a policy or a certificate not; the message says which and why."""


def front_context(policy: Policy) -> SSL.Context:
    """A new front context, with ticket keys of its own."""
    context = SSL.Context(SSL.TLS_METHOD)
    _apply(policy, context)
    _lib.SSL_CTX_set_tlsext_servername_callback(context._context, _acknowledge_server_name)
    return context


def client_context() -> SSL.Context:
    """A context for connections to servers, TLS 1.2 and 1.3. It verifies nothing unless told to."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(TLS1_2)
    context.set_max_proto_version(TLS1_3)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(_MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_NONE)
    return context


class CertificateContexts:
    """The certificate contexts of one worker, made on first use, the least recently used dropped."""

    def __init__(self, limit: int = MAX_CERTIFICATE_CONTEXTS) -> None:
        self._limit = limit
        self._contexts: OrderedDict[tuple[str, Policy], SSL.Context] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contexts)

    def get(self, certificate: CertifiedKey, policy: Policy) -> SSL.Context:
        """The context that serves `certificate` under `policy`. Raises ContextError."""
        key = (certificate.fingerprint, policy)
        context = self._contexts.get(key)
        if context is None:
            try:
                context = self._contexts[key] = _certificate_context(certificate, policy)
            finally:
                _lib.ERR_clear_error()  # engines take what is in OpenSSL's queue for their own
            if len(self._contexts) > self._limit:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(key)
        return context

    def replaced(self, fingerprints: Iterable[str]) -> None:
        """Drop the contexts of certificates that changed or are retired; open connections keep theirs."""
        gone = set(fingerprints)
        for key in [key for key in self._contexts if key[0] in gone]:
            del self._contexts[key]


@_ffi.callback("int (*)(SSL *, int *, void *)")  # type: ignore[untyped-decorator]
def _acknowledge_server_name(_ssl: Any, _alert: Any, _argument: Any) -> int:
    """Without a callback, OpenSSL does not answer the extension, as RFC 6066 section 3 wants it."""
    return _SERVER_NAME_TAKEN


def _apply(policy: Policy, context: SSL.Context) -> None:
    profile = PROFILES[policy.profile]
    context.set_min_proto_version(profile.minimum)
    context.set_max_proto_version(TLS1_3)
    ciphers = f"{profile.ciphers or 'ECDHE-ECDSA-AES128-GCM-SHA256'}:@SECLEVEL={profile.security_level}"
    context.set_cipher_list(ciphers.encode())
    context.set_tls13_ciphersuites(CIPHERSUITES.encode())
    if _lib.SSL_CTX_set1_curves_list(context._context, profile.groups.encode()) != 1:
        raise ContextError(f"this OpenSSL does not know the groups of profile {policy.profile!r}: {profile.groups}")
    if _lib.SSL_CTX_set1_sigalgs_list(context._context, profile.signatures.encode()) != 1:
        raise ContextError(
            f"this OpenSSL does not know the signatures of profile {policy.profile!r}: {profile.signatures}"
        )
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | _OP_PRIORITIZE_CHACHA
    )
    # The store completes chains, so OpenSSL need not look for a better one at each handshake.
    context.set_mode(_MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    # Without the first, a memory BIO takes all of a buffer at once; with the second, OpenSSL would read key updates for
    # as long as somebody sends them, and nobody else have a turn.
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE | _MODE_AUTO_RETRY)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(SESSION_ID_CONTEXT)
    context.set_timeout(SESSION_LIFETIME)
    _ask_for_certificate(policy.client_auth, context)
    if policy.alpn:
        _lib.SSL_CTX_set_alpn_select_cb(context._context, _protocol_chooser(policy), _ffi.NULL)


@cache  # OpenSSL does not keep a callback alive; there are as many as there are policies
def _protocol_chooser(policy: Policy) -> Any:
    """The ALPN callback: the protocol that the policy likes best, or none."""
    texts = {name: _ffi.new("unsigned char[]", name) for name in policy.alpn}  # OpenSSL reads it after the call

    def choose(_ssl: Any, chosen: Any, size: Any, offered: Any, length: int, _argument: Any) -> int:
        name = policy.choose_alpn(_protocols(_ffi.buffer(offered, length)[:]))
        if name is None:
            return int(_lib.SSL_TLSEXT_ERR_NOACK)
        chosen[0], size[0] = texts[name], len(name)
        return int(_lib.SSL_TLSEXT_ERR_OK)

    return _ffi.callback(
        "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)",
        choose,
        error=_lib.SSL_TLSEXT_ERR_ALERT_FATAL,
    )


def _protocols(encoded: bytes) -> list[bytes]:
    """The protocols in ALPN's encoding, which OpenSSL has checked: each behind a byte with its length."""
    found = []
    while encoded:
        end = 1 + encoded[0]
        found.append(encoded[1:end])
        encoded = encoded[end:]
    return found


def _ask_for_certificate(asked: ClientAuth | None, context: SSL.Context) -> None:
    if asked is None:
        context.set_verify(SSL.VERIFY_NONE)
        return
    context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if asked.required else 0))
    store, authorities = _client_authorities(asked)
    for authority in authorities:
        context.add_client_ca(authority)
    _lib.X509_STORE_up_ref(store._store)  # the context takes one reference for its own
    _lib.SSL_CTX_set_cert_store(context._context, store._store)


@lru_cache(maxsize=64)
def _client_authorities(asked: ClientAuth) -> tuple[crypto.X509Store, tuple[x509.Certificate, ...]]:
    """The one store that all contexts share: made with the front contexts, before the fork. Lists may be long."""
    store = crypto.X509Store()
    authorities = tuple(x509.load_der_x509_certificate(der) for der in asked.authorities)
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    for der in asked.revoked:
        store.add_crl(x509.load_der_x509_crl(der))
    if asked.revoked:
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
    return store, authorities


def _certificate_context(certificate: CertifiedKey, policy: Policy) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    try:
        _apply(policy, context)
        context.use_certificate(x509.load_der_x509_certificate(certificate.leaf))
        for link in certificate.chain:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(link))
        key = load_der_private_key(certificate.key, None, unsafe_skip_rsa_key_validation=True)
        context.use_privatekey(key)  # type: ignore[arg-type]  # the keeper lets only TLS key types through
    except (SSL.Error, ValueError) as error:
        raise ContextError(f"OpenSSL refuses certificate {certificate.fingerprint[:16]}: {_text(error)}") from error
    return context


def _text(error: Exception) -> str:
    queue = error.args[0] if error.args else None
    return str(queue[-1][2]) if isinstance(queue, list) and queue else str(error)
