"""The actor of one realm: its services, and its bounds.

Imports ``service`` and the rooms below it; imported by ``hub``.
"""
