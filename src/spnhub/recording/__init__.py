"""Recordings of the actors' inputs, and the actors fed with them again (``--record``, ``spnlog replay-actors``).

:mod:`.system` notes what comes in and out, :mod:`.writer` writes it down, :mod:`.reader` reads it, :mod:`.replayer`
    does it again and compares. :mod:`.format` is the format of the lines. Actors are deterministic
    (:mod:`spnhub.actors.system`), so whatever happened in a hub can be looked at again, step by step, without a
    network.
"""
