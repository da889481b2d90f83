"""Log lines: one JSON object each, with the event's own time where it has one, and never a key."""

from __future__ import annotations

import io
import json
import logging as stdlib_logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from spnhub import logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = stdlib_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    raise_exceptions = stdlib_logging.raiseExceptions
    showwarning = warnings.showwarning
    yield
    stdlib_logging.captureWarnings(capture=False)
    warnings.showwarning = showwarning
    stdlib_logging.raiseExceptions = raise_exceptions
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines that were written, as objects."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object() -> None:
    """structlog's own fields and the event's, the time in UTC with microseconds."""
    stream = io.StringIO()
    logging.configure("info", "json", stream)
    structlog.get_logger().info("hub.ready", addresses=["127.0.0.1:443"])
    structlog.get_logger().debug("hub.unheard")
    (line,) = lines(stream)
    timestamp = line.pop("timestamp")
    assert line == {"event": "hub.ready", "level": "info", "addresses": ["127.0.0.1:443"]}
    assert len(timestamp) == len("2026-01-01T00:00:00.000000Z")
    assert timestamp.endswith("Z")


def test_an_event_keeps_its_own_time() -> None:
    """R-2.5: when it happened, not when it was written."""
    stream = io.StringIO()
    logging.configure("info", "json", stream)
    structlog.get_logger().info("session", timestamp="2020-01-01T00:00:00.000001Z", eventType="startSpnSession")
    assert lines(stream) == [
        {
            "event": "session",
            "level": "info",
            "timestamp": "2020-01-01T00:00:00.000001Z",
            "eventType": "startSpnSession",
        }
    ]


def test_libraries_speak_from_warnings_up() -> None:
    """Through the same lines, with the logger's name; Python's warnings too."""
    stream = io.StringIO()
    logging.configure("debug", "json", stream)
    stdlib_logging.getLogger("aiokafka.client").info("unheard")
    stdlib_logging.getLogger("aiokafka.client").warning("no broker at %s", "kafka:9092")
    stdlib_logging.getLogger("quic").setLevel(stdlib_logging.NOTSET)
    heard = [{k: v for k, v in line.items() if k != "timestamp"} for line in lines(stream)]
    assert heard == [{"event": "no broker at kafka:9092", "level": "warning", "logger": "aiokafka.client"}]


def test_the_level_bounds_libraries_too() -> None:
    """At error, their warnings are not heard."""
    stream = io.StringIO()
    logging.configure("error", "json", stream)
    stdlib_logging.getLogger("uvicorn.error").warning("unheard")
    structlog.get_logger().warning("unheard")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_hidden(form: logging.LogFormat) -> None:
    """By their name, or by looking like PEM, wherever they stand; numbers are no secrets."""
    stream = io.StringIO()
    logging.configure("info", form, stream)
    pem = "-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----\n"
    log = structlog.get_logger()
    log.info("x", password="MIIsecret", inventory_token="MIIsecret", text=f"a {pem} b", raw=pem.encode(), token=7)
    try:
        raise ValueError(pem)
    except ValueError:
        log.exception("failed")
    assert "MIIsecret" not in stream.getvalue()
    if form == "json":
        first, second = lines(stream)
        assert (first["password"], first["text"], first["raw"], first["token"]) == (
            "(hidden)",
            "a (PRIVATE KEY)\n b",
            "(PEM)",
            7,
        )
        assert "ValueError: (PRIVATE KEY)" in second["exception"]


def test_a_reader_that_went_away_does_not_matter() -> None:
    """A closed stream costs log lines and nothing else."""
    stream = io.StringIO()
    logging.configure("info", "json", stream)
    stream.close()
    structlog.get_logger().info("unheard")
    stdlib_logging.getLogger("aioquic").warning("unheard")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color(monkeypatch: pytest.MonkeyPatch, value: str | None, coloured: bool) -> None:
    """https://no-color.org: any value but an empty one."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    stream = Terminal()
    logging.configure("info", None, stream)
    structlog.get_logger().warning("session.lost", reason="gone")
    assert ("\x1b[" in stream.getvalue()) is coloured
    assert "session.lost" in stream.getvalue() and "gone" in stream.getvalue()


def test_the_journal_has_priorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the stream is the journal's, each line begins with its priority; nowhere else."""
    with (tmp_path / "out").open("w+") as stream:
        found = os.fstat(stream.fileno())
        for value in ("1:1", f"{found.st_dev}:{found.st_ino}"):
            monkeypatch.setenv("JOURNAL_STREAM", value)
            logging.configure("debug", "json", stream)
            structlog.get_logger().info("hub.ready")
            structlog.get_logger().warning("session.lost")
            structlog.get_logger().debug("hub.heard")
            structlog.get_logger().error("hub.failed")
            stdlib_logging.getLogger("library").warning("a library")
            structlog.reset_defaults()
        stream.seek(0)
        texts = stream.read().splitlines()
    assert [text[0] for text in texts[:5]] == 5 * ["{"]
    assert [text[:3] for text in texts[5:]] == ["<6>", "<4>", "<7>", "<3>", "<4>"]
    assert json.loads(texts[6][3:])["event"] == "session.lost"
