"""Makes a command's flags, variables, keys and help of a settings class, and the settings of what was given.

A flag wins over a variable, that over the configuration file, that over the default. Counterparts:
:mod:`spnhub.options` declares, typer reads words and variables, :mod:`spnhub.cli.config_file` files.
"""

from __future__ import annotations

import enum
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from spnhub.cli.variables import cleaned
from spnhub.dataclass import dataclass
from spnhub.options import Field, Option, UnusableOption, build, option_fields
from spnhub.plain_text import remember_secret
from spnhub.settings import SettingsError
from spnhub.transport.text import quoted

if TYPE_CHECKING:  # what it imports takes a while to load
    from spnhub.cli.config_file import ConfigFile, ConfigTable

__all__ = [
    "GENERAL",
    "Given",
    "Group",
    "GroupedCommand",
    "GroupedGroup",
    "Origin",
    "Reader",
    "from_table",
    "settings_of",
    "takes",
]

M = TypeVar("M")

GENERAL: Final = "General"
"""Under which heading that stands which belongs to no group."""
_PLAIN: Final[Mapping[Any, tuple[type, ...]]] = {bool: (bool,), float: (float, int), int: (int,), str: (str,), Path: ()}
"""Types of options, and those of values that go for them as they are; a path has to be looked at."""
_ARGUMENTS: Final = "Arguments"
_CONFIG: Final = "config"
_FILE: Final = "_file"
_PATH: Final = Field(name="", type=Path, option=Option(help="", group=""), default=None, required=False)
"""What every file of a secret is."""


class Origin(enum.IntEnum):
    """Where a value comes from; the highest wins."""

    FILE = 1
    VARIABLE = 2
    FLAG = 3


@dataclass(frozen=True, slots=True)
class Given:
    """A value from outside, as typer makes it."""

    value: Any
    source: Origin
    label: str
    """What its source calls it: ``--idle-timeout``, ``hub.toml:3: idle-timeout``."""


class Reader(Generic[M]):
    """What a command has been given, and the settings that it makes.

    :param prefix: of the environment variables, ``SPN_``.
    """

    def __init__(self, model: type[M], prefix: str, context: typer.Context, arguments: Mapping[str, Any]) -> None:
        self._model = model
        self._prefix = prefix
        self._fields = {field.name: field for field in option_fields(model)}
        self._given = _from_words(context, arguments)

    def __call__(self, **more: Given) -> M:
        """The settings.

        :param more: values that typer doesn't know of, by the names of their fields.
        :raises SettingsError: something is missing, unknown or can't be used; the text says what, and where.
        """
        given = dict(self._given)
        for name, one in more.items():
            if name not in given or given[name].source < one.source or _is_absent(self._fields[name], given[name]):
                given[name] = one
        file = self.file
        given.pop(_CONFIG, None)
        if file is not None:
            given = from_table(file, self._fields.values()) | given
        return settings_of(self._model, given, self._missing)

    @property
    def file(self) -> ConfigFile | None:
        """What ``--config`` names, read now.

        :raises SettingsError: it can't be read.
        """
        given = self._given.get(_CONFIG)
        if given is None:
            return None
        # Late, as below: most commands are given no file, and an agent has to start quickly.
        from spnhub.cli.config_file import ConfigFile  # noqa: PLC0415

        return ConfigFile(given.value, given.label)

    def over(self, given: Mapping[str, Given]) -> M:
        """The settings, where a file that is more than options has said the rest."""
        words = {name: one for name, one in self._given.items() if name != _CONFIG}
        return settings_of(self._model, {**given, **words}, self._missing)

    def _missing(self, field: Field) -> str:
        return f"--{field.flag} is missing (environment: {field.variables(self._prefix)[0]}{field.option.missing})"


def settings_of(
    model: type[M],
    given: Mapping[str, Given],
    missing: Callable[[Field], str],
    name_of: Callable[[str], str] = "--{}".format,
) -> M:
    """The settings that were given, by the names of their fields.

    :param missing: says that this one is.
    :param name_of: what the user calls an option that wasn't given.
    :raises SettingsError: something is missing or can't be used; the text says what, and where.
    """
    fields = {field.name: field for field in option_fields(model)}
    given = dict(given)
    values = {}
    for field in fields.values():
        if field.option.from_file:
            _take_from_file(field, given)
        if field.name in given and not _is_absent(field, given[field.name]):
            values[field.name] = _usable(field, given[field.name])

    def name(of: str) -> str:
        return name_of(fields[of].flag if of in fields else of.replace("_", "-"))

    for field in fields.values():
        if field.name not in values and (field.required or _is_needed(field, values)) and not field.optional:
            raise SettingsError(missing(field))
    try:
        settings = build(model, values)
    except UnusableOption as exc:
        label = given[exc.name].label if exc.name in given else name(exc.name)
        raise SettingsError(label + exc.fault.replace("{other}", name(exc.other))) from exc
    assert settings is not None, "nothing is missing"
    return settings


def _is_needed(field: Field, values: Mapping[str, Any]) -> bool:
    if field.option.unless is None:
        return False
    other, value = field.option.unless
    return bool(values.get(other) != value)


def from_table(
    table: ConfigFile | ConfigTable, fields: Iterable[Field], tables: Collection[str] = ()
) -> dict[str, Given]:
    """What a file, or a table in one, says of these.

    :param tables: which tables may stand in it, beside the options.
    :raises SettingsError: a key that isn't known, or a value of another type.
    """
    known = {name: field for field in fields for name in (field.flag, *field.option.also)}
    files = {f"{flag}-file": field for flag, field in known.items() if field.option.from_file}
    found: dict[str, Given] = {}
    for key, value in table.values([*known, *files], tables).items():
        label = table.place(key)
        name = known[key].name if key in known else files[key].name + _FILE
        if name in found:
            raise SettingsError(f"{label} and {found[name].label} are both given")
        found[name] = Given(_from_toml(known.get(key, _PATH), value, label), Origin.FILE, label)
    return found


def takes(
    model: type[M], prefix: str, only: Collection[str] | None = None
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a typer command the options of ``model``, and ``--config``.

    The function is called with the context, a :class:`Reader` and the parameters of its own.

    :param only: the names of the fields that are flags of this command; None: all. In a file all may stand.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[2:]

        def command(**arguments: Any) -> int:
            context = arguments.pop("context")
            rest = {one.name: arguments.pop(one.name) for one in own}
            return function(context, Reader(model, prefix, context, arguments), **rest)

        fields = [field for field in option_fields(model) if only is None or field.name in only]
        parameters = [_parameter("context", typer.Context), *_parameters(fields, prefix)]
        command.__name__ = function.__name__
        command.__doc__ = function.__doc__
        command.__annotations__ = {}
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # inspect reads it
            [*parameters, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]
        )
        return command

    return decorate


def _parameters(fields: Iterable[Field], prefix: str) -> Iterable[inspect.Parameter]:
    for field in fields:
        option, variables = field.option, field.variables(prefix)
        default, words = _shown_default(field)
        yield _parameter(
            field.name,
            Annotated[
                (str if option.parse is not None else field.type) | None,
                typer.Option(
                    *([f"-{option.letter}"] if option.letter else []),
                    f"--{field.flag}/--no-{field.flag}" if field.type is bool else f"--{field.flag}",
                    *(f"--{name}" for name in option.also),
                    envvar=variables[0] if len(variables) == 1 else list(variables),
                    help=option.help,
                    show_default=words or True,
                    metavar=option.metavar,
                    rich_help_panel=option.group,
                ),
            ],
            default,
        )
        if option.from_file:
            yield _parameter(
                field.name + _FILE,
                Annotated[
                    Path | None,
                    typer.Option(
                        f"--{field.flag}-file",
                        envvar=f"{variables[0]}_FILE",
                        help=f"A file that holds it, in place of --{field.flag}.",
                        metavar="FILE",
                        rich_help_panel=option.group,
                    ),
                ],
                None,
            )
    yield _parameter(
        _CONFIG,
        Annotated[
            Path | None,
            typer.Option(
                "--config",
                envvar=f"{prefix}CONFIG",
                help="TOML: options by their names without dashes; flags and environment variables win.",
                metavar="FILE",
                rich_help_panel=GENERAL,
            ),
        ],
        None,
    )


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _shown_default(field: Field) -> tuple[Any, str | None]:
    """What typer shows as the default, and what is said of it in words."""
    if field.default is MISSING or field.default is None:
        return None, field.option.default_text
    if field.option.parse is not None:
        return field.option.default_text, None
    if isinstance(field.default, float) and field.default.is_integer():
        return int(field.default), None
    return field.default, None


def _from_words(context: typer.Context, arguments: Mapping[str, Any]) -> dict[str, Given]:
    """What flags and variables have said."""
    found = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in arguments or source is None:
            continue
        flag = next((one for one in parameter.opts if one.startswith("--")), name)
        if source.name == "COMMANDLINE":
            found[name] = Given(arguments[name], Origin.FLAG, flag)
        elif source.name == "ENVIRONMENT":
            names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
            variable = next(one for one in names if os.environ.get(one))
            found[name] = Given(arguments[name], Origin.VARIABLE, f"{flag} ({variable})")
    return found


def _is_absent(field: Field, given: Given) -> bool:
    """An empty text is no value where there may be none: it takes back what is said elsewhere."""
    return given.value == "" and (field.default is None or field.required)


def _usable(field: Field, given: Given) -> Any:
    """The value, of its type and within its bounds; so what is wrong is said before what is missing."""
    if field.option.secret and isinstance(given.value, str):
        remember_secret(given.value)
    try:
        value = given.value if field.option.parse is None else field.option.parse(given.value)
    except ValueError as exc:
        raise SettingsError(f"{given.label}: {exc}") from exc
    # What belongs to something that may be left out is looked at with it.
    if value is not None and not field.optional and (fault := field.option.fault(value)) is not None:
        raise SettingsError(f"{given.label}: {fault}")
    return value


def _take_from_file(field: Field, given: dict[str, Given]) -> None:
    """A secret that is in a file of its own: what the file holds, without the end of its line."""
    file = given.pop(field.name + _FILE, None)
    plain = given.get(field.name)
    if file is None or (plain is not None and plain.source > file.source):
        return
    if plain is not None and plain.source is file.source:
        raise SettingsError(f"{plain.label} and {file.label} are both given")
    from spnhub.cli.config_file import read_text  # noqa: PLC0415

    text = read_text(file.value, file.label).removesuffix("\n").removesuffix("\r")
    if not text:
        raise SettingsError(f"{file.label}: {file.value} is empty")
    given[field.name] = Given(cleaned(f"{file.label}: {file.value}", text, secret=True), file.source, file.label)


def _from_toml(field: Field, value: Any, label: str) -> Any:
    """The value as typer would have made it of a text.

    :raises SettingsError: it is of another type.
    """
    secret = field.option.secret
    if isinstance(value, str):
        value = cleaned(label, value, secret=secret)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if field.option.parse is not None:
        if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
            return ",".join(value)
        if isinstance(value, str) or is_number:
            return str(value)
        kind = "a text"
    elif field.type is bool:
        if isinstance(value, bool):
            return value
        kind = "true or false"
    elif field.type is int:
        if is_number and isinstance(value, int):
            return value
        kind = "a whole number"
    elif field.type is float:
        if is_number:
            return float(value)
        kind = "a number"
    else:
        if isinstance(value, str):
            return Path(value) if field.type is Path else value
        kind = "a text"
    raise SettingsError(f"{label}: {'the value' if secret else quoted(str(value))} is not {kind}")


def _format_options(command: Any, context: Any, formatter: Any) -> None:
    """Arguments, then options under the headings of their groups; what has none comes last."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None)
            heading = _ARGUMENTS if parameter.param_type_name == "argument" else panel or GENERAL
            sections.setdefault(heading, []).append(record)
    middle = [heading for heading in sections if heading not in {_ARGUMENTS, GENERAL}]
    for heading in (_ARGUMENTS, *middle, GENERAL):
        if heading in sections:
            with formatter.section(heading):
                formatter.write_dl(sections[heading])


def _spare_typer(parameters: list[Any]) -> list[Any]:
    """Values that are what they are to be already don't go through typer: texts, defaults, and what isn't given.

    It would load pydantic, and build a validator for each of them: a third of an agent's start, and 8 MiB for good.
    """
    for one in parameters:
        # typer makes some anew each time that it is asked for them.
        if not (isinstance(one.process_value, partial) or one.required or one.multiple or one.nargs != 1):
            plain = _PLAIN.get(one.type_descriptor.annotation, ())
            one.process_value = partial(_process_value, one, plain, one.process_value)
    return parameters


def _process_value(
    option: Any, plain: tuple[type, ...], otherwise: Callable[[Any, Any], Any], context: Any, value: Any
) -> Any:
    """The value of an option, as typer would give it."""
    # A text that isn't UTF-8 has a fault that typer names.
    if value is None or (type(value) in plain and not (isinstance(value, str) and any(map(_is_surrogate, value)))):
        return value if option.callback is None else option.callback(context, option, value)
    return otherwise(context, value)


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


class GroupedCommand(TyperCommand):
    """A command whose help has its options under headings."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See :func:`_spare_typer`."""
        return _spare_typer(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See :func:`_format_options`."""
        _format_options(self, ctx, formatter)


class Group(TyperGroup):
    """A program with subcommands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See :func:`_spare_typer`."""
        return _spare_typer(super().get_params(ctx))


class GroupedGroup(Group):
    """The same with options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See :func:`_format_options`."""
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
