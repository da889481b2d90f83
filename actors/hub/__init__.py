"""The hub's own actor: it passes inputs on, starts and stops everything, and logs the life of its process.

Imports every other room of the actors; nothing but :mod:`spnhub.actors.system` imports it.
"""
