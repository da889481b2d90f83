"""The hub's own actor: it forwards inputs to realms, carries out reloads and the stop, and logs the process lifecycle.

Imports every other room of the actors; nothing but :mod:`spnhub.actors.system` imports it.
"""
