"""The actor of one service: which endpoints may join, which provider gets a connection, whether its instance runs.

``actor`` is composed of ``registry`` (the sessions), ``admission``, ``balancing``, ``legs`` (their actors), ``pending``
(connections that aren't established yet), ``resume``, ``gone`` (processes that are gone), and ``instance`` with its
``instance_controller``; ``messages`` are what it and its parents say to each other.
Imports ``session``, ``connection`` and the rooms below them.
"""
