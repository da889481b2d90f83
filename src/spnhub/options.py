"""What an option is: a field of a dataclass that also says its bounds, its group and what it is for.

Everything else follows from that field: the flag, the environment variable, the key of a configuration file, the check,
the help and the documentation (:mod:`spnhub.cli.options` makes them). This module imports nothing of ours, so every
room declares its own options, and a program's settings are put together of them.

Plain dataclasses, because an agent has to start quickly, and recordings are made of such: to import pydantic-settings
takes 0.24 s of CPU, a third of what an agent's start takes in all. Words and variables become values in typer.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING
from typing import Any, Final, TypeVar

from spnhub.dataclass import dataclass

__all__ = [
    "WEEK",
    "Field",
    "Option",
    "UnusableOption",
    "build",
    "check_options",
    "host_names",
    "nested",
    "option",
    "option_fields",
    "parse_address",
    "parse_addresses",
    "parse_age",
    "parse_names",
    "parse_size",
    "server_address",
    "server_token",
]

M = TypeVar("M")

WEEK: Final = 604_800
"""Seconds. Anything above is a wrong unit, not a wish."""

_OPTION: Final = "option"
_NESTED: Final = "nested"
_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGES: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class UnusableOption(ValueError):
    """A value that can't be used.

    :param name: of the field.
    :param fault: goes on after whatever the reader calls the option: ``: 0 is below 1``.
    :param other: another field, for which ``{other}`` stands in ``fault``.
    """

    def __init__(self, name: str, fault: str, other: str = "") -> None:
        super().__init__(name + fault.replace("{other}", other))
        self.name = name
        self.fault = fault
        self.other = other


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option as its users see it: names, help, default, check."""

    help: str
    """A sentence or two: what the value is or does, with its unit."""
    group: str
    """Under which heading it stands in the help."""
    flag: str | None = None
    """Its name on the command line, without dashes; None: the field's. Variable and key follow from it."""
    also: tuple[str, ...] = ()
    """Further names on the command line and in a file, without dashes."""
    letter: str | None = None
    """One more name on the command line."""
    variables: tuple[str, ...] = ()
    """Environment variables; none: the program's prefix and the flag."""
    metavar: str | None = None
    """What stands for the value in the help; None: the type says it."""
    parse: Callable[[str], Any] | None = None
    """Makes the value of a text, where typer doesn't know the type. Its ValueErrors say what is wrong with the text."""
    default_text: str | None = None
    """How the default is written for ``parse``; or what it is, in words, where it is only known later."""
    secret: bool = False
    """Never shown."""
    from_file: bool = False
    """A file that holds it may be given in its place: ``--inventory-token-file``."""
    unit: str = ""
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    missing: str = ""
    """What else is said where it has to be given and isn't; goes on after its variable."""
    unless: tuple[str, Any] | None = None
    """Of one with a default: it has to be given all the same, unless this other option has this value."""
    check: Callable[[Any], object] | None = None
    """Raises ValueError, which says what is wrong with the value."""

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value; None: nothing."""
        if self.above is not None or self.at_least is not None or self.at_most is not None:
            low = value > self.above if self.above is not None else self.at_least is None or value >= self.at_least
            # Not a number is in no bounds.
            if not (low and (self.at_most is None or value <= self.at_most)):
                return f"{_text(value)} {self._bounds()}{f' {self.unit}' if self.unit else ''}"
        if self.choices and value not in self.choices:
            return f"{value!r} is none of {', '.join(self.choices)}"
        if self.check is not None:
            try:
                self.check(value)
            except ValueError as exc:
                return str(exc)
        return None

    def _bounds(self) -> str:
        if self.at_most is None:
            return f"is below {_text(self.at_least)}" if self.above is None else f"is not above {_text(self.above)}"
        if self.above is None:
            return f"is not between {_text(self.at_least)} and {_text(self.at_most)}"
        return f"is not above {_text(self.above)} and at most {_text(self.at_most)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One option of a settings class, or of a class that is nested in it."""

    name: str
    """Of the field; no other field of the whole has it."""
    type: Any
    """Without None."""
    option: Option
    default: Any
    """``dataclasses.MISSING``: it has to be given, or is only known later."""
    required: bool
    """Its class has to be given it."""
    optional: bool = False
    """Its class may be left out as a whole."""

    @property
    def flag(self) -> str:
        """``idle-timeout``: the name on the command line, and the key in a file."""
        return self.option.flag or self.name.replace("_", "-")

    def variables(self, prefix: str) -> tuple[str, ...]:
        """Its environment variables in a program whose own begin with ``prefix``: ``SPN_IDLE_TIMEOUT``."""
        return self.option.variables or (prefix + self.flag.upper().replace("-", "_"),)


def option(default: Any = MISSING, help: str = "", *, group: str, **facts: Any) -> Any:  # noqa: A002 - what it is
    """A field that people set.

    :param default: none: it has to be given. A callable makes one.
    :param facts: see :class:`Option`.
    """
    metadata = {_OPTION: Option(help=help, group=group, **facts)}
    shown = not facts.get("secret", False)
    if callable(default):
        return dataclasses.field(default_factory=default, repr=shown, metadata=metadata)
    return dataclasses.field(default=default, repr=shown, metadata=metadata)


def nested(cls: type, default: Any = MISSING) -> Any:
    """A field that holds the options of another class.

    :param default: an instance, whose values are the defaults here; None: the field is None unless all is given that
        ``cls`` needs.
    """
    return dataclasses.field(default=cls() if default is MISSING else default, metadata={_NESTED: cls})


def option_fields(cls: type, defaults: Any = None) -> Iterator[Field]:
    """The options of a class in their order, those of a nested one in its place.

    :param defaults: an instance; its values are the defaults in place of the class's.
    """
    hints = typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        default = one.default if defaults is None else getattr(defaults, one.name)
        if (inner := one.metadata.get(_NESTED)) is not None:
            for field in option_fields(inner, default):
                yield dataclasses.replace(field, optional=field.optional or default is None)
        elif (found := one.metadata.get(_OPTION)) is not None:
            yield Field(
                name=one.name,
                type=_without_none(hints[one.name]),
                option=found,
                default=default,
                required=default is MISSING and one.default_factory is MISSING,
            )


def build(cls: type[M], values: Mapping[str, Any], defaults: Any = None) -> M | None:
    """An instance of ``cls`` with ``values``, by names of fields, options of nested classes included.

    :param values: others are ignored.
    :param defaults: an instance that the result is like, but for the values.
    :return: None if ``cls`` needs what isn't given.
    :raises UnusableOption: a value can't be used.
    """
    made: Any = cls
    given: dict[str, Any] = {}
    for one in dataclasses.fields(made):
        if (inner := one.metadata.get(_NESTED)) is not None:
            before = one.default if defaults is None else getattr(defaults, one.name)
            # What is no option of a nested class may have the name of an option elsewhere.
            options = {field.name for field in option_fields(inner)}
            of_inner = {name: value for name, value in values.items() if name in options}
            given[one.name] = build(inner, of_inner, values.get(one.name, before))
        elif one.name in values:
            given[one.name] = values[one.name]
        elif defaults is None and one.default is MISSING and one.default_factory is MISSING:
            return None
    whole: M = made(**given) if defaults is None else dataclasses.replace(defaults, **given)
    return whole


def check_options(settings: Any) -> None:
    """Whether each option of an instance, nested ones included, is within its bounds.

    :raises UnusableOption: one isn't.
    """
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        found = one.metadata.get(_OPTION)
        if value is None:
            continue
        if _NESTED in one.metadata:
            check_options(value)
        elif found is not None and (fault := found.fault(value)) is not None:
            raise UnusableOption(one.name, f": {fault}")


def _without_none(hint: Any) -> Any:
    kinds = typing.get_args(hint)
    return next(kind for kind in kinds if kind is not type(None)) if type(None) in kinds else hint


def _text(value: Any) -> str:
    """As people write it: 20 rather than 20.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- values that are written with more than digits -----------------------------------------------------------------


def parse_size(text: str) -> int | None:
    """Bytes, from a number that K, M, G or T may follow (of 1,024); None for 0: no bound.

    :raises ValueError: it isn't one.
    """
    return _number(text, _SIZES, "a size: bytes, or a number with K, M, G or T") or None


def parse_age(text: str) -> int | None:
    """Seconds, from a number that s, m, h or d may follow; None for 0: no bound.

    :raises ValueError: it isn't one.
    """
    return _number(text, _AGES, "a time: seconds, or a number with s, m, h or d") or None


def _number(text: str, units: dict[str, int], what: str) -> int:
    digits = text.strip().rstrip("".join(units))
    unit = text.strip()[len(digits) :]
    if not digits.isascii() or not digits.isdigit() or unit not in units:
        raise ValueError(f"{text!r} is not {what}")
    return int(digits) * units[unit]


def parse_addresses(text: str) -> tuple[str, ...]:
    """Take a list of ``HOST:PORT`` apart (an IPv6 address in brackets) at its commas.

    :raises ValueError: one of them isn't HOST:PORT; it is named.
    """
    pieces = tuple(piece.strip() for piece in text.split(","))
    for piece in pieces:
        host, port = parse_address(piece)
        if port == 0 or not host:
            raise ValueError(f"{piece!r} is not HOST:PORT")
    return pieces


def parse_names(text: str) -> tuple[str, ...]:
    """Take a list of host names apart at its commas.

    :raises ValueError: one of them isn't the name of a host; it is named.
    """
    names = tuple(piece.strip().rstrip(".").lower() for piece in text.split(","))
    for name in names:
        if not name or not all(c.isalnum() or c in "-._" for c in name):
            raise ValueError(f"{name!r} is not the name of a host")
    return names


def host_names(flag: str, group: str) -> Any:
    """A field for the names by which a server of ours may be called (:mod:`spnhub.http_guard`)."""
    return option(
        (),
        "Further names by which it may be called, with commas between; addresses and this host's name need none.",
        flag=flag,
        group=group,
        metavar="NAME,…",
        parse=parse_names,
        default_text="none",
    )


def server_address(meaning: str, group: str) -> Any:
    """A field for where a server of a program's operators listens, if it does.

    :param meaning: the option's help.
    """
    return option(None, meaning, group=group, metavar="ADDRESS:PORT", default_text="off", check=parse_address)


def server_token(group: str) -> Any:
    """A field for the token of such a server."""
    return option(
        None,
        "Bearer token that all requests to it but /healthz and /readyz must bring.",
        group=group,
        secret=True,
        from_file=True,
    )


def parse_address(text: str) -> tuple[str, int]:
    """Take one ``HOST:PORT`` apart; the brackets of an IPv6 address are taken off.

    :raises ValueError: it isn't HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or any(c.isspace() or c in "/[]" for c in host) or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not HOST:PORT")
    if int(port) > 65_535:
        raise ValueError(f"port {port} of {text!r} is above 65535")
    return host, int(port)
