from __future__ import annotations

from pathlib import Path

from config.warnings import warnings

from .conftest import LISTENER, Load

MX = """
[backends.postfix]
servers = ["h:25"]
client_address = "proxy-v2"
[[listeners]]
name = "mx"
bind = [":465", "127.0.0.1:25"]
protocol = "smtp"
backend = "postfix"
strict_sni = {strict}
"""


def test_strict_sni_on_port_25_is_warned_about_with_the_file_that_says_it(loaded: Load, tmp_path: Path) -> None:
    config = loaded('include = ["mx.toml"]\n' + LISTENER, **{"mx.toml": MX.format(strict="true")})
    (warning,) = warnings(config)
    assert (warning.key, warning.file) == ("listeners[mx].strict_sni", tmp_path / "mx.toml")


def test_a_listener_on_port_25_without_strict_sni_is_fine(loaded: Load) -> None:
    assert warnings(loaded(MX.format(strict="false"))) == []


def test_strict_sni_on_other_ports_is_fine(loaded: Load) -> None:
    assert warnings(loaded(LISTENER + "strict_sni = true\n")) == []
