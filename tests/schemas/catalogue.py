"""The generated parts of ``schemas/README.md``: a table for each record, drawn from the schemas.

``python -m tests.schemas.catalogue`` rewrites them; a test says when that is due.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

SCHEMAS: Final = Path(__file__).parents[2] / "schemas"
README: Final = SCHEMAS / "README.md"
ENVELOPE: Final = ("eventId", "eventType", "hubId", "journalId", "sequence", "timestamp", "realm", "networkUrn")
"""Fields that every event begins with."""


def schema(folder: str, name: str, version: int) -> dict[str, Any]:
    """A schema as its file has it."""
    found: dict[str, Any] = json.loads((SCHEMAS / folder / f"{name}.v{version}.avsc").read_text())
    return found


def event_types() -> dict[str, str]:
    """eventType by record name."""
    from spnhub.events.model import EVENT_CLASSES

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
        text += f"### {name} (`{types[name]}`, id {versions[str(version)]})\n\n{found['doc']}\n\n{_table(fields)}\n"
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
        rows.append(f"| {field['name']} | {_type(field['type'])} | {field['doc']}.{default} |")
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
