"""nchan, the pub/sub module of nginx: WebSocket and EventSource, in C."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import Endpoint, Subscribe, http_publish, payload
from ._debian import DebianPackages
from ._preparation import HERE
from ._server import running_server

__all__ = ["PEER", "Nchan"]

#: Where Debian's packages put them; neither has to be on PATH.
_NGINX = "/usr/sbin/nginx"
_MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"


class Nchan:
    """nginx with one worker, configured by ``nchan/nginx.conf``."""

    name = "nchan"
    _packages = DebianPackages(("nginx", "libnginx-mod-nchan"))

    def missing(self) -> str | None:
        """Return which packages are not installed and how to get them; None if none."""
        return self._packages.missing()

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages."""
        return self._packages.versions()

    @contextlib.contextmanager
    def running(self, port: int, core: int | None) -> Iterator[Endpoint]:
        """Run nginx for the time of the context, as the contract says."""
        if (reason := self.missing()) is not None:
            raise RuntimeError(f"{self.name} cannot run: {reason}")
        with tempfile.TemporaryDirectory(prefix="nchan-") as directory:
            text = (HERE / "nchan" / "nginx.conf").read_text(encoding="utf-8")
            for name, value in {"MODULE": _MODULE, "PORT": port, "DIRECTORY": directory}.items():
                text = text.replace(f"@{name}@", str(value))
            configuration = Path(directory) / "nginx.conf"
            configuration.write_text(text, encoding="utf-8")
            command = [_NGINX, "-e", "stderr", "-p", directory, "-c", str(configuration)]
            with running_server(command, port, core) as pids:
                publish = http_publish(port, "/publish", payload())
                yield Endpoint(Subscribe("/ws"), Subscribe("/sse"), publish, pids)


PEER = Nchan()
