"""From the configuration to what certstore wants to know."""

from __future__ import annotations

from certstore.catalogue import Settings
from config.model import Config


def certificate_settings(config: Config) -> Settings:
    """Where certificates are, what is trusted, and which is the default."""
    said = config.certificates
    return Settings(
        state_directory=config.server.state_directory,
        directories=said.directories,
        trust=said.trust,
        passphrase_files=said.passphrase_files,
        default=said.default,
    )
