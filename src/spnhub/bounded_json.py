"""JSON that others have written, within bounds: a text of any kind costs little, and raises nothing but one error.

The standard library's parser takes whatever fits the memory, and raises ``RecursionError`` for what is deep and a plain
``ValueError`` for a number of thousands of digits. In the lowest room, because every room reads JSON. Counterparts:
:mod:`spnhub.inventory.document` does the same for YAML, :mod:`spnhub.bounded_http` bounds what comes over HTTP.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

__all__ = ["DEPTH", "DIGITS", "PARTS", "JsonError", "count", "loads"]

DEPTH: Final = 64
"""Objects and arrays inside each other."""
PARTS: Final = 1_000_000
"""Objects, arrays and what is in them."""
DIGITS: Final = 64
"""Of one whole number: more than anything has that is counted, and few enough to be a float, too."""
_LONG: Final = re.compile(rf"\d{{{DIGITS + 1}}}")


class JsonError(ValueError):
    """A text is no JSON, or goes beyond a bound; ``str`` goes on after "is not JSON" or stands by itself.

    :ivar line: where, if that is known.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def loads(text: str | bytes, *, parts: int = PARTS) -> Any:
    """What a text says.

    :param parts: the most that it may hold.
    :raises JsonError: it is no JSON (of RFC 8259: neither NaN nor Infinity), or goes beyond a bound.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if count(text) > parts:
            raise JsonError(f"it holds more than {parts} parts")
        # The hook makes the parser slow, and long runs of digits are rare.
        whole = _whole if _LONG.search(text) else None
        value = json.loads(text, parse_constant=_no_number, parse_int=whole)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno) from error
    except UnicodeDecodeError as error:
        raise JsonError("it is not UTF-8") from error
    except RecursionError:
        raise JsonError(f"it is nested deeper than {DEPTH}") from None
    _check_depth(value)
    return value


def count(text: str | bytes) -> int:
    """The parts that a text may hold at most: each begins the text or its parent, or has a comma before it.

    Signs in texts count, too; the bounds are wide.
    """
    if isinstance(text, bytes):
        return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")
    return 1 + text.count(",") + text.count("[") + text.count("{")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, (dict, list)) and one]:
        depth += 1
        if depth > DEPTH:
            raise JsonError(f"it is nested deeper than {DEPTH}")
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]


def _whole(digits: str) -> int:
    if len(digits) > DIGITS + 1:  # with its sign
        raise JsonError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> NoReturn:
    raise JsonError(f"it holds {name}")
