"""All of them, snigate first."""

from __future__ import annotations

from benchmarks.peers import caddy, haproxy, hitch, nginx, snigate, stunnel

PEERS = {one.PEER.name: one.PEER for one in (snigate, nginx, haproxy, hitch, stunnel, caddy)}
