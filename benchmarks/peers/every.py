"""All of them, snigate first."""

from __future__ import annotations

from benchmarks.peers import bare, caddy, haproxy, hitch, nginx, snigate, stunnel

YARDSTICKS = {bare.PEER.name: bare.PEER}  # nobody would serve with them; they run when they are asked for
PEERS = {one.PEER.name: one.PEER for one in (snigate, nginx, haproxy, hitch, stunnel, caddy)}
