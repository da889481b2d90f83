"""The manager that a clusterManagerUrn names.

Each scheme's client library is imported when an inventory names it (:func:`load_managers`): a hub whose services start
elsewhere pays nothing, and nothing is loaded when a service is to start, beside traffic. Counterparts:
:mod:`spnhub.clusters.docker_engine`, :mod:`~spnhub.clusters.kubernetes`, :mod:`~spnhub.clusters.nomad`,
:mod:`~spnhub.clusters.process`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Final
from urllib.parse import urlsplit

from spnhub.clusters.task import ClusterError, ClusterManager, OnExit
from spnhub.extras import MissingExtra, check_extra

__all__ = ["SCHEMES", "check_urn", "load_managers", "manager_for"]

SCHEMES: Final = ("docker", "k8s", "nomad", "process")

_EXTRAS: Final = {"docker": "docker", "k8s": "kubernetes"}
_MODULES: Final = {"docker": "docker_engine", "k8s": "kubernetes", "nomad": "nomad", "process": "process"}
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def check_urn(urn: str) -> tuple[str, str]:
    """Scheme and rest of a clusterManagerUrn.

    :raises ValueError: it is none; the text says what is wrong.
    """
    scheme, colon, rest = urn.partition(":")
    if not colon or scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ValueError(f"{urn!r} names no cluster manager: {scheme!r} is none of {known}")
    if scheme in {"docker", "process"} and rest:
        raise ValueError(f"{urn!r} names no cluster manager: {scheme}: takes nothing after the colon")
    if scheme == "k8s":
        url, namespace = split_kubernetes(rest)
        if _NAMESPACE.fullmatch(namespace) is None:
            raise ValueError(f"{urn!r} names no cluster manager: {namespace!r} is not a namespace")
        if url is not None:
            _check_url(urn, url)
    if scheme == "nomad":
        _check_url(urn, rest)
    return scheme, rest


def split_kubernetes(rest: str) -> tuple[str | None, str]:
    """``[api-url/]namespace`` as API URL, None for the cluster's own, and namespace."""
    url, slash, namespace = rest.rpartition("/")
    return (url if slash else None), namespace


def load_managers(urns: Iterable[str]) -> list[str]:
    """Import what the managers of these are made of. It takes a while: not for the loop's thread.

    :returns: what isn't installed; no service starts by it.
    :raises ValueError: one is no clusterManagerUrn.
    """
    missing = []
    for scheme in sorted({check_urn(urn)[0] for urn in urns}):
        try:
            _check_installed(scheme)
        except ClusterError as error:
            missing.append(error.message)
        else:
            import_module(f"spnhub.clusters.{_MODULES[scheme]}")
    return missing


def manager_for(urn: str, on_exit: OnExit | None = None) -> ClusterManager:
    """A new manager for ``urn``; the caller closes it.

    :param on_exit: called with services that ended by themselves, by managers that can notice it (``process:``).
    :raises ClusterError: no such manager, or not installed; not retryable. The text names the scheme.
    """
    try:
        scheme, rest = check_urn(urn)
    except ValueError as error:
        raise ClusterError(str(error), retryable=False) from None
    _check_installed(scheme)
    # Importing all four costs the hub 45 MB and most of a second.
    if scheme == "docker":
        from spnhub.clusters.docker_engine import DockerManager  # noqa: PLC0415

        return DockerManager()
    if scheme == "k8s":
        from spnhub.clusters.kubernetes import KubernetesManager  # noqa: PLC0415

        return KubernetesManager(*split_kubernetes(rest))
    if scheme == "nomad":
        from spnhub.clusters.nomad import NomadManager  # noqa: PLC0415

        return NomadManager(rest)
    from spnhub.clusters.process import ProcessManager  # noqa: PLC0415

    return ProcessManager(on_exit=on_exit)


def _check_installed(scheme: str) -> None:
    if extra := _EXTRAS.get(scheme):
        try:
            check_extra(extra)
        except MissingExtra as error:
            raise ClusterError(f"{scheme}: {error}", retryable=False) from error


def _check_url(urn: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{urn!r} names no cluster manager: {url!r} is not an http or https URL")
