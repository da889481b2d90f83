"""How log lines look: structlog events, one JSON object a line on standard output, or coloured text on a terminal.

Where standard output is systemd's journal, each is an entry with fields, and its text is for people, unless JSON is
asked for.

What the libraries log through the standard library comes out the same way, from warnings upwards, and so do errors
that aren't caught in threads and finalisers. Counterparts: every module that calls ``structlog.get_logger()``;
:mod:`spnhub.output` writes the lines; the command lines call :func:`configure` once, and :func:`close` at their end.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final, Literal, TextIO, get_args

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from spnhub import streams
from spnhub.journald import JournaldEntry, JournaldSocket, identifier, is_journal
from spnhub.options import option
from spnhub.output import Output
from spnhub.plain_text import HIDDEN, printable, without_secrets

__all__ = [
    "LEVELS",
    "LogFormat",
    "close",
    "configure",
    "dropped",
    "escape_controls",
    "hide_secrets",
    "log_format_option",
    "log_level_option",
    "stamp_time",
]

LogFormat = Literal["json", "console"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
"""Of syslog(3)."""
_SECRET_NAMES: Final = re.compile(r"(?i)password|secret|token|private.?key|signing.?key|cert.?key")
_OUR_TEXTS: Final = frozenset({"exception", "stack"})
"""Fields that are meant to have line ends."""
_NOT_FIELDS: Final = _OUR_TEXTS | {"level"}
"""What an entry of the journal has in its message and its priority."""
_NOT_WORDS: Final = _NOT_FIELDS | {"event", "timestamp"}
"""What its message has elsewhere, or the journal shows beside it."""
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)


_output: Output | None = None
"""Where the lines of this process go, unless a stream was given."""


def log_level_option() -> Any:
    """The field of a program's settings for :func:`configure`'s ``level``."""
    return option("info", "debug, info, warning, error or critical.", group="Logging", choices=tuple(LEVELS))


def log_format_option() -> Any:
    """The field of a program's settings for :func:`configure`'s ``form``."""
    return option(
        None,
        "json or console.",
        group="Logging",
        choices=get_args(LogFormat),
        default_text="json; console on a terminal and in systemd's journal",
    )


def configure(level: str = "info", form: LogFormat | None = None, stream: TextIO | None = None) -> None:
    """Send log lines of ``level`` and above to ``stream``.

    Without a stream this process is a service: a thread writes them to standard output, and the process never waits
    for a reader of it, nor for one of standard error. Only where standard output isn't the process's own (in a test)
    they are written at once.

    Where that is the journal of systemd, they are its entries: ``form`` is that of their message, without colours, and
    in the form for people without time and level, which the journal has itself.

    :param form: None: console on a terminal and in the journal, else json.
    :raises KeyError: ``level`` is none of :data:`LEVELS`.
    """
    global _output
    out = sys.stdout if stream is None else stream
    descriptor = streams.descriptor() if stream is None else None
    journal = JournaldSocket() if descriptor is not None and _leads_to_journal(out) else None
    if form is None:
        form = "console" if out.isatty() or journal else "json"
    threshold = LEVELS[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        stamp_time,
    ]
    # Tracebacks are text before secrets are hidden, and plain: the coloured ones print local variables.
    render: list[Processor] = [structlog.processors.format_exc_info, hide_secrets]
    shape: list[Processor]
    if form == "json":
        shape = [structlog.processors.JSONRenderer(serializer=_to_json)]
    elif journal is not None:
        shape = [escape_controls, _to_text]
    else:
        plain = structlog.dev.plain_traceback
        # https://no-color.org: any value but an empty one.
        colors = out.isatty() and not os.environ.get("NO_COLOR")
        shape = [
            escape_controls,
            structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        ]
    if journal is not None:
        render.append(partial(_make_entry, identifier(), shape))
    else:
        render += shape
        if _leads_to_journal(out):
            render.append(_with_priority)
    lines: _Lines | Output
    first: list[Processor] = []
    if descriptor is None:
        lines = _Lines(out)
    else:
        streams.hurry()
        declare = partial(_declare, render)
        _output = lines = Output(descriptor, declare, encoding=out.encoding, journal=journal)
        first.append(partial(_admit, _output))
        threading.excepthook = _on_thread_error
        sys.unraisablehook = _on_unraisable

    structlog.configure(
        processors=[*first, *shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Factory(lines),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(lines)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    # What the QUIC library warns of (refused handshakes, broken packets), our own lines have with peer and reason.
    logging.getLogger("quic").setLevel(logging.ERROR)
    # That the reader of the log went away isn't reported: there is no place left to report it.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)


def _leads_to_journal(out: TextIO) -> bool:
    try:
        return is_journal(out.fileno())
    except (OSError, ValueError):
        return False


def _with_priority(_logger: WrappedLogger, method: str, line: Any) -> str:
    """The prefix by which the journal has PRIORITY (sd-daemon(3)), so that ``journalctl -p warning`` finds what is."""
    return "\n".join(f"<{_priority(method)}>{one}" for one in line.split("\n"))


def _make_entry(
    program: str, shape: Sequence[Processor], logger: WrappedLogger, method: str, event: EventDict
) -> JournaldEntry:
    """The entry of an event whose secrets are hidden."""
    fields = {name: value for name, value in event.items() if name not in _NOT_FIELDS}
    text: Any = event
    for processor in shape:
        text = processor(logger, method, text)
    return JournaldEntry(text, _priority(method), program, fields)


def _to_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """For people who read the journal, which shows time and level beside it.

    structlog's console takes three times as long as JSON, and pads to the width of a terminal.
    """
    words = [str(event.get("event", ""))]
    for name, value in event.items():
        if name not in _NOT_WORDS and value is not None:
            text = value if isinstance(value, str) else _JSON.encode(value)
            # A list and the like show their ends themselves.
            words.append(f"{name}={_JSON.encode(text) if text is value and ' ' in text else text}")
    return "\n".join((" ".join(words), *(event[name] for name in ("stack", "exception") if name in event)))


def _priority(method: str) -> int:
    return _PRIORITIES.get(method, _PRIORITIES["info"])


def close() -> None:
    """Write what is queued, within a bound (:data:`spnhub.output.FLUSH`). Lines that come later are lost."""
    if _output is not None:
        _output.close()


def dropped() -> int:
    """The number of lines that were dropped because their reader was too slow."""
    return 0 if _output is None else _output.dropped


def _admit(output: Output, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Lines that would be dropped needn't be made."""
    if not output.admits():
        raise structlog.DropEvent
    return event


def _declare(render: Sequence[Processor], count: int, since: float, reason: str) -> str:
    """The line that stands in the place of dropped ones."""
    moment = datetime.fromtimestamp(since, UTC)
    event: Any = {"event": "output.dropped", "level": "warning", "lines": count, "since": _iso(moment)}
    if reason:
        event["reason"] = reason
    for processor in (stamp_time, *render):
        event = processor(None, "warning", event)
    line: str = event  # made by the last processor
    return line


def _on_thread_error(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is SystemExit or failure.exc_value is None:
        return
    name = "" if failure.thread is None else failure.thread.name
    info = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    structlog.get_logger("spnhub").error("thread.failed", thread=name, exc_info=info)


def _on_unraisable(failure: sys.UnraisableHookArgs) -> None:
    if failure.exc_value is None:
        return
    info = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    where = failure.err_msg or "in a finaliser"
    structlog.get_logger("spnhub").error("error.unraisable", where=where, exc_info=info)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add ``timestamp`` (ISO 8601, UTC, microseconds) unless the event has its own, as lifecycle lines do (R-2.5)."""
    if "timestamp" not in event:
        event["timestamp"] = _iso(datetime.now(UTC))
    return event


def escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What a peer or a service says doesn't drive the operator's terminal. JSON does this by itself."""
    for name, value in event.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        if name in _OUR_TEXTS:
            # Indented: what an exception says can't look like a line of the log.
            event[name] = "\n".join(f"  {printable(line)}" for line in value.split("\n"))
        else:
            event[name] = printable(value)
    return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace keys, certificates and passwords, so that they never reach the log."""
    for name, value in event.items():
        if isinstance(value, str):
            if _is_secret(name):
                event[name] = HIDDEN
                continue
            text = _PEM.sub(r"(\1)", value) if "-----BEGIN " in value else value
            event[name] = without_secrets(text)
        elif isinstance(value, list):
            event[name] = [without_secrets(one) if isinstance(one, str) else one for one in value]
        elif isinstance(value, bytes):
            if _is_secret(name):
                event[name] = HIDDEN
            elif b"-----BEGIN " in value:
                event[name] = "(PEM)"
    return event


_JSON: Final = json.JSONEncoder(default=str)
"""One for all lines: ``json.dumps`` makes another each time that it is told of a default."""


def _to_json(event: EventDict, **_: Any) -> str:
    return _JSON.encode(event)


@lru_cache(maxsize=1000)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


class _Lines:
    """Writes whole lines to one stream, at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def put(self, line: str) -> None:
        # The reader went away (or the stream is closed): that must not end a session.
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()


class _Factory:
    """Makes, and is, structlog's logger."""

    def __init__(self, lines: _Lines | Output) -> None:
        self.msg = lines.put
        self.log = self.debug = self.info = self.warning = self.error = self.msg
        self.critical = self.fatal = self.exception = self.msg

    def __call__(self, *_args: Any) -> _Factory:
        return self


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Leaves an entry what it is: formatting a message makes it a plain text."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The message as it was made."""
        made: object = record.msg
        return made if isinstance(made, JournaldEntry) else super().formatMessage(record)


class _Handler(logging.Handler):
    """What the standard library's logging has, to the same lines."""

    def __init__(self, lines: _Lines | Output) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(self.format(record))
        # As the base class does: a record that can't be formatted must not raise where it was logged.
        except Exception:
            self.handleError(record)
