"""The actor of one session: from the handshake until it is closed, with the connections that hang on it.

Imports ``connection`` and what is below; imported by ``service``.
"""
