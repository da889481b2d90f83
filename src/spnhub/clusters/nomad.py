"""``nomad:{job-api-url}``: the task group named by ``image`` is scaled between 0 and 1.

On httpx2: python-nomad has no call that scales a job, builds its URLs from an address of its own (so a job URL with a
path prefix or ``?namespace=`` can't be given), and by default doesn't verify certificates.

What is done over HTTP, with ``{url}`` as in ``http://host:4646/v1/job/web?namespace=default``: GET ``{url}/scale``
(``TaskGroups.{group}.Desired``), and, when the count must change or the answer doesn't say, POST ``{url}/scale`` with
``Count``, ``Target.Group`` and ``Message``. A group that others scaled to more than 1 is running and is left so by
a start. While a deployment of the job is active Nomad refuses to scale it (400); that passes.

``NOMAD_TOKEN`` is sent along (``X-Nomad-Token``; it needs ``scale-job``, and ``read-job-scaling`` for the GET), and
``NOMAD_CACERT`` is trusted, as Nomad's own tools do. Counterpart: :mod:`spnhub.clusters.managers`.
"""

from __future__ import annotations

import json
import os
import ssl
from typing import Any, Final

import httpx2

from spnhub import bounded_json
from spnhub.bounded_http import Answer, AnswerError, ask
from spnhub.clusters.http_status import may_pass, named
from spnhub.clusters.scaling import ScalingManager
from spnhub.clusters.task import ClusterError, ServiceTask

__all__ = ["NomadManager"]

_BUSY: Final = "active deployment"


class NomadManager(ScalingManager[httpx2.AsyncClient]):
    """Scales task groups of one job."""

    NAME = "Nomad"

    def __init__(self, job_url: str, *, timeout: float = 15.0) -> None:
        """:param job_url: ``http(s)://host:port/v1/job/{job id}``, with a query if need be."""
        super().__init__(timeout)
        url = httpx2.URL(job_url)
        # raw_path keeps the %2F in the id of a job that Nomad made from another one.
        path, _, query = url.raw_path.decode("ascii").partition("?")
        self._url = url.copy_with(raw_path=f"{path.rstrip('/')}/scale{'?' + query if query else ''}".encode("ascii"))
        self._job = path.rstrip("/").rpartition("/")[2]

    async def _close(self, client: httpx2.AsyncClient) -> None:
        await client.aclose()

    def _where(self, task: ServiceTask) -> str:
        if not task.image:
            raise ClusterError("nomad: needs the task group's name as image", retryable=False)
        return f"Nomad job {self._job}, group {task.image}"

    async def _scale(self, client: httpx2.AsyncClient, where: str, task: ServiceTask, *, running: bool) -> None:
        assert task.image, "_where says so"
        try:
            await self._scale_group(client, where, task.image, running=running)
        except (httpx2.HTTPError, AnswerError) as error:
            text = str(error) or type(error).__name__
            raise ClusterError(f"{where}: Nomad cannot be reached: {text}", retryable=True) from error

    async def _scale_group(self, client: httpx2.AsyncClient, where: str, group: str, *, running: bool) -> None:
        # A token that may scale need not be allowed to read; the POST then decides alone.
        status = _parsed(await ask(client, self._url))
        if running and status.get("JobStopped") is True:
            raise ClusterError(f"{where}: the job is stopped", retryable=False)
        desired = _desired(status, group)
        if desired is not None and running == (desired > 0):
            return
        count = {
            "Count": int(running),
            "Target": {"Group": group},
            "Message": "started by spnhub" if running else "stopped by spnhub",
        }
        answer = await ask(client, self._url, method="POST", content=json.dumps(count))
        if httpx2.codes.is_success(answer.status):
            return
        # Nomad says why as plain text.
        said = answer.body.decode(errors="replace").strip()[:500]
        text = f"{where}: {named(answer.status)}" + (f": {said}" if said else "")
        raise ClusterError(text, retryable=may_pass(answer.status) or _BUSY in said)

    def _build(self) -> httpx2.AsyncClient:
        token = os.environ.get("NOMAD_TOKEN")
        authority = os.environ.get("NOMAD_CACERT")
        try:
            context = ssl.create_default_context(cafile=authority or None)
        except (OSError, ssl.SSLError) as error:
            raise ClusterError(f"NOMAD_CACERT {authority!r} cannot be read: {error}", retryable=False) from error
        headers = {"Content-Type": "application/json"} | ({"X-Nomad-Token": token} if token else {})
        return httpx2.AsyncClient(verify=context, headers=headers, timeout=self._timeout)


def _parsed(answer: Answer) -> dict[str, Any]:
    if not httpx2.codes.is_success(answer.status):
        return {}
    try:
        status = bounded_json.loads(answer.body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}


def _desired(status: dict[str, Any], group: str) -> int | None:
    try:
        desired = status["TaskGroups"][group]["Desired"]
    except (KeyError, TypeError):
        return None
    return desired if isinstance(desired, int) else None
