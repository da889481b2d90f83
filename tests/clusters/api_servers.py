"""Small servers that speak the documented APIs of Kubernetes and Nomad, as far as scaling goes, over real HTTP/1.1.

A test may put ``scripted`` answers in front of what the server would say, hold answers back, or change the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

S = TypeVar("S", bound="ApiServer")

__all__ = ["Answer", "ApiServer", "FakeKubernetes", "FakeNomad", "Request", "serving"]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str | None = "application/json"

    @classmethod
    def json(cls, status: int, value: Any) -> Answer:
        return cls(status, json.dumps(value).encode())

    @classmethod
    def text(cls, status: int, text: str) -> Answer:
        return cls(status, text.encode(), "text/plain; charset=utf-8")


@dataclass
class ApiServer:
    """What both have in common."""

    requests: list[Request] = field(default_factory=list)
    scripted: list[Answer | None] = field(default_factory=list)
    """Said instead, one per request; None: the server's own answer."""
    held: bool = False
    """Answer nothing any more."""
    url: str = ""

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                parts = urlsplit(target)
                request = Request(
                    method, parts.path, parse_qs(parts.query), headers, json.loads(body) if body else None
                )
                self.requests.append(request)
                if self.held:
                    continue
                said = self.scripted.pop(0) if self.scripted else None
                answer = self.answer(request) if said is None else said
                kind = f"Content-Type: {answer.content_type}\r\n" if answer.content_type else ""
                writer.write(
                    f"HTTP/1.1 {answer.status} Said\r\n{kind}Content-Length: {len(answer.body)}\r\n\r\n".encode()
                    + answer.body
                )
                await writer.drain()
        writer.close()

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Method and body of each request."""
        return [(request.method, request.body) for request in self.requests]


@contextlib.asynccontextmanager
async def serving(server: S) -> AsyncIterator[S]:
    """The server, on a free port of the loopback."""
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


@dataclass
class FakeKubernetes(ApiServer):
    """``/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale``: GET, and PATCH as a JSON merge patch."""

    replicas: dict[str, int] = field(default_factory=dict)
    """By ``namespace/name``."""
    version: int = 1

    def answer(self, request: Request) -> Answer:
        match request.path.strip("/").split("/"):
            case ["apis", "apps", "v1", "namespaces", namespace, "deployments", name, "scale"]:
                key = f"{namespace}/{name}"
            case _:
                return self.status(404, "NotFound", "the server could not find the requested resource")
        if key not in self.replicas:
            return self.status(404, "NotFound", f'deployments.apps "{name}" not found')
        if request.method == "PATCH":
            if request.headers["content-type"] != "application/merge-patch+json":
                return self.status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            if request.body["metadata"].get("resourceVersion") not in {None, str(self.version)}:
                return self.status(409, "Conflict", f'Operation cannot be fulfilled on deployments.apps "{name}"')
            self.replicas[key] = request.body["spec"]["replicas"]
            self.version += 1
        elif request.method != "GET":
            return self.status(405, "MethodNotAllowed", "the server does not allow this method")
        # Zero is left out, as Go's omitempty does.
        spec = {"replicas": self.replicas[key]} if self.replicas[key] else {}
        return Answer.json(
            200,
            {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(self.version)},
                "spec": spec,
                "status": {"replicas": self.replicas[key], "selector": f"app={name}"},
            },
        )

    @staticmethod
    def status(code: int, reason: str, message: str) -> Answer:
        """A Status object."""
        return Answer.json(
            code,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": reason,
                "code": code,
            },
        )


@dataclass
class FakeNomad(ApiServer):
    """``/v1/job/{job}/scale``: GET (job scale status) and POST (scale task group). Errors are plain text."""

    job: str = "web"
    counts: dict[str, int] = field(default_factory=dict)
    """By task group."""
    stopped: bool = False
    deploying: bool = False
    token: str | None = None
    may_read: bool = True

    def answer(self, request: Request) -> Answer:
        if self.token is not None and request.headers.get("x-nomad-token") != self.token:
            return Answer.text(403, "Permission denied")
        if request.path != f"/v1/job/{self.job}/scale":
            return Answer.text(404, 'job "other" not found')
        if request.method == "GET":
            return self._read() if self.may_read else Answer.text(403, "Permission denied")
        group = request.body["Target"]["Group"]
        if group not in self.counts:
            return Answer.text(400, f'task group "{group}" specified for scaling does not exist in job')
        if not request.body.get("Message") and not request.body.get("Error"):
            return Answer.text(400, "one of Message or Error must be provided")
        if self.deploying:
            return Answer.text(400, "job scaling blocked due to active deployment")
        self.counts[group] = request.body["Count"]
        return Answer.json(
            200,
            {
                "EvalCreateIndex": 45,
                "EvalID": "116f3ede-f6a5-f6e7-2d0e-1fda136390f0",
                "Index": 45,
                "JobModifyIndex": 44,
                "KnownLeader": False,
                "LastContact": 0,
                "Warnings": "",
            },
        )

    def _read(self) -> Answer:
        groups = {
            name: {
                "Desired": count,
                "Events": None,
                "Healthy": count,
                "Placed": count,
                "Running": count,
                "Unhealthy": 0,
            }
            for name, count in self.counts.items()
        }
        return Answer.json(
            200,
            {
                "JobCreateIndex": 10,
                "JobID": self.job,
                "JobModifyIndex": 18,
                "JobStopped": self.stopped,
                "Namespace": "default",
                "TaskGroups": groups,
            },
        )
