"""The QUIC engine on aioquic: everything that is private to aioquic lives in this folder.

``tls`` judges certificates, ``connection`` sends and counts credit, ``engine`` is the endpoint around them.
Counterpart: :mod:`spnhub.transport.engine`, the interface.
"""

from spnhub.transport.aioquic_engine.engine import AioquicEngine

__all__ = ["AioquicEngine"]
