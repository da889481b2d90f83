"""``k8s:[api-url/]namespace``: the Deployment named by serviceId is scaled between 0 and 1.

On lightkube, whose client is asynchronous: the official library costs this process 87 MB and two seconds at import, and
an install 75 MB, for the one object that is asked for here.

What is done over HTTP: GET ``/apis/apps/v1/namespaces/{namespace}/deployments/{serviceId}/scale``, and, when the number
of replicas must change, PATCH of the same with the ``resourceVersion`` that was read, so that a change made by others
in between is a conflict (409), after which the number is read again. A Deployment that others scaled to more than 1 is
running and is left so by a start.

Without an API URL the configuration is the pod's service account, else ``KUBECONFIG``, else ``~/.kube/config``. With
one, it is that of the context in the kubeconfig file whose cluster has this URL, else there are no credentials (as with
``kubectl proxy``). Counterpart: :mod:`spnhub.clusters.managers`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import httpx2
import yaml
from lightkube import AsyncClient, KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError
from lightkube.resources.apps_v1 import DeploymentScale
from lightkube.types import PatchType

from spnhub import bounded_json
from spnhub.clusters.http_status import may_pass, named
from spnhub.clusters.scaling import ScalingManager
from spnhub.clusters.task import ClusterError, ServiceTask

__all__ = ["KubernetesManager"]

_DEPLOYMENT: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_LOOKS: Final = 3
"""How often a conflict is tried again before the caller gets a retryable error."""


class KubernetesManager(ScalingManager[AsyncClient]):
    """Scales Deployments of one namespace."""

    NAME = "Kubernetes"

    def __init__(self, api_url: str | None, namespace: str, *, timeout: float = 15.0) -> None:
        super().__init__(timeout)
        self._api_url = api_url
        self._namespace = namespace

    async def _close(self, client: AsyncClient) -> None:
        await client.close()

    def _where(self, task: ServiceTask) -> str:
        if _DEPLOYMENT.fullmatch(task.service_id) is None:
            raise ClusterError(f"{task.service_id!r} cannot be the name of a Deployment", retryable=False)
        return f"Deployment {self._namespace}/{task.service_id}"

    async def _scale(self, client: AsyncClient, where: str, task: ServiceTask, *, running: bool) -> None:
        try:
            for _ in range(_LOOKS):
                if await self._scale_once(client, task.service_id, running=running):
                    return
        except httpx2.HTTPStatusError as error:
            raise _refused(where, error.response) from error
        except httpx2.HTTPError as error:
            text = str(error) or type(error).__name__
            raise ClusterError(f"{where}: Kubernetes cannot be reached: {text}", retryable=True) from error
        # The library parses answers, refusals too, without guarding against what is not of Kubernetes.
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            refusal = _refusal_behind(error)
            if refusal is not None:
                raise _refused(where, refusal.response) from error
            raise ClusterError(f"{where}: not an answer of Kubernetes: {error!r}", retryable=True) from error
        raise ClusterError(f"{where}: others keep changing it", retryable=True)

    async def _scale_once(self, client: AsyncClient, name: str, *, running: bool) -> bool:
        """Read the scale once and change it if needed; False: it was changed by others in between."""
        scale = await client.get(DeploymentScale, name, namespace=self._namespace)
        replicas = (scale.spec.replicas if scale.spec is not None else None) or 0
        if running == (replicas > 0):
            return True
        version = scale.metadata.resourceVersion if scale.metadata is not None else None
        change = {"metadata": {"resourceVersion": version}, "spec": {"replicas": int(running)}}
        try:
            await client.patch(DeploymentScale, name, change, namespace=self._namespace, patch_type=PatchType.MERGE)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 409:
                return False
            raise
        return True

    def _build(self) -> AsyncClient:
        try:
            config = _credentials() if self._api_url is None else _credentials_for(self._api_url)
            return AsyncClient(config=config, namespace=self._namespace, timeout=httpx2.Timeout(self._timeout))
        except (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise ClusterError(f"no usable configuration for Kubernetes: {error}", retryable=False) from error


def _credentials() -> SingleConfig:
    config = KubeConfig.from_env().get()
    assert config is not None
    return config if config.user is not None else config._replace(user=User())


def _credentials_for(url: str) -> SingleConfig:
    path = Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
    if path.is_file():
        known = KubeConfig.from_file(path)
        for name in [known.current_context, *known.contexts]:
            config = known.get(name) if name is not None else None
            if config is not None and config.cluster.server.rstrip("/") == url.rstrip("/"):
                return config if config.user is not None else config._replace(user=User())
    config = KubeConfig.from_one(cluster=Cluster(server=url), user=User()).get()
    assert config is not None
    return config


def _refusal_behind(error: BaseException) -> httpx2.HTTPStatusError | None:
    """The refusal in whose handling ``error`` arose."""
    context = error.__context__
    while context is not None and not isinstance(context, httpx2.HTTPStatusError):
        context = context.__context__
    return context


def _refused(where: str, response: httpx2.Response) -> ClusterError:
    """Kubernetes says why in ``message`` of a Status object; a proxy in front of it may say anything."""
    try:
        message = bounded_json.loads(response.content)["message"]
    except (ValueError, KeyError, TypeError):
        message = None
    status = response.status_code
    text = f"{where}: {named(status)}" + (f": {message}" if message else "")
    return ClusterError(text, retryable=may_pass(status))
