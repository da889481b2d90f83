"""Configuration files (``--config FILE``, TOML): a program's options by the names of their flags, without dashes.

A file with many agents has tables of such.
What is wrong in one is named with file and line. Counterparts: :mod:`spnhub.cli.options` says which keys there are,
:mod:`spnhub.options` what their values may be.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from spnhub.bounded_json import DEPTH, DIGITS
from spnhub.settings import SettingsError
from spnhub.transport.text import meant

__all__ = ["ConfigFile", "ConfigTable", "read_text"]

NAME_LIMIT: Final = 64
"""Characters of a table's name: it stands in lines of the log and in labels."""
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

    def values(self, known: Iterable[str], tables: Collection[str] = ()) -> dict[str, Any]:
        """What is there, by key, but for tables.

        :param tables: their names.
        :raises SettingsError: a key that isn't known, or a table that isn't.
        """
        return ConfigTable(self, (), self._values).values(known, tables)

    def place(self, key: str) -> str:
        """``hub.toml:3: idle-timeout``: where the key stands, in either way of writing it."""
        return ConfigTable(self, (), self._values).place(key)

    def named_tables(self, kind: str) -> Iterator[tuple[str, ConfigTable]]:
        """Each ``[KIND.NAME]``, with its name.

        :raises SettingsError: something stands there that belongs in one of them.
        """
        of_kind = self._values.get(kind, {})
        if not isinstance(of_kind, dict):
            raise SettingsError(f"{self.place(kind)} is no table: it is written [{kind}.NAME]")
        for name, values in of_kind.items():
            table = ConfigTable(self, (kind,), of_kind)
            if not isinstance(values, dict):
                raise SettingsError(f"{table.place(name)} has no name above it: the table is written [{kind}.NAME]")
            if not (0 < len(name) <= NAME_LIMIT and name.isprintable()):
                raise SettingsError(f"{table.place(name)} is no name: 1 to {NAME_LIMIT} printable characters are one")
            yield name, ConfigTable(self, (kind, name), values)

    def line(self, *path: str) -> int | None:
        """In which line it stands first, with underscores or dashes in its last part; None: in none."""
        *above, key = path
        lines = (self._lines.get((*above, name)) for name in (key, key.replace("-", "_")))
        return min((line for line in lines if line is not None), default=None)

    @cached_property
    def _lines(self) -> dict[tuple[str, ...], int]:
        """Where each key, and each table, stands first, as it is written."""
        lines: dict[tuple[str, ...], int] = {}
        below: tuple[str, ...] = ()
        for line, found, is_header in _statements(self._text):
            paths = list(_paths(found))
            if is_header:
                below = paths[-1]
                paths = [below[:depth] for depth in range(1, len(below) + 1)]
            else:
                paths = [below + path for path in paths]
            for path in paths:
                lines.setdefault(path, line)
        return lines


class ConfigTable:
    """One table of a file; the file itself is one without a name."""

    def __init__(self, file: ConfigFile, path: tuple[str, ...], values: dict[str, Any]) -> None:
        self.file = file
        self.path = path
        self._values = values

    def values(self, known: Iterable[str], tables: Collection[str] = ()) -> dict[str, Any]:
        """See :meth:`ConfigFile.values`."""
        keys = set(known)
        found: dict[str, Any] = {}
        for written, value in self._values.items():
            if written in tables:
                continue
            # People who know the option from Python or as an environment variable write underscores.
            key = written.replace("_", "-")
            if key not in keys:
                near = meant(key, [*keys, *tables])
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
        """``agent.toml:3: [consumer.web] idle-timeout``: where the key stands, or at least its table."""
        line = self.file.line(*self.path, key) or (self.file.line(*self.path) if self.path else None) or 1
        table = f"[{'.'.join(self.path)}] " if self.path else ""
        return f"{self.file.path}:{line}: {table}{key}"


def _paths(values: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Of every key, and of every key below it."""
    for key, value in values.items():
        yield (key,)
        inner = value[-1] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            for path in _paths(inner):
                yield (key, *path)


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Each statement of a document that can be read, the line that it begins in, and whether a table begins there."""
    begin, lines = 1, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        lines += line
        try:
            found = tomllib.loads(lines)
        except tomllib.TOMLDecodeError:
            # It goes on in the next line.
            continue
        if found:
            yield begin, found, lines.lstrip().startswith("[")
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
