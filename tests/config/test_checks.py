from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import LISTENER, Load, Problems

SMTP = """
[[listeners]]
name = "mx"
bind = [":465"]
protocol = "smtp"
backend = "{backend}"
"""


def route(*lines: str) -> str:
    return "[[listeners.routes]]\n" + "\n".join(lines) + "\n"


def test_ticket_keys_are_used_for_a_minute_at_least(problems: Problems) -> None:
    (problem,) = problems('[tls]\nticket_key_lifetime = "59s"\n' + LISTENER)
    assert problem.key == "tls.ticket_key_lifetime"
    assert "at least 60 s" in problem.message


def test_two_listeners_need_two_names(problems: Problems) -> None:
    (problem,) = problems(LISTENER + LISTENER.replace(":443", ":444"))
    assert problem.key == "listeners[1].name"
    assert 'a listener "web" exists already' in problem.message


@pytest.mark.parametrize(
    ("first", "second"),
    [(":443", ":443"), ("127.0.0.1:443", "127.0.0.1:443"), (":443", "0.0.0.0:443"), ("[::]:443", ":443")],
)
def test_two_listeners_cannot_share_an_address(problems: Problems, first: str, second: str) -> None:
    (problem,) = problems(LISTENER.replace(":443", first) + LISTENER.replace("web", "b").replace(":443", second))
    assert problem.key == "listeners[b].bind"
    assert 'is already taken by listener "web"' in problem.message


@pytest.mark.parametrize(
    ("first", "second"), [("127.0.0.1:443", "[::1]:443"), (":443", ":444"), (":0", ":0"), (":443", "127.0.0.1:443")]
)
def test_different_addresses_and_port_0_do_not_collide(loaded: Load, first: str, second: str) -> None:
    config = loaded(LISTENER.replace(":443", first) + LISTENER.replace("web", "b").replace(":443", second))
    assert len(config.listeners) == 2


def test_one_listener_cannot_name_an_address_twice(problems: Problems) -> None:
    (problem,) = problems(LISTENER.replace('":443"', '":443", ":443"'))
    assert problem.key == "listeners[web].bind"


def test_a_listener_cannot_take_the_address_of_admin_or_metrics(problems: Problems) -> None:
    for text in ("127.0.0.1:9180", "127.0.0.1:9181"):
        (problem,) = problems('[metrics]\nlisten = "127.0.0.1:9181"\n' + LISTENER.replace(":443", text))
        assert problem.key == "listeners[web].bind"
    (problem,) = problems('[metrics]\nlisten = "127.0.0.1:9180"\n' + LISTENER)
    assert problem.key == "metrics.listen"


def test_a_backend_that_does_not_exist_is_named_with_a_close_one(problems: Problems) -> None:
    (problem,) = problems('[backends.dovecot]\nservers = ["h:1"]\n' + LISTENER.replace("127.0.0.1:8080", "dovcot"))
    assert (problem.key, problem.message) == (
        "listeners[web].backend",
        'there is no backend "dovcot"; did you mean "dovecot"?',
    )


def test_a_backend_that_does_not_exist_in_a_route_is_named_too(problems: Problems) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example"]', 'backend = "zzz"'))
    assert problem.key == "listeners[web].routes[0].backend"
    assert "add [backends.zzz]" in problem.message


def test_welcome_is_a_backend_of_web_listeners_that_no_table_may_redefine(loaded: Load, problems: Problems) -> None:
    assert loaded(LISTENER.replace("127.0.0.1:8080", "welcome")).listeners[0].backend == "welcome"
    (problem,) = problems('[backends.welcome]\nservers = ["h:1"]\n' + LISTENER)
    assert problem.key == "backends.welcome"
    (problem,) = problems(SMTP.format(backend="welcome"))
    assert problem.key == "listeners[mx].backend"
    assert "speaks HTTP" in problem.message


def test_client_address_must_be_said_on_a_backend_of_an_smtp_listener(problems: Problems) -> None:
    (problem,) = problems('[backends.postfix]\nservers = ["h:25"]\n' + SMTP.format(backend="postfix"))
    assert problem.key == "backends.postfix.client_address"
    assert "relays mail for them" in problem.message
    assert '"proxy-v2"' in problem.message


def test_an_smtp_listener_cannot_have_an_address_as_its_backend(problems: Problems) -> None:
    (problem,) = problems(SMTP.format(backend="127.0.0.1:25"))
    assert problem.key == "listeners[mx].backend"
    assert "relays mail for them" in problem.message


def test_client_address_must_be_said_where_only_a_route_of_an_smtp_listener_leads(problems: Problems) -> None:
    backends = '[backends.a]\nservers = ["h:25"]\nclient_address = "none"\n[backends.b]\nservers = ["h:26"]\n'
    (problem,) = problems(backends + SMTP.format(backend="a") + route('hosts = ["a.example"]', 'backend = "b"'))
    assert problem.key == "backends.b.client_address"


@pytest.mark.parametrize("value", ["none", "proxy-v1", "proxy-v2"])
def test_any_client_address_that_is_said_satisfies_an_smtp_listener(loaded: Load, value: str) -> None:
    backend = f'[backends.postfix]\nservers = ["h:25"]\nclient_address = "{value}"\n'
    assert loaded(backend + SMTP.format(backend="postfix")).backends["postfix"].client_address == value


def test_other_protocols_tell_a_named_backend_the_client_by_proxy_v2_and_an_address_nothing(loaded: Load) -> None:
    listener = SMTP.replace('"smtp"', '"imap"')
    named = '[backends.dovecot]\nservers = ["h:143"]\n' + listener.format(backend="dovecot")
    assert loaded(named).backends["dovecot"].client_address == "proxy-v2"
    assert loaded(listener.format(backend="127.0.0.1:143")).backends["127.0.0.1:143"].client_address == "none"


def test_a_host_in_two_routes_of_a_listener_is_a_problem_that_names_both(problems: Problems) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example", "b.example"]') + route('hosts = ["B.example."]'))
    assert problem.key == "listeners[web].routes[1].hosts"
    assert problem.message == '"b.example" is also in routes[0] of this listener; keep it in one place'


def test_a_host_twice_in_one_route_is_a_problem(problems: Problems) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example", "A.example"]'))
    assert "twice in this route" in problem.message


def test_a_wildcard_a_host_below_it_and_another_listener_do_not_collide(loaded: Load) -> None:
    routes = route('hosts = ["*.example"]') + route('hosts = ["a.example"]')
    assert loaded(LISTENER + routes + LISTENER.replace("web", "b").replace(":443", ":444") + routes)


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        ('["h2"]', '["h2"]', True),
        ('["h2", "http/1.1"]', '["http/1.1", "x"]', True),
        ('["h2"]', '["http/1.1"]', False),
        ('["acme-tls/1"]', "[]", False),
        ("[]", "[]", True),
    ],
)
def test_routes_of_one_host_collide_when_their_alpn_names_overlap(
    problems: Problems, first: str, second: str, collide: bool
) -> None:
    routes = [route('hosts = ["a.example"]', f"match_alpn = {names}") for names in (first, second)]
    # Not available yet either, so there may be other problems: keep one to be sure there is one.
    found = problems("unknown = 1\n" + LISTENER + "".join(routes))
    assert ("listeners[web].routes[1].hosts" in {problem.key for problem in found}) is collide


@pytest.mark.parametrize("key", ['profile = "modern"', 'alpn = ["h2"]'])
@pytest.mark.parametrize("action", ["passthrough", "reject"])
def test_keys_about_tls_that_ends_here_are_refused_where_it_does_not(problems: Problems, action: str, key: str) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example"]', f'action = "{action}"', key))
    assert problem.key == f"listeners[web].routes[0].{key.partition(' ')[0]}"
    assert f'has no effect on a route with action = "{action}"' in problem.message


def test_a_route_that_rejects_has_no_use_for_a_backend_and_one_that_passes_through_has(
    problems: Problems, loaded: Load
) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example"]', 'action = "reject"', 'backend = "127.0.0.1:1"'))
    assert problem.key == "listeners[web].routes[0].backend"
    text = LISTENER + route('hosts = ["a.example"]', 'action = "passthrough"', 'backend = "127.0.0.1:1"')
    assert loaded(text).listeners[0].routes[0].action == "passthrough"


def test_the_welcome_page_cannot_be_passed_through_to(problems: Problems) -> None:
    (problem,) = problems(LISTENER + route('hosts = ["a.example"]', 'action = "passthrough"', 'backend = "welcome"'))
    assert problem.key == "listeners[web].routes[0].backend"
    assert "does not speak TLS" in problem.message


def test_what_a_route_offers_by_alpn_has_to_meet_what_it_is_chosen_for(problems: Problems, loaded: Load) -> None:
    matching = ['hosts = ["a.example"]', 'match_alpn = ["h2", "spdy/3"]']
    (problem,) = problems(LISTENER + route(*matching, 'alpn = ["http/1.1"]'))
    assert problem.key == "listeners[web].routes[0].alpn"
    assert '"h2" or "spdy/3"' in problem.message
    loaded(LISTENER + route(*matching, 'alpn = ["http/1.1", "h2"]'))


def test_client_certificates_need_authorities_and_authorities_need_to_be_asked_for(
    problems: Problems, loaded: Load
) -> None:
    asking = ['hosts = ["a.example"]', 'client_auth = "required"']
    (problem,) = problems(LISTENER + route(*asking))
    assert problem.key == "listeners[web].routes[0].client_ca"
    assert "is missing" in problem.message
    for key in ("client_ca", "client_crl"):
        (problem,) = problems(LISTENER + route(asking[0], f'{key} = "ca.pem"'))
        assert problem.key == f"listeners[web].routes[0].{key}"
        assert "has no effect without client_auth" in problem.message
    loaded(LISTENER + route(*asking, 'client_ca = "ca.pem"', 'client_crl = "crl.pem"'))


REDIRECT = """
[[listeners]]
name = "plain"
bind = [":80"]
protocol = "http-redirect"
"""


def test_an_http_redirect_listener_needs_only_a_name_and_an_address(loaded: Load) -> None:
    (plain,) = loaded(REDIRECT).listeners
    assert plain.redirects
    assert (plain.backend, plain.redirect_port, plain.acme_webroot, plain.acme_backend) == (None, 443, None, None)
    assert plain.target == "https"


def test_every_other_protocol_needs_a_backend(problems: Problems) -> None:
    for protocol in ("tcp", "http", "smtp", "imap", "pop3", "sieve"):
        (problem,) = problems(REDIRECT.replace("http-redirect", protocol))
        assert problem.key == "listeners[plain].backend"
        assert problem.message == 'is missing; add it, for example backend = "127.0.0.1:8080"'


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('tls = "implicit"', "tls"),
        ('tls = "starttls"', "tls"),
        ("alpn = []", "alpn"),
        ("strict_sni = false", "strict_sni"),
        ('backend = "welcome"', "backend"),
        (route('hosts = ["a.example"]'), "routes"),
    ],
)
def test_an_http_redirect_listener_has_no_use_for_the_keys_of_tls(problems: Problems, line: str, key: str) -> None:
    (problem,) = problems(REDIRECT + line)
    assert problem.key == f"listeners[plain].{key}"
    assert "has no use for this key; leave it out" in problem.message


@pytest.mark.parametrize("line", ["redirect_port = 443", 'acme_webroot = "acme"', 'acme_backend = "127.0.0.1:80"'])
def test_only_an_http_redirect_listener_has_the_keys_of_redirects(problems: Problems, line: str) -> None:
    (problem,) = problems(LISTENER + line)
    assert problem.key == f"listeners[web].{line.split()[0]}"
    assert 'only a listener with protocol = "http-redirect" has this key' in problem.message


def test_challenges_come_from_a_directory_or_from_a_backend_but_not_from_both(
    loaded: Load, problems: Problems, tmp_path: Path
) -> None:
    webroot, backend = 'acme_webroot = "acme"\n', 'acme_backend = "127.0.0.1:81"\n'
    assert loaded(REDIRECT + webroot).listeners[0].acme_webroot == tmp_path / "acme"
    config = loaded(REDIRECT + backend)
    assert config.listeners[0].acme_backend == "127.0.0.1:81"
    assert config.backends["127.0.0.1:81"].client_address == "none"
    (problem,) = problems(REDIRECT + webroot + backend)
    assert (problem.key, problem.message) == (
        "listeners[plain].acme_backend",
        "acme_webroot is said too; keep one of them",
    )


def test_the_backend_of_challenges_must_exist_and_is_not_the_welcome_page(problems: Problems) -> None:
    for name, words in (("zzz", "there is no backend"), ("welcome", "answers no challenges")):
        (problem,) = problems(REDIRECT + f'acme_backend = "{name}"')
        assert problem.key == "listeners[plain].acme_backend"
        assert words in problem.message


@pytest.mark.parametrize("value", ["0", "65536", '"443"', "true", "443.0"])
def test_what_is_no_port_number_is_no_redirect_port(problems: Problems, value: str) -> None:
    (problem,) = problems(REDIRECT + f"redirect_port = {value}")
    assert problem.key == "listeners[plain].redirect_port"
    assert "port number" in problem.message


def backend(*lines: str) -> str:
    return '[backends.b]\nservers = ["h:1", "10.0.0.1:1"]\n' + "\n".join(lines) + "\n" + LISTENER


def test_a_server_is_named_once(problems: Problems) -> None:
    (problem,) = problems(backend().replace('"10.0.0.1:1"', '"10.0.0.1:1", "H:1"'))
    assert problem.key == "backends.b.servers[2]"
    assert problem.message == '"h:1" is already in the list; name each server once'


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('tls_name = "a.example"', 'tls = "verify"'),
        ('tls_ca = "system"', 'tls = "verify"'),
        ('tls_pin = ["qHYOb3U5ZhxxuAG94u88ytY97gy2USCY1YdLFxXTmqc="]', 'tls = "verify"'),
        ('check_interval = "1s"', "check"),
        ('check_path = "/"', 'check = "http"'),
        ("check_status = [200]", 'check = "http"'),
        ('check = "tcp"\ncheck_status = [200]', 'check = "http"'),
    ],
)
def test_a_key_of_a_backend_that_could_have_no_effect_is_refused(problems: Problems, line: str, wanted: str) -> None:
    (problem,) = problems(backend(line))
    assert problem.key == f"backends.b.{line.rpartition(chr(10))[2].partition(' ')[0]}"
    assert f"has no effect without {wanted}" in problem.message


def test_pins_decide_alone(problems: Problems) -> None:
    pin = 'tls_pin = ["qHYOb3U5ZhxxuAG94u88ytY97gy2USCY1YdLFxXTmqc="]'
    (problem,) = problems(backend('tls = "verify"', pin, 'tls_ca = "ca.pem"'))
    assert problem.key == "backends.b.tls_ca"


def test_a_unix_socket_with_tls_needs_a_name_or_a_pin(problems: Problems, loaded: Load) -> None:
    text = backend('tls = "verify"').replace('"h:1"', '"unix:/run/b"')
    (problem,) = problems(text)
    assert problem.key == "backends.b.tls_name"
    assert '"unix:/run/b" has no host name' in problem.message
    loaded(text.replace('"verify"', '"verify"\ntls_name = "b.example"'))
    loaded(text.replace('"verify"', '"verify"\ntls_pin = ["qHYOb3U5ZhxxuAG94u88ytY97gy2USCY1YdLFxXTmqc="]'))


def test_what_passes_through_is_not_encrypted_twice(problems: Problems) -> None:
    passing = route('hosts = ["a.example"]', 'action = "passthrough"', 'backend = "b"')
    (problem,) = problems(backend('tls = "verify"') + passing)
    assert problem.key == "listeners[web].routes[0].backend"
    assert 'name a backend with tls = "off"' in problem.message


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ('tls_pin = ["abc"]', "tls_pin[0]", "is not a pin"),
        ('check_path = "health"', "check_path", "is not the path of a request"),
        ('check_path = "/a b"', "check_path", "is not the path of a request"),
        ("check_status = []", "check_status", "for example [200]"),
        ("check_status = [100]", "check_status[0]", "it is 200 to 599"),
        ('check_status = ["200"]', "check_status[0]", "expected an HTTP status"),
    ],
)
def test_values_of_a_backend_that_make_no_sense_are_told_so(problems: Problems, line: str, key: str, said: str) -> None:
    (problem,) = problems(backend('tls = "verify"', 'check = "http"', line))
    assert problem.key == f"backends.b.{key}"
    assert said in problem.message


@pytest.mark.parametrize("line", ['default = "mx.example.com"', f'pin = ["{"00" * 32}"]'])
def test_a_listener_without_tls_has_no_default_and_no_pin(problems: Problems, line: str) -> None:
    (problem,) = problems('[[listeners]]\nname = "p"\nbind = [":80"]\nprotocol = "http-redirect"\n' + line)
    assert problem.key == f"listeners[p].{line.partition(' ')[0]}"
    assert "has no use for this key" in problem.message


def test_a_default_has_no_effect_where_strict_sni_refuses_whom_it_is_for(problems: Problems) -> None:
    (problem,) = problems(LISTENER + 'default = "mx.example.com"\nstrict_sni = true\n')
    assert problem.key == "listeners[web].default"
    assert "has no effect with strict_sni" in problem.message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("require_tls = true\n", 'no effect without tls = "starttls"'),
        ('tls = "starttls"\nprotocol = "imap"\nrequire_tls = false\n', 'only with protocol = "smtp"'),
        ('tls = "starttls"\nprotocol = "smtp"\nrequire_tls = false\n', "a submission port"),
    ],
)
def test_plain_text_is_allowed_between_mail_servers_alone(problems: Problems, lines: str, message: str) -> None:
    backend = '[backends.mail]\nservers = ["127.0.0.1:1"]\nclient_address = "none"\n'
    listener = f'[[listeners]]\nname = "mx"\nbind = [":587"]\nbackend = "mail"\n{lines}'
    (problem,) = [one for one in problems(backend + listener) if one.key.endswith("require_tls")]
    assert message in problem.message


def test_a_time_for_what_comes_before_tls_needs_something_that_does(problems: Problems, loaded: Load) -> None:
    (problem,) = problems(LISTENER + 'preamble_timeout = "1m"\n')
    assert problem.key == "listeners[web].preamble_timeout"
    assert 'has no effect without tls = "starttls"' in problem.message
    mail = LISTENER.replace(":443", ":143") + 'protocol = "imap"\ntls = "starttls"\npreamble_timeout = "1m"\n'
    assert loaded(mail).listeners[0].preamble_timeout == 60


@pytest.mark.parametrize("key", ["preamble_timeout", "idle_timeout"])
def test_a_listener_that_redirects_has_no_use_for_times_of_streams(problems: Problems, key: str) -> None:
    (problem,) = problems(f'[[listeners]]\nname = "p"\nbind = [":80"]\nprotocol = "http-redirect"\n{key} = "1m"\n')
    assert problem.key == f"listeners[p].{key}"
    assert "has no use for this key; leave it out" in problem.message


def test_a_listener_may_say_its_own_limits_in_the_servers_words_and_none_of_them_may_be_zero(
    problems: Problems, loaded: Load
) -> None:
    lines = "max_connections = 5\nmax_connections_per_client = 2\nmax_connection_rate_per_client = 1\n"
    (listener,) = loaded(LISTENER + lines).listeners
    said = (listener.max_connections, listener.max_connections_per_client, listener.max_connection_rate_per_client)
    assert said == (5, 2, 1)
    found = problems(LISTENER + lines.replace("5", "0").replace("2", "0").replace("1", "0"))
    assert [one.key for one in found] == [f"listeners[web].{line.partition(' ')[0]}" for line in lines.splitlines()]
