"""SPN Hub: a virtual, closed network over QUIC, and an event log that is never wrong.

The library for programs that take part in a network: :func:`create_consumer_endpoint` and
:func:`create_provider_endpoint`. Names are loaded when first used, so that importing a part stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spnhub.transport.endpoint.api.consumer import (
        ConnectionRequest,
        ConsumerEndpoint,
        ProviderEndpoint,
        create_consumer_endpoint,
        create_provider_endpoint,
    )
    from spnhub.transport.endpoint.options import EndpointOptions
    from spnhub.transport.errors import (
        ConfigurationError,
        ConnectionAborted,
        ConnectionRejected,
        EndpointClosed,
        HandshakeRejected,
        HubUnreachable,
        LocalProtocolError,
        SessionLost,
        SessionRejected,
        SpnError,
    )

__all__ = [
    "ConfigurationError",
    "ConnectionAborted",
    "ConnectionRejected",
    "ConnectionRequest",
    "ConsumerEndpoint",
    "EndpointClosed",
    "EndpointOptions",
    "HandshakeRejected",
    "HubUnreachable",
    "LocalProtocolError",
    "ProviderEndpoint",
    "SessionLost",
    "SessionRejected",
    "SpnError",
    "__version__",
    "create_consumer_endpoint",
    "create_provider_endpoint",
]

__version__ = "0.1.0"

_API = frozenset(
    {
        "ConnectionRequest",
        "ConsumerEndpoint",
        "EndpointOptions",
        "ProviderEndpoint",
        "create_consumer_endpoint",
        "create_provider_endpoint",
    }
)

_FORMER = {"ConnectionRefused": "ConnectionRejected", "SessionRefused": "SessionRejected"}
"""Errors by the names that they had first, which events of the log have too: programs that catch them go on working."""


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name in __all__:
        module = "spnhub.transport.endpoint.api.consumer" if name in _API else "spnhub.transport.errors"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
