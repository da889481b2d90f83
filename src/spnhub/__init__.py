"""SPN Hub: a virtual, closed network over QUIC, and an event log that is never wrong."""

__version__ = "0.1.0"
