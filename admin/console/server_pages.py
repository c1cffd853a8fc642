"""The pages that show how things are: what is served for a name and why, and how the server does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from admin import answers
from admin.console.figures import figures
from admin.console.frame import Frame
from admin.console.sessions import Session
from admin.explanation import asked, configured_hosts
from admin.text import plain
from admin.view import View
from certstore.names import InvalidName


class ServerPages:
    """The handlers."""

    def __init__(self, frame: Frame, view: View, metrics_directory: Path) -> None:
        self._frame = frame
        self._view = view
        self._metrics_directory = metrics_directory

    async def served(self, request: Request, session: Session) -> Response:
        """What would be served for a host name, and why."""
        host = request.query_params.get("host")
        found, error = None, ""
        if host is not None:
            try:
                found = self._view.explain(asked(host.strip()))
            except InvalidName as wrong:
                error = plain(str(wrong))
        uncovered = [
            name for name in configured_hosts(self._view.config) if not self._view.explain(asked(name)).covered
        ]
        held = self._view.replica.index.certificates
        return self._frame.page(
            "served.html", session, host=host or "", found=found, error=error, uncovered=uncovered, held=held
        )

    async def server(self, request: Request, session: Session) -> Response:
        """Processes, listeners, backends, failures, problems."""
        shown = await asyncio.to_thread(figures, self._metrics_directory)
        report = self._view.replica.report
        problems = [
            answers.RejectedFile(plain(one.path), one.reason, plain(one.message))
            for one in (report.problems if report is not None else ())
        ]
        status = self._view.status()
        return self._frame.page("server.html", session, status=status, figures=shown, problems=problems)
