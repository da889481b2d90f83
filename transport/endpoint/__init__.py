"""The endpoint: sessions to the hub and the connections on them, for programs that take part with code (R-1.2)."""
