from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load as loading
from config.errors import ConfigError
from config.load import checked, find, load_or_defaults
from config.model import Config
from config.sources import Tree

from .conftest import LISTENER, Load, Problems, Write

FULL = """
[certificates]
directories = ["/etc/snigate/certs"]
default = "mail.example.com"
order = "kerio"
trust = ["system", "roots.pem"]
passphrase_files = []
rescan = "60s"
[tls]
profile = "modern"
[server]
workers = 4
state_directory = "./data"
drain = "30s"
max_connections = 10
max_connections_per_client = 5
[admin]
listen = "127.0.0.1:9180"
token_file = "token"
[metrics]
listen = ":9181"
[log]
level = "debug"
format = "json"
access = false
[backends.imap]
servers = ["10.0.0.5:143"]
balance = "round-robin"
client_address = "proxy-v2"
tls = "off"
[[listeners]]
name = "imaps"
bind = [":993"]
protocol = "imap"
tls = "implicit"
accept_proxy_from = []
alpn = ["imap"]
strict_sni = false
backend = "imap"
[[listeners.routes]]
hosts = ["example.org", "*.example.com"]
match_alpn = []
backend = "127.0.0.1:8080"
action = "terminate"
profile = "old"
alpn = ["x"]
client_auth = "off"
"""


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("[tls]\nprofle = 1\n", "tls.profle", "unknown key 'profle'; did you mean 'profile'?"),
        ('[tls]\nprofile = "modren"\n', "tls.profile", 'did you mean "modern"? Allowed: "modern", "intermediate" or'),
        ("[tls]\nprofile = 1\n", "tls.profile", 'expected "modern", "intermediate" or "old", found the number 1'),
        ("[sever]\ndrain = 1\n", "sever", "unknown table [sever]; did you mean [server]?"),
        ("zzz = 1\n", "zzz", "unknown key 'zzz'; known here: include, certificates, tls, server"),
        ('[tls]\ndrain = "1s"\n', "tls.drain", "unknown key 'drain' here; it belongs in [server]"),
        ("[log]\ninclude = []\n", "log.include", "it belongs in the main file, above its first table"),
        ("server = 3\n", "server", "expected a table, found the number 3; write it as [server]"),
        ("[server]\ndrain = 30\n", "server.drain", "the number 30 has no unit; write a text with one"),
        ("[server]\ndrain = nan\n", "server.drain", "the number nan has no unit"),
        ("[server]\ndrain = true\n", "server.drain", 'expected a duration such as "10s", found true'),
        ("[server]\nworkers = 0\n", "server.workers", "0 is too small; it must be 1 or more"),
        ('[server]\nworkers = "4"\n', "server.workers", 'expected a whole number, found the text "4"'),
        ("[server]\nworkers = 1.5\n", "server.workers", "expected a whole number, found the number 1.5"),
        ("[server]\nmax_connections = true\n", "server.max_connections", "expected a whole number, found true"),
        ("[server]\nmax_connections_per_client = -1\n", "server.max_connections_per_client", "-1 is too small"),
        ("[server]\nmax_connections = 10000000000\n", "server.max_connections", "is too large"),
        ('[log]\naccess = "yes"\n', "log.access", 'expected true or false (without quotes), found the text "yes"'),
        ("[log]\nlevel = 1979-05-27\n", "log.level", "found a date or time (1979-05-27)"),
        ('[certificates]\ntrust = ["sytem"]\n', "certificates.trust[0]", 'did you mean "system"? (for a file of this'),
        ("[certificates]\ntrust = [3]\n", "certificates.trust[0]", "expected a path, found the number 3"),
        ('[certificates]\ndirectories = "/etc"\n', "certificates.directories", 'write it as ["/etc"]'),
        ("[certificates]\ndirectories = {}\n", "certificates.directories", "expected a list, found a table"),
        ('[certificates]\ndirectories = [""]\n', "certificates.directories[0]", "the path is empty"),
        ('[certificates]\ndirectories = ["~/c"]\n', "certificates.directories[0]", '"~" is not expanded'),
        ('[certificates]\ndefault = "*.a.example"\n', "certificates.default", "is a wildcard"),
        ('[admin]\nlisten = "unix:/run/a"\n', "admin.listen", "is a Unix socket"),
        ("[admin]\ntoken_file = 1\n", "admin.token_file", "found the number 1"),
        ("[metrics]\n", "metrics.listen", 'is missing; add it, for example listen = "127.0.0.1:9181"'),
        ("[backends.b]\nservers = []\n", "backends.b.servers", "the list is empty; it needs at least one entry"),
        ("[backends.b]\n", "backends.b.servers", 'is missing; add it, for example servers = ["127.0.0.1:8080"]'),
        ('[backends.b]\nservers = ["h:0"]\n', "backends.b.servers[0]", "nothing can be reached on port 0"),
        ('[backends.b]\nname = "b"\nservers = ["h:1"]\n', "backends.b.name", "a backend's name is that of its table"),
        ('[backends."a b"]\nservers = ["h:1"]\n', 'backends."a b"', '"a b" is not a name; use letters'),
        ("[backends]\nb = 1\n", "backends.b", "expected a table, found the number 1; write it as [backends.b]"),
        ("[servers]\nworkers = 1\n", "servers", "unknown table [servers]; did you mean [server]?"),
        ('[[listener]]\nname = "x"\n', "listener", "unknown table [listener]; did you mean [[listeners]]?"),
        ("[nonsense]\n", "nonsense", "unknown table [nonsense]; known: [certificates], [tls], "),
        ('["a\\n"]\n', '"a\\n"', 'unknown table "a\\n"; known: '),
        ("[[backends]]\n", "backends", "expected a table, found a list; write it as [backends.NAME]"),
    ],
)
def test_a_wrong_value_is_reported_in_plain_words(problems: Problems, text: str, key: str, message: str) -> None:
    (problem,) = problems(text + LISTENER)
    assert problem.key == key
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("", "listeners", "there is no listener; add a table [[listeners]] with name ="),
        ("listeners = []", "listeners", "there is no listener"),
        ("[listeners]\n", "listeners", "found a table; write [[listeners]], with two brackets"),
        ("listeners = [1]", "listeners[0]", "expected a table, found the number 1"),
        (LISTENER.replace('name = "web"', ""), "listeners[0].name", 'is missing; add it, for example name = "web"'),
        (LISTENER.replace('"web"', '"a b"'), "listeners[0].name", '"a b" is not a name'),
        (LISTENER.replace('[":443"]', "[]"), "listeners[web].bind", "the list is empty"),
        (LISTENER.replace('[":443"]', '":443"'), "listeners[web].bind", 'write it as [":443"]'),
        (LISTENER.replace('"127.0.0.1:8080"', "8080"), "listeners[web].backend", "found the number 8080"),
        (LISTENER + 'alpn = ["' + "x" * 256 + '"]', "listeners[web].alpn[0]", "has 256 bytes"),
        (LISTENER + 'alpn = ["h3"]', "listeners[web].alpn[0]", "spoken over QUIC (UDP) and not here"),
        (LISTENER + 'protocol = "imaps"', "listeners[web].protocol", 'did you mean "imap"?'),
        (LISTENER + 'accept_proxy_from = ["x"]', "listeners[web].accept_proxy_from[0]", "is not a network"),
        (LISTENER + "[listeners.routes]\n", "listeners[web].routes", "write [[listeners.routes]], with two brackets"),
        (LISTENER + "[[listeners.routes]]\n", "listeners[web].routes[0].hosts", "is missing"),
        (LISTENER + "[[listeners.routes]]\nhosts = []\n", "listeners[web].routes[0].hosts", "the list is empty"),
    ],
)
def test_a_wrong_listener_is_reported_in_plain_words(problems: Problems, text: str, key: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.key == key
    assert message in problem.message


def test_all_problems_come_at_once_and_nothing_that_only_follows_from_them(problems: Problems) -> None:
    found = problems(
        """
        [server]
        workers = 0
        bind = ":1"
        [backends.mx]
        servers = ["h:0", "h:25"]
        client_address = "proxy"
        [[listeners]]
        name = "a"
        protocl = "smtp"
        protocol = "smtp"
        bind = [":465"]
        backend = "mx"
        [[listeners.routes]]
        hosts = ["a..b", "c.example"]
        [[listeners.routes]]
        hosts = ["x y"]
        backend = "nowhere"
        [[listeners.routes]]
        hosts = ["z w"]
        profile = "new"
        [[listeners.routes]]
        hosts = ["C.example"]
        [[listeners]]
        bind = ["x"]
        [[listeners]]
        """
    )
    assert sorted(problem.key for problem in found) == sorted(
        [
            "server.workers",
            "server.bind",
            "backends.mx.servers[0]",
            "backends.mx.client_address",
            "listeners[a].protocl",
            "listeners[a].routes[0].hosts[0]",
            "listeners[a].routes[1].hosts[0]",
            "listeners[a].routes[1].backend",
            "listeners[a].routes[2].hosts[0]",
            "listeners[a].routes[2].profile",
            "listeners[a].routes[3].hosts",
            *(f"listeners[1].{key}" for key in ("name", "bind[0]", "backend")),
            *(f"listeners[2].{key}" for key in ("name", "bind", "backend")),
        ]
    )


def test_the_error_prints_one_line_a_problem_with_the_file_in_front(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_or_defaults(write('[tls]\n"a\\nb" = 1\nprofile = "x\\ny"\n' + LISTENER))
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems) == 2
    assert all(line.startswith(f"{tmp_path}/snigate.toml: tls.") for line in lines)


def test_a_full_configuration_loads(loaded: Load) -> None:
    config = loaded(FULL)
    assert set(config.backends) == {"imap", "127.0.0.1:8080"}
    assert config.listeners[0].routes[0].hosts == ("example.org", "*.example.com")


def test_the_explicit_file_is_found_first_even_when_it_does_not_exist(tmp_path: Path) -> None:
    assert find(tmp_path / "other.toml", tmp_path) == tmp_path / "other.toml"


def test_the_directory_comes_before_the_system_and_then_the_defaults(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "etc" / "snigate.toml"
    monkeypatch.setattr(loading, "SYSTEM_FILE", system)
    assert find(None, tmp_path) is None
    assert load_or_defaults(None, tmp_path) == Config.defaults(tmp_path)
    write(LISTENER, **{"etc/snigate.toml": LISTENER})
    assert find(None, tmp_path / "empty") == system
    assert find(None, tmp_path) == tmp_path / "snigate.toml"
    assert load_or_defaults(None, tmp_path).source == tmp_path / "snigate.toml"


def test_without_a_directory_the_working_directory_counts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(LISTENER)
    monkeypatch.chdir(tmp_path)
    assert load_or_defaults(None).source == tmp_path / "snigate.toml"
    assert load_or_defaults(Path("snigate.toml")).server.state_directory == tmp_path / "snigate-data"


def test_a_file_that_leads_nowhere_is_an_error_and_not_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "snigate.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_or_defaults(None, tmp_path)


VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.sampled_from(
        ["imap", "smtp", "web", "welcome", ":443", "h:1", "unix:x", "10s", "a.example", "modern", "none"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data())
def test_whatever_stands_for_some_value_the_result_is_a_configuration_or_problems(data: st.DataObject) -> None:
    values = copy.deepcopy(tomllib.loads(FULL))
    for _ in range(data.draw(st.integers(1, 3))):
        _change_somewhere(values, data)
    tree = Tree(Path("/etc/snigate/snigate.toml"))
    tree.add(values, tree.main)
    outcome: Config | ConfigError
    try:
        outcome = checked(tree)
    except ConfigError as error:
        outcome = error
    if isinstance(outcome, ConfigError):
        assert len(str(outcome).splitlines()) == len(outcome.problems) > 0
        assert "stand-in" not in str(outcome)
    else:
        assert outcome.listeners
        for listener in outcome.listeners:
            assert all(name in outcome.backends or name == "welcome" for name in listener.backends_used())


def _change_somewhere(values: Any, data: st.DataObject) -> None:
    """Goes down to a random place of the tree, and removes, replaces or adds something there."""
    while True:
        places = list(values) if isinstance(values, dict) else list(range(len(values)))
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        deeper = isinstance(values[place], dict | list) and values[place]
        if deeper and data.draw(st.booleans()):
            values = values[place]
            continue
        action = data.draw(st.sampled_from(["remove", "replace", "add"]))
        if action == "remove":
            del values[place]
        elif action == "replace":
            values[place] = data.draw(VALUES)
        elif isinstance(values, dict):
            values[data.draw(st.text(max_size=8))] = data.draw(VALUES)
        else:
            values.append(data.draw(VALUES))
        return
