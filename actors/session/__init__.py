"""The actor of one session: from the handshake until it is closed, with the connections that belong to it.

Imports ``connection`` and the rooms below it; imported by ``service``.
"""
