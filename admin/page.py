"""The page at /: what this is, how it does, and where to look. No script, nothing from elsewhere."""

from __future__ import annotations

import html

from admin.answers import Status

_LINKS = {
    "/metrics": "metrics for Prometheus",
    "/healthz": "whether this process answers",
    "/readyz": "whether connections are accepted",
    "/api/v1/certificates": "every certificate, what it serves, and files with problems (needs the token)",
    "/api/v1/explain?host=": "which certificate a host name gets, and why (needs the token)",
    "/api/v1/status": "processes, listeners and the certificate store (needs the token)",
    "/api/v1/openapi.json": "the API's description, OpenAPI 3.1",
}
_STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:44rem;margin:3rem auto;"
    "padding:0 1rem}dt{font-weight:600;margin-top:.75rem}dd{margin:0}"
)


def page(status: Status) -> str:
    """The page as HTML."""
    links = "".join(
        f'<dt><a href="{html.escape(path)}">{html.escape(path)}</a></dt><dd>{html.escape(what)}</dd>\n'
        for path, what in _LINKS.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>snigate</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>\n'
        f"<h1>snigate {html.escape(status.version)}</h1>\n"
        "<p>A TLS-terminating SNI proxy that swaps certificates while it runs. "
        f"State: {html.escape(status.state)}.</p>\n<dl>\n{links}</dl>\n</main></body></html>\n"
    )
