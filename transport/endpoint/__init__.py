"""The endpoint: sessions to the hub and the connections on them, for programs that take part with code (R-1.2).

``api`` is what programs use; ``core`` is a whole endpoint without I/O, of ``session`` and ``connection`` on ``kernel``.
"""
