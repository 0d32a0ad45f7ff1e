"""The page at ``/`` and the module it uses: static files, with a strict policy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["page_routes"]

#: Our own scripts and styles, our own streams, and nothing else: no inline code, no frames.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for again each time, and answered with 304 while they are the same.
    "Cache-Control": "no-cache",
}
_DASHBOARD = Path(__file__).parent / "dashboard"


class _Pages(StaticFiles):
    """Static files with our headers."""

    def file_response(
        self,
        full_path: str | Path,  # type: ignore[override]  # what Starlette passes
        stat_result: object,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return one file."""
        response = super().file_response(full_path, stat_result, scope, status_code)  # type: ignore[arg-type]  # passed through
        response.headers.update(_HEADERS)
        return response


def page_routes(dashboard: Path = _DASHBOARD, module: Path | None = None) -> list[BaseRoute]:
    """Return one route for each file of the page, and none for any other path.

    ``dashboard`` is the folder of the page, ``module`` the file of the browsers' module.
    """
    file = module or _client_module()

    async def fanwire_js(_request: Request) -> Response:
        return FileResponse(file, media_type="text/javascript", headers=_HEADERS)

    pages = _Pages(directory=dashboard, html=True)
    names = sorted(entry.name for entry in dashboard.iterdir() if entry.is_file())
    return [
        Route("/js/fanwire.js", fanwire_js),
        Route("/", pages),
        *(Route(f"/{name}", pages) for name in names),
    ]


def _client_module() -> Path:
    """Return where the browsers' module was installed; the hub does not import the clients."""
    spec = find_spec("clients")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package 'clients' is not installed")
    return Path(spec.submodule_search_locations[0]) / "js" / "fanwire.js"
