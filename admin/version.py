"""Which snigate this is, and what it runs on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from OpenSSL import SSL


def version() -> str:
    """snigate's own version, "unknown" where it runs without having been installed."""
    try:
        return installed_version("snigate")
    except PackageNotFoundError:
        return "unknown"


def openssl_version() -> str:
    """The OpenSSL that serves: "OpenSSL 4.0.3 29 Sep 2026"."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()


def python_version() -> str:
    """ "3.11.7"."""
    return platform.python_version()
