"""A whole endpoint, sans-I/O: sessions, connections, and how these find and change sessions.

Imports ``session``, ``connection`` and ``kernel``. Clock, sockets and DNS are arguments: ``api`` brings them.
"""
