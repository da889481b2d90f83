"""Why Kafka can't be reached, in words: aiokafka has that in its log only, and raises "unable to connect".

While it retries by itself it raises nothing at all. So a handler listens to its log, whose records carry the exception.
None of them contains a password; texts of brokers and libraries are bounded and put on one line. Counterpart:
:mod:`spnhub.events.kafka.topic`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from contextlib import suppress
from contextvars import ContextVar
from typing import Final

from aiokafka import errors

__all__ = ["Complaints", "is_lasting", "reason_of"]

_LENGTH: Final = 300
_PLACES: Final = 10
_TLS_ALERT: Final = re.compile(r"total of (\d+) expected bytes")
_CLOSED: Final = re.compile(r"Connection at \S+ (?:closed|broken)")
_NOT_ALLOWED: Final = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
_LASTING: Final = (
    ssl.SSLError,
    errors.SaslAuthenticationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    *_NOT_ALLOWED,
)
_hearer: ContextVar[Complaints | None] = ContextVar("hearer", default=None)


class Complaints(logging.Handler):
    """Hears what aiokafka's clients say that are started in this context, tasks of theirs included, and in no other."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._met: dict[str, BaseException] = {}
        self._logger = logging.getLogger("aiokafka")
        self._logger.addHandler(self)
        self._logger.propagate = False
        self._token = _hearer.set(self)

    @property
    def text(self) -> str:
        """For each place (a server, a node) the last that was said why, on one line; ``""``: nothing.

        What was said of no place ("a node is not ready") follows from the others, and stands only where it is all.
        """
        placed = [f"{place}: {reason_of(met)}" for place, met in self._met.items() if place]
        return "; ".join(placed or map(reason_of, self._met.values()))[: 2 * _LENGTH]

    @property
    def lasting(self) -> bool:
        """Whether something is for people to mend."""
        return any(is_lasting(met) for met in self._met.values())

    def remove(self) -> None:
        """Let the log go where it went."""
        self._logger.removeHandler(self)
        self._logger.propagate = not self._logger.handlers
        # A ValueError: closed in another context than it was entered in, where nothing listens to it any more anyway.
        with suppress(ValueError):
            _hearer.reset(self._token)

    def forget(self) -> None:
        """What was said is over."""
        self._met.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if it has a reason: those that follow from the first have none."""
        if _hearer.get() is not self or not isinstance(record.args, tuple) or not record.args:
            return
        *where, met = record.args
        if isinstance(met, BaseException) and len(self._met) < _PLACES:
            place = ":".join(map(str, where))
            self._met[place if ":" in place or not place else f"node {place}"] = met


def is_lasting(error: BaseException) -> bool:
    """Whether a retry can't help until settings are changed, here or at the broker."""
    return isinstance(error, _LASTING) or _answers_in_tls(error)


def reason_of(error: BaseException) -> str:
    """An exception as one short line for people; aiokafka's are often without text, or have it in their cause."""
    text = _words(error)
    return " ".join(text.split())[:_LENGTH]


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the broker's certificate is not accepted: {error.verify_message or error.reason}"
        case ssl.SSLError():
            return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
        case errors.SaslAuthenticationFailed():
            return f"SASL authentication failed: {_text(error)}"
        case errors.UnsupportedSaslMechanismError():
            return "the broker does not take this SASL mechanism"
        case errors.IllegalSaslStateError():
            return "this port takes no SASL (security protocol SSL or PLAINTEXT)"
        case socket.gaierror():
            return f"its name can't be resolved: {error.strerror}"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError():
            return "the connection was reset (a port without TLS, perhaps)"
        case TimeoutError() | asyncio.TimeoutError():
            return "no answer in time"
        case OSError():
            return error.strerror or _text(error)
        case errors.KafkaConnectionError() if _answers_in_tls(error):
            return "this port answers in TLS (security protocol SSL or SASL_SSL)"
        case errors.KafkaConnectionError() if error.__cause__ is not None or _CLOSED.search(str(error)):
            cause = error.__cause__
            if cause is None or isinstance(cause, EOFError):
                return "the broker closed the connection (it may want TLS or SASL)"
            return _words(cause)
    if isinstance(error, _NOT_ALLOWED):
        return f"not allowed: {_text(error)}"
    return _text(error)


def _answers_in_tls(error: BaseException) -> bool:
    """Whether the length of Kafka's answer was the head of a TLS alert (RFC 8446, section 5.1)."""
    found = _TLS_ALERT.search(str(error.__cause__ or ""))
    return found is not None and int(found[1]) >> 16 == 0x1503


def _text(error: BaseException) -> str:
    """What the broker said, where it said something; aiokafka's name of it otherwise, with Kafka's number."""
    said = error.args[0] if len(error.args) == 1 else None
    if isinstance(error, errors.SaslAuthenticationFailed) and isinstance(said, str):
        return said
    return str(error).strip() or type(error).__name__
