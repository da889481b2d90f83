"""The generated parts of ``schemas/README.md``: a table for each record, drawn from the schemas.

What an event is about is the docstring of its class, since a published schema never changes, its words included. For
the same reason :data:`PLAINER` has other words for some fields. ``python -m tests.schemas.catalogue`` rewrites the
parts; a test says when that is due.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from spnhub.events.model import EVENT_CLASSES

SCHEMAS: Final = Path(__file__).parents[2] / "schemas"
README: Final = SCHEMAS / "README.md"
ENVELOPE: Final = ("eventId", "eventType", "hubId", "journalId", "sequence", "timestamp", "realm", "networkUrn")
"""Fields that every event begins with."""

PLAINER: Final = {
    "Who ended it": "Whether an endpoint ended it in order, the hub did, or an error",
    "Of them, those that no progress event has told of": "Of them, those that no ConnectionProgress has reported",
    "Of them, those that no progress event before has told of": (
        "Of them, those that no ConnectionProgress before this one has reported"
    ),
    ("The provider never took it: what ended is the attempt there; another provider may have been asked next (D-35)"): (
        "This provider did not accept the connection; the next provider may have been asked in another leg (D-35)"
    ),
    "A later leg may continue the conversation": "The connection is suspended and may go on in a later leg",
    "The conversation": "The connection, over all its legs",
    "The conversation, over all its legs; 32 hex digits": "The connection, over all its legs; 32 hex digits",
    "The conversation, as it was stated": "The connection, as the endpoint stated it",
    "As it was stated": "As the endpoint stated it",
    "Application bytes consumer to provider, from the conversation's beginning": (
        "Application bytes consumer to provider, from the connection's beginning"
    ),
    "Application bytes provider to consumer, from the conversation's beginning": (
        "Application bytes provider to consumer, from the connection's beginning"
    ),
    "What starts and stops it; null: nobody here": "What starts and stops it; null: nothing that the hub knows",
    "Its name there": "Its name at the cluster manager",
    "It is tried again while somebody wants it": "Whether it is tried again, if the service is still needed then",
    "When its last sign of life was; null before the first": "When its last heartbeat was; null before the first",
    "A provider that is silent now": "A provider that is unresponsive now",
    "Openings in a row that a provider didn't take; above 0: it is passed over, or to be tried (D-35)": (
        "Connections in a row that a provider did not accept; above 0: it is passed over, or about to be tried (D-35)"
    ),
    "Consumer to provider, as far as events have told": (
        "Bytes consumer to provider, as far as events have reported them"
    ),
    "Provider to consumer, as far as events have told": (
        "Bytes provider to consumer, as far as events have reported them"
    ),
    (
        "Which: handshakes (clients that found no place to wait for theirs; they ask again), datagrams "
        "(packets for a socket that was full; QUIC repeats what they told) or heldConnections (suspended "
        "connections that count in their provider's load no longer)"
    ): (
        "Which limit: handshakes (clients for which there was no place to wait; they try again), datagrams "
        "(packets for a socket whose buffer was full; QUIC sends their contents again), heldConnections "
        "(suspended connections that no longer count in their provider's load), providerRequests (requests of sc01's"
        " consumers for a provider, more often than once in 10 s), pathMtu (the path to a session came to carry less"
        " than it did) or outputLines (log lines that standard output did not take)"
    ),
    "How many there may be; null where that depends": "The limit; null where it depends on something else",
    "Of the attempt in which it was told": "Epoch of the attempt in which it was reported",
    "Of the attempt that reported it": "Epoch of the attempt that reported it",
}
"""Words for frozen ones, whole texts of fields."""


def schema(folder: str, name: str, version: int) -> dict[str, Any]:
    """A schema as its file has it."""
    found: dict[str, Any] = json.loads((SCHEMAS / folder / f"{name}.v{version}.avsc").read_text())
    return found


def event_types() -> dict[str, str]:
    """eventType by record name."""
    return {name: cls.event_type for name, cls in EVENT_CLASSES.items()}


def render(text: str) -> str:
    """The README with its generated parts drawn anew."""
    parts = {"envelope": _envelope(), "events": _events(), "packets": _packets()}
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda found, part=part: found[1] + part + found[2], text, flags=re.DOTALL)  # type: ignore[misc]
        assert count == 1, name
    return text


def _envelope() -> str:
    fields = schema("events", "SessionStarted", 1)["fields"]
    return "\n" + _table([field for field in fields if field["name"] in ENVELOPE]) + "\n"


def _events() -> str:
    text = "\n"
    types = event_types()
    for name, versions in json.loads((SCHEMAS / "events" / "ids.json").read_text()).items():
        version = max(map(int, versions))
        found = schema("events", name, version)
        fields = [field for field in found["fields"] if field["name"] not in ENVELOPE]
        about = " ".join((EVENT_CLASSES[name].__doc__ or "").split())
        text += f"### {name} (`{types[name]}`, id {versions[str(version)]})\n\n{about}\n\n{_table(fields)}\n"
    return text


def _packets() -> str:
    text = "\n"
    for name, kind in json.loads((SCHEMAS / "protocol" / "kinds.json").read_text()).items():
        version = max(int(path.suffixes[0][2:]) for path in (SCHEMAS / "protocol").glob(f"{name}.v*.avsc"))
        found = schema("protocol", name, version)
        newer = f", version {version}" if version > 1 else ""
        text += f"### {name} (kind {kind}{newer})\n\n{found['doc']}\n\n{_table(found['fields'])}\n"
    return text


def _table(fields: list[dict[str, Any]]) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field in fields:
        default = f" Default: {json.dumps(field['default'])}." if "default" in field else ""
        about = PLAINER.get(field["doc"], field["doc"])
        rows.append(f"| {field['name']} | {_type(field['type'])} | {about}.{default} |")
    return "\n".join(rows) + "\n"


def _type(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return " or ".join(_type(one) for one in kind)
    match kind:
        case {"logicalType": "uuid"}:
            return "string (UUID)"
        case {"logicalType": "timestamp-micros"}:
            return "long (µs since 1970, UTC)"
        case {"type": "enum", "symbols": symbols}:
            return " / ".join(f"`{symbol}`" for symbol in symbols)
        case {"type": "fixed", "size": size}:
            return f"{size} bytes"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "record", "fields": fields}:
            return "(" + ", ".join(f"{field['name']}: {_type(field['type'])}" for field in fields) + ")"
        case _:
            raise AssertionError(kind)


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
