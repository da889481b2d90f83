"""``spnhub check``: names the faults of an inventory, and shows what a reload of a running hub would do with it.

The differences and cuts are computed by the functions with which the hub itself decides; nothing is sent to it.
Counterparts: :mod:`spnhub.actors.contract.inventory`, :mod:`spnhub.ops.state`.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from spnhub.actors.contract.inventory import DefinitionDifference, LiveSession, Table, plan
from spnhub.cli.command_line import UNUSABLE
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType, from_datetime
from spnhub.hub_settings import HubSettings
from spnhub.inventory import Inventory, InventoryFault, load_inventory
from spnhub.ops.client import ask_hub
from spnhub.ops.expiry import CHECK_DAYS, ends_of
from spnhub.ops.state import read
from spnhub.settings import SettingsError
from spnhub.streams import ReaderLeft, say, say_json
from spnhub.transport.certificates import check_chain

__all__ = ["Cut", "Reload", "compare", "run"]

_Object = dict[str, Any]
EXPIRING: Final = 1
"""Exit status when a certificate expires within ``--fail-days``."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A live session that a reload would end."""

    spn_session_id: str
    spn_end_point: str
    end_point_type: str
    service_urn: str
    reason: str
    connections: int
    """Open ones that would end with it."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What a reload would do."""

    differences: tuple[DefinitionDifference, ...]
    cuts: tuple[Cut, ...]


async def run(settings: HubSettings, *, ops: str | None, as_json: bool, fail_days: int | None = None) -> int:
    """Check a hub's inventory, and compare it with the hub at ``ops`` unless that is None; the exit status."""
    inventory = settings.inventory
    # What the address is makes no difference to what is checked.
    bind = settings.addresses[0] if settings.addresses else None
    state: _Object | None = None
    if ops is not None:
        with_chains = {"certificates": "1"}
        state = await ask_hub(f"http://{ops}/state", settings.ops_token, option="--ops", params=with_chains)
    if state is not None and bind is None:
        bind = state.get("bind")
    found = await load_inventory(inventory, settings.inventory_token, bind=bind, attempts=1)
    # The verdict is the status, however much of the text is read.
    with contextlib.suppress(ReaderLeft):
        _print_result(inventory, found, state, as_json, fail_days or 0)
    if found.faults:
        return UNUSABLE
    soon = [one for one in ends_of(found.listening) if fail_days is not None and one.days(_now()) <= fail_days]
    return EXPIRING if soon else 0


def _now() -> datetime:
    return datetime.now(UTC)


def _print_result(inventory: str, found: Inventory, state: _Object | None, as_json: bool, fail_days: int) -> None:
    if as_json:
        say_json(_report(inventory, found, state))
        return
    for warning in found.warnings:
        say(f"warning: {warning}", error=True)
    for one in ends_of(found.listening):
        # What has expired already is a warning of the inventory.
        days = one.days(_now())
        if days >= 0 and (math.ceil(days) < CHECK_DAYS or days <= fail_days):
            say(f"warning: {one.sentence(_now())}", error=True)
    for path in found.unknown:
        say(f"warning: {path} is unknown here, and left out of account", error=True)
    for fault in found.faults:
        say(str(fault), error=True)
    if found.faults:
        return
    realms, networks, services = _counts(found)
    say(f"{inventory}: {realms} realms, {networks} hubs, {services} services: no faults")
    if state is not None:
        for line in _lines(compare(state, found, datetime.now(UTC)), str(state["hubId"])):
            say(line)


def compare(state: _Object, found: Inventory, moment: datetime) -> Reload:
    """What the hub that shows ``state`` would do with this inventory now.

    :raises SettingsError: ``state`` is not what a hub of this version shows.
    """
    wall_us = from_datetime(moment)
    try:
        before = Table.of(read(state), wall_us)
        sessions: list[_Object] = state["sessions"]
        connections: list[_Object] = state["connections"]
        after = Table.of(found.realms, wall_us, before)
        planned = plan(before, after)
        reasons: dict[str, str] = {}
        for name, reason in planned.cuts((one["spnSessionId"], _live(one)) for one in sessions).items():
            reasons[str(name)] = reason
        reasons |= _unverified(sessions, before, after, found, moment, reasons)
        carried: dict[str, int] = {}
        for one in connections:
            for side in ("consumerSideSpnSessionId", "providerSideSpnSessionId"):
                carried[one[side]] = carried.get(one[side], 0) + 1
        cuts = tuple(
            Cut(
                spn_session_id=one["spnSessionId"],
                spn_end_point=one["spnEndPoint"],
                end_point_type=one["endPointType"],
                service_urn=one["serviceUrn"],
                reason=reasons[one["spnSessionId"]],
                connections=carried.get(one["spnSessionId"], 0),
            )
            for one in sessions
            if one["spnSessionId"] in reasons
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"--ops: /state is not that of this version of spnhub ({error!r})") from error
    return Reload(planned.differences, cuts)


def _live(one: _Object) -> LiveSession:
    return LiveSession(
        network_urn=one["networkUrn"],
        service_urn=one["serviceUrn"],
        end_point_type=EndPointType(one["endPointType"]),
        common_name=one.get("commonName", ""),
    )


def _unverified(
    sessions: list[_Object], before: Table, after: Table, found: Inventory, moment: datetime, known: dict[str, str]
) -> dict[str, str]:
    """The endpoints whose certificates their realm doesn't accept any more: of another CA, or revoked."""
    authorities = {one.network_urn: one.identity.trust for one in found.listening}
    reasons = {}
    for one in sessions:
        name, urn, realm = one["spnSessionId"], one["networkUrn"], one["realm"]
        if name in known or urn not in authorities:
            continue
        if before.realms[realm].client_ca == after.realms[realm].client_ca:
            continue
        chain = [base64.b64decode(text) for text in one.get("certificates", ())]
        fault = check_chain(chain, authorities[urn], moment) if chain else None
        if fault is not None:
            reasons[name] = fault.reason
    return reasons


# ---- what comes out ------------------------------------------------------------------------------------------------


def _counts(found: Inventory) -> tuple[int, int, int]:
    networks = [network for realm in found.realms for network in realm.networks]
    return len(found.realms), len(networks), sum(len(network.services) for network in networks)


def _lines(reload: Reload, hub_id: str) -> Iterator[str]:
    if not reload.differences and not reload.cuts:
        yield f"{hub_id}: a reload would change nothing"
        return
    for one in reload.differences:
        name = one.service_urn or one.network_urn or f"urn:chip-in:realm:{one.realm}"
        fields = f" ({', '.join(one.changed)})" if one.changed else ""
        yield f"{one.change.value} {one.kind} {name}{fields}"
    for cut in reload.cuts:
        yield (
            f"cuts session {cut.spn_session_id} of {cut.end_point_type} {cut.spn_end_point} of {cut.service_urn} "
            f"with {cut.connections} connections: {cut.reason}"
        )
    yield f"{hub_id}: {len(reload.differences)} differences, {len(reload.cuts)} sessions cut"


def _report(inventory: str, found: Inventory, state: _Object | None) -> _Object:
    realms, networks, services = _counts(found)
    report: _Object = {
        "inventory": inventory,
        "faults": [_fault(fault) for fault in found.faults],
        "warnings": [_fault(warning) for warning in found.warnings],
        "unknown": list(found.unknown),
        "certificates": [one.to_json(_now()) for one in ends_of(found.listening)],
        "realms": realms,
        "hubs": networks,
        "services": services,
    }
    # A reload that finds a fault changes nothing.
    if state is not None and not found.faults:
        reload = compare(state, found, datetime.now(UTC))
        report["hubId"] = state["hubId"]
        report["differences"] = [
            {
                "change": one.change.value,
                "kind": one.kind,
                "realm": one.realm,
                "networkUrn": one.network_urn,
                "serviceUrn": one.service_urn,
                "changed": list(one.changed),
            }
            for one in reload.differences
        ]
        report["cuts"] = [
            {
                "spnSessionId": cut.spn_session_id,
                "spnEndPoint": cut.spn_end_point,
                "endPointType": cut.end_point_type,
                "serviceUrn": cut.service_urn,
                "reason": cut.reason,
                "connections": cut.connections,
            }
            for cut in reload.cuts
        ]
    return report


def _fault(fault: InventoryFault) -> _Object:
    place = {"place": fault.place} if fault.place else {}
    return {"where": fault.where, "field": fault.field, "message": fault.message, **place}
