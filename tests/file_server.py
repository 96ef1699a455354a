"""A web server in a thread, with the faults of real ones: broken connections, no ranges, redirects, changing files."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclasses.dataclass
class Served:
    """A file that is served. ``break_after``: the connection ends after so many bytes, once. ``version``: its ETag."""

    content: bytes
    version: str | None = '"v1"'
    ranges: bool = True
    break_after: int | None = None
    length: bool = True
    status: int = 200


class FileServer:
    """``with FileServer({"a.bin": Served(b"…")}) as server`` serves ``server.url("a.bin")``; ``server.asked`` has the
    path and the Range header of every request."""

    def __init__(self, files: dict[str, Served], redirects: dict[str, str] | None = None) -> None:
        self.files, self.redirects = files, redirects or {}
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name, range_header = request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((name, range_header))
        if name in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[name])
            request.end_headers()
            return
        served = self.files.get(name)
        if served is None or served.status != 200:
            request.send_error(404 if served is None else served.status)
            return
        start, same = 0, request.headers.get("If-Range") in (None, served.version)
        if range_header and served.ranges and same:
            start = int(range_header.removeprefix("bytes=").removesuffix("-"))
            if start >= len(served.content):
                request.send_error(416)
                return
        body = served.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        if served.length:
            request.send_header("Content-Length", str(len(body)))
        if served.version:
            request.send_header("ETag", served.version)
        request.end_headers()
        if served.break_after is not None:
            body, served.break_after = body[: served.break_after], None
        with contextlib.suppress(ConnectionError):  # who asked has seen enough
            request.wfile.write(body)
