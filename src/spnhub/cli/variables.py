"""Arguments and environment variables as texts, before they are parsed.

White space around a text comes from line ends of files and from copying, and is removed; other invisible characters are
refused. A variable with our prefix that no option reads is warned of: somebody set an option that has no effect.
Counterpart: :mod:`spnhub.cli.command_line`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from spnhub.settings import SettingsError
from spnhub.transport.text import PEM_BEGIN, meant, oddity, quoted

__all__ = ["cleaned", "cleaned_arguments", "cleaned_variables", "unread", "variables_of"]

_SECRET: Final = re.compile(r"(password|token|key)$", re.IGNORECASE)
_LIKENESS: Final = 0.8


def variables_of(command: Any) -> set[str]:
    """The environment variables of a command's options, and of its subcommands'."""
    found: set[str] = set()
    for parameter in command.params:
        names = getattr(parameter, "envvar", None) or ()
        found.update((names,) if isinstance(names, str) else names)
    for subcommand in getattr(command, "commands", {}).values():
        found |= variables_of(subcommand)
    return found


def cleaned_variables(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Those of ``names`` whose values have to be changed, with the right value.

    :raises SettingsError: one can't be what was meant.
    """
    found = {}
    for name in names:
        value = environment.get(name)
        if value and (clean := cleaned(name, value)) != value:
            if not clean:
                raise SettingsError(f"{name}: holds white space only")
            found[name] = clean
    return found


def cleaned_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments as they are meant.

    :raises SettingsError: one can't be what was meant.
    """
    found: list[str] = []
    option = ""
    for argument in arguments:
        head, equals, value = argument.partition("=")
        if argument.startswith("-") and equals:
            found.append(f"{head}={cleaned(head, value)}")
            option = ""
            continue
        found.append(cleaned(option or "argument", argument))
        option = argument if argument.startswith("-") else ""
    return found


def unread(environment: Iterable[str], known: Iterable[str], prefixes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Variables with a prefix of ours, or nearly so, that no option reads; each with the one that may be meant."""
    by_rest = {_rest(name, prefixes): name for name in sorted(known)}
    names = set(by_rest.values())
    for name in sorted(set(environment) - names):
        if name.upper().startswith(prefixes):
            rest = _rest(name.upper(), prefixes)
            near = meant(rest, by_rest, likeness=1.0)
            # Two words of KAFKA_SASL_USERNAME are as good a guess as a slip in one.
            near = near or meant(rest, _with_words(rest, by_rest), likeness=0.0)
            near = near or meant(rest, by_rest, likeness=_LIKENESS)
            if near is not None:
                yield name, by_rest[near]
        elif (other := meant(name, names, likeness=1.0)) is not None:
            yield name, other


def _rest(name: str, prefixes: tuple[str, ...]) -> str:
    prefix = next((one for one in prefixes if name.startswith(one)), "")
    return name.removeprefix(prefix)


def _with_words(rest: str, known: Iterable[str]) -> list[str]:
    words = set(rest.split("_"))
    return [name for name in known if words <= set(name.split("_"))]


def cleaned(name: str, value: str, *, secret: bool | None = None) -> str:
    """One value without the white space around it.

    :param name: the option or variable that has it, for messages.
    :param secret: whether it is never quoted, and stays as it is; None: decided by the end of the name.
    :raises SettingsError: it can't be what was meant.
    """
    # PEM has line ends; and bytes that are no UTF-8 are the name of a file, at best.
    if PEM_BEGIN in value or any("\ud800" <= character <= "\udfff" for character in value):
        return value
    if secret is None:
        secret = _SECRET.search(name) is not None
    clean = value if secret else value.strip()
    odd = oddity(clean)
    if odd is not None:
        raise SettingsError(f"{name}: the value {odd}" if secret else f"{name}: the value {odd}: {quoted(value)}")
    return clean
