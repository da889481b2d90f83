"""The hub's side of spn/1, between the engine and the actors. Sans-I/O.

``server`` takes turns and passes on; ``sessions`` holds control streams, ``connections`` data streams and their
headers, ``gate`` what waits for the journal, ``certificates`` what sessions have presented. None of them decides
anything about a session: actors do.
"""

from spnhub.transport.hub.certificates import Certificates, Judge
from spnhub.transport.hub.gate import Gate
from spnhub.transport.hub.server import HubServer
from spnhub.transport.hub.sessions import HubSession, Network, Sessions

__all__ = ["Certificates", "Gate", "HubServer", "HubSession", "Judge", "Network", "Sessions"]
