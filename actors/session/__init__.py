"""The actor of one session: from the handshake until it is closed, with the connections that belong to it.

``actor``, what it and the service's actor say to each other (``messages``), and how sessions end (``endings``).
Imports ``connection`` and the rooms below it; imported by ``service``.
"""
