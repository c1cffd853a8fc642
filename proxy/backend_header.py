"""What a backend is sent before anything else: a PROXY header, or nothing."""

from __future__ import annotations

from config.fields import ClientAddress
from proxy import proxy_protocol
from proxy.backend import Established
from proxy.served_certificate import algorithms
from proxy.tls_engine import Negotiated

_HEADERS = frozenset({"proxy-v1", "proxy-v2"})


def of_client(told: ClientAddress, established: Established | None) -> bytes:
    """The header that tells of a client; nothing for a backend that is told otherwise, or not at all.

    `established` may be None for one that is not told.
    """
    if told not in _HEADERS:
        return b""
    assert established is not None
    if told == "proxy-v1":
        return proxy_protocol.encode_v1(established.client, established.local)
    return proxy_protocol.encode_v2(established.client, established.local, tlvs(established))


def of_snigate(told: ClientAddress) -> bytes:
    """The header of a connection that is no client's, for a server that would not do without one."""
    if told not in _HEADERS:
        return b""
    return (
        proxy_protocol.encode_v1(None, None) if told == "proxy-v1" else proxy_protocol.encode_v2(None, None, local=True)
    )


def tlvs(established: Established) -> list[tuple[int, bytes]]:
    """What PROXY v2 says beside the addresses: ALPN, server name, id, and how the TLS is that ended here."""
    negotiated = established.negotiated
    found = []
    if negotiated is not None and negotiated.alpn:
        found.append((proxy_protocol.PP2_TYPE_ALPN, negotiated.alpn.encode()))
    if established.server_name is not None:
        found.append((proxy_protocol.PP2_TYPE_AUTHORITY, established.server_name.encode()))
    found.append((proxy_protocol.PP2_TYPE_UNIQUE_ID, established.id.encode()))
    if negotiated is not None:
        served = algorithms(established.leaf)
        found.append(
            proxy_protocol.ssl_tlv(
                negotiated.version,
                negotiated.cipher,
                _client_certificate(established.client_name, negotiated),
                signature_algorithm=served.signature,
                key_algorithm=served.key,
            )
        )
    return found


def _client_certificate(name: str | None, negotiated: Negotiated) -> proxy_protocol.ClientCertificate | None:
    if name is None:
        return None
    return proxy_protocol.ClientCertificate(name or None, on_this_connection=not negotiated.resumed)
