"""Recordings of other versions: what is missing has its default, what isn't known is named."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from spnhub.actors.contract.inputs import ConnectionInput, HubInput, Key, LoadInventory, SessionInput
from spnhub.actors.contract.inventory import Table, plan
from spnhub.actors.contract.packets import CloseAck, CloseRequest, PauseAck, SessionRenewal, SetWeight
from spnhub.actors.system import ActorOptions
from spnhub.recording.format import INPUTS, decode_command, decode_input, pack_step
from spnhub.recording.reader import Recording, RecordingError, find_recordings
from spnhub.recording.system import Part, Step
from tests.actors.harness import PROVIDER, inventory, open_request, realm, request, service
from tests.recording.making import header, lines, numbers, record, replay, rewrite


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, inventory(service(), service("urn:chip-in:service:acme:main:x", consumers=frozenset("ab")))),
        (None, request(1, PROVIDER)),
        (3, open_request()),
        (Key(3, 4), open_request(4)),
    ],
)
def test_inputs_come_back(address: Any, message: Any) -> None:
    """Nested ones, sets, tuples and enumerations too."""
    line = json.loads(pack_step(Step(1.5, 2, (Part((address, message)),))))
    assert decode_input(line["parts"][0]["cause"]) == (address, message)
    assert type(decode_input(line["parts"][0]["cause"])[0]) is type(address)


def test_every_input_is_known() -> None:
    """The actors' contract is the only list; a class in it that can't be read back is found here."""
    every = {cls for union in (HubInput, SessionInput, ConnectionInput) for cls in get_args(union)}
    assert set(INPUTS.values()) == every
    for name in INPUTS:
        with pytest.raises(ValueError, match=f"input {name}: this version has no field invented"):
            decode_input([None, name, {"invented": 1}])


EARLIER = Path(__file__).parent / "earlier"
"""A history as a version recorded it in which packets had other names as inputs, and a command each."""


@pytest.mark.parametrize("path", sorted(EARLIER.rglob("*.jsonl")), ids=lambda path: path.stem)
def test_recording_with_earlier_names(path: Path) -> None:
    """It comes again."""
    assert '"SendPacket"' not in path.read_text()
    assert replay(path)[1] is None


@pytest.mark.parametrize(
    ("before", "after"),
    [('"SendCloseAck",{"session":2,', '"SendCloseAck",{"session":3,'), ('"SendPauseRequest",', '"SendCloseAck",')],
)
def test_earlier_names_are_compared(before: str, after: str, tmp_path: Path) -> None:
    """What came otherwise is found, and named as this version names it."""
    path = next(path for path in sorted(EARLIER.rglob("*.jsonl")) if before in path.read_text())
    changed_path = tmp_path / path.name
    changed_path.write_text(path.read_text().replace(before, after, 1))
    difference = replay(changed_path)[1]
    assert difference is not None
    assert difference.kind == "command"
    assert difference.expected is not None
    assert difference.came is not None
    assert (difference.expected[0], difference.came[0]) == ("SendPacket", "SendPacket")


@pytest.mark.parametrize(
    ("earlier", "fields", "message"),
    [
        ("CloseRequested", ["u", 1, 2, 3, True], CloseRequest("u", 1, 2, 3, True)),
        ("CloseAcknowledged", ["u", 1], CloseAck("u", 1)),
        ("PauseAcknowledged", ["u", 1, 5], PauseAck("u", 1, 5)),
        ("SessionRenewing", [], SessionRenewal()),
        ("WeightSet", [7, "why"], SetWeight(7, "why")),
    ],
)
def test_earlier_names_of_inputs(earlier: str, fields: list[Any], message: Any) -> None:
    """They are the packets."""
    named = dict(zip((one.name for one in dataclasses.fields(message)), fields, strict=True))
    assert decode_input([3, earlier, named]) == (3, message)


@pytest.mark.parametrize(
    ("earlier", "fields", "packet"),
    [
        ("SendCloseRequest", {"connection_uid": "u", "epoch": 1, "finished": True}, None),
        ("SendPeerGone", {"peer": "CN=a", "instance_id": "b"}, None),
        ("SendAllConnectionsClosed", {}, None),
        ("SendShutdownRequest", {"spread": 2.5}, {"resumable": True, "spread_milliseconds": 2500}),
    ],
)
def test_earlier_names_of_commands(earlier: str, fields: dict[str, Any], packet: dict[str, Any] | None) -> None:
    """Each packet had its own; others are as they were."""
    expected = [earlier.removeprefix("Send"), fields if packet is None else packet]
    assert decode_command(earlier, {"session": 3} | fields) == ("SendPacket", {"session": 3, "packet": expected})
    assert decode_command("CloseSession", {"session": 3}) == ("CloseSession", {"session": 3})
    again = decode_command(earlier, {"session": 3} | fields)
    assert decode_command(*again) == again


def test_a_plan_is_not_written() -> None:
    """It is made of the realms again, and of tables that may be long."""
    after = (realm(service()),)
    message = LoadInventory(after, plan(Table(), Table.of(after, 0)))
    line = json.loads(pack_step(Step(1.0, 1, (Part((None, message)),))))
    assert list(line["parts"][0]["cause"][2]) == ["realms"]


def changed(path: Path, change: Any) -> list[Any]:
    """The recording with each input changed."""
    records = lines(path)
    for one in records[1:-1]:
        for part in one["parts"]:
            if isinstance(part["cause"], list):
                change(part["cause"])
    rewrite(path, records)
    return records


def rename(cause: Any) -> None:
    """As if it had another name."""
    if cause[1] == "ConnectionRequested":
        cause[1] = "ConnectionWished"


def nest(cause: Any) -> None:
    """As if definitions had something more."""
    if cause[1] == "LoadInventory" and cause[2]["realms"]:
        cause[2]["realms"][0]["networks"][0]["colour"] = "red"


def lack(cause: Any) -> None:
    """As if it had had less."""
    if cause[1] == "SessionRequested":
        del cause[2]["weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, r"\.jsonl, line \d+, by spnhub 0\.1\.0: this version has no input ConnectionWished$"),
        (nest, r"line 2, .*: input LoadInventory: this version has no field realms\.0\.networks\.0\.colour$"),
        (lack, r": input SessionRequested: field weight is missing$"),
    ],
)
def test_what_this_version_does_not_know(change: Any, message: str, tmp_path: Path) -> None:
    """The file, the line, the version that wrote it, and the name."""
    path = record(tmp_path, numbers(1, 300)).path
    changed(path, change)
    with pytest.raises(RecordingError, match=message):
        replay(path)


def test_new_fields_have_their_defaults(tmp_path: Path) -> None:
    """Of inputs, definitions and options."""
    path = record(tmp_path, numbers(1, 300)).path

    def older(cause: Any) -> None:
        if cause[1] == "SessionRequested":
            assert cause[2].pop("unread") == []
        if cause[1] == "LoadInventory":
            for one in cause[2]["realms"]:
                assert one.pop("client_ca") == ""

    records = changed(path, older)
    default = ActorOptions().shutdown_timeout
    assert records[0]["options"].pop("shutdown_timeout") == default
    rewrite(path, records)
    assert Recording(path).header == replace(header(), options=header().options)
    assert replay(path)[1] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "this is no recording of a hub"),
        ({"version": 2}, "format version 2 is not 1, which this spnhub reads"),
        ({"options": {"patience": 1}}, "header: this version has no field options.patience"),
        ({"hub_id": 5}, "header: field hub_id: input should be a valid string"),
    ],
)
def test_headers(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Something else is said to be something else."""
    path = record(tmp_path, []).path
    records = lines(path)
    records[0] |= change
    rewrite(path, records)
    with pytest.raises(RecordingError) as caught:
        Recording(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_torn_line_is_none(tmp_path: Path) -> None:
    """A hub that was killed: the steps before it are good. Damage inside is named."""
    path = record(tmp_path, numbers(1, 50)).path
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n")
    path.write_bytes(whole[: last - 5])
    replayer, difference = replay(path)
    assert (difference, replayer.recording.end) == (None, None)
    assert replayer.steps == len(lines_of(whole)) - 3
    damaged = lines_of(whole)
    damaged[4] = damaged[4][:50] + b"\n"
    path.write_bytes(b"".join(damaged))
    with pytest.raises(RecordingError, match=r"line 5, by spnhub 0.1.0: not JSON: "):
        replay(path)
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match="not JSON"):
        Recording(path)


def lines_of(data: bytes) -> list[bytes]:
    """With their ends."""
    return data.splitlines(keepends=True)


def test_where_recordings_are(tmp_path: Path) -> None:
    """A folder's, oldest first; or one file."""
    with pytest.raises(RecordingError, match="no recording"):
        find_recordings(tmp_path)
    with pytest.raises(RecordingError, match="does not exist"):
        find_recordings(tmp_path / "none")
    for name in ("2.jsonl", "1.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert find_recordings(tmp_path) == [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    assert find_recordings(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
