"""Everything that touches a network: the QUIC engine, the wire protocol spn/1, the hub's server, the endpoints.

Start at :mod:`spnhub.transport.engine`, the line between the transport and QUIC.
"""
