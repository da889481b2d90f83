"""How log lines look: structlog events, one JSON object a line on standard output, or coloured text on a terminal.

What the libraries say through the standard library's logging comes out the same way, from warnings upwards.
Counterpart: every module that calls ``structlog.get_logger()``; the command lines call :func:`configure` once.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LEVELS", "LogFormat", "configure", "hide_secrets", "stamp_time"]

LogFormat = Literal["json", "console"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_SECRET_NAMES: Final = re.compile(r"(?i)password|secret|token|private.?key|signing.?key|cert.?key")
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)


def configure(level: str = "info", form: LogFormat | None = None, stream: TextIO | None = None) -> None:
    """Send log lines of ``level`` and above to ``stream`` (default: standard output).

    ``form`` None: console on a terminal, else json.

    :raises KeyError: ``level`` is none of :data:`LEVELS`.
    """
    out = sys.stdout if stream is None else stream
    if form is None:
        form = "console" if out.isatty() else "json"
    threshold = LEVELS[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        stamp_time,
    ]
    # Tracebacks are text before secrets are hidden, and plain: the coloured ones print local variables.
    render: list[Processor] = [structlog.processors.format_exc_info, hide_secrets]
    if form == "json":
        render.append(structlog.processors.JSONRenderer(default=str))
    else:
        plain = structlog.dev.plain_traceback
        render.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain))

    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(threshold, logging.WARNING))
    # What aioquic warns of (refused handshakes, broken packets), our own lines say with who and why.
    logging.getLogger("quic").setLevel(logging.ERROR)
    # A reader of the log that went away is reported by nobody: there is no place left to report it.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)


def stamp_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add ``timestamp`` (ISO 8601, UTC, microseconds) unless the event has its own, as lifecycle lines do (R-2.5)."""
    if "timestamp" not in event:
        event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keys, certificates and passwords never reach the log, whoever passes them."""
    for name, value in event.items():
        if not isinstance(value, (str, bytes)):
            continue
        if _is_secret(name):
            event[name] = "(hidden)"
        elif isinstance(value, str):
            if "-----BEGIN " in value:
                event[name] = _PEM.sub(r"(\1)", value)
        elif b"-----BEGIN " in value:
            event[name] = "(PEM)"
    return event


@lru_cache(maxsize=1000)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


class _Lines:
    """Makes, and is, the logger that writes whole lines to one stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *_args: Any) -> _Lines:
        return self

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            # The reader went away (or the stream is closed): that must not end a session.
            return

    log = debug = info = warning = error = critical = fatal = exception = msg
