"""``spnhub init``: an own network from nothing: development CA, certificates, inventory, and the commands to run.

Private keys, and the inventory, which has the hub's, are for their owner only. Counterparts: :mod:`spnhub.pki` makes
certificates, :mod:`spnhub.cli.units` systemd's units.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from spnhub.cli.units import ROLES, units
from spnhub.inventory import InventoryFault
from spnhub.inventory.judge import judged
from spnhub.inventory.model import Hub, Realm, Service
from spnhub.pki import Authority
from spnhub.settings import SettingsError
from spnhub.streams import say

__all__ = ["init"]

_DAYS: Final = 365
_SECRET, _PUBLIC = 0o600, 0o644


def init(name: str, folder: Path, *, fqdn: str, port: int, systemd: bool) -> None:
    """Write the files and print what to do with them.

    :param name: ``REALM/NETWORK/SERVICE``.
    :raises SettingsError: a name or host name can't be used, or a file is there already: nothing is overwritten.
    """
    parts = name.split("/")
    if len(parts) != 3 or not all(parts):
        raise SettingsError(f"{name!r} is not REALM/NETWORK/SERVICE")
    realm, network, service = parts
    authority = Authority.create(f"DEVELOPMENT ONLY CA of {realm} - not for production", days=_DAYS)
    try:
        hub = authority.server(fqdn, days=_DAYS)
    except (ValueError, UnicodeError) as exc:
        raise SettingsError(f"--fqdn: {exc}") from exc
    provider, consumer = f"{service}-provider", f"{service}-consumer"
    mine = {"name": service, "title": service, "provider": provider, "consumers": [consumer]}
    at = {
        "name": network,
        "title": network,
        "fqdn": fqdn,
        "serverPort": port,
        "serverCert": hub.certificate.decode(),
        "serverCertKey": hub.key.decode(),
    }
    top = {
        "name": realm,
        "title": realm,
        "disabled": False,
        "cacert": authority.certificate.decode(),
        "deviceIDSigningKey": "-",
        "deviceIDVerificationKey": "-",
    }
    faults: list[InventoryFault] = []
    for kind, described, what in ((Realm, top, "realm"), (Hub, at, "network"), (Service, mine, "service")):
        judged(kind, described, what, faults)
    if faults:
        raise SettingsError(f"{name}: {faults[0]}")
    files: dict[str, tuple[bytes, int]] = {
        "ca.pem": (authority.certificate, _PUBLIC),
        "ca.key": (authority.key, _SECRET),
        "inventory.yaml": (_inventory(top, at, mine), _SECRET),
    }
    for role, subject in (("provider", provider), ("consumer", consumer)):
        issued = authority.client(subject, organization=None, days=_DAYS)
        files[f"{role}.pem"] = issued.certificate, _PUBLIC
        files[f"{role}.key"] = issued.key, _SECRET
    url = f"https://{fqdn}" + ("" if port == 443 else f":{port}")
    urn = f"urn:chip-in:service:{realm}:{network}:{service}"
    if systemd:
        made = units(folder.absolute(), url=url, urn=urn)
        files |= {f"systemd/{unit}": (text.encode(), _PUBLIC) for unit, text in made.items()}
    _write(folder, files)
    _say_what_next(folder, url, urn, systemd=systemd)


def _inventory(realm: Mapping[str, object], network: Mapping[str, object], service: Mapping[str, object]) -> bytes:
    document = {"realms": [{**realm, "hubs": [{**network, "services": [service]}]}]}
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text.encode()


def _write(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """All of them, or none if one is there."""
    if there := [str(folder / name) for name in files if (folder / name).exists()]:
        raise SettingsError(f"{there[0]} is there already, and nothing is overwritten")
    try:
        for name, (data, mode) in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never readable by others, not for a moment either.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
    except OSError as exc:
        raise SettingsError(f"{exc.filename or folder}: {exc.strerror}") from exc


def _say_what_next(folder: Path, url: str, urn: str, *, systemd: bool) -> None:
    at = shlex.quote(str(folder.absolute()))
    common = f"--hub-url {url} --service-urn {urn} --trust {at}/ca.pem"
    say(f"An own network is in {folder}. Its CA is for development only, and says so in its subject.")
    say()
    say("A hub, an agent beside the TCP server at 127.0.0.1:8000, and one for clients at 127.0.0.1:9000:")
    say()
    say(f"spnhub --inventory file:{at}/inventory.yaml --hub-id hub-1 --journal {at}/journal")
    for role, where in ROLES.items():
        say(f"spnagent {role} {common} --certificate {at}/{role}.pem --certificate-key {at}/{role}.key {where}")
    say()
    say("curl http://127.0.0.1:9000/")
    if systemd:
        say()
        say("As services of systemd:")
        say()
        say(f"sudo cp {at}/systemd/*.service /etc/systemd/system/ && sudo systemctl daemon-reload")
        say("sudo systemctl enable --now spnhub spnagent-provider spnagent-consumer")
