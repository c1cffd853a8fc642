"""OpenSSL contexts: one front context for each policy, one certificate context for each certificate and policy.

Why two. A connection is made on the front context of its policy; in the SNI callback OpenSSL is given the certificate's
context instead. Some settings act from the one and some from the other, whatever the documentation suggests:

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
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

# set1_curves_list has no public binding; without it OpenSSL accepts groups that no profile allows (X448, P-521, ffdhe).
# Nor has a store that several contexts share.
from OpenSSL._util import lib as _lib

from certstore.certified_key import CertifiedKey
from proxy.client_auth import ClientAuth
from proxy.policy import CIPHERSUITES, PROFILES, TLS1_2, TLS1_3, Policy

MAX_CERTIFICATE_CONTEXTS = 1024  # 25 KB each
SESSION_ID_CONTEXT = b"snigate"
SESSION_LIFETIME = 7200  # seconds a ticket may be resumed

_OP_PRIORITIZE_CHACHA = 1 << 21
_MODE_ENABLE_PARTIAL_WRITE = 0x01
_MODE_RELEASE_BUFFERS = 0x10


class ContextError(Exception):
    """OpenSSL takes a policy or a certificate not; the message says which and why."""


def front_context(policy: Policy) -> SSL.Context:
    """A new front context, with ticket keys of its own."""
    context = SSL.Context(SSL.TLS_METHOD)
    _apply(policy, context)
    context.set_tlsext_servername_callback(_set_certificate)
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
            context = self._contexts[key] = _certificate_context(certificate, policy)
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


def _set_certificate(connection: SSL.Connection) -> None:
    """The SNI callback: the certificate's context was chosen before the handshake began, and is put in place here.

    Never raises, and may run twice (HelloRetryRequest).
    """
    connection.set_context(connection.get_app_data())


def _apply(policy: Policy, context: SSL.Context) -> None:
    profile = PROFILES[policy.profile]
    context.set_min_proto_version(profile.minimum)
    context.set_max_proto_version(TLS1_3)
    ciphers = f"{profile.ciphers or 'ECDHE-ECDSA-AES128-GCM-SHA256'}:@SECLEVEL={profile.security_level}"
    context.set_cipher_list(ciphers.encode())
    context.set_tls13_ciphersuites(CIPHERSUITES.encode())
    if _lib.SSL_CTX_set1_curves_list(context._context, profile.groups.encode()) != 1:
        raise ContextError(f"this OpenSSL does not know the groups of profile {policy.profile!r}: {profile.groups}")
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | _OP_PRIORITIZE_CHACHA
    )
    context.set_mode(_MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)  # or a memory BIO takes 16 KB of a buffer and leaves the rest
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(SESSION_ID_CONTEXT)
    context.set_timeout(SESSION_LIFETIME)
    _ask_for_certificate(policy.client_auth, context)
    if policy.alpn:
        context.set_alpn_select_callback(lambda _, offered: policy.choose_alpn(offered) or SSL.NO_OVERLAPPING_PROTOCOLS)


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
