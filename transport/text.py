"""Texts that people write into files, options and variables: invisible characters in them, and likely corrections.

Counterparts: :mod:`spnhub.inventory` judges a file's values with this, :mod:`spnhub.cli.variables` options and the
environment, :mod:`spnhub.transport.endpoint.api.config` the arguments of a program.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

__all__ = ["PEM_BEGIN", "meant", "oddity", "quoted"]

PEM_BEGIN: Final = "-----BEGIN "
"""What every block of PEM begins with."""

_LOOKS_EMPTY: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xFE00, 0xFE10))
)
"""Letters and marks that count as printable, and don't show."""
_SHOWN: Final = 100
"""Characters of a value that an error quotes."""


def quoted(text: str) -> str:
    """``text`` in quotes, with everything escaped that doesn't show: a final carriage return is ``\\r``. Bounded.

    PEM isn't shown: it may be a key in the wrong place.
    """
    if PEM_BEGIN in text:
        return "a PEM text"
    shown = repr(text[:_SHOWN])
    for character in _LOOKS_EMPTY.intersection(shown):
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return shown if len(text) <= _SHOWN else f"{shown}…"


def oddity(text: str) -> str | None:
    """Why ``text`` can't be a name, an address or the like: it holds what doesn't show. Goes on after a subject."""
    for character in text:
        if not character.isprintable() or character in _LOOKS_EMPTY:
            name = unicodedata.name(character, "")
            return f"holds U+{ord(character):04X}{f' ({name})' if name else ''}, which doesn't show"
    return "begins or ends with a blank" if text != text.strip() else None


def meant(name: str, known: Iterable[str], *, likeness: float = 0.75) -> str | None:
    """The one of ``known`` that ``name`` may have been meant for: another case, blanks, underscores, or a slip."""
    by_form: dict[str, str] = {}
    for one in known:
        by_form.setdefault(_form(one), one)
    form = _form(name)
    if form in by_form:
        return by_form[form]
    if likeness >= 1:
        return None
    near = difflib.get_close_matches(form, by_form, n=1, cutoff=likeness)
    return by_form[near[0]] if near else None


def _form(name: str) -> str:
    return _form_of(name[:_SHOWN])


# A program's start compares each variable with each option: a thousand times the same hundred names.
@lru_cache(256)
def _form_of(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()
