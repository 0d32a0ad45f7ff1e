"""The page: our files, nobody else's, under a strict policy."""

from __future__ import annotations

from pathlib import Path

import httpx
from starlette.applications import Starlette

from hub.pages import page_routes


async def test_files_come_with_a_strict_policy(tmp_path: Path) -> None:
    """The page, its parts and the module are served; nothing outside the folder is."""
    folder = tmp_path / "dashboard"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "main.js").write_text("export {}")
    module = tmp_path / "fanwire.js"
    module.write_text("export class Feed {}")
    app = Starlette(routes=page_routes(folder, module))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        for path, kind in (
            ("/", "text/html"),
            ("/main.js", "text/javascript"),
            ("/js/fanwire.js", "text/javascript"),
        ):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code in {200, 304}
        for path in ("/nothing.js", "/../fanwire.js", "/%2e%2e/fanwire.js"):
            assert (await client.get(path)).status_code == 404
