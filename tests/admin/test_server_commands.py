from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

from admin.answers import Reloaded
from admin.cli import app
from admin.panel import Ready
from admin.serve import serve
from admin.state import StateError
from admin.view import View
from certstore.unix_path import socket_address
from config.model import Config
from proxy.generation import PlanError
from proxy.sockets import BindError
from tests.admin.conftest import MakeView, Place, said

Answer = Callable[[int, bytes], list[str]]


@pytest.fixture
def answer(place: Place) -> Iterator[Answer]:
    """Answers a request on the control socket; what was asked comes to be in the list it returns."""
    path = place.path / "snigate-data/control.sock"
    path.parent.mkdir()
    threads: list[threading.Thread] = []

    def start(status: int, body: bytes) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        with socket_address(path) as address:
            server = socketserver.UnixStreamServer(address, Handler)

        def serve() -> None:
            with server:
                server.handle_request()  # a look whether anybody is there
                server.handle_request()

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return asked

    yield start
    for thread in threads:
        thread.join()


def _status(view: View) -> bytes:
    return msgspec.json.encode(view.status())


def test_status_shows_processes_listeners_and_store(place: Place, make_view: MakeView, answer: Answer) -> None:
    view = make_view()
    view.hear(said(workers=1, restarts=1))
    answer(200, _status(view))
    result = place.run("status")
    assert result.exit_code == 0, result.output
    for expected in ("ready", "127.0.0.1:9180", "127.0.0.1:8443", "worker 0", "down", "00ff", "1 worker died"):
        assert expected in result.output


def test_status_of_a_server_that_is_not_ready_is_a_problem(place: Place, make_view: MakeView, answer: Answer) -> None:
    view = make_view()
    view.replica.report = None
    view.hear(said(draining=True))
    answer(200, _status(view))
    result = place.run("status")
    assert result.exit_code == 1
    assert "draining" in result.output
    assert "the keeper has not reported yet" in result.output


def test_status_as_json_is_what_the_api_answers(place: Place, make_view: MakeView, answer: Answer) -> None:
    body = _status(make_view())
    answer(200, body)
    assert json.loads(place.run("status", "--json").stdout) == json.loads(body)


def test_status_without_a_server_says_so(place: Place) -> None:
    result = place.run("status")
    assert result.exit_code == 1
    assert "snigate is not running" in result.stderr
    assert str(place.path / "snigate-data/control.sock") in result.stderr
    assert not (place.path / "snigate-data").exists()


def test_status_with_a_socket_left_over_says_so(place: Place, answer: Answer) -> None:
    (place.path / "snigate-data/control.sock").write_text("")
    result = place.run("status")
    assert result.exit_code == 1
    assert "snigate is not running" in result.stderr


def test_status_finds_a_socket_whose_path_is_longer_than_the_kernel_takes(place: Place) -> None:
    place.configure(listener=f'[server]\nstate_directory = "{"x" * 120}/{"y" * 120}"')
    result = place.run("status")
    assert result.exit_code == 1
    assert "snigate is not running" in result.stderr


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"{}"), (200, b"nonsense")])
def test_an_answer_that_cannot_be_used_is_told(place: Place, answer: Answer, status: int, body: bytes) -> None:
    answer(status, body)
    result = place.run("status")
    assert result.exit_code == 1
    assert "gave no answer that can be used" in result.stderr


def test_reload_says_which_generation_serves(place: Place, answer: Answer) -> None:
    asked = answer(200, msgspec.json.encode(Reloaded(True, 7, ())))
    result = place.run("reload")
    assert result.exit_code == 0, result.output
    assert result.stdout == "reloaded: generation 7 accepts connections\n"
    assert asked == ["POST /api/v1/reload"]


def test_reload_names_every_reason_for_a_refusal(place: Place, answer: Answer) -> None:
    answer(200, msgspec.json.encode(Reloaded(False, 6, ("this is wrong", "and that"))))
    result = place.run("reload")
    assert result.exit_code == 1
    assert result.stderr == "this is wrong\nand that\nreload refused: everything stays as it is\n"


@pytest.mark.parametrize(
    "text", ["nonsense = 1", 'nonsense = 1\n[server]\nstate_directory = "snigate-data"', "= broken"]
)
def test_reload_asks_the_server_even_when_the_configuration_has_problems(
    place: Place, answer: Answer, text: str
) -> None:
    place.configure(text=text)
    answer(200, msgspec.json.encode(Reloaded(False, 6, ("said by the server",))))
    result = place.run("reload")
    assert result.exit_code == 1
    assert "said by the server" in result.stderr


def test_reload_with_problems_and_no_server_names_the_problems(place: Place) -> None:
    place.configure(text="nonsense = 1")
    result = place.run("reload")
    assert result.exit_code == 1
    assert "nonsense" in result.stderr


def test_reload_without_a_server_says_so(place: Place) -> None:
    result = place.run("reload")
    assert result.exit_code == 1
    assert "snigate is not running" in result.stderr


def test_the_version_names_what_it_runs_on(place: Place) -> None:
    result = place.runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("snigate ")
    assert "OpenSSL" in result.stdout


def test_an_unknown_command_or_option_is_wrong_usage(place: Place) -> None:
    assert place.runner.invoke(app, ["nonsense"]).exit_code == 2
    assert place.run("check", "--nonsense").exit_code == 2
    assert place.runner.invoke(app, []).exit_code == 2


def test_serve_tells_what_keeps_it_from_starting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: Config, on_ready: Callable[[Ready], None], reread: Callable[[], Config]) -> int:
        raise StateError("another snigate uses it")

    monkeypatch.setattr("admin.commands.server.run_server", refuse)
    result = place.run("serve")
    assert result.exit_code == 1
    assert result.stderr == "another snigate uses it\n"


def test_serve_with_a_broken_configuration_names_every_problem(place: Place) -> None:
    place.configure(text="nonsense = 1\nmore = 2\n")
    result = place.run("serve")
    assert result.exit_code == 1
    assert "nonsense" in result.stderr
    assert "more" in result.stderr
    assert not (place.path / "snigate-data").exists()


def test_the_token_is_made_before_anything_listens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_here(config: Config, *_: object) -> None:
        assert (Path(config.server.state_directory) / "token").exists()
        raise BindError("far enough")

    monkeypatch.setattr("admin.plan.bind_listeners", stop_here)
    with pytest.raises(PlanError, match="far enough"):
        serve(place.config, lambda ready: None, lambda: place.config)


def test_status_shows_where_plain_text_is_let_through(place: Place, make_view: MakeView, answer: Answer) -> None:
    view = make_view()
    (web,) = view.config.listeners
    open_door = web.model_copy(update={"name": "mx", "protocol": "smtp", "tls": "starttls", "require_tls": False})
    view.config = view.config.model_copy(update={"listeners": (web, open_door)})
    assert [(one.tls, one.plain_text) for one in view.status().listeners] == [("implicit", False), ("starttls", True)]
    answer(200, _status(view))
    assert "starttls or plain text" in place.run("status").output
