"""A schema registry for tests: Confluent's API as far as shippers and readers go, over HTTP, in a thread."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["TestRegistry"]


class TestRegistry:
    """Ids begin far from ours, so that nobody can mistake them. ``available`` turned off, it answers 503."""

    __test__ = False

    def __init__(self) -> None:
        self.available = True
        self.ids: dict[str, int] = {}
        """By the schema's text."""
        self.subjects: dict[str, list[int]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"registry": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def register(self, subject: str, text: str) -> int:
        """The schema's id."""
        number = self.ids.setdefault(text, 7001 + len(self.ids))
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        if not self.available:
            return 503, {"error_code": 503, "message": "it is closed today"}
        match method, path.partition("?")[0].strip("/").split("/"):
            case "POST", ["subjects", subject, "versions"]:
                return 200, {"id": self.register(subject, json.loads(body)["schema"])}
            case "GET", ["schemas", "ids", number]:
                for text, known in self.ids.items():
                    if str(known) == number:
                        return 200, {"schema": text}
                return 404, {"error_code": 40403, "message": "no such schema"}
        return 404, {"error_code": 404, "message": "no such thing"}


class _Handler(BaseHTTPRequestHandler):
    registry: TestRegistry

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        status, value = self.registry.answer(self.command, self.path, body)
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing."""
