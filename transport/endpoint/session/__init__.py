"""A session of an endpoint, and the address of the hub that it goes to: states, certificates, DNS.

Imports ``connection`` and ``kernel``.
"""
