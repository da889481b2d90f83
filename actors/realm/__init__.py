"""The actor of one realm: its services, and its bounds.

Imports ``service`` and what is below; imported by ``hub``.
"""
