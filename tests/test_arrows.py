"""The arrows of docs/architecture.md, by what every module imports: which package may know which, and who does I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "config": set[str](),
    "certstore": set[str](),
    "proxy": {"certstore", "config"},
    "admin": {"proxy", "certstore", "config"},
}
# Bytes or values in, bytes or values out: no event loop, no socket, no process, no thread.
PURE = {
    "certstore": {
        "certified_key",
        "der",
        "errors",
        "index",
        "key_types",
        "names",
        "outline",
        "pem",
        "preference",
        "ranking",
        "selector",
    },
    "config": {"addresses", "durations", "errors", "fields", "hosts", "mail_warnings", "model", "warnings", "words"},
    "proxy": {
        "balancer",
        "client_auth",
        "client_hello",
        "client_hello_error",
        "client_hello_message",
        "client_key_types",
        "contexts",
        "errors",
        "extension_layout",
        "ja4",
        "layer",
        "limits",
        "pipe",
        "policy",
        "connection_ids",
        "crc32c",
        "proxy_header",
        "proxy_protocol",
        "rate",
        "redirect_target",
        "routing",
        "served_certificate",
        "server_certificate",
        "starttls",
        "throttle",
        "tls_engine",
    },
}
IO = {"asyncio", "multiprocessing", "selectors", "socket", "ssl", "subprocess", "threading", "uvloop", "watchfiles"}
ADDRESS_SYNTAX = {"proxy/proxy_protocol.py": {"socket"}}  # inet_pton and inet_ntop alone
# The only modules of the data plane that handle sockets.
SOCKETS = {
    *(
        "backend",
        "bare_socket",
        "dial",
        "entrance",
        "handshake",
        "introduction",
        "leg",
        "listener",
        "outlet",
        "pool",
        "redirect",
        "relay",
        "resolver",
        "securing",
        "session",
        "spliced_leg",
        "talk",
        "welcome",
    ),
    *("channel", "child", "family", "generation", "inherited", "service_manager", "sockets", "supervisor"),
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def pure_modules(package: str) -> list[Path]:
    """The files that PURE names, by themselves or by their directory."""
    named = [ROOT / package / name for name in sorted(PURE[package])]
    found = [
        module for name in named for module in (modules(str(name)) if name.is_dir() else [name.with_suffix(".py")])
    ]
    assert all(module.exists() for module in found)
    return found


def imported(module: Path) -> set[str]:
    """The full names of everything a module imports, at its top or inside."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide the arrows"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def roots(module: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


@pytest.mark.parametrize("package", list(ALLOWED))
def test_a_package_imports_only_what_its_arrows_point_to(package: str) -> None:
    ours = {*ALLOWED, "tests", "benchmarks", "soak"}
    found = modules(package)
    assert found
    wrong = {str(module.relative_to(ROOT)): roots(module) & ours - ALLOWED[package] - {package} for module in found}
    assert {module: names for module, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", list(PURE))
def test_pure_modules_do_no_io(package: str) -> None:
    for module in pure_modules(package):
        used = roots(module) & IO - ADDRESS_SYNTAX.get(str(module.relative_to(ROOT)), set())
        assert used == set(), f"{module} imports {used}"


@pytest.mark.parametrize("package", list(PURE))
def test_pure_modules_stand_on_pure_modules(package: str) -> None:
    for module in pure_modules(package):
        for one in imported(module):
            root, _, rest = one.partition(".")
            if root in PURE:
                assert rest.partition(".")[0] in PURE[root], f"{module} stands on {one}"


def test_only_these_modules_of_the_data_plane_touch_sockets() -> None:
    touching = {module.stem for module in modules("proxy") if "socket" in roots(module)}
    assert touching - {Path(module).stem for module in ADDRESS_SYNTAX} == SOCKETS


def test_pyopenssls_private_side_is_used_in_three_modules_alone() -> None:
    every = (module for package in ALLOWED for module in modules(package))
    using = {module.stem for module in every if "OpenSSL._util.lib" in imported(module)}
    assert using == {"contexts", "direct_engine", "tls_engine"}


def test_nothing_that_runs_uses_what_only_tests_have() -> None:
    for package in ALLOWED:
        for module in modules(package):
            assert not roots(module) & {"tests", "soak", "pytest", "hypothesis"}, module
