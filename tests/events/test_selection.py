"""What a reader asks for: since when, until when, of which service, realm and type; and tables that stay readable."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.cli.log_tables import print_table, shortened
from spnhub.events.analysis.point_in_time import Moment, MomentError
from spnhub.events.analysis.selection import EventSelection, moment_or_ago
from tests.events import samples
from tests.events.samples import day, write_journal

NOW = 1_800_000_000_000_000


def test_how_long_ago() -> None:
    """Beside times and sequences."""
    assert moment_or_ago("1h", NOW) == Moment(None, NOW - 3_600_000_000)
    assert moment_or_ago("1.5 min", NOW) == Moment(None, NOW - 90_000_000)
    assert moment_or_ago("7", NOW) == Moment(7, None)
    assert moment_or_ago("2026-01-02T00:00:00Z", NOW).time is not None
    for text in ("yesterday", "1 fortnight", "-1h", "0"):
        with pytest.raises(MomentError):
            moment_or_ago(text, NOW)


def test_selection() -> None:
    """Each condition by itself, and none."""
    written = samples.record(list(samples.EACH))
    everything = EventSelection()
    assert all(everything.takes(one) for one in written)
    first, last = written[3], written[6]
    bounds = EventSelection(Moment(None, first.timestamp), Moment(last.sequence, None))
    assert [one for one in written if bounds.takes(one)] == written[3:7]
    web = EventSelection(service="web", realm="acme")
    found = [one for one in written if web.takes(one)]
    assert found == [one for one in written if EventSelection(service=samples.SERVICE).takes(one)]
    assert 0 < len(found) < len(written)
    assert not any(EventSelection(realm="other").takes(one) for one in found)


def test_commands_select(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    """replay, metrics and incidents, as a person calls them; a wrong type is named."""
    write_journal(tmp_path, day())  # type: ignore[arg-type] # a Path

    def spnlog(*arguments: str) -> tuple[int, str, str]:
        status = run_command_line(app, "spnlog", arguments=[*arguments, str(tmp_path)])
        return status, *capsys.readouterr()

    status, out, _ = spnlog("replay", "--type", "sessionRefused,startSpnSession", "--until", "1000")
    assert status == 0
    assert {json.loads(line)["eventType"] for line in out.splitlines()} == {"sessionRefused", "startSpnSession"}
    status, out, err = spnlog("replay", "--type", "sesionRefused")
    assert (status, out) == (2, "")
    assert "did you mean sessionRefused?" in err
    status, out, _ = spnlog("metrics", "--json", "--service", "nobody-has-this")
    assert (status, json.loads(out)["services"]) == (0, [])
    status, out, _ = spnlog("incidents", "--json")
    assert status == 0
    assert {one["kind"] for one in json.loads(out)["incidents"]} >= {"handshake refused", "connections refused"}
    status, out, _ = spnlog("incidents", "--service", "web")
    assert "NO_PROVIDER: no provider" in out
    status, out, _ = spnlog("state")
    assert (status, "after sequence" in out) == (0, True)


def test_tables_at_80_columns() -> None:
    """A URN is shortened from the left, at a colon, and no line is folded letter by letter."""
    assert shortened("urn:chip-in:service:acme:tokyo:web", 20) == "…acme:tokyo:web"
    assert shortened("04bc966d56e6351a", 8) == "…6e6351a"
    assert shortened("two words stay", 5) == "two words stay"
    out = Console(file=io.StringIO(), width=80)
    row = ("urn:chip-in:service:acme:tokyo:a-service-with-a-name", "04bc966d56e6351a", "CN=provider,O=Acme", 1_234)
    print_table(out, "sessions", ("service", "session", "endpoint", "#connections"), [row])
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined] # a StringIO
    assert max(map(len, lines)) <= 80
    (line,) = (one for one in lines if "1,234" in one)
    assert "a-service-with-a-name" in line
