"""Units of systemd for a hub and its agents, hardened. Counterpart: :mod:`spnhub.cli.init` writes them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

__all__ = ["ROLES", "units"]

ROLES: Final = {"provider": "--forward-address 127.0.0.1:8000", "consumer": "--bind-address 127.0.0.1:9000"}
"""Of agents, and where each meets TCP."""

_HARDENED: Final = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
LimitNOFILE=65536
"""

_UNIT: Final = """\
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=2
TimeoutStartSec=infinity
TimeoutStopSec=90
WatchdogSec=30
{own}{hardened}
[Install]
WantedBy=multi-user.target
"""


def units(folder: Path, *, url: str, urn: str) -> dict[str, str]:
    """The text of each unit, by its file's name.

    :param folder: absolute; where the inventory, certificates and keys are. systemd hands them on (LoadCredential).
    """
    found = {
        "spnhub.service": _unit(
            "SPN Hub",
            f"{_program('spnhub')} --inventory file:%d/inventory.yaml --hub-id %H --journal %S/spnhub/journal",
            {"inventory.yaml": folder / "inventory.yaml"},
            # Ports below 1024.
            capabilities="CAP_NET_BIND_SERVICE",
            own="StateDirectory=spnhub\n",
        )
    }
    for role, where in ROLES.items():
        command = (
            f"{_program('spnagent')} {role} --hub-url {url} --service-urn {urn} --trust %d/ca.pem"
            f" --certificate %d/{role}.pem --certificate-key %d/{role}.key {where}"
        )
        credentials = {name: folder / name for name in ("ca.pem", f"{role}.pem", f"{role}.key")}
        found[f"spnagent-{role}.service"] = _unit(f"SPN agent, {role} of {urn}", command, credentials)
    return found


def _unit(
    description: str, command: str, credentials: dict[str, Path], *, capabilities: str = "", own: str = ""
) -> str:
    # A per cent sign begins one of systemd's own words.
    loads = "".join(f"LoadCredential={name}:{str(path).replace('%', '%%')}\n" for name, path in credentials.items())
    hardened = _HARDENED.format(capabilities=capabilities)
    return _UNIT.format(description=description, command=command, own=loads + own, hardened=hardened)


def _program(name: str) -> str:
    """Where this installation has the command; systemd wants the whole path."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or f"/usr/bin/{name}"
