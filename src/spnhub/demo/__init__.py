"""``spnhub demo``: a hub, its inventory, agents and real traffic on one machine, and what the log says of it.

``story`` tells it, step by step; ``site`` makes certificates and inventory, ``programs`` runs our own commands,
``traffic`` has the TCP programs that know nothing of all this, ``display`` prints.
"""
