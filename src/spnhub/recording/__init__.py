"""Recordings of the actors' inputs, and the actors fed with them again (``--record``, ``spnlog drive``).

:mod:`.system` notes what comes in and out, :mod:`.writer` writes it down, :mod:`.reader` reads it, :mod:`.driver` does
it again and compares. :mod:`.form` is the form of the lines. Actors are deterministic
(:mod:`spnhub.actors.system`), so whatever happened in a hub can be looked at again, step by step, without a network.
"""
