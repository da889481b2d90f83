"""The native engine: quinn-proto and rustls, in the distribution ``spnhub-native`` (this folder's crate).

May import :mod:`spnhub.transport`'s certificates and ``spnhub_native``. Whether it is installed says :func:`why_not`.
"""

from spnhub.transport.native_engine.installed import NotInstalled, why_not

__all__ = ["NotInstalled", "why_not"]
