"""SPN Hub: a virtual, closed network over QUIC, and an event log that is never wrong.

The library for programs that take part in a network: :func:`create_consumer_endpoint` and
:func:`create_provider_endpoint`. Names are loaded when first used, so that importing a part stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from spnhub.version import VERSION

if TYPE_CHECKING:
    from spnhub.actors.contract.codes import Code
    from spnhub.library.environment import EndpointArguments, from_environment
    from spnhub.library.http_client import HttpxTransport
    from spnhub.library.joining import forward, listen
    from spnhub.library.serving import serve
    from spnhub.transport.endpoint.api.consumer import (
        ConnectionChange,
        ConnectionRequest,
        ConsumerEndpoint,
        CredentialsChange,
        ProviderEndpoint,
        SessionChange,
        create_consumer_endpoint,
        create_provider_endpoint,
    )
    from spnhub.transport.endpoint.options import EndpointOptions
    from spnhub.transport.endpoint.session.states import SessionState
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
    "Code",
    "ConfigurationError",
    "ConnectionAborted",
    "ConnectionChange",
    "ConnectionRejected",
    "ConnectionRequest",
    "ConsumerEndpoint",
    "CredentialsChange",
    "EndpointArguments",
    "EndpointClosed",
    "EndpointOptions",
    "HandshakeRejected",
    "HttpxTransport",
    "HubUnreachable",
    "LocalProtocolError",
    "ProviderEndpoint",
    "SessionChange",
    "SessionLost",
    "SessionRejected",
    "SessionState",
    "SpnError",
    "__version__",
    "create_consumer_endpoint",
    "create_provider_endpoint",
    "forward",
    "from_environment",
    "listen",
    "serve",
]

__version__: Final[str] = VERSION

_ERRORS: Final = "spnhub.transport.errors"
_MODULES: Final = {
    "Code": "spnhub.actors.contract.codes",
    "EndpointArguments": "spnhub.library.environment",
    "HttpxTransport": "spnhub.library.http_client",
    "SessionState": "spnhub.transport.endpoint.session.states",
    "forward": "spnhub.library.joining",
    "from_environment": "spnhub.library.environment",
    "listen": "spnhub.library.joining",
    "serve": "spnhub.library.serving",
    **dict.fromkeys(
        (
            "ConnectionChange",
            "ConnectionRequest",
            "ConsumerEndpoint",
            "CredentialsChange",
            "EndpointOptions",
            "ProviderEndpoint",
            "SessionChange",
            "create_consumer_endpoint",
            "create_provider_endpoint",
        ),
        "spnhub.transport.endpoint.api.consumer",
    ),
}
"""Where each name is, but for the errors."""

_FORMER = {"ConnectionRefused": "ConnectionRejected", "SessionRefused": "SessionRejected"}
"""Errors by the names that they had first, which events of the log have too: programs that catch them go on working."""


def __getattr__(name: str) -> Any:
    name = _FORMER.get(name, name)
    if name in __all__:
        return getattr(importlib.import_module(_MODULES.get(name, _ERRORS)), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What programs use."""
    return sorted(__all__)
