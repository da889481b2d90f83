"""Text that others have chosen, on its way into events, packets and log lines: printable, and no longer than stated.

Names, reasons and subjects come from peers and outsiders. What is kept of them is made so where they come in, so
nothing further in has to know. In the lowest room that needs it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

__all__ = [
    "NAME_LIMIT",
    "REASON_LIMIT",
    "SUBJECT_BYTES",
    "clipped",
    "clipped_subject",
    "escaped",
]

REASON_LIMIT: Final = 256
"""Characters of a reason, whoever gives it."""
NAME_LIMIT: Final = 255
"""Characters of a server name: a DNS name has no more (RFC 1035 section 2.3.4)."""
SUBJECT_BYTES: Final = 1024
"""Bytes (UTF-8) of a certificate's subject in events and packets; of a longer one the beginning, and a digest."""


def escaped(text: str) -> str:
    """``text`` with everything escaped that doesn't show (``str.isprintable``): ESC is ``\\x1b``.

    More than :func:`spnhub.plain_text.printable` escapes, which leaves spaces of any script: what is kept must not look
    like something else.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def clipped(text: str, limit: int = REASON_LIMIT) -> str:
    """``text``, printable, and at most ``limit`` characters of it: of a longer one the beginning, marked with ``…``."""
    if len(text) <= limit and text.isprintable():
        return text
    # Escapes only make it longer: what is beyond the limit need not be looked at.
    shown = escaped(text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def clipped_subject(subject: str) -> str:
    """A subject (RFC 4514), printable, and at most :data:`SUBJECT_BYTES` of it.

    It stays an identity: two subjects never become the same. What doesn't show becomes hex pairs, as RFC 4514 section
    2.4 has it; of a long one the beginning is left with a digest of the whole, marked by a ``<``, which stands in no
    subject unescaped.
    """
    if not subject.isprintable():
        subject = "".join(one if one.isprintable() else _hex_pairs(one) for one in subject)
    data = subject.encode()
    if len(data) <= SUBJECT_BYTES:
        return subject
    mark = f"…<sha256:{sha256(data).hexdigest()}>"
    return data[: SUBJECT_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def _hex_pairs(character: str) -> str:
    return "".join(f"\\{byte:02X}" for byte in character.encode())
