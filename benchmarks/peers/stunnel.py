"""stunnel: a thread for each connection."""

from __future__ import annotations

from benchmarks.peers.peer import Peer, Site, program


def command(site: Site) -> list[str]:
    """Tickets on, which it has to be told; TCP_NODELAY on both sides."""
    file = site.directory / "stunnel.conf"
    file.write_text(
        "foreground = yes\npid =\ndebug = crit\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        f"[bench]\naccept = 127.0.0.1:{site.port}\nconnect = 127.0.0.1:{site.backend}\ncert = {site.files[0]}\n"
        "sslVersionMin = TLSv1.2\noptions = -NO_TICKET\nTIMEOUTidle = 3600\nTIMEOUTclose = 0\n"
    )
    return [program("stunnel4") or "stunnel4", str(file)]


PEER = Peer("stunnel", "stunnel4", ("-version",), command)
