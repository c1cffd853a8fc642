"""What is allowed in a configuration but probably not meant. Warnings that need certificates are made elsewhere."""

from __future__ import annotations

from pathlib import Path

from config.errors import Problem
from config.model import Config

_SMTP_PORT = 25


def warnings(config: Config) -> list[Problem]:
    """The warnings about a loaded configuration, in the order of its listeners."""
    found = []
    for index, listener in enumerate(config.listeners):
        if listener.strict_sni and any(address.port == _SMTP_PORT for address in listener.bind):
            message = (
                "mail servers that deliver to port 25 often send no server name, and are refused here; set it to false "
                "and make the certificate of the MX name the default"
            )
            file = config.file_of_listener(index) or Path("built-in defaults")
            found.append(Problem(f"listeners[{listener.name}].strict_sni", message, file))
    return found
