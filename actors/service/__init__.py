"""The actor of one service: which endpoints may join, which provider gets a connection, whether its instance runs.

``actor`` is composed of ``registry`` (the sessions), ``admission``, ``balancing``, ``pending`` (connections that aren't
established yet), ``resume``, ``gone`` (processes that are gone), and ``instance`` with its ``instance_controller``.
Imports ``session``, ``connection`` and the rooms below them.
"""
