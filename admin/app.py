"""The HTTP interface: metrics, health, the API, and a page that lists them.

Three applications over one view of the server: the admin address (guarded), the metrics address (only what is no
secret) and the local socket (guarded by its file's permissions). Answers are short, so nothing here waits for anybody
but a scrape's reading of the workers' metric files, which runs in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from admin import openapi
from admin.audit import Actor
from admin.changes import ChangeEndpoints, Changes, refusal
from admin.collector import ControlCollector
from admin.console.pages import Console
from admin.console.sessions import CODE_LIFE, Sessions, link_code
from admin.explanation import UnknownListenerError, asked, listener_named
from admin.guard import Guard
from admin.problem_details import on_exception, on_http_exception, problem
from admin.refusal import NotFound
from admin.reloads import Reloads
from admin.state import RELOAD
from admin.text import plain
from admin.view import READY, View
from admin.worker_files import WorkerFiles
from certstore.names import InvalidName

_json = msgspec.json.Encoder()


LINK_USED = "link-used"  # in the metrics directory, which is emptied at each start and belongs to who control runs as


class Endpoints:
    """The handlers. `metrics_directory` holds the workers' metric files."""

    def __init__(self, view: View, metrics_directory: Path) -> None:
        self._view = view
        self._metrics_directory = metrics_directory
        self._collector = ControlCollector(view)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format: the workers' files and control's own."""
        own = _Collected(self._collector.collect())
        text = await asyncio.to_thread(_exposition, own, self._metrics_directory)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def healthz(self, request: Request) -> Response:
        """Whether this process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """Whether connections are accepted; the one word says why not."""
        state = self._view.state
        return PlainTextResponse(f"{state}\n", 200 if state == READY else 503)

    async def certificates(self, request: Request) -> Response:
        """Everything in the certificate directories."""
        return _answer(await self._view.certificates())

    async def certificate(self, request: Request) -> Response:
        """One of them."""
        try:
            return _answer(self._view.certificate(request.path_params["fingerprint"]))
        except NotFound as error:
            return refusal(error)

    async def explain(self, request: Request) -> Response:
        """Which certificate a host name is served, and why."""
        given = request.query_params.getlist("host")
        if len(given) != 1:
            return problem(400, "give one host name, as in ?host=www.example.com; ?host= stands for no server name")
        try:
            about = asked(given[0])
        except InvalidName as error:
            return problem(400, f"{error}; give a host name, as in ?host=www.example.com")
        names = request.query_params.getlist("listener")
        if len(names) > 1:
            return problem(400, "give one listener at most, as in ?host=mx.example.com&listener=mx")
        try:
            listener = listener_named(self._view.config, names[0]) if names else None
        except UnknownListenerError as error:
            return problem(400, plain(str(error)))
        return _answer(self._view.explain(about, listener))

    async def status(self, request: Request) -> Response:
        """How the processes and the store are."""
        return _answer(self._view.status())

    async def openapi(self, request: Request) -> Response:
        """The API's description."""
        return Response(openapi.DOCUMENT, media_type="application/json")


def _is_first(mark: Path) -> bool:
    """Whether nobody has left this mark yet, in any process since the start; it is left now."""
    try:
        mark.touch(mode=0o600, exist_ok=False)
    except OSError:
        return False
    return True


def admin_app(view: View, metrics_directory: Path, names: frozenset[str], token: str, where: str) -> ASGIApp:
    """For admin.listen, console included. `names`: hosts that may be asked for; `where`: says where the token is."""
    changes = Changes(view)
    code_life = CODE_LIFE - max(0.0, view.clock() - view.started_at)
    code, spend = link_code(token, view.started_at), partial(_is_first, metrics_directory / LINK_USED)
    console = Console(view, changes, Sessions(token, code, code_life=code_life, spend=spend), metrics_directory)
    more = (*console.routes, *ChangeEndpoints(changes, _by_token).routes)
    return Guard(_full(Endpoints(view, metrics_directory), *more), names, token, where, changes=True)


def local_app(view: View, metrics_directory: Path, reloads: Reloads | None = None) -> ASGIApp:
    """For the Unix socket, which only its owner can reach: no token, any Host, and `reloads` may be asked for."""
    full, changes = Endpoints(view, metrics_directory), ChangeEndpoints(Changes(view), _by_socket)
    if reloads is None:
        return Guard(_full(full, *changes.routes), None, None, changes=True)

    async def reload(request: Request) -> Response:
        return _answer(await reloads.ask())

    return Guard(_full(full, *changes.routes, Route(RELOAD, reload, methods=["POST"])), None, None, changes=True)


def metrics_app(view: View, metrics_directory: Path) -> ASGIApp:
    """For metrics.listen: only what is no secret, under any Host."""
    return Guard(_app(_open_routes(Endpoints(view, metrics_directory))), None, None)


def _by_token(request: Request) -> Actor:
    return Actor("token", request.client.host if request.client is not None else "unknown")


def _by_socket(request: Request) -> Actor:
    return Actor("owner of the state directory", "control.sock")


def _full(endpoints: Endpoints, *more: Route) -> ASGIApp:
    return _app(
        [
            *_open_routes(endpoints),
            Route("/api/v1/certificates", endpoints.certificates),
            Route("/api/v1/explain", endpoints.explain),
            Route("/api/v1/status", endpoints.status),
            Route("/api/v1/openapi.json", endpoints.openapi),
            *more,
            Route("/api/v1/certificates/{fingerprint}", endpoints.certificate),
        ]
    )


def _open_routes(endpoints: Endpoints) -> list[Route]:
    return [
        Route("/metrics", endpoints.metrics),
        Route("/healthz", endpoints.healthz),
        Route("/readyz", endpoints.readyz),
    ]


def _app(routes: list[Route]) -> ASGIApp:
    app = Starlette(routes=routes, exception_handlers={HTTPException: on_http_exception, Exception: on_exception})
    app.router.redirect_slashes = False  # a redirect would repeat the Host that a stranger sent
    return app


def _answer(value: msgspec.Struct) -> Response:
    return Response(_json.encode(value), media_type="application/json")


class _Collected(Collector):
    """Families collected already, in the loop, so that a thread may write them out."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _exposition(own: Collector, metrics_directory: Path) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(own)
    registry.register(WorkerFiles(metrics_directory))
    return generate_latest(registry)
