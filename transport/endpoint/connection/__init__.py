"""A connection at its endpoint, which moves from leg to leg: both ends of it, its states, what it keeps for a replay.

Imports ``kernel``; what it needs of its session and of its endpoint is in ``context``.
"""
