"""Reads a YAML or JSON document whose parts know their lines, and notes values that YAML takes otherwise than written.

The parts are plain dicts, lists and scalars of JSON's types, as those of an inventory from HTTP. A note alone is no
fault: :mod:`spnhub.inventory.judge` knows which field it is about, and makes a fault of it.

YAML is read as PyYAML does (1.1), but for times, which stay the text that HTTP would bring.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.composer import Composer

from spnhub import bounded_json
from spnhub.bounded_json import DEPTH, DIGITS, JsonError
from spnhub.dataclass import dataclass
from spnhub.settings import SettingsError
from spnhub.transport.text import quoted

__all__ = ["SIZE_LIMIT", "Array", "DocumentError", "Note", "Object", "notes", "read_document"]

SIZE_LIMIT: Final = 32 << 20
"""Bytes of a file."""
YAML_PARTS: Final = 500_000
"""Parts of a YAML document before its aliases are followed: each costs about a kilobyte while it is read."""

Place = tuple[str | int, ...]

_ALIAS_LIMIT: Final = 100_000
"""Parts of a document that anchors may repeat: beyond it a small file fills the memory."""
_NULL: Final = "is null, which counts as absent"
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class DocumentError(SettingsError):
    """A document can't be read at all; the text is one line, and names file, line and reason."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something in a document that isn't taken as it is written."""

    line: int
    message: str
    """Goes on after the name of the part; ``""``: the scalar's value is at issue."""
    written: str = ""
    """A scalar that YAML reads as :attr:`value`. It may be a secret."""
    value: bool | int | float | None = None
    null: bool = False
    """It is said to be null, in so many words."""


class _Part:
    """What knows where it stands in a file, and what in it isn't taken as it is written."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__()
        self.file = file
        self.line = line
        self.lines: dict[str | int, int] = {}
        """Where each key stands."""
        self.notes: list[tuple[str | int, Note]] = []


class Object(_Part, dict[str, Any]):
    """An object of a document."""

    def part(self, key: str | int) -> Any:
        """What is there; None where nothing is."""
        return self.get(key) if isinstance(key, str) else None


class Array(_Part, list[Any]):
    """An array of a document; its keys are positions."""

    def part(self, key: str | int) -> Any:
        """What is there; None where nothing is."""
        return self[key] if isinstance(key, int) and 0 <= key < len(self) else None


def notes(part: Any, *, without: frozenset[str] = frozenset()) -> Iterator[tuple[Place, Note]]:
    """All notes of a part and of what is in it, with the way there; ``without`` are keys of its own to leave out."""
    if not isinstance(part, Object | Array):
        return
    for key, note in part.notes:
        yield (key,), note
    for key, value in part.items() if isinstance(part, Object) else enumerate(part):
        if key not in without:
            for place, note in notes(value):
                yield (key, *place), note


def read_document(path: Path) -> Any:
    """The document in a file: JSON if it is called so, else YAML.

    :raises DocumentError: it can't be read, or is neither.
    """
    try:
        # A byte order mark at the very beginning says nothing more than that it is Unicode.
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise DocumentError(f"{path}: is larger than {SIZE_LIMIT} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DocumentError(f"{path}:{line}: can't be read: it is not UTF-8") from error
    return _Json(str(path), text).document() if path.suffix.lower() == ".json" else _Yaml(str(path), text).document()


# ---- YAML ------------------------------------------------------------------------------------------------------------


class _Loader(Composer, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # the C one where it is
    """A time stays text; depth and parts are bounded while nodes are made.

    libyaml parses, but PyYAML's C code for the nodes recurses without a bound, and ends the process (PyYAML 6.0.3:
    100,000 ``[``). The nodes are made by PyYAML's Python code, which is asked before each.
    """

    def __init__(self, file: str, text: str) -> None:
        super(Composer, self).__init__(text)
        Composer.__init__(self)
        self._file = file
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH:
            raise DocumentError(f"{self._file}:{_line(self.peek_event())}: is nested deeper than {DEPTH}")
        if self._nodes > YAML_PARTS:
            raise DocumentError(f"{self._file}:{_line(self.peek_event())}: holds more than {YAML_PARTS} parts")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_TEXTS: Final = (_TAG + "str", _TAG + "value")
_CONTAINERS: Final = (_TAG + "map", _TAG + "seq")
_SCALARS: Final = tuple(_TAG + name for name in ("bool", "int", "float", "null"))


class _Yaml:
    """Makes a document's parts of the nodes that the loader composes."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._seen: set[int] = set()
        self._above: set[int] = set()
        self._repeated = 0

    def document(self) -> Any:
        try:
            self._loader = _Loader(self._file, self._text)
            try:
                node = self._loader.get_single_node()
                if node is not None and not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
                    raise DocumentError(f"{self._file}:{_line(node)}: {_meaningless_tag(node).message}")
                return None if node is None else self._part(node)
            finally:
                self._loader.dispose()
        except yaml.MarkedYAMLError as error:
            raise self._not_yaml(error) from error
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            character = error.character if isinstance(error.character, int) else ord(error.character)
            raise DocumentError(f"{self._file}:{line}: is not YAML: it holds U+{character:04X}") from error
        except yaml.YAMLError as error:
            raise DocumentError(f"{self._file}: is not YAML: {' '.join(str(error).split())}") from error

    def _not_yaml(self, error: yaml.MarkedYAMLError) -> DocumentError:
        mark = error.problem_mark or error.context_mark
        reason = ": ".join(filter(None, (error.context, error.problem))) or "it can't be parsed"
        if mark is None:
            return DocumentError(f"{self._file}: is not YAML: {reason}")
        line = next(islice(self._text.splitlines(), mark.line, None), "")
        if line[mark.column : mark.column + 1] == "\t":
            reason = "a tab stands where only blanks may"
        elif "but found another document" in reason:
            reason = "it holds more than one document"
        return DocumentError(f"{self._file}:{mark.line + 1}: is not YAML: {reason}")

    def _part(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)[0]
        with self._inside(node):
            return self._object(node) if isinstance(node, yaml.MappingNode) else self._array(node)

    @contextlib.contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        """Depth counts again here, since aliases put parts into parts."""
        if id(node) in self._above:
            raise DocumentError(f"{self._file}:{_line(node)}: is part of itself")
        if len(self._above) >= DEPTH:
            raise DocumentError(f"{self._file}:{_line(node)}: is nested deeper than {DEPTH}")
        self._above.add(id(node))
        yield
        self._above.discard(id(node))

    def _count(self, node: yaml.Node) -> None:
        if id(node) in self._seen:
            self._repeated += 1
            if self._repeated > _ALIAS_LIMIT:
                raise DocumentError(f"{self._file}:{_line(node)}: aliases repeat more than {_ALIAS_LIMIT} parts")
        self._seen.add(id(node))

    def _array(self, node: yaml.Node) -> Array:
        array = Array(self._file, _line(node))
        for number, item in enumerate(node.value):
            array.lines[number] = _line(item)
            array.append(self._value(array, number, item))
        return array

    def _object(self, node: yaml.MappingNode) -> Object:
        found = Object(self._file, _line(node))
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            else:
                self._entry(found, key, value)
        for one in merged:
            if not isinstance(one, yaml.MappingNode):
                found.notes.append(("<<", Note(_line(one), "names something that is not an object")))
                continue
            self._count(one)
            with self._inside(one):
                source = self._object(one)
            taken = source.keys() - found.keys()
            found.update((key, source[key]) for key in source if key in taken)
            found.lines.update((key, source.lines[key]) for key in taken)
            found.notes += [(key, note) for key, note in source.notes if key in taken]
        return found

    def _entry(self, found: Object, key: yaml.Node, value: yaml.Node) -> None:
        if not isinstance(key, yaml.ScalarNode):
            found.notes.append(("?", Note(_line(key), "is a key that is not a text")))
            return
        # A key is a text, whatever YAML makes of it: as in JSON.
        name: str = key.value
        if name in found:
            found.notes.append((name, Note(_line(key), f"stands here again; the first is in line {found.lines[name]}")))
            return
        found.lines[name] = _line(key)
        found[name] = self._value(found, name, value)

    def _value(self, parent: Object | Array, key: str | int, node: yaml.Node) -> Any:
        self._count(node)
        if not isinstance(node, yaml.ScalarNode):
            if node.tag not in _CONTAINERS:
                parent.notes.append((key, _meaningless_tag(node)))
            return self._part(node)
        value, note = self._scalar(node)
        if note is not None:
            parent.notes.append((key, note))
        return value

    def _scalar(self, node: yaml.ScalarNode) -> tuple[Any, Note | None]:
        line, text = _line(node), node.value
        if node.tag in _TEXTS:
            return text, None
        if node.tag not in _SCALARS or node.style:
            return text, _meaningless_tag(node)
        if len(text) > DIGITS:
            return text, Note(line, f"is a number of {len(text)} characters")
        try:
            value = self._loader.construct_object(node)
        except Exception:  # of an empty text, or one of another kind, the library raises whatever comes of it
            return text, Note(line, f"has the tag {quoted(node.tag)}, and isn't that")
        if value is None:
            return None, Note(line, _NULL, null=True) if text else Note(line, "has no value")
        return value, None if json.dumps(value) == text else Note(line, "", text, value)


def _meaningless_tag(node: yaml.Node) -> Note:
    return Note(_line(node), f"has the tag {quoted(node.tag)}, which means nothing here")


def _line(node: yaml.Node | yaml.Event) -> int:
    mark = node.start_mark
    assert mark is not None, "both parsers set it"
    return mark.line + 1


# ---- JSON ------------------------------------------------------------------------------------------------------------


class _Json:
    """The library says whether it is JSON, and makes the scalars; where each stands needs a walk of our own."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._scalar = json.JSONDecoder().raw_decode

    def document(self) -> Any:
        try:
            bounded_json.loads(self._text)
        except JsonError as error:
            line = "" if error.line is None else f":{error.line}"
            raise DocumentError(f"{self._file}{line}: is not JSON: {error}") from error
        return self._part(self._skip(0))[0]

    def _part(self, at: int) -> tuple[Any, int]:
        """The part that begins at an offset, and where the next thing behind it is."""
        match self._text[at]:
            case "{":
                return self._object(at)
            case "[":
                return self._array(at)
            case _:
                value, end = self._scalar(self._text, at)
                return value, self._skip(end)

    def _object(self, at: int) -> tuple[Object, int]:
        found = Object(self._file, self._line(at))
        at = self._skip(at + 1)
        while self._text[at] != "}":
            key, colon = self._part(at)
            line = self._line(at)
            value, at = self._part(self._skip(colon + 1))
            if key in found:
                found.notes.append((key, Note(line, f"stands here again; the first is in line {found.lines[key]}")))
            else:
                found[key] = value
                found.lines[key] = line
                if value is None:
                    found.notes.append((key, Note(line, _NULL, null=True)))
            at = self._skip(at + 1) if self._text[at] == "," else at
        return found, self._skip(at + 1)

    def _array(self, at: int) -> tuple[Array, int]:
        found = Array(self._file, self._line(at))
        at = self._skip(at + 1)
        while self._text[at] != "]":
            found.lines[len(found)] = self._line(at)
            value, at = self._part(at)
            found.append(value)
            at = self._skip(at + 1) if self._text[at] == "," else at
        return found, self._skip(at + 1)

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        assert found is not None
        return found.end()

    def _line(self, at: int) -> int:
        return bisect.bisect_left(self._ends, at) + 1
