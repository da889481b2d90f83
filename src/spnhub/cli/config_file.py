"""Configuration files (``--config FILE``, TOML): a program's options by the names of their flags, without dashes.

What is wrong in one is named with file and line. Counterparts: :mod:`spnhub.cli.options` says which keys there are,
:mod:`spnhub.options` what their values may be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from spnhub.bounded_json import DEPTH, DIGITS
from spnhub.settings import SettingsError
from spnhub.transport.text import meant

__all__ = ["ConfigFile", "read_text"]

SIZE_LIMIT: Final = 1 << 20
"""Bytes of a file that is read."""
_ENDLESS: Final = re.compile(rf"""(?m)^[ \t\[]*(?:[\w"'-]*[ \t]*\.[ \t]*){{{DEPTH + 1}}}""")
"""A name with many dots. Each is a table to the parser, whose time and memory grow with their square."""
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class ConfigFile:
    """One file, as it is written.

    :param option: what the user calls the option that names the file.
    :raises SettingsError: it can't be read, or is no TOML.
    """

    def __init__(self, path: Path, option: str = "--config") -> None:
        self.path = path
        self._text = read_text(path, option)
        if found := _ENDLESS.search(self._text):
            line = self._text.count("\n", 0, found.start()) + 1
            raise SettingsError(f"{path}:{line}: holds a name with more than {DEPTH} dots")
        try:
            self._values = tomllib.loads(self._text)
        except RecursionError:
            raise SettingsError(f"{path}: is nested too deeply") from None
        except tomllib.TOMLDecodeError as exc:
            found = _PLACE.search(str(exc))
            line = int(found[1]) if found and found[1] else self._text.count("\n") + 1
            raise SettingsError(f"{path}:{line}: {_PLACE.sub('', str(exc))}") from exc
        except ValueError as exc:  # of int()
            raise SettingsError(f"{path}: holds a number of too many digits") from exc

    def values(self, known: Iterable[str]) -> dict[str, Any]:
        """What is there, by key.

        :raises SettingsError: a key that isn't known, or a table.
        """
        keys = set(known)
        found = {}
        for written, value in self._values.items():
            # People who know the option from Python or as an environment variable write underscores.
            key = written.replace("_", "-")
            if key not in keys:
                near = meant(key, keys)
                raise SettingsError(f"{self.place(written)} is unknown{f'; did you mean {near}?' if near else ''}")
            if key in found:
                raise SettingsError(f"{self.place(written)} is there twice, with underscores and without")
            if isinstance(value, dict):
                raise SettingsError(f"{self.place(written)} is an option, and no table")
            if isinstance(value, int) and abs(value) >= 10**DIGITS:
                raise SettingsError(f"{self.place(written)} is a number of more than {DIGITS} digits")
            found[key] = value
        return found

    def place(self, key: str) -> str:
        """``hub.toml:3: idle-timeout``: where the key stands, in either way of writing it."""
        lines = (self._lines[name] for name in (key, key.replace("-", "_")) if name in self._lines)
        return f"{self.path}:{min(lines, default=1)}: {key}"

    @cached_property
    def _lines(self) -> dict[str, int]:
        """Where each key stands first, as it is written."""
        lines: dict[str, int] = {}
        for line, found in _statements(self._text):
            for key in found:
                lines.setdefault(key, line)
        return lines


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each statement of a document that can be read, with the line that it begins in."""
    begin, lines = 1, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        lines += line
        try:
            found = tomllib.loads(lines)
        except tomllib.TOMLDecodeError:
            # It goes on in the next line.
            continue
        if found:
            yield begin, found
        begin, lines = number + 1, ""


def read_text(path: Path, option: str) -> str:
    """What a small file says.

    :param option: what the user calls the option that names the file.
    :raises SettingsError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as exc:
        raise SettingsError(f"{option}: {path}: can't be read: {exc.strerror or exc}") from exc
    if len(content) > SIZE_LIMIT:
        raise SettingsError(f"{option}: {path} has more than {SIZE_LIMIT} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{option}: {path} is not UTF-8") from exc
