"""The table as the documents have it, made of the axes and the oracle: what the tests run is what a reader reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from tests.authorisation import cells
from tests.authorisation.axes import AXES, SERVICES, SUBJECTS, Cell
from tests.authorisation.oracle import Verdict, verdict
from tests.docs.pages import ROOT

__all__ = ["PAGE", "render"]

PAGE: Final = ROOT / "docs" / "reference" / "authorisation.md"

_BEGIN: Final = "<!-- from here on made by `python -m tests.authorisation` -->\n"
_ALERTS: Final = {
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    48: "unknown_ca",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}
_REFUSALS: Final = {2: "PROTOCOL", 4: "TIMEOUT", 16: "NOT_ALLOWED", 17: "UNKNOWN_SERVICE"}
_HEADINGS: Final = {
    "subject": "Subject and alternative names of the certificate",
    "chain": "Who has issued it, and what is presented with it",
    "key": "Its key",
    "signature": "How it is signed",
    "usage": "What it is for",
    "validity": "When it is valid",
    "revocation": "What the inventory has revoked",
    "role": "Role",
    "service": "Service",
    "realm": "Server name",
    "protocol": "Protocol (ALPN)",
}
_WHO: Final = (
    "the service's name",
    "its provider's name",
    "a name of both roles, and of two services",
    "a name of the other realm",
    "a name of the removed service",
    "unknown",
    "two common names, the first allowed",
    "no common name",
)


def _text(found: Verdict) -> str:
    match found.kind:
        case "alert":
            return f"refused: alert {found.number}, {_ALERTS[found.number]}"
        case "refusal":
            return f"refused: {found.number}, {_REFUSALS[found.number]}"
        case "close":
            known = _REFUSALS.get(found.number)
            return f"closed: {found.number}" + (f", {known}" if known else "")
    return found.kind


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = list(head)
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _inventory() -> Iterator[str]:
    rows = []
    for name, one in SERVICES.items():
        consumers = ", ".join(f"`{each}`" for each in sorted(one.consumers))
        rows.append((name, f"`{one.urn}`", f"`{one.provider}`" if one.provider else "", consumers))
    yield from _table(("service", "URN", "provider", "consumers"), rows)


def _lines() -> Iterator[str]:
    yield "## The inventory"
    yield ""
    yield from _inventory()
    yield "## One thing at a time"
    yield ""
    yield "All else is as the first row of each table has it: a consumer of its own service, over spn/1."
    yield ""
    for name, values in AXES.items():
        yield f"### {_HEADINGS[name]}"
        yield ""
        alone = ((value, _text(verdict(replace(Cell(), **{name: value})))) for value in values)
        yield from _table((name, "verdict"), alone)
    yield "## Who may do what"
    yield ""
    yield "By the common name of a good certificate. sc01 names no service: it is the one where the name has the role."
    yield ""
    rows = []
    for subject in _WHO:
        for role in ("consumer", "provider"):
            names = ", ".join(f"`{one}`" for one in SUBJECTS[subject].common_names) or "none"
            asked = [Cell(subject=subject, role=role, service=service) for service in SERVICES]
            asked.append(Cell(subject=subject, role=role, protocol="sc01"))
            rows.append((names, role, *(_text(verdict(one)).removeprefix("refused: ") for one in asked)))
    yield from _table(("common name", "role", *SERVICES, "sc01"), rows)
    yield "## What is run"
    yield ""
    yield from _table(
        ("cells", "number"),
        (
            ("each value with all else as it should be", str(len(cells.singles()))),
            ("rows that together have each pair of values", str(len(cells.covering()))),
            ("each pair of values with all else as it should be", str(len(cells.pairs()))),
            ("subject × role × service × server name × protocol", str(len(cells.who()))),
            ("chain × validity × revocation, × signature × usage, × key × validity", str(len(cells.precedence()))),
        ),
    )


def render(text: str) -> str:
    """The page with its tables made anew."""
    return text.partition(_BEGIN)[0] + _BEGIN + "\n" + "\n".join(_lines()).rstrip("\n") + "\n"
