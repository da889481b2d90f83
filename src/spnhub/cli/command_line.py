"""What the three commands share: errors in arguments are one line on standard error, and exit status 2.

So is an output that can't be written. A reader that leaves is no error, and at the end the command doesn't wait for one
that doesn't read.

Counterparts: :mod:`spnhub.cli.hub`, :mod:`spnhub.cli.agent` and :mod:`spnhub.cli.log`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Collection, Sequence
from typing import Annotated, Final

import typer

from spnhub import logging, streams
from spnhub.cli.options import Group
from spnhub.cli.variables import cleaned_arguments, cleaned_variables, unread, variables_of
from spnhub.settings import SettingsError
from spnhub.version import VERSION

__all__ = ["UNUSABLE", "Version", "make_app", "one_line", "run_command_line"]

UNUSABLE: Final = 2
"""Exit status for unusable arguments or configuration."""
_PREFIXES: Final = {"spnhub": ("SPNHUB_",), "spnagent": ("SPN_",), "spnlog": ("SPNLOG_", "SPNHUB_KAFKA_")}
"""Of the environment variables that a program reads."""


def _show_version(asked: bool) -> None:
    if asked:
        streams.say(VERSION)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
]
"""An option of each command's callback."""


def make_app(program: str) -> typer.Typer:
    """The typer application of one of the three commands, without its parts."""
    return typer.Typer(
        name=program,
        cls=Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_command_line(
    app: typer.Typer, program: str, arguments: Sequence[str] | None = None, *, variables: Collection[str] = ()
) -> int:
    """Run a typer application and return the exit status.

    A command function returns its status as int, or None for 0. Unusable arguments, and every
    :class:`spnhub.settings.SettingsError`, become one line on standard error and status 2. Values are taken
    without the white space around them, in the environment of this process, too; a variable with our prefix that may
    have been meant for another is a warning on standard error.

    :param variables: environment variables that are read beside those of the options.
    """
    streams.prepare()
    try:
        return _run(app, program, sys.argv[1:] if arguments is None else arguments, variables)
    except streams.ReaderLeft:
        streams.abandon()
        return 0
    except streams.OutputFailed as error:
        streams.abandon()
        streams.say(f"{program}: standard output: {error}", error=True)
        return UNUSABLE
    finally:
        logging.close()


def _run(app: typer.Typer, program: str, arguments: Sequence[str], variables: Collection[str]) -> int:
    command = typer.main.get_command(app)
    try:
        known = variables_of(command) | set(variables)
        arguments = cleaned_arguments(arguments)
        os.environ.update(cleaned_variables(known, os.environ))
        for name, other in unread(os.environ, known, _PREFIXES[program]):
            streams.say(f"{program}: warning: {name} is unknown; did you mean {other}?", error=True)
        status = command.main(args=arguments, prog_name=program, standalone_mode=False)
        try:
            sys.stdout.flush()
        except streams.ReaderLeft:
            # The status is what it is, however much was read.
            streams.abandon()
    except typer.TyperException as error:
        message = error.format_message() + _suggestion(error, command)
        streams.say(f"{program}: {one_line(message)}", error=True)
        return UNUSABLE
    except SettingsError as error:
        streams.say(f"{program}: {one_line(str(error))}", error=True)
        return UNUSABLE
    except typer.Abort:
        streams.abandon()
        return 1
    return status if isinstance(status, int) else 0


def one_line(text: str) -> str:
    """``text`` with every line end, and the white space around it, made one space."""
    return re.sub(r"\s*[\r\n]\s*", " ", text.strip())


def _suggestion(error: typer.TyperException, command: object) -> str:
    """The command that may have been meant; typer itself does this for options."""
    unknown = re.fullmatch(r"No such command '(.*)'\.?", error.format_message().strip())
    if unknown is None:
        return ""
    near = difflib.get_close_matches(unknown[1], list(getattr(command, "commands", ())), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
