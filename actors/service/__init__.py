"""The actor of one service: who may join, which provider takes an opening, and whether an instance of it runs.

``actor`` has the parts: ``registry`` (its sessions), ``admission``, ``balancing``, ``pending`` (openings that wait),
``resume``, ``gone``, and ``instance`` with its ``instance_controller``. Imports ``session``, ``connection`` and below.
"""
