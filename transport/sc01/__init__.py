"""sc01, the protocol of the agents of the generation before spn/1: its words, and both sides of it. Sans-I/O.

``words`` has what is on the wire, ``hub`` speaks for a hub's sc01 sessions. Actors, and what is above them, see
sessions like any other: what sc01 has no word for is said here in the endpoint's place. ``SC01.md`` tells what these
agents can't do. May import the actors' contract, the engine and the packets of spn/1.
"""
