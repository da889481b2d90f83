"""The actors: one for the hub process and for every realm, service, session and connection (pykka).

They take messages, decide, and return events (facts, to the journal) and commands (to the transport). No socket,
file, clock or QUIC here. Start at :mod:`spnhub.actors.system`. Each kind of actor has a room; ``kernel`` is what all
stand on, ``contract`` what flows in and out.
"""
