"""Gets the inventory's objects, as they are, from a file.

Counterparts: :mod:`spnhub.inventory.api` gets the same over HTTP; :mod:`spnhub.inventory.build` judges what is got,
:mod:`spnhub.inventory.server` serves the API from a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from spnhub.dataclass import dataclass
from spnhub.inventory.document import DocumentError, read_document
from spnhub.settings import SettingsError, check_inventory_url
from spnhub.transport.text import meant, quoted

__all__ = [
    "InventoryError",
    "InventoryFault",
    "RawFile",
    "RawHub",
    "RawRealm",
    "check_url",
    "file_of",
    "load_document",
    "name_of",
    "of_document",
    "read_file",
]


class InventoryError(SettingsError):
    """The inventory as a whole can't be had; the text is one line and names URL or file, and what happened."""


@dataclass(frozen=True, slots=True)
class InventoryFault:
    """A part of the inventory that is left out, and why."""

    where: str
    """``realm R``, ``hub R/H`` or ``service R/H/S``; ``#2`` stands for the second of a list that has no usable name."""
    field: str
    """The API's name of the field, with dots into objects; ``""`` is the whole object."""
    message: str
    """Goes on after the field's name: ``is missing``."""
    place: str = dataclasses.field(default="", compare=False)
    """``FILE:LINE``, where it is of a file. Not a part of what is wrong."""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        what = f"{self.field} {self.message}" if self.field else self.message
        return f"{place}{self.where}: {what}"

    def facts(self) -> dict[str, str]:
        """For a log line."""
        place = {"place": self.place} if self.place else {}
        return {"where": self.where, "field": self.field, "reason": self.message, **place}


@dataclass(frozen=True, slots=True)
class RawHub:
    """A hub object with its services, or why they couldn't be got."""

    data: Any = field(repr=False)
    services: list[Any] = field(default_factory=list, repr=False)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class RawRealm:
    """A realm object with its hubs, or why they couldn't be got."""

    data: Any = field(repr=False)
    hubs: list[RawHub] = field(default_factory=list)
    failure: str | None = None


def name_of(data: Any) -> str | None:
    """The name of an object, where it has one that can stand in a URL."""
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name and name not in {".", ".."} and "/" not in name else None


def file_of(url: str) -> Path:
    """The path that a ``file:`` URL names; ``file:name`` is relative to the current folder."""
    return Path(unquote(urlsplit(url).path))


class RawFile(list[RawRealm]):
    """The realms of a file, and the file."""

    def __init__(self, document: dict[str, Any], realms: Iterable[RawRealm]) -> None:
        super().__init__(realms)
        self.document = document


def read_file(path: Path) -> RawFile:
    """Read a YAML or JSON document ``realms: [ {…realm, hubs: [ {…hub, services: […]} ]} ]``.

    :raises InventoryError: it can't be read, or isn't such a document.
    """
    return of_document(load_document(path))


def of_document(document: dict[str, Any]) -> RawFile:
    """What :func:`load_document` has read, as what comes over HTTP."""
    realms = (
        RawRealm(
            data=realm,
            hubs=[
                RawHub(data=hub, services=services, failure=failure)
                for hub in hubs
                for services, failure in [_children(hub, "services")]
            ],
            failure=failure,
        )
        for realm in document["realms"]
        for hubs, failure in [_children(realm, "hubs")]
    )
    return RawFile(document, realms)


def load_document(path: Path) -> dict[str, Any]:
    """Read a document and check its outermost shape only: an object with the array ``realms``.

    :raises InventoryError: it can't be read or has another shape.
    """
    try:
        document = read_document(path)
    except DocumentError as error:
        raise InventoryError(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("realms"), list):
        near = meant("realms", document) if isinstance(document, dict) and "realms" not in document else None
        hint = f"; {quoted(near)} is unknown" if near is not None else ""
        raise InventoryError(f"{path}: realms is missing or not an array{hint}")
    return document


def _children(parent: Any, kind: str) -> tuple[list[Any], str | None]:
    # Over HTTP there is no way to the children of an object without a usable name; the two are to agree.
    children = parent.get(kind) if name_of(parent) is not None else None
    if children is None:
        return [], None
    return (children, None) if isinstance(children, list) else ([], "is not an array")


def check_url(url: str) -> None:
    """Whether an inventory can be at ``url``.

    :raises SettingsError: it is no http, https or file URL.
    """
    try:
        check_inventory_url(url)
    except ValueError as error:
        raise SettingsError(f"--inventory: {error}") from error
